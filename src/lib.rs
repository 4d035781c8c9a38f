//! jabsocket: lets web browsers talk to any XMPP server.
//!
//! A browser connects over WebSocket (RFC 6455) with the sub-protocol `xmpp` (RFC 7395, or
//! the draft before it). jabsocket opens one TCP connection to the XMPP server of the
//! browser's domain and relays stanzas. Each worker has one thread with one event loop, and
//! each session one state machine.
//!
//! Each module only uses modules further to the right, and not all of them; tests/house.rs
//! has the exact list:
//!
//! ```text
//! main -> { cli, start, trial } -> { check, master } -> reactor -> { status, upgrade }
//!     -> session -> { daemon, metrics } -> { net, proto } -> { buf, config, expat, json }
//!     -> { log, meter } -> shared_memory
//! ```
//!
//! - [`cli`]: the command line.
//! - [`check`]: checks a configuration for `--check-config`.
//! - [`start`]: start-up, step by step.
//! - [`trial`]: connects to a domain's server for `--try`, and reports each step.
//! - `master`: the worker processes, if there are several.
//! - `reactor`: the event loop, the clock, deadlines, new clients.
//! - `session`: one browser and its server; `machine` makes the decisions.
//! - `status`: the status port.
//! - `upgrade`: the replacement of the running daemon by a new version of it.
//! - `daemon`: fork, PID file, privileges, socket activation.
//! - `metrics`: counters, and their page for Prometheus.
//! - [`net`]: sockets, TLS, DNS, signals; knows no protocol above TLS.
//! - [`proto`]: HTTP, WebSocket and XMPP as bytes; uses no sockets, clock or log.
//! - [`expat`]: a safe interface to the XML parser.
//! - [`buf`]: a byte queue.
//! - [`config`]: the configuration file.
//! - `json`: quotes strings for JSON.
//! - `shared_memory`: numbers and texts that several processes share.
//! - [`log`]: syslog and standard error, without waiting.
//! - [`meter`]: the work that one session may cause in a turn.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buf;
pub mod check;
pub mod cli;
pub mod config;
mod daemon;
pub mod expat;
mod json;
pub mod log;
mod master;
pub mod meter;
mod metrics;
pub mod net;
pub mod proto;
mod reactor;
mod session;
mod shared_memory;
pub mod start;
mod status;
pub mod trial;
mod upgrade;
