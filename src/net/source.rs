//! Where connections and questions come from, as limits count it.

use std::net::IpAddr;

/// An IPv4 address, the first half of an IPv6 address
/// (what one subscriber has), or all that come by unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// By IPv4.
    V4(u32),
    /// By IPv6.
    V6(u64),
    /// Without an address.
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
