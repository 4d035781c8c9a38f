//! Finds the addresses of a domain's servers with the hosts file and DNS, without blocking.
//!
//! A `locator` runs the look-ups of all sessions. Each `look_up` goes from SRV records (in
//! `srv_order`) to targets with addresses. The locator asks the `resolver`, which first
//! checks the `hosts` file and a `cache`. For other questions, `net::turns` decides whose
//! `question` is next, and `slots` limits how many are in flight, with extra slots for
//! `known_domains`. `channels` runs c-ares on the poll, and `reply` reads its answers.
//! `file_watch` notices changed files, and `file_start` reads a bounded part of them.

mod cache;
mod channels;
mod file_start;
mod file_watch;
mod hosts;
mod known_domains;
pub mod locator;
mod look_up;
mod pending;
pub mod question;
mod reply;
pub mod resolver;
mod slots;
mod srv_order;
mod target;
