//! The client at the other end of a connection.
//!
//! Owns the difference between a peer with an address and one on a unix socket, which
//! has none, and how the log shows both. Never decides who is trusted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP, or as a proxy reported it.
    Ip(SocketAddr),
    /// Over a unix socket.
    Unix,
}

impl Peer {
    /// The address, if there is one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Ip(address) => Some(address.ip()),
            Peer::Unix => None,
        }
    }

    /// The port; 0 if there is none.
    pub fn port(self) -> u16 {
        match self {
            Peer::Ip(address) => address.port(),
            Peer::Unix => 0,
        }
    }

    /// The peer without its port, for the log.
    pub fn host(self) -> Host {
        Host(self)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix:"),
        }
    }
}

/// A peer without its port.
pub struct Host(Peer);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Peer::Ip(address) => address.ip().fmt(f),
            peer @ Peer::Unix => peer.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_an_address_costs_no_byte() {
        assert_eq!(size_of::<Peer>(), size_of::<SocketAddr>());
    }
}
