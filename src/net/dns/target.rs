//! The result of a look-up: a server to connect to, or why there is none.

use std::sync::Arc;

use super::question::Error as DnsError;
use crate::net::address::Address;

/// The standard port of XMPP servers for clients (RFC 6120, section 14.7).
pub const PORT: u16 = 5222;

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address to connect to.
    pub address: Address,
    /// Whether TLS starts with the first byte.
    pub direct: bool,
    /// Whether it is the domain itself at the standard port, which neither an SRV record nor the
    /// configuration names (RFC 6120, section 3.2.2).
    pub is_fallback: bool,
    /// Whether it is used only while all others fail.
    pub backup: bool,
    /// The configured server, as the file names it; `None` if it was found in the DNS.
    pub server: Option<Arc<str>>,
}

/// Why there is no server to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The domain does not exist or does not offer the service.
    NotFound,
    /// The SRV records say that the service is not offered.
    NotOffered,
    /// The host that a record or the configuration names has no address.
    HostNotFound,
    /// The DNS did not answer.
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
