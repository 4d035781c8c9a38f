//! Tests of the library without a daemon.

#[path = "../common/mod.rs"]
mod common;

mod config;
mod http_handshake;
mod log;
mod random;
mod ws_reader;
mod xmpp_message;
mod xmpp_stream;
mod xmpp_stream_plain;
mod xmpp_stream_pool;
mod xmpp_work;
