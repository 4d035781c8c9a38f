//! The numbers of a page of metrics, apart from their text.
//!
//! Owns their form as bytes, in which the workers of a daemon show them to each
//! other, and how those of several make one. Names, helps and label values are
//! the program's own and the same in all its workers, so numbers go by their
//! order; only domains, whose list a reload may change, go by name. What other
//! processes wrote is judged before it is believed. Never writes a page.

use std::collections::HashMap;
use std::ops::Range;

use super::{MAX_DOMAINS, OTHER};

/// How the values of several workers make one, and what is left of a value when
/// its worker has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Added up; stays.
    Counter,
    /// The same, in parts: observations by bound, then the sum.
    Histogram,
    /// Added up; goes.
    Gauge,
    /// The largest; goes.
    Flag,
    /// The earliest; stays. 0 is none.
    Start,
}

impl Kind {
    fn stays(self) -> bool {
        matches!(self, Kind::Counter | Kind::Histogram | Kind::Start)
    }

    fn merge(self, one: u64, other: u64) -> u64 {
        match self {
            Kind::Counter | Kind::Histogram | Kind::Gauge => one.saturating_add(other),
            Kind::Flag => one.max(other),
            Kind::Start if one.min(other) == 0 => one.max(other),
            Kind::Start => one.min(other),
        }
    }
}

/// Which of a domain's two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Sessions there now.
    Now,
    /// Sessions ever.
    Ever,
}

/// Whose samples a metric has.
#[derive(Debug)]
pub(super) enum Samples {
    /// So many numbers from there on, each with its labels as they are written.
    Fixed { first: usize, labels: Vec<String> },
    /// One for each domain.
    Domains(Column),
}

/// A metric: all but its numbers.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// The numbers are so many to a second; 1 where they are no times.
    pub per_second: u32,
    pub samples: Samples,
}

impl Metric {
    /// Where its numbers are, unless they go by domain.
    fn range(&self) -> Range<usize> {
        match &self.samples {
            Samples::Fixed { first, labels } => *first..first + labels.len(),
            Samples::Domains(_) => 0..0,
        }
    }
}

/// Numbers of one worker or of several.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values<'a> {
    pub numbers: Vec<u64>,
    /// Name, sessions now, sessions ever. The first is all that no other fits.
    pub domains: Vec<(&'a str, [u64; 2])>,
}

/// The metrics in the order of the page, and this worker's numbers.
#[derive(Debug)]
pub(super) struct Snapshot<'a> {
    pub metrics: Vec<Metric>,
    pub values: Values<'a>,
}

impl<'a> Snapshot<'a> {
    pub fn new() -> Snapshot<'a> {
        Snapshot {
            metrics: Vec::new(),
            values: Values {
                numbers: Vec::new(),
                domains: Vec::new(),
            },
        }
    }

    /// Begins a metric; its numbers follow.
    pub fn metric(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Self {
        let first = self.values.numbers.len();
        let labels = Vec::new();
        self.metrics.push(Metric {
            name,
            help,
            kind,
            per_second: 1,
            samples: Samples::Fixed { first, labels },
        });
        self
    }

    /// Adds a number to the metric just begun, with labels as they are written.
    pub fn number(&mut self, written: String, number: u64) {
        let last = self.metrics.last_mut().map(|metric| &mut metric.samples);
        if let Some(Samples::Fixed { labels, .. }) = last {
            labels.push(written);
            self.values.numbers.push(number);
        }
    }

    /// The number is so many to a second.
    pub fn per_second(&mut self, parts: u32) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.per_second = parts;
        }
    }

    /// The metric just begun has a sample for each domain.
    pub fn by_domain(&mut self, column: Column) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.samples = Samples::Domains(column);
        }
    }

    /// Nothing counted.
    pub fn zero(&self) -> Values<'static> {
        Values {
            numbers: vec![0; self.values.numbers.len()],
            domains: vec![(OTHER, [0; 2])],
        }
    }

    /// Adds `other` to `to`; of a worker that is dead only what stays.
    pub fn add<'b>(&self, to: &mut Values<'b>, other: &Values<'b>, alive: bool) {
        for metric in self.metrics.iter().filter(|m| alive || m.kind.stays()) {
            for at in metric.range() {
                to.numbers[at] = metric.kind.merge(to.numbers[at], other.numbers[at]);
            }
        }
        // Most often the list is the same: then nothing is looked up.
        let mut index: Option<HashMap<&str, usize>> = None;
        for (at, (name, [now, ever])) in other.domains.iter().enumerate() {
            let entry = match to.domains.get(at) {
                Some((known, _)) if known == name => at,
                _ => {
                    let index = index.get_or_insert_with(|| {
                        let names = to.domains.iter().map(|(name, _)| *name);
                        names.zip(0..).collect()
                    });
                    match index.get(name) {
                        Some(at) => *at,
                        None if to.domains.len() > MAX_DOMAINS => 0,
                        None => {
                            index.insert(name, to.domains.len());
                            to.domains.push((name, [0; 2]));
                            to.domains.len() - 1
                        }
                    }
                }
            };
            let counts = &mut to.domains[entry].1;
            counts[0] = counts[0].saturating_add(if alive { *now } else { 0 });
            counts[1] = counts[1].saturating_add(*ever);
        }
    }

    /// Takes numbers off the head of `bytes`; `None` if they are not those of
    /// this program's page.
    pub fn read<'b>(&self, bytes: &mut &'b [u8]) -> Option<Values<'b>> {
        let count = usize::try_from(read_u64(bytes)?).ok()?;
        if count != self.values.numbers.len() {
            return None;
        }
        let numbers = (0..count).map(|_| read_u64(bytes)).collect::<Option<_>>()?;
        let count = usize::try_from(read_u64(bytes)?).ok()?;
        if !(1..=MAX_DOMAINS + 1).contains(&count) {
            return None;
        }
        let domains = (0..count).map(|_| {
            let counts = [read_u64(bytes)?, read_u64(bytes)?];
            let length = usize::try_from(read_u64(bytes)?).ok()?;
            let name = bytes.split_off(..length)?;
            Some((str::from_utf8(name).ok()?, counts))
        });
        let domains: Vec<_> = domains.collect::<Option<_>>()?;
        (domains[0].0 == OTHER).then_some(Values { numbers, domains })
    }
}

impl Values<'_> {
    /// Appends the numbers as bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut write = |number: u64| out.extend(number.to_le_bytes());
        write(self.numbers.len() as u64);
        self.numbers.iter().copied().for_each(&mut write);
        write(self.domains.len() as u64);
        for (name, counts) in &self.domains {
            for number in [counts[0], counts[1], name.len() as u64] {
                out.extend(number.to_le_bytes());
            }
            out.extend(name.as_bytes());
        }
    }
}

fn read_u64(bytes: &mut &[u8]) -> Option<u64> {
    let head = bytes.split_off(..8)?;
    head.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A metric of each kind.
    fn snapshot<'a>(numbers: [u64; 5], domains: &[(&'a str, [u64; 2])]) -> Snapshot<'a> {
        let mut snapshot = Snapshot::new();
        let kinds = [
            Kind::Counter,
            Kind::Histogram,
            Kind::Gauge,
            Kind::Flag,
            Kind::Start,
        ];
        for (kind, number) in kinds.into_iter().zip(numbers) {
            snapshot
                .metric("x", kind, "X.")
                .number(String::new(), number);
        }
        snapshot
            .metric("d", Kind::Gauge, "D.")
            .by_domain(Column::Now);
        snapshot.values.domains = [&[(OTHER, [0; 2])], domains].concat();
        snapshot
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let snapshot = snapshot([1, 2, 3, 4, u64::MAX], &[("bücher.example", [5, 6])]);
        let mut bytes = Vec::new();
        snapshot.values.write(&mut bytes);
        let whole = bytes.len();
        snapshot.zero().write(&mut bytes);
        let mut rest = &bytes[..];
        assert_eq!(snapshot.read(&mut rest), Some(snapshot.values.clone()));
        assert_eq!(snapshot.read(&mut rest), Some(snapshot.zero()));
        assert!(rest.is_empty());
        for end in 0..whole {
            assert_eq!(snapshot.read(&mut &bytes[..end]), None, "{end}");
        }
        // Another shape, too many domains, a name that is no text.
        for (at, byte) in [(0, 6), (6 * 8 + 2, 1), (whole - 1, 0xff)] {
            let mut wrong = bytes.clone();
            wrong[at] = byte;
            assert_eq!(snapshot.read(&mut &wrong[..]), None, "{at}");
        }
    }

    #[test]
    fn the_living_add_up_and_of_the_dead_counters_stay() {
        let own = snapshot([10, 20, 30, 0, 500], &[("a", [1, 2]), ("b", [3, 4])]);
        let other = snapshot([1, 2, 3, 1, 400], &[("b", [10, 20]), ("c", [30, 40])]);
        let mut sum = own.values.clone();
        own.add(&mut sum, &other.values, true);
        let all = snapshot(
            [11, 22, 33, 1, 400],
            &[("a", [1, 2]), ("b", [13, 24]), ("c", [30, 40])],
        );
        assert_eq!(sum, all.values);
        let mut sum = own.values.clone();
        own.add(&mut sum, &other.values, false);
        let kept = snapshot(
            [11, 22, 30, 0, 400],
            &[("a", [1, 2]), ("b", [3, 24]), ("c", [0, 40])],
        );
        assert_eq!(sum, kept.values);
        // Who never started has no part in the earliest start.
        let mut sum = own.values.clone();
        own.add(&mut sum, &own.zero(), true);
        assert_eq!(sum, own.values);
    }

    #[test]
    fn domains_of_many_lists_are_bounded() {
        let names: Vec<String> = (0..2 * MAX_DOMAINS).map(|n| format!("d{n}")).collect();
        let list = |range: Range<usize>| -> Vec<(&str, [u64; 2])> {
            names[range]
                .iter()
                .map(|name| (name.as_str(), [1, 2]))
                .collect()
        };
        let own = snapshot([0; 5], &list(0..MAX_DOMAINS - 1));
        let other = snapshot([0; 5], &list(MAX_DOMAINS - 2..2 * MAX_DOMAINS - 2));
        let mut sum = own.values.clone();
        own.add(&mut sum, &other.values, true);
        assert_eq!(sum.domains.len(), MAX_DOMAINS + 1);
        // One was there already, one had room.
        let others = MAX_DOMAINS as u64 - 2;
        assert_eq!(sum.domains[0], (OTHER, [others, 2 * others]));
        let shared = format!("d{}", MAX_DOMAINS - 2);
        assert!(sum.domains.contains(&(shared.as_str(), [2, 4])));
    }
}
