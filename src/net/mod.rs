//! Sockets, names and signals; knows no protocol.
//!
//! `listener` binds and accepts, `transport` is one connected socket, `dial`
//! races connects, `resolver` asks the DNS, `signals` turns signals into
//! readiness. Nothing here blocks.

pub mod dial;
pub mod listener;
pub mod resolver;
pub mod signals;
pub mod transport;
