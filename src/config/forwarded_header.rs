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

pub(super) const FORWARDED_HEADER: &[(&str, ForwardedHeader)] = &[
    ("x-forwarded-for", ForwardedHeader::XForwardedFor),
    ("forwarded", ForwardedHeader::Forwarded),
];
