//! Protocols without I/O: bytes in, events and bytes out.
//!
//! Knows no socket, no clock and no log.

pub mod http;
pub mod ws;
