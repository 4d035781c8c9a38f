//! The result of a look-up: a place to dial, or why there is none.

use std::net::SocketAddr;

use super::question::Error as DnsError;

/// Port of XMPP servers for clients (RFC 6120, section 14.7).
pub const PORT: u16 = 5222;

/// A place to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether TLS is spoken from the first byte.
    pub direct: bool,
    /// Whether host and port were chosen by an SRV record or a configuration,
    /// and are not just the domain at its standard port.
    pub by_srv: bool,
}

/// Why there is no place to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The domain does not exist, or offers no such service.
    NotFound,
    /// The SRV records say that there is no such service.
    NotOffered,
    /// The host that a record or the configuration names has no address.
    HostNotFound,
    /// The DNS gave no answer.
    Failed(DnsError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotFound | Error::HostNotFound => DnsError::NotFound.fmt(f),
            Error::NotOffered => f.write_str("its SRV record says '.': no such service"),
            Error::Failed(error) => error.fmt(f),
        }
    }
}
