//! The parts of HTTP that this program needs.
//!
//! `head` reads requests and `response` writes responses, for every port that speaks HTTP.
//! `handshake` checks opening handshakes, and `extensions` negotiates compression. `refusal`
//! has the responses to invalid requests, and `host_meta` the pages. `forwarded` reads the
//! client's address from the header fields of proxies. RFC 6455 4.2, RFC 9110 (fields, status
//! codes, Upgrade), RFC 9112 2 to 6 (syntax, framing).

pub mod extensions;
pub mod forwarded;
pub mod handshake;
pub mod head;
pub mod host_meta;
pub mod refusal;
pub mod response;

pub use handshake::{Accept, Policy, Request, Subprotocol};
pub(crate) use head::Target;
pub use head::{Head, Limits, worth_parsing};
pub use refusal::Refusal;
pub use response::Response;
