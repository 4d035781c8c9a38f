//! Publishes the metrics of this worker in shared memory, and writes the pages.
//!
//! A worker publishes its values after a turn of the loop, at most once per second, when it
//! serves a page, and before it ends. An idle worker is never woken to publish.

use std::collections::HashMap;

use super::history::History;
use super::process::{Process, Usage};
use super::report::Report;
use super::shared::{ByMaster, SharedMetrics};
use super::snapshot::{Column, Snapshot};
use super::{Gauges, Metrics, prometheus};

/// Minimum time between two publications.
const PERIOD_MS: u64 = 1_000;

/// Publishes the metrics of a worker. All times are in milliseconds since the worker started.
pub struct Publisher {
    shared: SharedMetrics,
    worker: usize,
    /// The shared index of each series of this worker.
    series: Vec<usize>,
    /// When changed values must be published.
    due: Option<u64>,
    published_at: u64,
    process: Process,
    /// The sums over all workers in the last minutes.
    history: History,
}

impl Publisher {
    /// Takes the slot of this `worker` in the shared memory and publishes its values. The
    /// counters of earlier workers in this slot are kept.
    pub(crate) fn start(
        shared: SharedMetrics,
        worker: usize,
        metrics: &Metrics,
        gauges: &Gauges,
    ) -> Publisher {
        let mut publisher = Publisher {
            shared,
            worker,
            series: Vec::new(),
            due: None,
            published_at: 0,
            process: Process::default(),
            history: History::default(),
        };
        let snapshot = metrics.snapshot(gauges, Usage::default(), ByMaster::default());
        let before = shared.read(worker, snapshot.len(shared.series()));
        let mut kept = vec![0; before.kept.len()];
        for values in [before.kept, before.own] {
            snapshot.add(&mut kept, &values, false);
        }
        shared.begin(worker, &kept);
        publisher.publish(metrics, gauges, 0);
        publisher
    }

    /// Returns when `publish` is due.
    pub(crate) fn due(&self) -> Option<u64> {
        self.due
    }

    /// Notes a turn of the loop, so that its changes are published.
    pub(crate) fn note_turn(&mut self, now: u64) {
        let earliest = now.max(self.published_at + PERIOD_MS);
        self.due.get_or_insert(earliest);
    }

    pub(crate) fn publish(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) {
        self.snapshot(metrics, gauges, now);
    }

    /// Publishes a snapshot and returns it.
    fn snapshot(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) -> Snapshot {
        self.due = None;
        self.published_at = now;
        self.find_series(metrics);
        let usage = self.process.usage(now);
        let snapshot = metrics.snapshot(gauges, usage, self.shared.by_master());
        let mut values = snapshot.values.clone();
        values.resize(snapshot.len(self.shared.series()), 0);
        for (series, at) in metrics.series.all().iter().zip(&self.series) {
            values[snapshot.series_value(*at, Column::Sessions)] += series.sessions;
            values[snapshot.series_value(*at, Column::Opened)] += series.opened;
            values[snapshot.series_value(*at, Column::Known)] = 1;
            values[snapshot.series_value(*at, Column::Failures)] += series.failures;
            values[snapshot.series_value(*at, Column::Down)] |= u64::from(series.is_down);
            let limits = [Column::MaxBytes, Column::IdleSeconds].into_iter();
            for (column, limit) in limits.zip(series.limits) {
                let value = &mut values[snapshot.series_value(*at, column)];
                *value = limit.unwrap_or_default().max(*value);
            }
        }
        self.shared.write(self.worker, &values);
        if self.history.is_due(now) {
            let sum = self.add_up(&snapshot, snapshot.values.len());
            self.history.add(now, sum);
        }
        snapshot
    }

    /// Returns the first `len` values, added up over all workers.
    fn add_up(&self, snapshot: &Snapshot, len: usize) -> Vec<u64> {
        let mut sum = vec![0; len];
        for worker in 0..self.shared.slots() {
            let record = self.shared.read(worker, len);
            snapshot.add(&mut sum, &record.own, record.alive);
            snapshot.add(&mut sum, &record.kept, false);
        }
        sum
    }

    /// Returns the first `len` values of each running worker.
    fn running(&self, len: usize) -> impl Iterator<Item = (usize, Vec<u64>)> {
        (0..self.shared.slots()).filter_map(move |worker| {
            let record = self.shared.read(worker, len);
            record.alive.then_some((worker, record.own))
        })
    }

    /// Finds the shared index of each series that is new in this worker.
    fn find_series(&mut self, metrics: &Metrics) {
        let new = metrics.series.all()[self.series.len()..].iter();
        let new = new.map(|series| series.name.as_str());
        if new.len() == 0 {
            return;
        }
        if self.shared.slots() == 1 {
            self.shared.add_names(new.clone());
        }
        let names = self.shared.names();
        let index: HashMap<_, _> = names.iter().map(String::as_str).zip(0..).collect();
        // A series that is not found counts as `other`.
        self.series
            .extend(new.map(|name| index.get(name).copied().unwrap_or(0)));
    }

    /// Publishes for the last time, and marks the worker as ended.
    pub(crate) fn leave(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) {
        self.publish(metrics, gauges, now);
        self.shared.mark_ended(self.worker);
    }

    /// Returns the page with the sums over all workers.
    pub(crate) fn sum_page(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) -> String {
        let snapshot = self.snapshot(metrics, gauges, now);
        let names = self.shared.names();
        let sum = self.add_up(&snapshot, snapshot.len(names.len()));
        prometheus::page(&snapshot, &names, &[(None, sum)])
    }

    /// Returns the page with the values of each running worker.
    pub(crate) fn workers_page(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) -> String {
        let snapshot = self.snapshot(metrics, gauges, now);
        let names = self.shared.names();
        let running = self.running(snapshot.len(names.len()));
        let workers = running.map(|(worker, values)| (Some(worker), values));
        prometheus::page(&snapshot, &names, &workers.collect::<Vec<_>>())
    }

    /// Returns the metrics of all workers for the status page.
    pub(crate) fn report(&mut self, metrics: &Metrics, gauges: &Gauges, now: u64) -> Report<'_> {
        let snapshot = self.snapshot(metrics, gauges, now);
        let names = self.shared.names();
        Report {
            sum: self.add_up(&snapshot, snapshot.len(names.len())),
            running: self.running(snapshot.values.len()).collect(),
            lines: self.shared.all_recent_lines(),
            slots: self.shared.slots(),
            history: &self.history,
            snapshot,
            names,
            now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns counters with this list of domains.
    fn counters(domain: &str) -> (crate::config::Config, Metrics) {
        let loaded = crate::config::parse("-", &format!("domains: [{domain}]\n")).unwrap();
        let metrics = Metrics::new(&loaded.config, &[], &[]);
        (loaded.config, metrics)
    }

    fn lines<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
        let lines = page
            .lines()
            .filter_map(|line| line.strip_prefix("jabsocket_"));
        lines.filter(|line| line.starts_with(name)).collect()
    }

    #[test]
    fn counters_of_killed_workers_stay_in_the_sum() {
        let gauges = Gauges::default();
        let (config, mut old) = counters("a.example");
        let shared = SharedMetrics::new(2).unwrap();
        shared.add_series(&config);
        let mut other = Publisher::start(shared, 1, &old, &gauges);
        old.accepted = 3;
        old.series.enter_domain(Some("a.example"));
        Publisher::start(shared, 0, &old, &gauges);
        // Two workers are killed one after the other; the list changes before the third.
        let (config, mut new) = counters("b.example");
        shared.add_series(&config);
        for alive in [2, 1] {
            let sum = other.sum_page(&old, &gauges, 0);
            assert_eq!(lines(&sum, "workers"), [format!("workers {alive}")]);
            shared.mark_ended(0);
        }
        new.accepted = 1;
        for _ in 0..2 {
            Publisher::start(shared, 0, &new, &gauges);
            shared.mark_ended(0);
        }
        let (_, new) = counters("b.example");
        let mut publisher = Publisher::start(shared, 0, &new, &gauges);
        let sum = publisher.sum_page(&new, &gauges, 0);
        // The other worker also published three.
        assert_eq!(lines(&sum, "accepted"), ["accepted_connections_total 8"]);
        let domains = [
            "domain_sessions{domain=\"other\"} 0",
            "domain_sessions{domain=\"a.example\"} 1",
            "domain_sessions{domain=\"b.example\"} 0",
            "domain_sessions_total{domain=\"other\"} 0",
            "domain_sessions_total{domain=\"a.example\"} 2",
            "domain_sessions_total{domain=\"b.example\"} 0",
        ];
        assert_eq!(lines(&sum, "domain_sessions"), domains);
        let each = publisher.workers_page(&new, &gauges, 0);
        let own = [
            "domain_sessions{worker=\"0\",domain=\"other\"} 0",
            "domain_sessions{worker=\"0\",domain=\"b.example\"} 0",
            "domain_sessions{worker=\"1\",domain=\"other\"} 0",
            "domain_sessions{worker=\"1\",domain=\"a.example\"} 1",
        ];
        assert_eq!(lines(&each, "domain_sessions{"), own);
    }

    #[test]
    fn publishes_at_most_once_per_second_and_only_after_a_turn() {
        let (gauges, (_, metrics)) = (Gauges::default(), counters("a.example"));
        let mut publisher = Publisher::start(SharedMetrics::new(1).unwrap(), 0, &metrics, &gauges);
        assert_eq!(publisher.due(), None);
        publisher.note_turn(400);
        publisher.note_turn(700);
        assert_eq!(publisher.due(), Some(1000));
        publisher.publish(&metrics, &gauges, 1000);
        assert_eq!(publisher.due(), None);
        publisher.note_turn(5000);
        assert_eq!(publisher.due(), Some(5000));
    }
}
