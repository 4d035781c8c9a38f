//! The metrics and their values at one moment.
//!
//! Combines the values of several workers. Names, help texts and labels are the same in all
//! workers, so an index identifies a value. The values of series follow the others, [`COLUMNS`]
//! for each domain and server.

use super::name::Values;

/// How the values of several workers are combined, and whether a value is kept when its worker
/// ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The sum; kept.
    Counter,
    /// The sums of the buckets, then the sum of all observations; kept.
    Histogram,
    /// The sum; dropped.
    Gauge,
    /// The maximum; dropped.
    Flag,
    /// The earliest time, where 0 means none; kept.
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

/// The values of a series: of a domain or of a configured server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Open sessions.
    Sessions,
    /// All sessions since the start.
    Opened,
    /// Whether the last attempt to use the server failed.
    Down,
    /// Failed attempts to use the server.
    Failures,
    /// The limit on the bytes of a stanza that a client was last told; 0 if none.
    MaxBytes,
    /// The limit on the seconds without a byte that a client was last told; 0 if none.
    IdleSeconds,
    /// Whether this worker has the series.
    Known,
}

/// The number of values of a series.
pub(super) const COLUMNS: usize = Column::Known as usize + 1;

/// The kind of each [`Column`], in their order.
const COLUMN_KINDS: [Kind; COLUMNS] = [
    Kind::Gauge,
    Kind::Counter,
    Kind::Flag,
    Kind::Counter,
    Kind::Flag,
    Kind::Flag,
    Kind::Flag,
];

/// The values of a metric.
#[derive(Debug)]
pub(super) enum Samples {
    /// Values from the index `first` on, each with its formatted labels.
    Fixed { first: usize, labels: Vec<String> },
    /// One value for each domain.
    Domains(Column),
    /// One value for each configured server.
    Servers(Column),
    /// Values that are the same in all workers. They are not shared, and only appear on the
    /// page of sums.
    Own(Vec<(String, u64)>),
}

/// A metric without its values.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// For a time, the number of its units in a second; otherwise 1.
    pub per_second: u32,
    pub samples: Samples,
}

/// The metrics in the order of the page, and the values of this worker except those of series.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub metrics: Vec<Metric>,
    pub values: Vec<u64>,
    kinds: Vec<Kind>,
}

impl Snapshot {
    /// Adds a metric; its values follow.
    pub fn metric(&mut self, metric: Values, kind: Kind, help: &'static str) -> &mut Self {
        let first = self.values.len();
        let labels = Vec::new();
        self.metrics.push(Metric {
            name: metric.metric,
            help,
            kind,
            per_second: 1,
            samples: Samples::Fixed { first, labels },
        });
        self
    }

    /// Adds a value with formatted labels to the last metric.
    pub fn value(&mut self, written: String, value: u64) {
        if let Some(metric) = self.metrics.last_mut()
            && let Samples::Fixed { labels, .. } = &mut metric.samples
        {
            labels.push(written);
            self.values.push(value);
            self.kinds.push(metric.kind);
        }
    }

    /// Makes the last metric a time, with `parts` of its units in a second.
    pub fn per_second(&mut self, parts: u32) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.per_second = parts;
        }
    }

    /// Gives the last metric other samples than values that follow.
    pub fn samples(&mut self, samples: Samples) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.samples = samples;
        }
    }

    /// Returns the index of a value of a series.
    pub fn series_value(&self, series: usize, column: Column) -> usize {
        self.values.len() + COLUMNS * series + column as usize
    }

    /// Returns the number of values if there are `series` series.
    pub fn len(&self, series: usize) -> usize {
        self.series_value(series, Column::Sessions)
    }

    fn kind(&self, at: usize) -> Kind {
        match self.kinds.get(at) {
            Some(kind) => *kind,
            None => COLUMN_KINDS[(at - self.values.len()) % COLUMNS],
        }
    }

    /// Adds values to those in `sum`. If the worker is not alive, adds only values that are
    /// kept.
    pub fn add(&self, sum: &mut [u64], values: &[u64], alive: bool) {
        for (at, (sum, value)) in sum.iter_mut().zip(values).enumerate() {
            let kind = self.kind(at);
            if alive || kind.stays() {
                *sum = kind.merge(*sum, *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::all;
    use super::*;

    #[test]
    fn live_workers_add_up_and_counters_of_dead_workers_stay() {
        let mut snapshot = Snapshot::default();
        let kinds = [
            Kind::Counter,
            Kind::Histogram,
            Kind::Gauge,
            Kind::Flag,
            Kind::Start,
        ];
        for kind in kinds {
            snapshot
                .metric(all("x"), kind, "X.")
                .value(String::new(), 0);
        }
        let name = snapshot.metric(all("d"), Kind::Gauge, "D.");
        name.samples(Samples::Domains(Column::Sessions));
        assert_eq!(snapshot.len(2), 5 + 2 * 7);
        let own = [
            10, 20, 30, 0, 500, 1, 2, 0, 7, 900, 0, 1, 3, 4, 1, 8, 0, 0, 0,
        ];
        let other = [
            1, 2, 3, 1, 400, 10, 20, 1, 70, 800, 60, 1, 30, 40, 1, 80, 0, 0, 1,
        ];
        let mut sum = own;
        snapshot.add(&mut sum, &other, true);
        assert_eq!(
            sum,
            [
                11, 22, 33, 1, 400, 11, 22, 1, 77, 900, 60, 1, 33, 44, 1, 88, 0, 0, 1
            ]
        );
        let mut sum = own;
        snapshot.add(&mut sum, &other, false);
        assert_eq!(
            sum,
            [
                11, 22, 30, 0, 400, 1, 22, 0, 77, 900, 0, 1, 3, 44, 1, 88, 0, 0, 0
            ]
        );
        // A worker that never started does not change the earliest start.
        let mut sum = own;
        snapshot.add(&mut sum, &[0; 19], true);
        assert_eq!(sum, own);
    }
}
