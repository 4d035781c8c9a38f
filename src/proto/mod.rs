//! Protocols without I/O: bytes in, events and bytes out.
//!
//! Knows no socket, no clock and no log. `http` is the opening handshake, `ws`
//! the frames of RFC 6455, `xmpp` both sides' streams.

pub mod http;
pub mod proxy_protocol;
pub mod ws;
pub mod xmpp;
