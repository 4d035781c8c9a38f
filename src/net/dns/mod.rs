//! From a domain to places to dial, by hosts file and DNS, without waiting.
//!
//! A `locator` runs the look-ups of all sessions: each `look_up` goes from SRV
//! records (in `srv_order`) to targets with addresses. It asks the `resolver`,
//! which first checks the `hosts` file and a `cache`. For the rest, `net::turns` decides
//! which waiting `question` of which client is next, and `slots` how many are in
//! flight, with extra slots for `known_domains`. `channels` runs c-ares on the poll,
//! `reply` reads its answers, `file_watch` notices changed files.

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
