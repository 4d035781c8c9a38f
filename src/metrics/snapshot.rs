//! The metrics and their values at one moment.
//!
//! Owns how the values of several workers make one. Names, help texts and labels are the
//! same in all workers, so a value is identified by its index. The values of the domains
//! follow the others, [`COLUMNS`] for each domain. Never writes a page.

/// How the values of several workers make one, and whether a value stays when its worker
/// has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The sum; stays.
    Counter,
    /// The same: the buckets, then the sum of all observations.
    Histogram,
    /// The sum; goes.
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

/// One of the values of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// Open sessions.
    Sessions,
    /// Sessions since the start.
    Opened,
    /// Whether the last attempt at the server failed.
    Down,
    /// Attempts at the server that failed.
    Failures,
    /// Whether the worker has a series for the domain.
    Known,
}

/// How many there are.
pub(super) const COLUMNS: usize = Column::Known as usize + 1;

/// The values of a metric.
#[derive(Debug)]
pub(super) enum Samples {
    /// Values from the index `first` on, each with its labels as they are written.
    Fixed { first: usize, labels: Vec<String> },
    /// One for each domain.
    Domains(Column),
    /// Values with labels that this worker knows and the others would tell alike: they
    /// are on the page of the sum only.
    Own(Vec<(String, u64)>),
    /// One for each configured server.
    Servers(Column),
}

/// A metric: all but its values.
#[derive(Debug)]
pub(super) struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// For a time, how many of its unit are a second; otherwise 1.
    pub per_second: u32,
    pub samples: Samples,
}

/// The metrics in the order of the page, and the values of this worker without those of
/// the domains.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub metrics: Vec<Metric>,
    pub values: Vec<u64>,
    kinds: Vec<Kind>,
}

impl Snapshot {
    /// Begins a metric; its values follow.
    pub fn metric(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Self {
        let first = self.values.len();
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

    /// Adds a value to the last metric, with labels as they are written.
    pub fn value(&mut self, written: String, value: u64) {
        if let Some(metric) = self.metrics.last_mut()
            && let Samples::Fixed { labels, .. } = &mut metric.samples
        {
            labels.push(written);
            self.values.push(value);
            self.kinds.push(metric.kind);
        }
    }

    /// The last metric is a time in a unit of which so many are a second.
    pub fn per_second(&mut self, parts: u32) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.per_second = parts;
        }
    }

    /// The last metric has a value for each domain.
    pub fn by_domain(&mut self, column: Column) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.samples = Samples::Domains(column);
        }
    }

    /// The last metric has these values, which are not shared.
    pub fn of_this_worker(&mut self, values: Vec<(String, u64)>) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.samples = Samples::Own(values);
        }
    }

    /// The last metric has a value for each configured server.
    pub fn by_server(&mut self, column: Column) {
        if let Some(metric) = self.metrics.last_mut() {
            metric.samples = Samples::Servers(column);
        }
    }

    /// The index of a value of a domain.
    pub fn domain_value(&self, domain: usize, column: Column) -> usize {
        self.values.len() + COLUMNS * domain + column as usize
    }

    /// How many values there are with so many domains.
    pub fn len(&self, domains: usize) -> usize {
        self.domain_value(domains, Column::Sessions)
    }

    fn kind(&self, at: usize) -> Kind {
        match self.kinds.get(at) {
            Some(kind) => *kind,
            None => {
                const KINDS: [Kind; COLUMNS] = [
                    Kind::Gauge,
                    Kind::Counter,
                    Kind::Flag,
                    Kind::Counter,
                    Kind::Flag,
                ];
                KINDS[(at - self.values.len()) % COLUMNS]
            }
        }
    }

    /// Adds values to those in `sum`; of a worker that is dead only those that stay.
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
    use super::*;

    #[test]
    fn the_living_add_up_and_of_the_dead_counters_stay() {
        let mut snapshot = Snapshot::default();
        let kinds = [
            Kind::Counter,
            Kind::Histogram,
            Kind::Gauge,
            Kind::Flag,
            Kind::Start,
        ];
        for kind in kinds {
            snapshot.metric("x", kind, "X.").value(String::new(), 0);
        }
        let name = snapshot.metric("d", Kind::Gauge, "D.");
        name.by_domain(Column::Sessions);
        assert_eq!(snapshot.len(2), 5 + 2 * 5);
        let own = [10, 20, 30, 0, 500, 1, 2, 0, 7, 1, 3, 4, 1, 8, 0];
        let other = [1, 2, 3, 1, 400, 10, 20, 1, 70, 1, 30, 40, 1, 80, 1];
        let mut sum = own;
        snapshot.add(&mut sum, &other, true);
        assert_eq!(
            sum,
            [11, 22, 33, 1, 400, 11, 22, 1, 77, 1, 33, 44, 1, 88, 1]
        );
        let mut sum = own;
        snapshot.add(&mut sum, &other, false);
        assert_eq!(sum, [11, 22, 30, 0, 400, 1, 22, 0, 77, 1, 3, 44, 1, 88, 0]);
        // A worker that never started has no part in the earliest start.
        let mut sum = own;
        snapshot.add(&mut sum, &[0; 15], true);
        assert_eq!(sum, own);
    }
}
