//! Sockets, names and signals; knows no protocol.
//!
//! `listener` binds and accepts, `allot` finds a socket's rules, `socket_file`
//! looks after the files of unix sockets, `lock_file` keeps two daemons from the
//! same file, `endpoint` has the rules and certificates of a listener, `peer` is
//! a client's address, `source` its part that limits count. `transport` is one
//! connected socket, `stream` the layer below its TLS, `tls` its encryption to
//! servers; `dns` finds places to dial, `inside` knows which are not public, `dial`
//! races connects, `signals` turns signals into readiness, `notify` reports the state
//! of a process to systemd and to our own processes. Nothing here blocks.

pub mod allot;
pub mod byte_stream;
pub mod dial;
pub mod dns;
pub mod listener;
pub mod lock_file;
pub mod notify;
pub mod peer;
pub mod private_addresses;
pub mod signals;
#[cfg(test)]
pub mod simulated;
pub mod socket_file;
pub mod source;
pub mod tls_client;
pub mod tls_server;
pub mod transport;
