//! The metrics in the order of the page: help texts and values.

use super::counters::{Family, Histogram};
use super::name::{self, Values};
use super::process::Usage;
use super::prometheus::{label, seconds};
use super::shared::{ByMaster, FIXED_VALUES, since_epoch};
use super::snapshot::{Column, Kind, Samples, Snapshot};
use super::{DIALECTS, Metrics};
use crate::proto::xmpp::Dialect;

/// Numbers that are not counted, but read when a snapshot is taken.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Memory held for sessions in bytes, by purpose.
    pub held_bytes: [(&'static str, usize); 5],
    /// Maximum of the sum of `held_bytes` without TLS; 0 means no limit.
    pub held_bytes_max: usize,
    /// DNS queries sent.
    pub dns_queries: u64,
    /// DNS queries answered from the cache.
    pub dns_hits: u64,
    /// DNS queries without an answer.
    pub dns_failures: u64,
    /// Idle XML parsers, by pool.
    pub parsers_parked: [(&'static str, usize); 2],
    /// Lost log lines.
    pub log_lines_lost: u64,
}

impl Snapshot {
    fn one(&mut self, kind: Kind, metric: Values, help: &'static str, value: u64) {
        self.metric(metric, kind, help).value(String::new(), value);
    }

    fn counter(&mut self, metric: Values, help: &'static str, value: u64) {
        self.one(Kind::Counter, metric, help, value);
    }

    fn gauge(&mut self, metric: Values, help: &'static str, value: usize) {
        self.one(Kind::Gauge, metric, help, value as u64);
    }

    fn family(&mut self, metric: Values, help: &'static str, by: &str, family: &Family) {
        self.metric(metric, Kind::Counter, help);
        for (value, count) in family.labels.iter().zip(&family.counts) {
            self.value(label(by, value), *count);
        }
    }

    pub(super) fn histogram(&mut self, metric: Values, help: &'static str, of: &Histogram) {
        self.metric(metric, Kind::Histogram, help);
        self.per_second(of.per_second);
        for (at, count) in of.counts.iter().enumerate() {
            let bound = match of.bounds.get(at) {
                Some(bound) => seconds(*bound, of.per_second).to_string(),
                None => "+Inf".to_owned(),
            };
            self.value(label("le", &bound), *count);
        }
        self.value(String::new(), of.sum);
    }
}

impl Metrics {
    /// Returns the metrics with the values of this worker.
    pub(super) fn snapshot(&self, gauges: &Gauges, usage: Usage, by_master: ByMaster) -> Snapshot {
        let mut page = Snapshot::default();
        self.list_process(&mut page, by_master);
        self.list_configuration(&mut page, by_master);
        self.list_usage(&mut page, usage);
        self.list_sessions(&mut page);
        self.list_traffic(&mut page);
        gauges.list(&mut page);
        debug_assert!(page.values.len() <= FIXED_VALUES, "no room in memory");
        page
    }

    fn list_process(&self, page: &mut Snapshot, by_master: ByMaster) {
        let version = label("version", env!("CARGO_PKG_VERSION"));
        page.metric(name::BUILD_INFO, Kind::Flag, "Build information; always 1.")
            .value(version, 1);
        let help = "Start time of the first worker, since the epoch.";
        let started = since_epoch(self.started);
        page.one(Kind::Start, name::START_TIME, help, started);
        page.per_second(1000);
        page.gauge(name::WORKERS, "Running worker processes.", 1);
        let help =
            "Generation of the daemon: 1 plus the number of upgrades in place since the start.";
        page.one(Kind::Flag, name::GENERATION, help, self.generation.into());
        let help = "Older generations of the daemon that still have sessions.";
        let older = (self.older_generations as u64).max(by_master.older_generations);
        page.one(Kind::Flag, name::OLDER_GENERATIONS, help, older);
        let help = "1 while the daemon is stopping.";
        page.one(Kind::Flag, name::DRAINING, help, u64::from(self.draining));
    }

    fn list_configuration(&self, page: &mut Snapshot, by_master: ByMaster) {
        let help = "1 if the last reload was refused and the old configuration stays in force.";
        let refused = self.reload_refused.map_or(0, since_epoch);
        let refused = refused.max(by_master.reload_refused);
        let flag = u64::from(refused > 0);
        page.one(Kind::Flag, name::CONFIG_RELOAD_REFUSED, help, flag);
        let help =
            "Time of the last reload, successful or not, since the epoch; 0 if there was none.";
        let reload = refused.max(self.reloaded.map_or(0, since_epoch));
        page.one(Kind::Flag, name::CONFIG_LAST_RELOAD_TIME, help, reload);
        page.per_second(1000);
        let help = "Time when the current configuration was read, since the epoch.";
        let configured = since_epoch(self.configured);
        page.one(Kind::Flag, name::CONFIG_TIME, help, configured);
        page.per_second(1000);
        let help = "Expiry time of a listener's certificate, since the epoch.";
        let expiries = self.certificates.iter();
        let expiries = expiries.map(|(name, time)| (label("name", name), *time));
        page.metric(name::CERTIFICATE_EXPIRY, Kind::Gauge, help)
            .samples(Samples::Own(expiries.collect()));
    }

    fn list_usage(&self, page: &mut Snapshot, usage: Usage) {
        let help = "Processor time, user and system, in seconds.";
        page.counter(name::PROCESS_CPU, help, usage.cpu_us);
        page.per_second(1_000_000);
        let help = "Resident memory in bytes.";
        page.one(
            Kind::Gauge,
            name::PROCESS_RESIDENT_MEMORY,
            help,
            usage.resident_bytes,
        );
        let help = "Open file descriptors.";
        page.one(Kind::Gauge, name::PROCESS_OPEN_FDS, help, usage.open_fds);
        let help = "The limit on open file descriptors.";
        page.one(Kind::Gauge, name::PROCESS_MAX_FDS, help, usage.max_fds);
        let help = "Start time of the first worker, since the epoch.";
        let started = since_epoch(self.started);
        page.one(Kind::Start, name::PROCESS_START_TIME, help, started);
        page.per_second(1000);
    }

    fn list_sessions(&self, page: &mut Snapshot) {
        let help = "Maximum number of open sessions.";
        page.gauge(name::SESSIONS_MAX, help, self.max_sessions);
        let help = "Open sessions.";
        page.metric(name::SESSIONS, Kind::Gauge, help);
        for (phase, row) in self.phases.iter().zip(&self.sessions) {
            for (dialect, count) in DIALECTS.iter().zip(row) {
                let dialect = label("dialect", dialect.map_or("none", Dialect::name));
                page.value(format!("{},{dialect}", label("phase", phase)), *count);
            }
        }
        let help = "Open sessions that have named their domain, by entry of 'domains'.";
        page.metric(name::DOMAIN_SESSIONS, Kind::Gauge, help)
            .samples(Samples::Domains(Column::Sessions));
        let help = "Sessions that have named their domain, by entry of 'domains'.";
        page.metric(name::DOMAIN_SESSIONS_TOTAL, Kind::Counter, help)
            .samples(Samples::Domains(Column::Opened));
        let help = "Stream limit max-bytes (XEP-0478) that a client was last told, by entry of \
                    'domains'; 0 if it was told none.";
        page.metric(name::DOMAIN_STREAM_MAX_BYTES, Kind::Flag, help)
            .samples(Samples::Domains(Column::MaxBytes));
        let help = "Stream limit idle-seconds (XEP-0478) that a client was last told, by entry of \
                    'domains'; 0 if it was told none.";
        page.metric(name::DOMAIN_STREAM_IDLE, Kind::Flag, help)
            .samples(Samples::Domains(Column::IdleSeconds));
        let help = "Open sessions that this configured server serves.";
        page.metric(name::SERVER_SESSIONS, Kind::Gauge, help)
            .samples(Samples::Servers(Column::Sessions));
        let help = "Sessions that this configured server has served.";
        page.metric(name::SERVER_SESSIONS_TOTAL, Kind::Counter, help)
            .samples(Samples::Servers(Column::Opened));
        let help =
            "Failed attempts to get a connection, TLS or a stream from this configured server.";
        page.metric(name::SERVER_FAILURES, Kind::Counter, help)
            .samples(Samples::Servers(Column::Failures));
        let help = "1 if a worker's last attempt to use this configured server failed.";
        page.metric(name::SERVER_DOWN, Kind::Flag, help)
            .samples(Samples::Servers(Column::Down));
        let help = "Connections accepted.";
        page.counter(name::ACCEPTED_CONNECTIONS, help, self.accepted);
        let help = "Opening handshakes refused.";
        page.family(name::REFUSED_REQUESTS, help, "reason", &self.refused);
        let help = "Sessions ended, by who ended them and why.";
        page.metric(name::CLOSED_SESSIONS, Kind::Counter, help);
        for ((by, why), count) in &self.closed {
            let why = label("why", why);
            page.value(format!("{},{why}", label("by", by)), *count);
        }
        let help = "Time from the client's connection to the server's stream header.";
        page.histogram(name::TIME_TO_OPEN, help, &self.time_to_open);
        let help = "Time from the first message to the server's stream header, including DNS, TCP and TLS.";
        page.histogram(name::CONNECT, help, &self.connect);
    }

    fn list_traffic(&self, page: &mut Snapshot) {
        let both = [("up", self.up), ("down", self.down)];
        let help = "Payload relayed to servers (up) and to browsers (down).";
        page.metric(name::RELAYED_BYTES, Kind::Counter, help);
        for (direction, traffic) in both {
            page.value(label("direction", direction), traffic.bytes);
        }
        let help = "Messages relayed to servers (up) and to browsers (down).";
        page.metric(name::RELAYED_MESSAGES, Kind::Counter, help);
        for (direction, traffic) in both {
            page.value(label("direction", direction), traffic.messages);
        }
        let help = "Time from the wake-up of the loop until the kernel had taken the messages; \
                    measured in one of about 16 turns that relayed messages and left nothing \
                    queued.";
        page.histogram(name::RELAY_LATENCY, help, &self.relay_latency);
        let help = "Turns that were measured too, but left something queued; \
                    relay_latency_seconds does not have them.";
        page.counter(name::RELAY_HELD, help, self.relay_held);
        let help = "TLS handshakes with browsers.";
        page.family(
            name::CLIENT_TLS_HANDSHAKES,
            help,
            "version",
            &self.client_tls,
        );
        let help = "TLS handshakes with browsers that failed.";
        page.counter(name::CLIENT_TLS_FAILURES, help, self.client_tls_failed);
        let help = "TLS handshakes with servers.";
        page.family(
            name::SERVER_TLS_HANDSHAKES,
            help,
            "version",
            &self.server_tls,
        );
        let help =
            "Connections to servers that were less secure than required, or lost before TLS.";
        page.counter(name::SERVER_INSECURE, help, self.server_insecure);
        let help = "Duration of a turn of the event loop, without waiting. A message waits for at most one turn.";
        page.histogram(name::TURN, help, &self.turns);
        let help =
            "Turns of a session that took longer than 50 ms, while all other sessions waited.";
        page.counter(name::SLOW_TURNS, help, self.slow_turns);
    }
}

impl Gauges {
    fn list(&self, page: &mut Snapshot) {
        let help = "Memory held for sessions, by purpose.";
        page.metric(name::HELD_BYTES, Kind::Gauge, help);
        for (part, bytes) in self.held_bytes {
            page.value(label("for", part), bytes as u64);
        }
        let help = "Maximum of the memory held for sessions, without TLS; 0 means no limit.";
        page.gauge(name::HELD_BYTES_MAX, help, self.held_bytes_max);
        let help = "Queries sent to the DNS.";
        page.counter(name::DNS_QUERIES, help, self.dns_queries);
        let help = "Queries answered from the cache.";
        page.counter(name::DNS_CACHE_HITS, help, self.dns_hits);
        let help =
            "DNS queries without an answer. A reply that the name does not exist is an answer.";
        page.counter(name::DNS_FAILURES, help, self.dns_failures);
        let help = "Idle XML parsers, kept for later messages.";
        page.metric(name::PARSERS_PARKED, Kind::Gauge, help);
        for (pool, parked) in self.parsers_parked {
            page.value(label("pool", pool), parked as u64);
        }
        let help = "Log lines lost since the log last reported losses.";
        page.one(Kind::Gauge, name::LOG_LINES_LOST, help, self.log_lines_lost);
    }
}
