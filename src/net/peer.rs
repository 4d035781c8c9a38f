//! The client at the other end of a connection.
//!
//! Owns the difference between a peer with an IP address and one on a unix socket, which
//! has none, and the form of both in the log. Does not decide who is trusted.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The address of a TCP connection, or the address that a proxy reported.
    Ip(SocketAddr),
    Unix,
}

impl Peer {
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Peer::Ip(address) => Some(address.ip()),
            Peer::Unix => None,
        }
    }

    /// The port; 0 without an address.
    pub fn port(self) -> u16 {
        match self {
            Peer::Ip(address) => address.port(),
            Peer::Unix => 0,
        }
    }
}

/// The alternate form has no port.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) if f.alternate() => address.ip().fmt(f),
            Peer::Ip(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix:"),
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
