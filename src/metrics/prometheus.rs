//! Writes the page of metrics in the Prometheus text format, version 0.0.4.
//!
//! All names begin with `jabsocket_`, or with `process_` if Prometheus' client libraries define
//! the metric. Units are seconds and bytes. A page has the sums over all workers, or the values
//! of each worker with the label `worker`.

use std::borrow::Cow;
use std::fmt::Write;

use super::series::{domain_of, server_of};
use super::snapshot::{Column, Kind, Metric, Samples, Snapshot};

const STRING: &str = "writing to a String does not fail";

/// Writes the samples of one metric, for one worker or the sum.
struct Writer<'a> {
    out: &'a mut String,
    metric: &'a Metric,
    /// The value of the label `worker`; empty for the sum.
    worker: &'a str,
}

/// Returns the page with the values of these workers, or with the sum, which has no number.
pub(super) fn page(
    snapshot: &Snapshot,
    names: &[String],
    workers: &[(Option<usize>, Vec<u64>)],
) -> String {
    let mut out = String::new();
    let workers: Vec<_> = workers
        .iter()
        .map(|(number, values)| {
            let number = number.map(|number| label("worker", &number.to_string()));
            (number.unwrap_or_default(), values)
        })
        .collect();
    for metric in &snapshot.metrics {
        write_head(metric, &mut out);
        for (worker, values) in &workers {
            let mut writer = Writer {
                out: &mut out,
                metric,
                worker,
            };
            let value = |at, column| values[snapshot.series_value(at, column)];
            match &metric.samples {
                Samples::Fixed { first, labels } => writer.fixed(&values[*first..], labels),
                Samples::Domains(column) => {
                    writer.by_name("domain", names, domain_of, *column, value);
                }
                Samples::Servers(column) => {
                    writer.by_name("server", names, server_of, *column, value);
                }
                Samples::Own(own) if worker.is_empty() => {
                    for (labels, value) in own {
                        writer.sample("", labels, *value);
                    }
                }
                Samples::Own(_) => {}
            }
        }
    }
    out
}

fn write_head(metric: &Metric, out: &mut String) {
    let Metric {
        name, help, kind, ..
    } = metric;
    let kind = match kind {
        Kind::Counter => "counter",
        Kind::Histogram => "histogram",
        Kind::Gauge | Kind::Flag | Kind::Start => "gauge",
    };
    let written = writeln!(
        out,
        "# HELP {0}{name} {help}\n# TYPE {0}{name} {kind}",
        prefix(name)
    );
    debug_assert!(written.is_ok(), "{STRING}");
}

impl Writer<'_> {
    fn fixed(&mut self, values: &[u64], labels: &[String]) {
        let values = values.iter().zip(labels);
        if self.metric.kind != Kind::Histogram {
            values.for_each(|(value, labels)| self.sample("", labels, *value));
            return;
        }
        let mut total = 0;
        for (value, labels) in values {
            match labels.as_str() {
                "" => self.time("_sum", *value),
                labels => {
                    total += value;
                    self.sample("_bucket", labels, total);
                }
            }
        }
        self.sample("_count", "", total);
    }

    /// A worker has series for the names that it knows; the sum has series for all names.
    fn by_name(
        &mut self,
        label: &str,
        names: &[String],
        select: fn(&str) -> Option<&str>,
        column: Column,
        value: impl Fn(usize, Column) -> u64,
    ) {
        let mut written = String::new();
        for (at, name) in names.iter().enumerate() {
            if let Some(name) = select(name)
                && (self.worker.is_empty() || value(at, Column::Known) > 0)
            {
                written.clear();
                for part in [label, "=\"", &escaped(name), "\""] {
                    written.push_str(part);
                }
                self.sample("", &written, value(at, column));
            }
        }
    }

    fn sample(&mut self, suffix: &str, labels: &str, value: u64) {
        if self.metric.per_second > 1 && suffix.is_empty() {
            return self.time(suffix, value);
        }
        self.series(suffix, labels);
        let written = writeln!(self.out, " {value}");
        debug_assert!(written.is_ok(), "{STRING}");
    }

    fn time(&mut self, suffix: &str, value: u64) {
        self.series(suffix, "");
        let seconds = seconds(value, self.metric.per_second);
        let written = writeln!(self.out, " {seconds}");
        debug_assert!(written.is_ok(), "{STRING}");
    }

    fn series(&mut self, suffix: &str, labels: &str) {
        let comma = match self.worker.is_empty() || labels.is_empty() {
            true => "",
            false => ",",
        };
        for part in [prefix(self.metric.name), self.metric.name, suffix] {
            self.out.push_str(part);
        }
        if !(self.worker.is_empty() && labels.is_empty()) {
            for part in ["{", self.worker, comma, labels, "}"] {
                self.out.push_str(part);
            }
        }
    }
}

fn prefix(name: &str) -> &'static str {
    match name.starts_with("process_") {
        true => "",
        false => "jabsocket_",
    }
}

/// Converts a time to seconds; `per_second` is the number of its units in a second.
pub(super) fn seconds(value: u64, per_second: u32) -> f64 {
    value as f64 / f64::from(per_second)
}

/// Formats a label.
pub(super) fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", escaped(value))
}

/// Escapes the backslashes, quotes and line ends in a label value.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(text.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::super::counters::Histogram;
    use super::super::name::all;
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd"), "a\\\\b\\\"c\\nd");
    }

    #[test]
    fn a_histogram_counts_up_to_each_bound() {
        let mut histogram = Histogram::new(&[5, 10], 1000);
        for value in [0, 5, 6, 10, 11, 4000] {
            histogram.observe(value);
        }
        let mut snapshot = Snapshot::default();
        snapshot.histogram(all("x_seconds"), "X.", &histogram);
        let gauge = snapshot.metric(all("d"), Kind::Gauge, "D.");
        gauge.samples(Samples::Domains(Column::Sessions));
        let counter = snapshot.metric(all("s_total"), Kind::Counter, "S.");
        counter.samples(Samples::Servers(Column::Failures));
        let start = snapshot.metric(all("start_seconds"), Kind::Start, "S.");
        start.value(String::new(), 1_700_000_000_123);
        start.per_second(1000);
        let values = [
            &snapshot.values[..],
            &[1, 2, 0, 0, 0, 0, 1],
            &[3, 4, 0, 0, 0, 0, 0],
            &[5, 6, 1, 7, 0, 0, 1],
        ]
        .concat();
        let names = ["a", "b", "server h:1"].map(str::to_owned);
        let workers = [(Some(3), values.clone()), (None, values)];
        let expected = "# HELP jabsocket_x_seconds X.\n\
            # TYPE jabsocket_x_seconds histogram\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"0.005\"} 2\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"0.01\"} 4\n\
            jabsocket_x_seconds_bucket{worker=\"3\",le=\"+Inf\"} 6\n\
            jabsocket_x_seconds_sum{worker=\"3\"} 4.032\n\
            jabsocket_x_seconds_count{worker=\"3\"} 6\n\
            jabsocket_x_seconds_bucket{le=\"0.005\"} 2\n\
            jabsocket_x_seconds_bucket{le=\"0.01\"} 4\n\
            jabsocket_x_seconds_bucket{le=\"+Inf\"} 6\n\
            jabsocket_x_seconds_sum 4.032\n\
            jabsocket_x_seconds_count 6\n\
            # HELP jabsocket_d D.\n\
            # TYPE jabsocket_d gauge\n\
            jabsocket_d{worker=\"3\",domain=\"a\"} 1\n\
            jabsocket_d{domain=\"a\"} 1\n\
            jabsocket_d{domain=\"b\"} 3\n\
            # HELP jabsocket_s_total S.\n\
            # TYPE jabsocket_s_total counter\n\
            jabsocket_s_total{worker=\"3\",server=\"h:1\"} 7\n\
            jabsocket_s_total{server=\"h:1\"} 7\n\
            # HELP jabsocket_start_seconds S.\n\
            # TYPE jabsocket_start_seconds gauge\n\
            jabsocket_start_seconds{worker=\"3\"} 1700000000.123\n\
            jabsocket_start_seconds 1700000000.123\n";
        assert_eq!(page(&snapshot, &names, &workers), expected);
    }
}
