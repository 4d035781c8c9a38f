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
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Peer::Ip(address) => Some(address),
            Peer::Unix => None,
        }
    }

    pub fn ip(self) -> Option<IpAddr> {
        self.address().map(|address| address.ip())
    }

    /// The port; 0 without an address.
    pub fn port(self) -> u16 {
        self.address().map_or(0, |address| address.port())
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
