//! What the sessions of a worker share: configuration, log, parsers, resolver and scratch
//! memory, so that an idle session needs none of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use mio::Registry;

use super::Tick;
use super::admission::Admission;
use super::interner::Interner;
use super::ledger::{Ledger, Memory};
use super::line_limit::LineLimit;
use super::machine::{Cause, Phase};
use super::outages::Outages;
use super::session_log::Name;
use super::settings::Settings;
use super::step::Observer;
use crate::config::Config;
use crate::expat::{Limits, heap_bytes};
use crate::log::Log;
use crate::meter::{LOOK_UP, Meter};
use crate::metrics::{Gauges, Metrics};
use crate::net::dns::locator::{Answer, Locator, Wanted};
use crate::net::peer::Peer;
use crate::net::private_addresses::PrivateAddressSet;
use crate::net::servers::Servers;
use crate::net::source::Source;
use crate::net::tls_client::Contexts;
use crate::proto::ws::deflate::Codec;
use crate::proto::xmpp::Parsers;
use crate::proto::xmpp::known_features::KnownFeatures;

/// Size of a read from a socket, in bytes.
pub const READ_SIZE: usize = 16 << 10;

/// Maximum number of TLS handshake steps, with clients and servers, in one turn of the loop.
/// Each takes up to a millisecond.
pub const TLS_STEPS_PER_TURN: u32 = 4;

/// The bytes that a session has read in a turn.
#[derive(Clone, Copy, Default)]
pub struct BytesRead {
    pub from_client: usize,
    pub from_server: usize,
}

/// The state that the sessions of a worker share.
pub struct Shared {
    /// The settings of new sessions. A session keeps the settings that it started with.
    pub config: Rc<Settings>,
    pub log: Rc<Log>,
    pub parsers: Parsers,
    /// Looks up servers.
    pub locator: Locator,
    /// What is known about servers, and which sessions connect to them.
    pub servers: Servers,
    /// The internal addresses, which `private_addresses` protects.
    pub private_addresses: PrivateAddressSet,
    /// Registers sockets with the poll.
    pub registry: Registry,
    /// The limits per client address.
    pub admission: Admission,
    pub metrics: Metrics,
    /// The memory that sessions held at the end of their last turns.
    pub ledger: Ledger,
    /// Whether there are so many sessions that new clients are sent to another endpoint.
    pub crowded: bool,
    /// The number of TLS handshake steps left in this turn of the loop.
    pub tls_budget: u32,
    /// The work that the current session may still cause in this turn.
    pub meter: Meter,
    /// What the current or last session has read in its turn.
    pub read: BytesRead,
    /// Stream features that servers have sent.
    pub(super) known_features: KnownFeatures,
    /// Compresses and inflates messages.
    pub(super) codec: Codec,
    /// The time of this turn of the loop.
    pub now: Tick,
    /// The buffer for reads. A turn takes it and must put it back.
    pub(super) scratch: Vec<u8>,
    /// Texts that many sessions have in common.
    pub(super) names: Interner,
    /// A buffer to compose small texts.
    pub(super) text: Vec<u8>,
    /// Domains whose servers cannot be reached.
    pub(super) outages: Outages,
    /// The lines about peers that broke a rule.
    violations: LineLimit,
    pub(super) observer: Observer,
    /// The number of the last session.
    last_session: u32,
    /// The id of the next look-up.
    next_query: u64,
    /// The first token of the session that started each look-up.
    queries: BTreeMap<u64, usize>,
}

/// Returns the limits on XML documents.
fn xml_limits(config: &Config) -> Limits {
    Limits {
        depth: config.max_depth,
        attributes: config.max_attributes,
        namespaces: config.max_namespaces,
    }
}

impl Shared {
    /// Creates the shared state of a worker.
    pub fn new(
        config: Rc<Config>,
        log: Rc<Log>,
        locator: Locator,
        tls: Contexts,
        registry: Registry,
    ) -> Shared {
        let mut parsers = Parsers::default();
        parsers.set_limits(xml_limits(&config));
        let (private_addresses, read) = PrivateAddressSet::new();
        if let Err(error) = read {
            log.warning(format_args!(
                "cannot read the addresses of this host: {}; 'private_addresses' does not protect them",
                error.desc()
            ));
        }
        Shared {
            metrics: Metrics::new(&config, Phase::LABELS, &Cause::WORDS),
            servers: Servers::new(config.max_connecting_per_server),
            config: Settings::new(config, tls),
            log,
            parsers,
            admission: Admission::default(),
            ledger: Ledger::default(),
            crowded: false,
            locator,
            private_addresses,
            registry,
            tls_budget: TLS_STEPS_PER_TURN,
            meter: Meter::default(),
            read: BytesRead::default(),
            known_features: KnownFeatures::default(),
            codec: Codec::default(),
            now: 0,
            scratch: vec![0; READ_SIZE],
            names: Interner::default(),
            text: Vec::new(),
            outages: Outages::default(),
            violations: LineLimit::default(),
            observer: Observer::default(),
            last_session: 0,
            next_query: 0,
            queries: BTreeMap::new(),
        }
    }

    /// Sets the configuration and the TLS contexts for new sessions.
    pub fn set_config(&mut self, config: Rc<Config>, tls: Contexts) {
        self.parsers.set_limits(xml_limits(&config));
        self.metrics.series.add(&config);
        self.servers
            .queue
            .set_most(config.max_connecting_per_server);
        self.config = Settings::new(config, tls);
    }

    /// Tells `observer` each step of all sessions.
    pub(crate) fn observe(&mut self, observer: Observer) {
        self.locator.observer = observer.of_net();
        self.servers.observer = observer.of_net();
        self.observer = observer;
    }

    /// Returns the number of a new session, for the log.
    pub(super) fn number_session(&mut self) -> u32 {
        self.last_session = self.last_session.wrapping_add(1);
        self.last_session
    }

    /// Returns the memory held for sessions.
    pub fn memory(&self) -> Memory {
        Memory {
            parsers: heap_bytes() + self.known_features.held_bytes(),
            compression: self.codec.memory(),
            names: self.locator.held_bytes(),
            ..self.ledger.memory()
        }
    }

    /// Returns the numbers for the metrics that are not counted.
    pub fn gauges(&self) -> Gauges {
        let dns = self.locator.resolver.counts();
        Gauges {
            held_bytes: self.memory().parts(),
            held_bytes_max: match self.config.max_total_memory_bytes {
                usize::MAX => 0,
                limit => limit,
            },
            dns_queries: dns.queries,
            dns_hits: dns.hits,
            dns_failures: dns.failures,
            parsers_parked: [
                ("stream", self.parsers.stream.parked()),
                ("message", self.parsers.message.parked()),
            ],
            log_lines_lost: self.log.lost_lines(),
        }
    }

    /// Logs that `peer` exceeded the limit set by `key`; `detail` may say more.
    pub(super) fn report_limit(&mut self, peer: Peer, key: &str, detail: &str) {
        self.admission
            .report(&self.log, peer, key, detail, self.now);
    }

    /// Logs that a peer of the session `name` broke a rule.
    pub(super) fn report_violation(&mut self, name: Name, what: fmt::Arguments<'_>) {
        let line = format_args!("session {name}: {what}");
        self.violations.warn(&self.log, "sessions", line, self.now);
    }

    /// Counts the results of attempts to use configured servers.
    pub(super) fn count_results(&mut self) {
        for (server, answered) in self.servers.take_results() {
            self.metrics.series.count_result(&server, answered);
        }
    }

    /// Drops what is only kept to save work, to free its memory.
    pub fn drop_caches(&mut self) {
        self.parsers.set_limits(xml_limits(&self.config));
        self.known_features = KnownFeatures::default();
        self.codec = Codec::default();
        self.locator.resolver.drop_cache();
    }

    /// Starts a look-up for the session with this token, whose client is `source`. Returns the
    /// id of the look-up, and the answer if it is known.
    pub(super) fn look_up(
        &mut self,
        token: usize,
        wanted: &Wanted,
        source: Source,
    ) -> (u64, Option<Answer>) {
        self.meter.draw(LOOK_UP);
        let query = self.next_query;
        self.next_query += 1;
        self.locator.look_up(query, wanted, source, self.now);
        let answer = self.locator.take_answer(query);
        if answer.is_none() {
            self.queries.insert(query, token);
        }
        (query, answer)
    }

    /// Cancels a look-up, whose answer nobody waits for.
    pub(super) fn forget_look_up(&mut self, query: u64) {
        self.queries.remove(&query);
        self.locator.forget(query);
    }

    /// Returns the next answer that a session waits for, with the first token of that session.
    pub fn next_answer(&mut self) -> Option<(usize, Answer)> {
        loop {
            let answer = self.locator.next_answer()?;
            let token = match answer.last {
                true => self.queries.remove(&answer.id),
                false => self.queries.get(&answer.id).copied(),
            };
            if let Some(token) = token {
                return Some((token, answer));
            }
        }
    }
}
