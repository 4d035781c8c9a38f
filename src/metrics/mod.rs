//! The metrics of a worker, and how they are published.
//!
//! This file has the counters, plain numbers that the rest of the program updates. `name` has the
//! names of the metrics, `catalog` their help texts and values, `snapshot` holds the values at
//! one moment, `shared` has the values of all workers, `publisher` publishes the values of this
//! worker, `history` keeps the sums of the last minutes, `prometheus` writes the page, `report`
//! has the values for the status page, and `process` measures the resource usage.
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
mod shared;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use crate::config::Config;
use crate::proto::http::Refusal;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::features::StreamLimits;
pub use catalog::Gauges;
pub(crate) use counters::Traffic;
use counters::{Family, Histogram};
pub(crate) use name::Values;
pub(crate) use publisher::Publisher;
pub(crate) use report::{Point, Report};
pub use shared::SharedMetrics;

/// Maximum number of domains and servers with series of their own; others count as `other`.
const MAX_SERIES: usize = 1000;

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

/// The counters of one configured domain or server.
#[derive(Debug)]
struct Series {
    name: String,
    sessions: u64,
    opened: u64,
    /// For a domain: the stream limits that a client was last told.
    limits: StreamLimits,
    /// For a server: failed attempts to use it.
    failures: u64,
    /// For a server: whether the last attempt to use it failed.
    is_down: bool,
}

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
    /// The counters of each domain and server; the first are those of `other`.
    series: Vec<Series>,
    domain_index: HashMap<String, u16>,
    server_index: HashMap<String, u16>,
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
        let mut metrics = Metrics {
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
            series: Vec::new(),
            domain_index: HashMap::new(),
            server_index: HashMap::new(),
            closed: causes.iter().map(|cause| (*cause, 0)).collect(),
            time_to_open: Histogram::new(OPENING_MS, 1000),
            connect: Histogram::new(OPENING_MS, 1000),
            started: now,
        };
        metrics.series_index(OTHER);
        metrics.add_series(config);
        metrics
    }

    /// Adds a series for each domain and server of `config`. Earlier series are kept, because
    /// sessions may still be counted there.
    pub(crate) fn add_series(&mut self, config: &Config) {
        for name in series_names(config) {
            self.series_index(&name);
        }
    }

    /// Returns the series with this name, or `other` if there is no room for it.
    fn series_index(&mut self, name: &str) -> u16 {
        let (index, key) = match name.strip_prefix(SERVER) {
            Some(server) => (&mut self.server_index, server),
            None => (&mut self.domain_index, name),
        };
        if let Some(at) = index.get(key) {
            return *at;
        }
        let at = u16::try_from(self.series.len()).unwrap_or(u16::MAX);
        if usize::from(at) > MAX_SERIES {
            return 0;
        }
        self.series.push(Series {
            name: name.to_owned(),
            sessions: 0,
            opened: 0,
            limits: StreamLimits::default(),
            failures: 0,
            is_down: false,
        });
        index.insert(key.to_owned(), at);
        at
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

    /// Counts a session that named its domain. `entry` is the matching entry of `domains`, if
    /// any. Returns the index of the series.
    pub(crate) fn enter_domain(&mut self, entry: Option<&str>) -> u16 {
        let at = entry.map_or(0, |name| self.series_index(name));
        let domain = &mut self.series[usize::from(at)];
        domain.sessions += 1;
        domain.opened += 1;
        at
    }

    /// Notes the stream limits that a client was told, in the series of its domain.
    pub(crate) fn note_limits(&mut self, at: u16, limits: StreamLimits) {
        self.series[usize::from(at)].limits = limits;
    }

    /// Counts a session at a configured server. Returns the index of the series, or 0 if there
    /// is none.
    pub(crate) fn enter_server(&mut self, server: &str) -> u16 {
        let at = self.server(server);
        if at > 0 {
            let server = &mut self.series[usize::from(at)];
            server.sessions += 1;
            server.opened += 1;
        }
        at
    }

    fn server(&self, server: &str) -> u16 {
        self.server_index.get(server).copied().unwrap_or(0)
    }

    /// Counts an attempt to use a configured server.
    pub(crate) fn count_result(&mut self, server: &str, answered: bool) {
        let at = self.server(server);
        if at > 0 {
            let server = &mut self.series[usize::from(at)];
            server.is_down = !answered;
            server.failures += u64::from(!answered);
        }
    }

    /// Notes the end of a session in this series.
    pub(crate) fn leave_series(&mut self, at: u16) {
        self.series[usize::from(at)].sessions -= 1;
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

/// The prefix of the name of a server's series. Domains do not contain a space.
const SERVER: &str = "server ";

/// Returns the names of all series for `config`: its servers and domains.
fn series_names(config: &Config) -> impl Iterator<Item = String> {
    let entries = || config.domains.iter().flat_map(|domains| domains.iter());
    let own = entries().flat_map(|domain| domain.servers.iter());
    let servers = config.servers.iter().chain(own);
    let servers = servers.map(|server| format!("{SERVER}{}", server.name));
    servers.chain(entries().map(|domain| domain.name.clone()))
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

/// Returns the server of a series with this name; `None` for a domain's.
fn server_of(series: &str) -> Option<&str> {
    series.strip_prefix(SERVER)
}

/// Returns the domain of a series with this name; `None` for a server's.
fn domain_of(series: &str) -> Option<&str> {
    (!series.starts_with(SERVER)).then_some(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_is_bounded() {
        let mut list = "domains:\n  - other\n".to_owned();
        for n in 0..2 * MAX_SERIES {
            list += &format!("  - d{n}.example\n");
        }
        let loaded = crate::config::parse("-", &list).unwrap();
        let mut metrics = Metrics::new(&loaded.config, &[], &[]);
        metrics.add_series(&loaded.config);
        assert_eq!(metrics.series.len(), MAX_SERIES + 1);
        assert_eq!(metrics.series_index("d0.example"), 1);
        assert_eq!(metrics.series_index("one.too.many"), 0);
        assert_eq!(metrics.series_index(OTHER), 0);
    }
}
