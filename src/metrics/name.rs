//! The names of all metrics, in the order of the page.
//!
//! `catalog` gives each its help text and values; the status page asks for some of them.

/// The values of a metric, or only those with a certain label value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values {
    /// The name of the metric, without the prefix `jabsocket_`.
    pub(super) metric: &'static str,
    /// The label value; empty for all values.
    pub(super) label: &'static str,
}

impl Values {
    /// Returns the values with this label value.
    pub(crate) const fn with(self, label: &'static str) -> Values {
        Values { label, ..self }
    }
}

/// Returns all values of a metric.
pub(super) const fn all(metric: &'static str) -> Values {
    Values { metric, label: "" }
}

pub(crate) const BUILD_INFO: Values = all("build_info");
pub(crate) const START_TIME: Values = all("start_time_seconds");
pub(crate) const WORKERS: Values = all("workers");
pub(crate) const GENERATION: Values = all("generation");
pub(crate) const OLDER_GENERATIONS: Values = all("older_generations");
pub(crate) const DRAINING: Values = all("draining");
pub(crate) const CONFIG_RELOAD_REFUSED: Values = all("config_reload_refused");
pub(crate) const CONFIG_LAST_RELOAD_TIME: Values = all("config_last_reload_time_seconds");
pub(crate) const CONFIG_TIME: Values = all("config_time_seconds");
pub(crate) const CERTIFICATE_EXPIRY: Values = all("certificate_expiry_seconds");
pub(crate) const PROCESS_CPU: Values = all("process_cpu_seconds_total");
pub(crate) const PROCESS_RESIDENT_MEMORY: Values = all("process_resident_memory_bytes");
pub(crate) const PROCESS_OPEN_FDS: Values = all("process_open_fds");
pub(crate) const PROCESS_MAX_FDS: Values = all("process_max_fds");
pub(crate) const PROCESS_START_TIME: Values = all("process_start_time_seconds");
pub(crate) const SESSIONS_MAX: Values = all("sessions_max");
pub(crate) const SESSIONS: Values = all("sessions");
pub(crate) const DOMAIN_SESSIONS: Values = all("domain_sessions");
pub(crate) const DOMAIN_SESSIONS_TOTAL: Values = all("domain_sessions_total");
pub(crate) const DOMAIN_STREAM_MAX_BYTES: Values = all("domain_stream_max_bytes");
pub(crate) const DOMAIN_STREAM_IDLE: Values = all("domain_stream_idle_seconds");
pub(crate) const SERVER_SESSIONS: Values = all("server_sessions");
pub(crate) const SERVER_SESSIONS_TOTAL: Values = all("server_sessions_total");
pub(crate) const SERVER_FAILURES: Values = all("server_failures_total");
pub(crate) const SERVER_DOWN: Values = all("server_down");
pub(crate) const ACCEPTED_CONNECTIONS: Values = all("accepted_connections_total");
pub(crate) const REFUSED_REQUESTS: Values = all("refused_requests_total");
pub(crate) const CLOSED_SESSIONS: Values = all("closed_sessions_total");
pub(crate) const TIME_TO_OPEN: Values = all("time_to_open_seconds");
pub(crate) const CONNECT: Values = all("connect_seconds");
pub(crate) const RELAYED_BYTES: Values = all("relayed_bytes_total");
pub(crate) const RELAYED_MESSAGES: Values = all("relayed_messages_total");
pub(crate) const RELAY_LATENCY: Values = all("relay_latency_seconds");
pub(crate) const RELAY_HELD: Values = all("relay_held_total");
pub(crate) const CLIENT_TLS_HANDSHAKES: Values = all("client_tls_handshakes_total");
pub(crate) const CLIENT_TLS_FAILURES: Values = all("client_tls_failures_total");
pub(crate) const SERVER_TLS_HANDSHAKES: Values = all("server_tls_handshakes_total");
pub(crate) const SERVER_INSECURE: Values = all("server_insecure_total");
pub(crate) const TURN: Values = all("turn_seconds");
pub(crate) const SLOW_TURNS: Values = all("slow_turns_total");
pub(crate) const HELD_BYTES: Values = all("held_bytes");
pub(crate) const HELD_BYTES_MAX: Values = all("held_bytes_max");
pub(crate) const DNS_QUERIES: Values = all("dns_queries_total");
pub(crate) const DNS_CACHE_HITS: Values = all("dns_cache_hits_total");
pub(crate) const DNS_FAILURES: Values = all("dns_failures_total");
pub(crate) const PARSERS_PARKED: Values = all("parsers_parked");
pub(crate) const LOG_LINES_LOST: Values = all("log_lines_lost");
