//! The page of metrics: Prometheus text format, version 0.0.4.
//!
//! Owns names, helps and form. All names begin with `jabsocket_`, all samples
//! have the label `worker`; units are seconds and bytes.

use std::fmt::{Display, Write};
use std::time::SystemTime;

use super::{DIALECTS, Family, Histogram, Metrics, PHASES};
use crate::proto::xmpp::Dialect;
use crate::session::worker::Worker;

/// The page under way.
struct Page<'a> {
    out: &'a mut String,
    worker: u16,
    name: &'static str,
}

/// Writing to a `String` does not fail.
const STRING: &str = "a String takes all";

impl Page<'_> {
    /// Begins a metric: its samples follow.
    fn metric(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.name = name;
        let written = writeln!(
            self.out,
            "# HELP jabsocket_{name} {help}\n# TYPE jabsocket_{name} {kind}"
        );
        debug_assert!(written.is_ok(), "{STRING}");
        self
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.metric(name, "counter", help).sample("", &[], value);
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help).sample("", &[], value);
    }

    fn family(&mut self, name: &'static str, help: &str, label: &str, family: &Family) {
        self.metric(name, "counter", help);
        for (value, count) in family.labels.iter().zip(&family.counts) {
            self.sample("", &[(label, value)], count);
        }
    }

    fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.metric(name, "histogram", help);
        let mut total = 0;
        for (at, count) in histogram.counts.iter().enumerate() {
            total += count;
            let bound = match histogram.bounds.get(at) {
                Some(bound) => histogram.seconds(*bound).to_string(),
                None => "+Inf".to_owned(),
            };
            self.sample("_bucket", &[("le", &bound)], total);
        }
        self.sample("_sum", &[], histogram.seconds(histogram.sum));
        self.sample("_count", &[], total);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let (name, worker) = (self.name, self.worker);
        let mut written = write!(self.out, "jabsocket_{name}{suffix}{{worker=\"{worker}\"");
        for (label, value) in labels {
            let value = escaped(value);
            written = written.and_then(|()| write!(self.out, ",{label}=\"{value}\""));
        }
        written = written.and_then(|()| writeln!(self.out, "}} {value}"));
        debug_assert!(written.is_ok(), "{STRING}");
    }
}

/// A label value with its backslashes, quotes and line ends escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Worker {
    /// Appends the page of all metrics.
    pub fn write_metrics(&self, out: &mut String) {
        let metrics = &self.metrics;
        let page = &mut Page {
            out,
            worker: metrics.worker,
            name: "",
        };
        page.metric("build_info", "gauge", "What was built; always 1.")
            .sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = metrics.started.duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or_default().as_secs_f64();
        let help = "When the worker started, since the epoch.";
        page.gauge("start_time_seconds", help, started);
        let help = "1 while the daemon is stopping.";
        page.gauge("draining", help, u8::from(metrics.draining));
        metrics.write_sessions(page);
        metrics.write_traffic(page);
        let help = "Bytes that wait in the queues of all sessions, unfinished messages among them.";
        page.gauge("queue_bytes", help, self.held);
        let dns = self.locator.counts();
        page.counter(
            "dns_queries_total",
            "Questions asked of the DNS.",
            dns.queries,
        );
        let help = "Questions that the cache could answer.";
        page.counter("dns_cache_hits_total", help, dns.hits);
        let help = "Questions that the DNS gave no answer to; that there is no such name is one.";
        page.counter("dns_failures_total", help, dns.failures);
        let help = "XML parsers kept for the next message.";
        page.metric("parsers_parked", "gauge", help);
        for (pool, parked) in [
            ("stream", self.parsers.stream.parked()),
            ("message", self.parsers.message.parked()),
        ] {
            page.sample("", &[("pool", pool)], parked);
        }
        let help = "Log lines lost since the last that told of losses.";
        page.gauge("log_lines_lost", help, self.log.lost_lines());
    }
}

impl Metrics {
    fn write_sessions(&self, page: &mut Page<'_>) {
        let help = "Sessions that there is room for at a time.";
        page.gauge("sessions_max", help, self.max_sessions);
        let help = "Sessions there now.";
        page.metric("sessions", "gauge", help);
        for (phase, row) in PHASES.iter().zip(&self.sessions) {
            for (dialect, count) in DIALECTS.iter().zip(row) {
                let dialect = dialect.map_or("none", Dialect::name);
                page.sample("", &[("phase", phase), ("dialect", dialect)], count);
            }
        }
        let help = "Sessions there now that have named their domain, by entry of the list.";
        page.metric("domain_sessions", "gauge", help);
        for place in &self.places {
            page.sample("", &[("domain", &place.name)], place.sessions);
        }
        let help = "Sessions that have named their domain, by entry of the list.";
        page.metric("domain_sessions_total", "counter", help);
        for place in &self.places {
            page.sample("", &[("domain", &place.name)], place.opened);
        }
        let help = "Connections accepted.";
        page.counter("accepted_connections_total", help, self.accepted);
        let help = "Opening handshakes refused.";
        page.family("refused_requests_total", help, "reason", &self.refused);
        let help = "Sessions ended, by who ended them and why.";
        page.metric("closed_sessions_total", "counter", help);
        for ((by, why), count) in &self.closed {
            page.sample("", &[("by", by), ("why", why)], count);
        }
        let help = "From the connection to the server's stream header.";
        page.histogram("time_to_open_seconds", help, &self.time_to_open);
        let help = "From the first message to the server's stream header: DNS, TCP, TLS, answer.";
        page.histogram("connect_seconds", help, &self.connect);
    }

    fn write_traffic(&self, page: &mut Page<'_>) {
        let both = [("up", self.up), ("down", self.down)];
        let help = "Payload passed on, to servers (up) and to browsers (down).";
        page.metric("relayed_bytes_total", "counter", help);
        for (direction, traffic) in both {
            page.sample("", &[("direction", direction)], traffic.bytes);
        }
        let help = "Messages passed on, to servers (up) and to browsers (down).";
        page.metric("relayed_messages_total", "counter", help);
        for (direction, traffic) in both {
            page.sample("", &[("direction", direction)], traffic.messages);
        }
        let help = "TLS handshakes with servers.";
        page.family("server_tls_handshakes_total", help, "version", &self.tls);
        let help = "Connections to servers given up as not secure, or lost before they were.";
        page.counter("server_insecure_total", help, self.insecure);
        let help =
            "Turns of the event loop, without waiting: what passes through waits one at most.";
        page.histogram("turn_seconds", help, &self.turns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut histogram = Histogram::new(&[5, 10], Duration::from_millis(1));
        for value in [0, 5, 6, 10, 11, 4000] {
            histogram.observe(value);
        }
        let mut out = String::new();
        let mut page = Page {
            out: &mut out,
            worker: 3,
            name: "",
        };
        page.histogram("x_seconds", "X.", &histogram);
        let expected = "# HELP jabsocket_x_seconds X.\n\
            # TYPE jabsocket_x_seconds histogram\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"0.005\"} 2\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"0.01\"} 4\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"+Inf\"} 6\n\
            jabsocket_x_seconds_sum{worker=\"3\"} 4.032\n\
            jabsocket_x_seconds_count{worker=\"3\"} 6\n";
        assert_eq!(out, expected);
    }
}
