//! jabsocket: lets web browsers talk to any XMPP server.
//!
//! A browser comes by WebSocket (RFC 6455) with the sub-protocol `xmpp`
//! (RFC 7395, or the draft before it); jabsocket opens one TCP connection to the
//! XMPP server of the browser's domain and relays stanza by stanza. One thread,
//! one event loop, one state machine a session.
//!
//! The house, and who may know whom:
//!
//! ```text
//! main -> { start, check } -> master -> reactor -> { session, status, upgrade } -> { metrics, daemon }
//!     -> { net, proto } -> { expat, buf, meter, shared_memory }
//! ```
//!
//! - [`cli`]: the command line.
//! - [`start`]: start-up, step by step.
//! - [`check`]: what `--check-config` looks at beside the file itself.
//! - [`config`]: the configuration file; read by all but `proto`.
//! - [`log`]: syslog and standard error without waiting; the same.
//! - [`daemon`]: fork, PID file, privileges, what systemd hands over.
//! - [`master`]: the worker processes, if there are several.
//! - [`upgrade`]: one process of the daemon takes the place of another.
//! - [`reactor`]: the loop, the clock, deadlines, new clients.
//! - [`session`]: one browser and its server; `phase` decides what happens.
//! - `status`: the status port.
//! - [`metrics`]: counters and their page for Prometheus.
//! - [`net`]: sockets, names, signals; knows no protocol.
//! - [`proto`]: HTTP, WebSocket and XMPP as bytes; knows no socket, clock or log.
//! - [`expat`]: the XML parser behind a safe face.
//! - [`buf`]: a byte queue.
//! - [`meter`]: the work that one session may cause in a turn.
//! - [`shared_memory`]: words and texts that several processes share.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buf;
pub mod check;
pub mod cli;
pub mod config;
pub(crate) mod daemon;
pub mod expat;
pub mod log;
pub(crate) mod master;
pub mod meter;
pub mod metrics;
pub mod net;
pub mod proto;
pub(crate) mod reactor;
pub mod session;
pub mod shared_memory;
pub mod start;
mod status;
pub(crate) mod upgrade;
