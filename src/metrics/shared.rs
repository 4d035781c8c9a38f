//! The metrics of all workers, in shared memory.
//!
//! The memory has the names of the series, then a slot for each worker, then the last log lines
//! of the master and of each worker. A slot has two records, one of them current. A record has
//! the values of the worker, and the kept values of earlier workers in this slot. Each value is
//! written atomically, so nothing is lost or torn if a worker is killed. Only the master adds
//! series, or the worker if there is no master.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::SystemTime;

use super::OTHER;
use super::series::{MAX_SERIES, series_names};
use super::snapshot::COLUMNS;
use crate::config::Config;
use crate::shared_memory::recent_lines::{LINES, Line, RecentLines};
use crate::shared_memory::{Words, map, read_bytes, words_for, write_bytes};

/// Words for the name of a series. Configured names are shorter than 1 KiB.
const NAME: usize = words_for(1 << 10);
/// Maximum number of values other than those of series.
pub(super) const FIXED_VALUES: usize = 1024;
/// Maximum number of values of a worker.
const VALUES: usize = FIXED_VALUES + COLUMNS * (MAX_SERIES + 1);
/// The word with the time when the master refused the last reload.
const RELOAD_REFUSED: usize = 0;
/// The word with the number of series.
const SERIES: usize = 1;
/// The word with the number of older generations.
const OLDER_GENERATIONS: usize = 2;
/// The word where the names of the series begin.
const NAMES: usize = 3;
/// The words above and the names of the series.
const HEADER: usize = NAMES + (MAX_SERIES + 1) * NAME;
/// Whether the worker is alive, the version, which tells the current record, and two records.
const SLOT: usize = 2 + 2 * RECORD;
/// The worker's own values and the kept values.
const RECORD: usize = 2 * VALUES;

/// The metrics of all workers.
#[derive(Clone, Copy)]
pub struct SharedMetrics(Words);

/// What only the master knows; zero without one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ByMaster {
    /// When it refused the last reload, in milliseconds since the epoch, or 0 if it did not.
    pub reload_refused: u64,
    pub older_generations: u64,
}

/// The values in the current record of a slot.
pub(super) struct Record {
    pub alive: bool,
    pub own: Vec<u64>,
    /// The kept values of earlier workers.
    pub kept: Vec<u64>,
}

impl SharedMetrics {
    /// Maps memory for this number of workers.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(workers: usize) -> io::Result<SharedMetrics> {
        let lines = (workers + 1) * RecentLines::WORDS;
        let shared = SharedMetrics(map(HEADER + workers * SLOT + lines)?);
        shared.add_names([OTHER].into_iter());
        Ok(shared)
    }

    pub(super) fn slots(self) -> usize {
        (self.0.len() - HEADER - RecentLines::WORDS) / (SLOT + RecentLines::WORDS)
    }

    /// Returns the last log lines of a worker, or of the master.
    pub(crate) fn recent_lines(self, worker: Option<usize>) -> RecentLines {
        let before = worker.map_or(0, |worker| worker + 1);
        let first = HEADER + self.slots() * SLOT + before * RecentLines::WORDS;
        RecentLines::new(&self.0[first..][..RecentLines::WORDS])
    }

    /// Returns the last log lines of all processes, each with its worker, the newest first.
    pub(super) fn all_recent_lines(self) -> Vec<(Option<usize>, Line)> {
        let processes = [None].into_iter().chain((0..self.slots()).map(Some));
        let mut all: Vec<_> = processes
            .flat_map(|process| {
                let lines = self.recent_lines(process).read().into_iter();
                lines.map(move |line| (process, line))
            })
            .collect();
        all.sort_by_key(|(_, line)| Reverse(line.at_ms));
        all.truncate(LINES);
        all
    }

    /// Adds a series for each domain and server of `config`.
    pub fn add_series(self, config: &Config) {
        let names: Vec<_> = series_names(config).collect();
        self.add_names(names.iter().map(String::as_str));
    }

    /// Adds the names that are missing, as far as there is room.
    pub(super) fn add_names<'a>(self, names: impl Iterator<Item = &'a str>) {
        let mut known: HashSet<String> = self.names().into_iter().collect();
        for name in names {
            let at = known.len();
            if at <= MAX_SERIES
                && !known.contains(name)
                && write_bytes(self.name(at), name.as_bytes())
            {
                self.0[SERIES].store(at as u64 + 1, Release);
                known.insert(name.to_owned());
            }
        }
    }

    fn name(self, at: usize) -> &'static [AtomicU64] {
        &self.0[NAMES + at * NAME..][..NAME]
    }

    pub(super) fn series(self) -> usize {
        usize::try_from(self.0[SERIES].load(Acquire)).unwrap_or(0)
    }

    /// Returns the names of all series; the first is `other`.
    pub(super) fn names(self) -> Vec<String> {
        let names = (0..self.series()).map(|at| read_bytes(self.name(at)));
        names
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect()
    }

    /// Notes when the master refused the last reload, if it did.
    pub fn set_reload_refused(self, refused: Option<SystemTime>) {
        self.0[RELOAD_REFUSED].store(refused.map_or(0, since_epoch), Relaxed);
    }

    /// Notes how many older generations of the master still have sessions.
    pub fn set_older_generations(self, older: usize) {
        self.0[OLDER_GENERATIONS].store(older as u64, Relaxed);
    }

    /// Returns what the master has noted.
    pub(super) fn by_master(self) -> ByMaster {
        ByMaster {
            reload_refused: self.0[RELOAD_REFUSED].load(Relaxed),
            older_generations: self.0[OLDER_GENERATIONS].load(Relaxed),
        }
    }

    fn slot(self, worker: usize) -> &'static [AtomicU64] {
        &self.0[HEADER + worker * SLOT..][..SLOT]
    }

    /// Returns the worker's own values and the kept values in the record of a version.
    fn record(self, worker: usize, version: u64) -> [&'static [AtomicU64]; 2] {
        let record = &self.slot(worker)[2 + (version % 2) as usize * RECORD..];
        [&record[..VALUES], &record[VALUES..RECORD]]
    }

    fn set_alive(self, worker: usize, alive: bool) {
        self.slot(worker)[0].store(u64::from(alive), Release);
    }

    /// Notes that a worker has ended. Its counters are kept.
    pub fn mark_ended(self, worker: usize) {
        self.set_alive(worker, false);
    }

    /// Returns the first `len` values in a worker's slot.
    pub(super) fn read(self, worker: usize, len: usize) -> Record {
        let slot = self.slot(worker);
        // Read this before the values: a worker that has ended has written its last values.
        let alive = slot[0].load(Acquire) > 0;
        let values = self.record(worker, slot[1].load(Acquire));
        let [own, kept] = values.map(|values| {
            let values = values[..len].iter();
            values.map(|value| value.load(Relaxed)).collect()
        });
        Record { alive, own, kept }
    }

    /// Writes the values of a worker and marks it as alive.
    pub(super) fn write(self, worker: usize, values: &[u64]) {
        let version = self.slot(worker)[1].load(Relaxed);
        store(self.record(worker, version)[0], values);
        self.set_alive(worker, true);
    }

    /// Switches to the other record of a slot, with only kept values. If the worker is killed
    /// meanwhile, the slot stays unchanged.
    pub(super) fn begin(self, worker: usize, kept: &[u64]) {
        let version = &self.slot(worker)[1];
        let next = version.load(Relaxed) + 1;
        let record = self.record(worker, next);
        store(record[0], &[0; VALUES]);
        store(record[1], kept);
        version.store(next, Release);
    }
}

/// Converts `time` to milliseconds since the epoch.
pub(super) fn since_epoch(time: SystemTime) -> u64 {
    let age = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(age.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn store(words: &[AtomicU64], values: &[u64]) {
    for (word, value) in words.iter().zip(values) {
        word.store(*value, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_separate_and_a_new_worker_keeps_their_values() {
        let shared = SharedMetrics::new(3).unwrap();
        assert_eq!(shared.slots(), 3);
        shared.begin(1, &[0; 2]);
        assert!(!shared.read(1, 2).alive);
        shared.write(1, &[1, 2]);
        for worker in 0..3 {
            let Record { alive, own, kept } = shared.read(worker, 2);
            let expected = [vec![0, 0], vec![1, 2]][usize::from(worker == 1)].clone();
            assert_eq!((alive, own, kept), (worker == 1, expected, vec![0, 0]));
        }
        shared.mark_ended(1);
        let Record { alive, own, .. } = shared.read(1, 2);
        assert_eq!((alive, own), (false, vec![1, 2]));
        for n in 3..6 {
            shared.begin(1, &[n, n]);
            let Record { alive, own, kept } = shared.read(1, 2);
            assert_eq!((alive, own, kept), (false, vec![0, 0], vec![n, n]));
            shared.write(1, &[n + 1, 0]);
            assert_eq!(shared.read(1, 2).own, [n + 1, 0]);
            shared.mark_ended(1);
        }
    }

    #[test]
    fn names_of_many_lists_are_bounded() {
        let shared = SharedMetrics::new(1).unwrap();
        let names: Vec<String> = (0..2 * MAX_SERIES).map(|n| format!("d{n}")).collect();
        let some = |range: std::ops::Range<usize>| names[range].iter().map(String::as_str);
        shared.add_names(some(0..10));
        shared.add_names(some(5..15));
        let long = "x".repeat(2 << 10);
        shared.add_names([OTHER, &long].into_iter());
        let known: Vec<&str> = [OTHER].into_iter().chain(some(0..15)).collect();
        assert_eq!(shared.names(), known);
        shared.add_names(some(0..2 * MAX_SERIES));
        assert_eq!(shared.names().len(), MAX_SERIES + 1);
    }

    #[test]
    fn a_refused_reload_is_noted() {
        let shared = SharedMetrics::new(1).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1500);
        for (refused, millis) in [(None, 0), (Some(time), 1500), (None, 0)] {
            shared.set_reload_refused(refused);
            assert_eq!(shared.by_master().reload_refused, millis);
        }
    }
}
