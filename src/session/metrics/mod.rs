//! What a worker counts; `list` names it, `sheet` adds up what several workers
//! counted, `page` tells it to Prometheus.
//!
//! Owns the counters, each a plain number that is added to where the thing
//! happens, and the sets of label values, all fixed but the domains: those are
//! the entries of the configured list, everything else is `other`, so that no
//! peer can make a series. Never allocates for a session or a message, reads no
//! clock but for the start.

mod list;
mod page;
mod sheet;

use std::collections::HashMap;
use std::time::SystemTime;

use super::Session;
use super::phase::{Event, Phase};
use super::report::{Traffic, cause};
use super::shared::Shared;
use crate::config::{Config, DomainRule};
use crate::proto::http::Refusal;
use crate::proto::xmpp::Dialect;

/// Domains with a series of their own; those beyond are `other`.
const MAX_DOMAINS: usize = 1000;

/// The label value of what no other fits.
const OTHER: &str = "other";

/// Names of the phases, in their order.
const PHASES: [&str; Phase::Gone as usize + 1] = [
    "accepting",
    "opening",
    "await_open",
    "locating",
    "connecting",
    "securing",
    "greeting",
    "relaying",
    "closing",
    "lingering",
    "gone",
];

const DIALECTS: [Option<Dialect>; 3] = [None, Some(Dialect::Framed), Some(Dialect::Draft)];

/// Why requests are refused.
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
    // Over a limit, and closed without a response.
    "unanswered",
    OTHER,
];

/// Versions of TLS.
const TLS_VERSIONS: &[&str] = &["TLSv1.2", "TLSv1.3", OTHER];

/// Upper bounds of times that a browser sees, in milliseconds.
const OPENING_MS: &[u64] = &[
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 45_000,
];

/// Upper bounds of times within the loop, in microseconds.
const TURN_US: &[u64] = &[
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

/// One counter for each of a fixed set of label values.
#[derive(Debug)]
pub struct Family {
    labels: &'static [&'static str],
    counts: Vec<u64>,
}

impl Family {
    fn new(labels: &'static [&'static str]) -> Family {
        Family {
            labels,
            counts: vec![0; labels.len()],
        }
    }

    /// Counts one; a label that is not in the set counts as the last.
    pub fn count(&mut self, label: &str) {
        let at = self.labels.iter().position(|known| *known == label);
        let at = at.unwrap_or(self.labels.len() - 1);
        self.counts[at] += 1;
    }
}

/// How long something took, as Prometheus wants to know it.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// So many of the bounds' unit are a second.
    per_second: u32,
    /// Observations up to each bound and above the one before; then the rest.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    fn new(bounds: &'static [u64], per_second: u32) -> Histogram {
        Histogram {
            bounds,
            per_second,
            counts: vec![0; bounds.len() + 1],
            sum: 0,
        }
    }

    /// Takes one observation, in the unit of the bounds.
    pub fn observe(&mut self, value: u64) {
        let at = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[at.unwrap_or(self.bounds.len())] += 1;
        self.sum = self.sum.saturating_add(value);
    }
}

/// What another worker of the daemon shows of its counters.
#[derive(Debug)]
pub struct Shown {
    /// Which one it is.
    pub worker: u16,
    /// Whether it is there; what stays of a dead one counts too.
    pub alive: bool,
    /// As [`Shared::show_metrics`] wrote it.
    pub bytes: Vec<u8>,
}

/// A domain of the list.
#[derive(Debug)]
struct DomainTotals {
    name: String,
    sessions: u64,
    opened: u64,
}

/// What a session is counted as at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    at: Option<(Phase, Option<Dialect>)>,
    place: Option<u16>,
}

/// The counters of a worker.
#[derive(Debug)]
pub struct Metrics {
    /// Which of the workers this is.
    pub worker: u16,
    /// Sessions that there is room for.
    pub max_sessions: usize,
    /// Whether the daemon is stopping.
    pub draining: bool,
    /// Whether this worker refused the configuration at the last reload.
    pub reload_refused: bool,
    /// Whether its master refused it.
    pub reload_refused_above: bool,
    /// When the configuration in force was read.
    pub configured: SystemTime,
    /// Connections accepted.
    pub accepted: u64,
    /// Requests refused, by reason.
    pub refused: Family,
    /// Payload passed on to servers.
    pub up: Traffic,
    /// Payload passed on to clients.
    pub down: Traffic,
    /// TLS handshakes with servers, by version.
    pub tls: Family,
    /// Connections to servers that could not be made as secure as they must be.
    pub insecure: u64,
    /// TLS handshakes with clients, by version.
    pub client_tls: Family,
    /// Those that failed.
    pub client_tls_failed: u64,
    /// Turns of sessions that kept the others waiting.
    pub slow_turns: u64,
    /// Turns of the loop, in microseconds.
    pub turns: Histogram,
    relay_latency: Histogram,
    relay_held: u64,
    sessions: [[u64; DIALECTS.len()]; PHASES.len()],
    places: Vec<DomainTotals>,
    index: HashMap<String, u16>,
    /// By who and why.
    closed: Vec<((&'static str, &'static str), u64)>,
    time_to_open: Histogram,
    connect: Histogram,
    started: SystemTime,
}

impl Metrics {
    /// All zero, with the domains of `config`.
    pub fn new(config: &Config) -> Metrics {
        let mut metrics = Metrics {
            worker: 0,
            max_sessions: 0,
            draining: false,
            reload_refused: false,
            reload_refused_above: false,
            configured: SystemTime::now(),
            accepted: 0,
            refused: Family::new(REFUSALS),
            up: Traffic::default(),
            down: Traffic::default(),
            tls: Family::new(TLS_VERSIONS),
            insecure: 0,
            client_tls: Family::new(TLS_VERSIONS),
            client_tls_failed: 0,
            slow_turns: 0,
            turns: Histogram::new(TURN_US, 1_000_000),
            relay_latency: Histogram::new(TURN_US, 1_000_000),
            relay_held: 0,
            sessions: Default::default(),
            places: Vec::new(),
            index: HashMap::new(),
            closed: super::report::CAUSES.iter().map(|key| (*key, 0)).collect(),
            time_to_open: Histogram::new(OPENING_MS, 1000),
            connect: Histogram::new(OPENING_MS, 1000),
            started: SystemTime::now(),
        };
        metrics.place(OTHER);
        metrics.know(config);
        metrics
    }

    /// Makes a series for each domain in the list of `config`. Those of lists
    /// before stay: sessions may still be counted there.
    pub fn know(&mut self, config: &Config) {
        for domain in config.domains.iter().flat_map(|domains| domains.iter()) {
            self.place(&domain.name);
        }
    }

    /// The number of the series of a list's entry.
    fn place(&mut self, name: &str) -> u16 {
        if let Some(at) = self.index.get(name) {
            return *at;
        }
        let Some(at) = u16::try_from(self.places.len())
            .ok()
            .filter(|_| self.places.len() <= MAX_DOMAINS)
        else {
            return 0;
        };
        self.places.push(DomainTotals {
            name: name.to_owned(),
            sessions: 0,
            opened: 0,
        });
        self.index.insert(name.to_owned(), at);
        at
    }

    /// Counts the end of a session's open phases.
    pub(super) fn close(&mut self, phase: Phase, event: Event) {
        let key = cause(phase, event);
        let entry = self.closed.iter_mut().find(|(known, _)| *known == key);
        debug_assert!(entry.is_some(), "{key:?}");
        if let Some((_, count)) = entry {
            *count += 1;
        }
    }

    /// Messages passed on, both ways.
    pub fn relayed(&self) -> u64 {
        self.up.messages + self.down.messages
    }

    /// Counts a turn of a session that passed messages on: how many microseconds
    /// it took, or `None` if something stayed in a queue.
    pub fn relay_turn(&mut self, micros: Option<u64>) {
        match micros {
            Some(micros) => self.relay_latency.observe(micros),
            None => self.relay_held += 1,
        }
    }

    /// Counts a session whose server has answered, so many milliseconds after
    /// it was accepted and after its first message.
    pub(super) fn relays(&mut self, time_to_open: u64, connect: u64) {
        self.time_to_open.observe(time_to_open);
        self.connect.observe(connect);
    }
}

/// Why a request is refused, in a word of the fixed set.
pub(super) fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Overloaded { .. } => "max_connections",
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
        Refusal::Stopping { .. } => "stopping",
        Refusal::Malformed | Refusal::TlsOnPlainPort | Refusal::PlainOnTlsPort | Refusal::Body => {
            "malformed"
        }
        _ => OTHER,
    }
}

impl Session {
    /// Counts the session where it stands now; once before its first turn, and
    /// again whenever that has changed.
    pub fn tally(&mut self, worker: &mut Shared) {
        let metrics = &mut worker.metrics;
        let now = (self.phase, self.dialect);
        if let Some((phase, dialect)) = self.tally.at.replace(now) {
            metrics.sessions[phase as usize][column(dialect)] -= 1;
        }
        metrics.sessions[self.phase as usize][column(self.dialect)] += 1;
        if self.tally.place.is_none()
            && let Some(domain) = &self.domain
        {
            let at = match self.config.domain(domain) {
                DomainRule::Listed(entry) => metrics.place(&entry.name),
                DomainRule::Any | DomainRule::Unlisted => 0,
            };
            self.tally.place = Some(at);
            metrics.places[at as usize].sessions += 1;
            metrics.places[at as usize].opened += 1;
        }
    }

    /// The session is over: it is counted no more.
    pub(super) fn untally(&mut self, worker: &mut Shared) {
        let metrics = &mut worker.metrics;
        let Tally { at, place } = std::mem::take(&mut self.tally);
        if let Some((phase, dialect)) = at {
            metrics.sessions[phase as usize][column(dialect)] -= 1;
        }
        if let Some(at) = place {
            metrics.places[at as usize].sessions -= 1;
        }
    }
}

fn column(dialect: Option<Dialect>) -> usize {
    match dialect {
        None => 0,
        Some(Dialect::Framed) => 1,
        Some(Dialect::Draft) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_domains_are_bounded() {
        let mut list = "domains:\n  - other\n".to_owned();
        for n in 0..2 * MAX_DOMAINS {
            list += &format!("  - d{n}.example\n");
        }
        let loaded = crate::config::parse("-", &list).unwrap();
        let mut metrics = Metrics::new(&loaded.config);
        metrics.know(&loaded.config);
        assert_eq!(metrics.places.len(), MAX_DOMAINS + 1);
        assert_eq!(metrics.place("d0.example"), 1);
        assert_eq!(metrics.place("one.too.many"), 0);
        assert_eq!(metrics.place(OTHER), 0);
    }
}
