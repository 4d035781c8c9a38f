//! A question to the DNS, and its possible results.

use std::net::IpAddr;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The SRV records of a name.
    Service(String),
    /// The addresses of a name in one family. With separate questions, a missing answer for
    /// the other family does not matter (RFC 8305, section 3).
    Host(String, Family),
}

impl Question {
    /// The name that is asked for.
    pub(crate) fn name(&self) -> &str {
        match self {
            Question::Service(name) | Question::Host(name, _) => name,
        }
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv6.
    V6,
    /// IPv4.
    V4,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// A lower number comes first.
    pub priority: u16,
    /// The share among records with the same priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host. `.` or an empty name means that there is no such service.
    pub host: String,
}

/// The result of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// SRV records, at least one.
    Services(Vec<Service>),
    /// Addresses, at least one.
    Addresses(Vec<IpAddr>),
}

impl Records {
    /// The memory that they hold, in bytes.
    pub fn held_bytes(&self) -> usize {
        match self {
            Records::Services(services) => services
                .iter()
                .map(|service| size_of::<Service>() + service.host.capacity())
                .sum(),
            Records::Addresses(addresses) => size_of_val(addresses.as_slice()),
        }
    }
}

/// Why a question has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name does not exist, or has no such record.
    NotFound,
    /// The DNS did not answer, so the record may well exist.
    Failed(c_ares::Error),
    /// The question was not asked, because too many questions wait.
    TooMany,
}

impl From<c_ares::Error> for Error {
    fn from(error: c_ares::Error) -> Error {
        match error {
            c_ares::Error::ENODATA | c_ares::Error::ENOTFOUND | c_ares::Error::EBADNAME => {
                Error::NotFound
            }
            other => Error::Failed(other),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotFound => f.write_str("no such name in the hosts file or the DNS"),
            Error::Failed(error) => write!(f, "DNS look-up failed: {error}"),
            Error::TooMany => f.write_str("too many DNS look-ups are waiting"),
        }
    }
}
