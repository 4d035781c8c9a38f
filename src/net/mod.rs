//! Sockets, names and signals; knows no protocol.
//!
//! `listener` binds and accepts, `inherited` has the sockets that it need not bind,
//! `listener_choice` finds the rules of a socket,
//! `socket_file` manages the files of unix sockets, `lock_file` keeps two daemons from
//! the same file. `tls_server` has the rules and certificates of listeners,
//! `tls_client` the encryption to servers. `peer` is a client's address, `source` the
//! part of it that limits count. `transport` is one connected socket, `byte_stream`
//! the layer below its TLS. `dns` finds addresses to dial, `private_addresses` knows
//! which are not public, `dial` races connects. `servers` knows which servers failed lately
//! (`failed_addresses`) and how many connections each may get at once (`connect_queue`, where
//! clients take `turns`), `address` is where a server listens. `signals` turns signals into
//! readiness, `notify` reports the state of a process to systemd and to our own
//! processes. Nothing here blocks.

pub mod address;
pub mod byte_stream;
mod connect_queue;
pub mod dial;
pub mod dns;
mod failed_addresses;
pub mod inherited;
pub mod listener;
pub mod listener_choice;
pub mod lock_file;
pub mod notify;
pub mod peer;
pub mod private_addresses;
pub mod servers;
pub mod signals;
#[cfg(test)]
pub mod simulated;
pub mod socket_file;
pub mod source;
pub mod tls_client;
pub mod tls_server;
pub mod transport;
mod turns;
