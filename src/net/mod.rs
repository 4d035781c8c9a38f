//! Sockets, names and signals; knows no protocol.
//!
//! `listener` binds and accepts, `allot` finds a socket's rules, `socket_file`
//! looks after the files of unix sockets, `lock_file` keeps two daemons from the
//! same file, `entrance` has the
//! rules and certificates of a listener, `peer` is who comes in. `transport` is
//! one connected socket, `stream` what is below its TLS, `tls` its encryption to
//! servers; `resolver` asks the DNS (a `question` through `channels`, when `turns`
//! and `slots` allow; a `reply` is kept in `dns_cache`) after `hosts`, `locator`
//! makes places to dial of the answers, `inside` knows which are not public,
//! `dial` races connects, `signals` turns signals into readiness, `notify` tells
//! systemd and the processes of our own how one fares, `board` has what these show
//! each other. Nothing here blocks.

pub mod allot;
pub mod asker;
pub mod board;
mod channels;
pub mod dial;
mod dns_cache;
pub mod entrance;
mod file_watch;
mod hosts;
pub mod inside;
mod known_domains;
pub mod listener;
pub mod locator;
pub mod lock_file;
mod look_up;
pub mod notify;
mod order;
pub mod peer;
pub mod question;
mod reply;
pub mod resolver;
pub mod signals;
#[cfg(test)]
pub mod simulated;
mod slots;
pub mod socket_file;
pub mod stream;
mod target;
pub mod tls;
pub mod transport;
mod turns;
