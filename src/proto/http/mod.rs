//! HTTP as far as this program needs it.
//!
//! `head` reads requests and `response` writes responses, for every port that speaks
//! HTTP. `handshake` judges opening handshakes, `extensions` what they offer; `refusal`
//! says which rule a request breaks, `host_meta` has the pages, `forwarded` reads the
//! client's address as proxies report it. RFC 6455 4.2, RFC 9110 (fields, status codes,
//! Upgrade), RFC 9112 2 to 6 (syntax, framing).

pub mod extensions;
pub mod forwarded;
pub mod handshake;
pub mod head;
pub mod host_meta;
pub mod refusal;
pub mod response;

pub use handshake::{Accept, Policy, Request, Subprotocol};
pub use head::{Head, Limits, worth_parsing};
pub use refusal::Refusal;
pub use response::Response;
