//! The pages of metrics: Prometheus text format, version 0.0.4.
//!
//! Owns their form. All names begin with `jabsocket_`; units are seconds and
//! bytes. One page is the sum over all workers, the other has the numbers of
//! each, with the label `worker`.

use std::borrow::Cow;
use std::fmt::Write;

use super::snapshot::{Column, Kind, Metric, Samples, Snapshot, Values};
use super::{Gauges, Metrics, Shown};

/// Writing to a `String` does not fail.
const STRING: &str = "a String takes all";

/// The page under way.
struct Page<'a> {
    out: &'a mut String,
    metric: &'a Metric,
    /// The worker whose samples these are, if they are one's: its label.
    worker: &'a str,
}

impl Page<'_> {
    fn head(&mut self) {
        let Metric {
            name, help, kind, ..
        } = self.metric;
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Gauge | Kind::Flag | Kind::Start => "gauge",
        };
        let written = writeln!(
            self.out,
            "# HELP jabsocket_{name} {help}\n# TYPE jabsocket_{name} {kind}"
        );
        debug_assert!(written.is_ok(), "{STRING}");
    }

    fn samples(&mut self, values: &Values<'_>) {
        let (first, labels) = match &self.metric.samples {
            Samples::Fixed { first, labels } => (*first, labels),
            Samples::Domains(column) => {
                let mut label = String::new();
                for (name, counts) in &values.domains {
                    let count = match column {
                        Column::Now => counts[0],
                        Column::Ever => counts[1],
                    };
                    label.clear();
                    for part in ["domain=\"", &escaped(name), "\""] {
                        label.push_str(part);
                    }
                    self.sample("", &label, count);
                }
                return;
            }
        };
        let numbers = values.numbers[first..].iter().zip(labels);
        if self.metric.kind != Kind::Histogram {
            numbers.for_each(|(number, labels)| self.sample("", labels, *number));
            return;
        }
        let mut total = 0;
        for (number, labels) in numbers {
            match labels.as_str() {
                "" => self.time("_sum", *number),
                labels => {
                    total += number;
                    self.sample("_bucket", labels, total);
                }
            }
        }
        self.sample("_count", "", total);
    }

    fn sample(&mut self, suffix: &str, labels: &str, number: u64) {
        if self.metric.per_second > 1 && suffix.is_empty() {
            return self.time(suffix, number);
        }
        self.series(suffix, labels);
        let written = writeln!(self.out, " {number}");
        debug_assert!(written.is_ok(), "{STRING}");
    }

    fn time(&mut self, suffix: &str, number: u64) {
        self.series(suffix, "");
        let seconds = seconds(number, self.metric.per_second);
        let written = writeln!(self.out, " {seconds}");
        debug_assert!(written.is_ok(), "{STRING}");
    }

    fn series(&mut self, suffix: &str, labels: &str) {
        let comma = match self.worker.is_empty() || labels.is_empty() {
            true => "",
            false => ",",
        };
        for part in ["jabsocket_", self.metric.name, suffix] {
            self.out.push_str(part);
        }
        if !(self.worker.is_empty() && labels.is_empty()) {
            for part in ["{", self.worker, comma, labels, "}"] {
                self.out.push_str(part);
            }
        }
    }
}

/// `parts` of which so many are a second.
pub(super) fn seconds(parts: u64, per_second: u32) -> f64 {
    parts as f64 / f64::from(per_second)
}

/// A label as it is written.
pub(super) fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", escaped(value))
}

/// A label value with its backslashes, quotes and line ends escaped.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Cow::Owned(text.replace('\n', "\\n"))
}

fn write(metrics: &[Metric], workers: &[(String, Values<'_>)], out: &mut String) {
    for metric in metrics {
        let worker = "";
        Page {
            out,
            metric,
            worker,
        }
        .head();
        for (worker, values) in workers {
            Page {
                out,
                metric,
                worker,
            }
            .samples(values);
        }
    }
}

/// What a worker showed, of itself and of those before it in its place.
fn read<'b>(snapshot: &Snapshot<'_>, shown: &mut &'b [u8]) -> Option<[Values<'b>; 2]> {
    Some([snapshot.read(shown)?, snapshot.read(shown)?])
}

impl Metrics {
    /// Appends what this worker shows the others: its numbers, and `base`.
    pub fn show(&self, gauges: &Gauges, base: &[u8], out: &mut Vec<u8>) {
        self.snapshot(gauges).values.write(out);
        out.extend_from_slice(base);
    }

    /// What is to be kept of a worker that showed this and died: the base of its
    /// successor.
    pub fn inherit(&self, gauges: &Gauges, mut shown: &[u8]) -> Vec<u8> {
        let snapshot = self.snapshot(gauges);
        let mut base = snapshot.zero();
        for values in read(&snapshot, &mut shown).iter().flatten() {
            snapshot.add(&mut base, values, false);
        }
        let mut bytes = Vec::new();
        base.write(&mut bytes);
        bytes
    }

    /// Appends the page of the sum over this worker, its `base` (empty if there
    /// is none) and the `others`.
    pub fn write_sum(&self, gauges: &Gauges, mut base: &[u8], others: &[Shown], out: &mut String) {
        let snapshot = self.snapshot(gauges);
        let mut sum = snapshot.values.clone();
        if let Some(base) = snapshot.read(&mut base) {
            snapshot.add(&mut sum, &base, false);
        }
        for other in others {
            if let Some([own, base]) = read(&snapshot, &mut &other.bytes[..]) {
                snapshot.add(&mut sum, &own, other.alive);
                snapshot.add(&mut sum, &base, false);
            }
        }
        write(&snapshot.metrics, &[(String::new(), sum)], out);
    }

    /// Appends the page of each worker's own numbers; of those that are there.
    pub fn write_each(&self, gauges: &Gauges, others: &[Shown], out: &mut String) {
        let snapshot = self.snapshot(gauges);
        let named = |worker: u16| label("worker", &worker.to_string());
        let own = self.worker;
        let mut workers = vec![(own, snapshot.values.clone())];
        let alive = others.iter().filter(|other| other.alive);
        workers.extend(alive.filter_map(|other| {
            let [own, _] = read(&snapshot, &mut &other.bytes[..])?;
            Some((other.worker, own))
        }));
        workers.sort_by_key(|(worker, _)| *worker);
        let workers: Vec<_> = workers
            .into_iter()
            .map(|(worker, values)| (named(worker), values))
            .collect();
        write(&snapshot.metrics, &workers, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Histogram;
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
        let mut snapshot = Snapshot::new();
        snapshot.histogram("x_seconds", "X.", &histogram);
        snapshot.values.domains.push(("a", [1, 2]));
        let gauge = snapshot.metric("d", Kind::Gauge, "D.");
        gauge.by_domain(Column::Now);
        let start = snapshot.metric("start_seconds", Kind::Start, "S.");
        start.number(String::new(), 1_700_000_000_123);
        start.per_second(1000);
        let mut out = String::new();
        let workers = [
            (label("worker", "3"), snapshot.values.clone()),
            (String::new(), snapshot.values.clone()),
        ];
        write(&snapshot.metrics, &workers, &mut out);
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
            # HELP jabsocket_start_seconds S.\n\
            # TYPE jabsocket_start_seconds gauge\n\
            jabsocket_start_seconds{worker=\"3\"} 1700000000.123\n\
            jabsocket_start_seconds 1700000000.123\n";
        assert_eq!(out, expected);
    }
}
