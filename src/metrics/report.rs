//! The metrics for the status page: what they are, and how they changed in the last minutes.
//!
//! `name` has the names of the values.

use super::history::{History, KEPT_MS, Sample};
use super::name::Values;
use super::series::{domain_of, server_of};
use super::snapshot::{Column, Samples, Snapshot};
use crate::shared_memory::recent_lines::Line;

/// The newest sample for a current rate is at least this old.
const RATE_MS: u64 = 5_000;
/// How far current quantiles look back.
const QUANTILE_MS: u64 = 60_000;

/// A value at an age in milliseconds.
pub(crate) type Point = (u64, f64);

/// The metrics of all workers.
pub(crate) struct Report<'a> {
    pub(super) snapshot: Snapshot,
    pub(super) names: Vec<String>,
    pub(super) sum: Vec<u64>,
    /// The values of the running workers.
    pub(super) running: Vec<(usize, Vec<u64>)>,
    pub(super) history: &'a History,
    pub(super) now: u64,
    /// The number of workers, running or not.
    pub slots: usize,
    /// The last important lines of the log, each with its worker, the newest first.
    pub lines: Vec<(Option<usize>, Line)>,
}

/// A configured server or domain.
pub(crate) struct Named<'a> {
    pub name: &'a str,
    pub sessions: u64,
    pub opened: u64,
    pub failures: u64,
    pub is_down: bool,
}

/// The values of a metric with certain labels.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    /// The values of the labels.
    pub labels: Vec<&'a str>,
    pub total: u64,
    /// How much it has grown in the last minutes.
    pub recent: u64,
}

impl Report<'_> {
    fn samples(&self, values: Values) -> Option<&Samples> {
        let mut metrics = self.snapshot.metrics.iter();
        let metric = metrics.find(|metric| metric.name == values.metric);
        metric.map(|metric| &metric.samples)
    }

    /// Returns the labels of each value of a metric, and its index.
    fn labels(&self, values: Values) -> impl Iterator<Item = (&str, usize)> {
        let (first, labels) = match self.samples(values) {
            Some(Samples::Fixed { first, labels }) => (*first, labels.as_slice()),
            _ => (0, &[][..]),
        };
        debug_assert!(!labels.is_empty(), "there are no {values:?}");
        labels.iter().map(String::as_str).zip(first..)
    }

    fn indices(&self, values: Values) -> Vec<usize> {
        let label = format!("\"{}\"", values.label);
        let all = self.labels(values);
        let wanted = all.filter(|(labels, _)| values.label.is_empty() || labels.contains(&label));
        wanted.map(|(_, at)| at).collect()
    }

    pub fn total(&self, values: Values) -> u64 {
        add(&self.sum, &self.indices(values))
    }

    /// Returns how much a counter has grown in the last minutes.
    pub fn growth(&self, values: Values) -> u64 {
        let indices = self.indices(values);
        let before = self.history.before(self.now, KEPT_MS);
        let before = before.map_or(0, |(_, values)| add(values, &indices));
        add(&self.sum, &indices).saturating_sub(before)
    }

    /// Returns each value of a metric.
    pub fn parts(&self, values: Values) -> Vec<Part<'_>> {
        let before = self.history.before(self.now, KEPT_MS);
        let parts = self.labels(values).map(|(labels, at)| {
            let total = self.sum[at];
            let before = before.map_or(0, |(_, values)| values[at]);
            Part {
                labels: labels.split('"').skip(1).step_by(2).collect(),
                total,
                recent: total.saturating_sub(before),
            }
        });
        parts.collect()
    }

    /// Returns the values that only this worker has, by name.
    pub fn own(&self, values: Values) -> impl Iterator<Item = (&str, u64)> {
        let own = match self.samples(values) {
            Some(Samples::Own(own)) => own.as_slice(),
            _ => &[],
        };
        let name = |labels| str::split(labels, '"').nth(1).unwrap_or_default();
        own.iter()
            .map(move |(labels, value)| (name(labels), *value))
    }

    /// Returns the running workers, each with its number and its values of these metrics.
    pub fn workers<const N: usize>(&self, wanted: [Values; N]) -> Vec<(usize, [u64; N])> {
        let indices = wanted.map(|values| self.indices(values));
        let running = self.running.iter();
        let of = |own: &[u64]| indices.each_ref().map(|indices| add(own, indices));
        running.map(|(worker, own)| (*worker, of(own))).collect()
    }

    /// Returns the current growth of a counter per second.
    pub fn rate(&self, values: Values) -> f64 {
        let indices = self.indices(values);
        let before = self.history.before(self.now, RATE_MS);
        before.map_or(0.0, |(at, values)| {
            per_second(&indices, (at, values), (self.now, &self.sum))
        })
    }

    /// Returns a quantile of the last minute's observations of a histogram; without any, of
    /// the last minutes' observations.
    pub fn quantile(&self, histogram: Values, q: f64) -> Option<f64> {
        let of_last = |age_ms| {
            let (_, before) = self.history.before(self.now, age_ms)?;
            self.quantile_between(histogram, q, before, &self.sum)
        };
        of_last(QUANTILE_MS).or_else(|| of_last(KEPT_MS))
    }

    /// Estimates a quantile as Prometheus' `histogram_quantile` does.
    fn quantile_between(&self, histogram: Values, q: f64, from: &[u64], to: &[u64]) -> Option<f64> {
        let bounds = self.labels(histogram).filter_map(|(labels, at)| {
            let bound = labels.strip_prefix("le=\"")?.strip_suffix('"')?;
            let bound = bound.parse().unwrap_or(f64::INFINITY);
            Some((bound, to[at].saturating_sub(from[at]) as f64))
        });
        let buckets: Vec<(f64, f64)> = bounds.collect();
        let total: f64 = buckets.iter().map(|(_, count)| count).sum();
        let (mut below, mut lower) = (0.0, 0.0);
        for (upper, count) in buckets {
            if count > 0.0 && below + count >= q * total {
                let share = (q * total - below) / count;
                let width = if upper.is_finite() {
                    upper - lower
                } else {
                    0.0
                };
                return Some(lower + width * share);
            }
            below += count;
            lower = if upper.is_finite() { upper } else { lower };
        }
        None
    }

    /// Returns the values of a gauge in the last minutes.
    pub fn levels(&self, values: Values) -> Vec<Point> {
        let indices = self.indices(values);
        let level = |(at, values): Sample| (self.now - at, add(values, &indices) as f64);
        self.samples_until_now().map(level).collect()
    }

    /// Returns the growth of a counter per second in the last minutes.
    pub fn rates(&self, values: Values) -> Vec<Point> {
        let indices = self.indices(values);
        self.changes(|from, to| Some(per_second(&indices, from, to)))
    }

    /// Returns a quantile of a histogram in the last minutes, where there were observations.
    pub fn quantiles(&self, histogram: Values, q: f64) -> Vec<Point> {
        self.changes(|(_, from), (_, to)| self.quantile_between(histogram, q, from, to))
    }

    /// Returns the samples of the last minutes and the current values.
    fn samples_until_now(&self) -> impl Iterator<Item = Sample<'_>> {
        let now = (self.now, self.sum.as_slice());
        self.history.until(self.now).chain([now])
    }

    /// Returns `value` for each two successive samples, if it has one.
    fn changes(&self, value: impl Fn(Sample<'_>, Sample<'_>) -> Option<f64>) -> Vec<Point> {
        let mut points = Vec::new();
        let pairs = self
            .samples_until_now()
            .zip(self.samples_until_now().skip(1));
        for (from, to) in pairs {
            // The current values may follow the last sample at once, and say little then.
            if to.0 - from.0 >= RATE_MS
                && let Some(value) = value(from, to)
            {
                points.push((self.now - to.0, value));
            }
        }
        points
    }

    /// Returns the configured servers.
    pub fn servers(&self) -> Vec<Named<'_>> {
        self.named(server_of)
    }

    /// Returns the configured domains, and `other`.
    pub fn domains(&self) -> Vec<Named<'_>> {
        self.named(domain_of)
    }

    fn named(&self, select: fn(&str) -> Option<&str>) -> Vec<Named<'_>> {
        let names = self.names.iter().enumerate();
        let named = names.filter_map(|(at, name)| {
            let value = |column| self.sum[self.snapshot.series_value(at, column)];
            Some(Named {
                name: select(name)?,
                sessions: value(Column::Sessions),
                opened: value(Column::Opened),
                failures: value(Column::Failures),
                is_down: value(Column::Down) > 0,
            })
        });
        named.collect()
    }
}

fn add(values: &[u64], indices: &[usize]) -> u64 {
    indices.iter().map(|at| values[*at]).sum()
}

fn per_second(indices: &[usize], from: Sample<'_>, to: Sample<'_>) -> f64 {
    let growth = add(to.1, indices).saturating_sub(add(from.1, indices));
    growth as f64 / (to.0 - from.0).max(1) as f64 * 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::{Gauges, Metrics, Publisher, SharedMetrics, name};
    use super::Part;

    /// A worker that relays `per_second` messages per second up to `end`, in milliseconds.
    fn run(
        publisher: &mut Publisher,
        metrics: &mut Metrics,
        now: &mut u64,
        end: u64,
        per_second: u64,
    ) {
        while *now < end {
            *now += 1_000;
            metrics.up.messages += per_second;
            for _ in 0..per_second {
                metrics.relay_turn(Some(200 * per_second));
            }
            publisher.publish(metrics, &Gauges::default(), *now);
        }
    }

    #[test]
    fn rates_and_quantiles_are_of_the_last_minutes() {
        let loaded = crate::config::parse("-", "domains: [a.example]\n").unwrap();
        let mut metrics = Metrics::new(&loaded.config, &["open"], &[("client", "lost")]);
        let gauges = Gauges::default();
        let mut publisher = Publisher::start(SharedMetrics::new(1).unwrap(), 0, &metrics, &gauges);
        let (messages, latency) = (name::RELAYED_MESSAGES, name::RELAY_LATENCY);
        let up = messages.with("up");
        let start = publisher.report(&metrics, &gauges, 0);
        assert_eq!(start.rate(up), 0.0);
        assert_eq!(start.quantile(latency, 0.5), None);
        let mut now = 0;
        metrics.count_end(("client", "lost"));
        run(&mut publisher, &mut metrics, &mut now, 900_000, 4);
        metrics.count_end(("client", "lost"));
        run(&mut publisher, &mut metrics, &mut now, 1_000_000, 2);
        let report = publisher.report(&metrics, &gauges, now);
        assert_eq!(
            (report.rate(up), report.rate(messages.with("down"))),
            (2.0, 0.0)
        );
        assert_eq!(report.rate(messages), 2.0);
        assert_eq!(report.total(up), 3_800);
        assert_eq!(report.growth(up), 4 * 500 + 2 * 100);
        let rates = report.rates(up);
        assert_eq!((rates.len(), rates[0].1, rates[59].1), (60, 4.0, 2.0));
        assert_eq!((rates[0].0, rates[59].0), (590_000, 0));
        // 400 µs is in the bucket from 250 to 500, 800 µs in the one from 500 to 1000.
        let median = report.quantile(latency, 0.5).unwrap();
        assert!((median - 0.000_375).abs() < 1e-9, "{median}");
        let points = report.quantiles(latency, 1.0);
        assert_eq!((points[0].1, points[59].1), (0.001, 0.000_5));
        let ended = Part {
            labels: vec!["client", "lost"],
            total: 2,
            recent: 1,
        };
        assert_eq!(report.parts(name::CLOSED_SESSIONS), [ended]);
        // A minute without messages: the quantile looks back further.
        run(&mut publisher, &mut metrics, &mut now, 1_100_000, 0);
        let report = publisher.report(&metrics, &gauges, now);
        assert_eq!(report.rate(up), 0.0);
        assert!(report.quantile(latency, 0.99).unwrap() > 0.000_5);
        assert_eq!(report.quantiles(latency, 0.99).len(), 50);
    }
}
