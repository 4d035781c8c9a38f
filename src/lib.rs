//! jabsocket: lets web browsers talk to any XMPP server.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buf;
pub mod cli;
pub mod config;
pub mod expat;
pub mod log;
pub mod net;
pub mod proto;
