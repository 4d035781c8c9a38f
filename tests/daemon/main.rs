//! Tests of the daemon as one process between scripted clients and servers: sessions,
//! limits, status and log.

#[path = "../common/mod.rs"]
mod common;

mod back_pressure;
mod closing;
mod compression;
mod compression_conformance;
mod conformance;
mod discovery;
mod documented_metrics;
mod draft_stream;
mod drain;
mod framed_stream;
mod idle_memory;
mod limits;
mod memory;
mod metrics;
mod opening_errors;
mod opening_handshake;
mod proxy_header;
mod reload;
mod session_log;
mod status_page;
mod status_port;
mod status_sessions;
mod stream_limits;
mod trusted_proxies;
mod unix_socket;
