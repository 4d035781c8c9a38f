//! Which header tells a client's address, where proxies are trusted.
//!
//! Owns the two names and their words in the file. Reads no header.

/// The header that a trusted proxy sets itself; the other one may be the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// The list of addresses that most proxies append to.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

pub(super) const FORWARDED_HEADER: &[(&str, ForwardedHeader)] = &[
    ("x-forwarded-for", ForwardedHeader::XForwardedFor),
    ("forwarded", ForwardedHeader::Forwarded),
];
