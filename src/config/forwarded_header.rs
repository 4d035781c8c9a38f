//! Which header has the client's address, if a trusted proxy sent the request.
//!
//! Owns the two values of the key. Reads no header.

/// The header that a trusted proxy sets itself; the other one may be the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// The list of addresses that most proxies append to.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

pub(super) const NAMES: &[(&str, Option<ForwardedHeader>)] = &[
    ("x-forwarded-for", Some(ForwardedHeader::XForwardedFor)),
    ("forwarded", Some(ForwardedHeader::Forwarded)),
];
