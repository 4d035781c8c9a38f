//! Sockets, names and signals; knows no protocol.
//!
//! `listener` binds and accepts, `allot` finds a socket's rules, `socket_file`
//! looks after the files of unix sockets, `lock_file` keeps two daemons from the
//! same file, `entrance` has the rules and certificates of a listener, `peer` is
//! who comes in, `source` what limits count. `transport` is one connected socket, `stream` what is below its
//! TLS, `tls` its encryption to servers; `dns` finds places to dial, `inside` knows
//! which are not public, `dial` races connects, `signals` turns signals into
//! readiness, `notify` tells systemd and the processes of our own how one fares,
//! `board` has what these show each other. Nothing here blocks.

pub mod allot;
pub mod board;
pub mod dial;
pub mod dns;
pub mod entrance;
pub mod inside;
pub mod listener;
pub mod lock_file;
pub mod notify;
pub mod peer;
pub mod signals;
#[cfg(test)]
pub mod simulated;
pub mod socket_file;
pub mod source;
pub mod stream;
pub mod tls;
pub mod transport;
