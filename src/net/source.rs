//! The origin of connections and DNS questions, by which limits count.

use std::net::IpAddr;

/// An IPv4 address, the first half of an IPv6 address (one subscriber), or all clients on
/// unix sockets together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An IPv4 address.
    V4(u32),
    /// The first half of an IPv6 address.
    V6(u64),
    /// A unix socket.
    Unix,
}

impl From<Option<IpAddr>> for Source {
    fn from(address: Option<IpAddr>) -> Source {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) => Source::V4(v4.to_bits()),
            Some(IpAddr::V6(v6)) => Source::V6((v6.to_bits() >> 64) as u64),
            None => Source::Unix,
        }
    }
}
