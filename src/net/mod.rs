//! Sockets, names and signals. Knows no protocol.
//!
//! Listeners: `bind` binds, `inherited` has sockets that are bound already, and `listener`
//! accepts. `endpoint` has the rules of a listener and its TLS, and `listener_choice` finds them
//! for a socket. `socket_file` manages the files of unix sockets, and `lock_file` keeps two
//! daemons from using the same file.
//!
//! Connections: `transport` is a connected socket with or without TLS, `byte_stream` the
//! socket itself, and `tls_socket` the layer between it and the TLS library. `tls_server` has
//! the TLS settings for browsers, `tls_client` those for servers, and `tls_context` what both have
//! in common. `certificate` has the dates of certificates, `ticket_keys` the keys of tickets, and
//! `tls_raw` the calls that the library's crate lacks. `file_stamp` tells whether a file has
//! changed. `peer` is a client's address, and `source` the part of it by which limits count.
//!
//! Servers: `dns` finds their addresses, `private_addresses` knows which are not public,
//! and `dial` connects. `servers` remembers which ones failed recently
//! (`failed_addresses`), and limits how many connections each may get at once
//! (`connect_queue`, where clients take `turns`). `address` is the address of one server.
//! `step` tells an observer what happens.
//!
//! Processes: `signals` turns signals into readiness, `notify` reports the state of a process
//! to systemd and to our own processes, `process_channel` connects the latter, and `orphans`
//! ends zombies. Nothing here blocks.

pub(crate) mod address;
pub(crate) mod bind;
pub(crate) mod byte_stream;
pub(crate) mod certificate;
mod connect_queue;
pub(crate) mod dial;
pub mod dns;
pub mod endpoint;
mod failed_addresses;
mod file_stamp;
pub(crate) mod inherited;
pub(crate) mod listener;
pub(crate) mod listener_choice;
pub(crate) mod lock_file;
pub(crate) mod notify;
pub(crate) mod orphans;
pub(crate) mod peer;
pub(crate) mod private_addresses;
pub(crate) mod process_channel;
pub(crate) mod servers;
pub(crate) mod signals;
#[cfg(test)]
pub(crate) mod simulated;
pub(crate) mod socket_file;
pub mod source;
pub(crate) mod step;
#[cfg(test)]
pub(crate) mod test_identity;
pub(crate) mod ticket_keys;
pub mod tls_client;
mod tls_context;
mod tls_raw;
mod tls_server;
mod tls_socket;
pub mod transport;
mod turns;
