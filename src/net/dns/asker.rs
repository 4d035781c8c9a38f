//! Who asks for names, as limits count it.

use std::net::IpAddr;

/// A source of questions: an IPv4 address, the first half of an IPv6 address
/// (what one subscriber has), or all that come by unix sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// By IPv4.
    V4(u32),
    /// By IPv6.
    V6(u64),
    /// Without an address.
    Unix,
}

impl From<Option<IpAddr>> for Asker {
    fn from(address: Option<IpAddr>) -> Asker {
        match address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(v4)) => Asker::V4(v4.to_bits()),
            Some(IpAddr::V6(v6)) => Asker::V6((v6.to_bits() >> 64) as u64),
            None => Asker::Unix,
        }
    }
}
