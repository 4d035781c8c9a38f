//! The result of a look-up: a server to dial, or why there is none.

use std::rc::Rc;

use super::question::Error as DnsError;
use crate::net::address::Address;

/// Port of XMPP servers for clients (RFC 6120, section 14.7).
pub const PORT: u16 = 5222;

/// A server to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it listens.
    pub address: Address,
    /// Whether TLS is spoken from the first byte.
    pub direct: bool,
    /// Whether an SRV record or the configuration chose host and port. Otherwise it is the
    /// domain itself at its standard port.
    pub by_srv: bool,
    /// Whether it is only used while all others fail.
    pub backup: bool,
    /// The configured server as the file names it; `None` if the DNS named it.
    pub server: Option<Rc<str>>,
}

/// Why there is no server to dial.
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
