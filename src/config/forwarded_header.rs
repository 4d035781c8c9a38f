//! The header that contains the client's address, if a trusted proxy sent the request.
//!
//! Owns the two values of the key. Reads no headers.

/// The header that a trusted proxy sets. The other header may come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// A list of addresses, to which most proxies append.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

pub(super) const NAMES: &[(&str, Option<ForwardedHeader>)] = &[
    ("x-forwarded-for", Some(ForwardedHeader::XForwardedFor)),
    ("forwarded", Some(ForwardedHeader::Forwarded)),
];
