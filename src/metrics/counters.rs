//! Counters with several numbers.

/// One counter for each of a fixed set of label values.
#[derive(Debug)]
pub(crate) struct Family {
    pub(super) labels: &'static [&'static str],
    pub(super) counts: Vec<u64>,
}

impl Family {
    pub(super) fn new(labels: &'static [&'static str]) -> Family {
        Family {
            labels,
            counts: vec![0; labels.len()],
        }
    }

    /// Counts one under `label`; an unknown label counts as the last one.
    pub(crate) fn count(&mut self, label: &str) {
        let at = self.labels.iter().position(|known| *known == label);
        let at = at.unwrap_or(self.labels.len() - 1);
        self.counts[at] += 1;
    }
}

/// A histogram of durations.
#[derive(Debug)]
pub(crate) struct Histogram {
    pub(super) bounds: &'static [u64],
    /// The number of units in a second.
    pub(super) per_second: u32,
    /// Observations in each bucket, not cumulative. The last bucket has no bound.
    pub(super) counts: Vec<u64>,
    pub(super) sum: u64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64], per_second: u32) -> Histogram {
        Histogram {
            bounds,
            per_second,
            counts: vec![0; bounds.len() + 1],
            sum: 0,
        }
    }

    /// Adds an observation, in the unit of the bounds.
    pub(crate) fn observe(&mut self, value: u64) {
        let at = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[at.unwrap_or(self.bounds.len())] += 1;
        self.sum = self.sum.saturating_add(value);
    }
}

/// Relayed payload in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    /// Bytes without framing.
    pub bytes: u64,
    pub messages: u64,
}

impl Traffic {
    /// Counts one message.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.messages += 1;
    }
}
