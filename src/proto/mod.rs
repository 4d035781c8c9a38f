//! Protocols without I/O: bytes in, events and bytes out.
//!
//! Uses no sockets, clock or log. `proxy_protocol` has the PROXY header, `http` requests and
//! the opening handshake, `ws` the frames of RFC 6455, and `xmpp` the streams of both sides.

pub mod http;
pub mod proxy_protocol;
pub mod ws;
pub mod xmpp;
