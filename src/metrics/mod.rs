//! The metrics of a worker, and how they are published.
//!
//! This file has the counters, plain numbers that the rest of the program updates, and `series`
//! those of domains and servers. `name` has the names of the metrics, `catalog` their help texts
//! and values, `snapshot` holds the values at one moment, `shared` has the values of all workers,
//! `publisher` publishes the values of this worker, `history` keeps the sums of the last minutes,
//! `prometheus` writes the page, `report` has the values for the status page, and `process`
//! measures the resource usage.
//!
//! All label values are fixed except domains and servers, which come from the configuration.
//! Everything else counts as `other`, so a peer cannot create a series. Counting a session or a
//! message never allocates.

mod catalog;
mod counters;
mod history;
pub(crate) mod name;
mod process;
mod prometheus;
mod publisher;
mod report;
mod series;
mod shared;
mod snapshot;

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::config::Config;
use crate::proto::http::Refusal;
use crate::proto::xmpp::Dialect;
pub use catalog::Gauges;
pub(crate) use counters::Traffic;
use counters::{Family, Histogram};
pub(crate) use name::Values;
pub(crate) use publisher::Publisher;
pub(crate) use report::{Point, Report};
use series::SeriesTable;
pub use shared::SharedMetrics;

/// The label value for everything without its own series.
const OTHER: &str = "other";

const DIALECTS: [Option<Dialect>; 3] = [None, Some(Dialect::Framed), Some(Dialect::Draft)];

/// The label values of refused requests.
const REFUSALS: &[&str] = &[
    "max_connections",
    "max_connections_per_address",
    "max_handshakes_per_address",
    "max_request_size",
    "max_request_lines",
    "host",
    "origin",
    "resource",
    "subprotocol",
    "method",
    "not_websocket",
    "timeout",
    "stopping",
    "malformed",
    // The client was over a limit, and got no response.
    "unanswered",
    OTHER,
];

const TLS_VERSIONS: &[&str] = &["TLSv1.2", "TLSv1.3", OTHER];

/// Bucket bounds for durations that a user notices, in milliseconds.
const OPENING_MS: &[u64] = &[
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 45_000,
];

/// Bucket bounds for durations within the loop, in microseconds.
const TURN_US: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// The phase of a session, as an index into the phase names, and its dialect.
pub(crate) type State = (u8, Option<Dialect>);

/// Who ended a session and why.
pub(crate) type End = (&'static str, &'static str);

/// The counters of a worker.
#[derive(Debug)]
pub struct Metrics {
    /// Maximum number of open sessions.
    pub(crate) max_sessions: usize,
    pub(crate) draining: bool,
    /// The generation of the daemon that the worker belongs to.
    pub(crate) generation: u32,
    /// Older generations of this process that still have sessions; 0 in one of several workers.
    pub(crate) older_generations: usize,
    /// When this worker refused the last reload, if it did.
    pub(crate) reload_refused: Option<SystemTime>,
    /// When a reload last changed the configuration.
    pub(crate) reloaded: Option<SystemTime>,
    /// When the current configuration was read.
    pub(crate) configured: SystemTime,
    /// Expiry times of the listeners' certificates in seconds since the epoch, by name.
    pub(crate) certificates: BTreeMap<String, u64>,
    pub(crate) accepted: u64,
    /// Requests refused, by reason.
    pub(crate) refused: Family,
    /// Messages relayed to servers.
    pub(crate) up: Traffic,
    /// Messages relayed to clients.
    pub(crate) down: Traffic,
    /// TLS handshakes with servers, by version.
    pub(crate) server_tls: Family,
    /// Connections to servers that were less secure than required.
    pub(crate) server_insecure: u64,
    /// TLS handshakes with clients, by version.
    pub(crate) client_tls: Family,
    pub(crate) client_tls_failed: u64,
    /// Long turns of a session, while all others waited.
    pub(crate) slow_turns: u64,
    /// Durations of the turns of the loop in microseconds.
    pub(crate) turns: Histogram,
    relay_latency: Histogram,
    relay_held: u64,
    phases: &'static [&'static str],
    /// Open sessions by phase and dialect.
    sessions: Vec<[u64; DIALECTS.len()]>,
    /// The counters of each domain and server.
    pub(crate) series: SeriesTable,
    closed: Vec<(End, u64)>,
    time_to_open: Histogram,
    connect: Histogram,
    started: SystemTime,
}

impl Metrics {
    /// Creates counters for no domains, for tests of what uses counters.
    #[cfg(test)]
    pub(crate) fn of_nothing() -> Metrics {
        let config = crate::config::parse("-", "").unwrap().config;
        Metrics::new(&config, &[], &[])
    }

    /// Creates counters for the domains of `config` and for these `phases` and `causes`.
    pub(crate) fn new(config: &Config, phases: &'static [&'static str], causes: &[End]) -> Metrics {
        let now = SystemTime::now();
        Metrics {
            max_sessions: 0,
            draining: false,
            generation: 1,
            older_generations: 0,
            reload_refused: None,
            reloaded: None,
            certificates: BTreeMap::new(),
            configured: now,
            accepted: 0,
            refused: Family::new(REFUSALS),
            up: Traffic::default(),
            down: Traffic::default(),
            server_tls: Family::new(TLS_VERSIONS),
            server_insecure: 0,
            client_tls: Family::new(TLS_VERSIONS),
            client_tls_failed: 0,
            slow_turns: 0,
            turns: Histogram::new(TURN_US, 1_000_000),
            relay_latency: Histogram::new(TURN_US, 1_000_000),
            relay_held: 0,
            phases,
            sessions: vec![Default::default(); phases.len()],
            series: SeriesTable::new(config),
            closed: causes.iter().map(|cause| (*cause, 0)).collect(),
            time_to_open: Histogram::new(OPENING_MS, 1000),
            connect: Histogram::new(OPENING_MS, 1000),
            started: now,
        }
    }

    /// Moves a session from the state `from` to the state `to`.
    pub(crate) fn change_state(&mut self, from: Option<State>, to: Option<State>) {
        let column = |dialect| DIALECTS.iter().position(|d| *d == dialect).unwrap_or(0);
        if let Some((phase, dialect)) = from {
            self.sessions[usize::from(phase)][column(dialect)] -= 1;
        }
        if let Some((phase, dialect)) = to {
            self.sessions[usize::from(phase)][column(dialect)] += 1;
        }
    }

    /// Returns the number of open sessions in each phase.
    pub(crate) fn sessions_by_phase(&self) -> impl Iterator<Item = u64> {
        self.sessions
            .iter()
            .map(|by_dialect| by_dialect.iter().sum())
    }

    /// Counts a session that has ended.
    pub(crate) fn count_end(&mut self, cause: End) {
        let entry = self.closed.iter_mut().find(|(known, _)| *known == cause);
        debug_assert!(entry.is_some(), "{cause:?}");
        if let Some((_, count)) = entry {
            *count += 1;
        }
    }

    /// Returns the number of messages relayed in both directions.
    pub(crate) fn relayed(&self) -> u64 {
        self.up.messages + self.down.messages
    }

    /// Counts a turn in which a session relayed messages. `micros` is its duration, or `None`
    /// if some bytes stayed in a queue.
    pub(crate) fn relay_turn(&mut self, micros: Option<u64>) {
        match micros {
            Some(micros) => self.relay_latency.observe(micros),
            None => self.relay_held += 1,
        }
    }

    /// Counts a session whose server has answered. Both times are in milliseconds: since it was
    /// accepted, and since its first message.
    pub(crate) fn count_opening(&mut self, time_to_open: u64, connect: u64) {
        self.time_to_open.observe(time_to_open);
        self.connect.observe(connect);
    }
}

/// Returns the label value of a refusal.
pub(crate) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Overloaded => "max_connections",
        Refusal::HeadTooLarge => "max_request_size",
        Refusal::TooManyHeaders => "max_request_lines",
        Refusal::HostMissing
        | Refusal::HostDuplicated
        | Refusal::HostInvalid
        | Refusal::HostDiffers => "host",
        Refusal::Origin | Refusal::OriginInvalid => "origin",
        Refusal::Resource | Refusal::Target => "resource",
        Refusal::Subprotocol => "subprotocol",
        Refusal::Method { .. } => "method",
        Refusal::Upgrade | Refusal::Connection | Refusal::Version { .. } => "not_websocket",
        Refusal::Timeout => "timeout",
        Refusal::Stopping => "stopping",
        Refusal::Malformed | Refusal::TlsOnPlainPort | Refusal::PlainOnTlsPort | Refusal::Body => {
            "malformed"
        }
        _ => OTHER,
    }
}
