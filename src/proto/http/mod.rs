//! The opening handshake: an HTTP request becomes a WebSocket or is refused.
//!
//! Owns the bytes of the request's header block ([`request`]), the rules it has
//! to keep, what extensions it offers ([`extensions`]), the two kinds of response
//! ([`response`]), the address that proxies tell ([`forwarded`]), and the pages
//! for who wants no WebSocket ([`page`]). It never reads a body (a handshake has
//! none), never touches the bytes after the blank line and keeps no state: the
//! caller gathers bytes and asks again. RFC 6455 4.2, RFC 9110 (fields, status
//! codes, Upgrade), RFC 9112 2 to 6 (syntax, framing).

pub mod extensions;
pub mod forwarded;
pub mod page;
pub mod request;
pub mod response;

pub use request::{Limits, Policy, Subprotocol, asked, parse, worth_parsing};
pub use response::{Accept, Refusal};
