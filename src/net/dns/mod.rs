//! From a domain to places to dial, by hosts file and DNS, without waiting.
//!
//! A `locator` runs the look-ups of all sessions: each `look_up` goes from SRV
//! records (in `srv_order`) to targets with addresses. It asks the `resolver`,
//! which knows the `hosts` file and a `cache`, and shares out what is left: who
//! asks waits for `turns`, a `question` goes out when `slots` allow, domains
//! that worked lately (`known_domains`) first. `channels` are c-ares on the poll, a
//! `reply` is what came back. `file_watch` tells that a file has changed.

mod cache;
mod channels;
mod file_watch;
mod hosts;
mod known_domains;
pub mod locator;
mod look_up;
pub mod question;
mod reply;
pub mod resolver;
mod slots;
mod srv_order;
mod target;
mod turns;
