//! The sums over all workers in the last minutes.

use std::collections::VecDeque;

/// Time between two samples. A worker without work takes none.
const PERIOD_MS: u64 = 10_000;
/// How long a sample is kept.
pub(super) const KEPT_MS: u64 = 600_000;
const SAMPLES: usize = (KEPT_MS / PERIOD_MS) as usize + 1;

/// The values at a time, in milliseconds since the worker started.
pub(super) type Sample<'a> = (u64, &'a [u64]);

#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<(u64, Vec<u64>)>,
}

impl History {
    pub fn is_due(&self, now: u64) -> bool {
        let last = self.samples.back();
        last.is_none_or(|(at, _)| now >= at + PERIOD_MS)
    }

    pub fn add(&mut self, now: u64, values: Vec<u64>) {
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, values));
    }

    /// Returns the samples that are not too old at `now`, the oldest first.
    pub fn until(&self, now: u64) -> impl Iterator<Item = Sample<'_>> {
        let samples = self.samples.iter();
        let recent = samples.filter(move |(at, _)| at + KEPT_MS >= now);
        recent.map(|(at, values)| (*at, values.as_slice()))
    }

    /// Returns the newest sample that is at least `age_ms` old at `now`, or the oldest.
    pub fn before(&self, now: u64, age_ms: u64) -> Option<Sample<'_>> {
        let found = self.samples.iter().rfind(|(at, _)| at + age_ms <= now);
        let (at, values) = found.or(self.samples.front())?;
        Some((*at, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bounded_and_forgets_old_samples() {
        let mut history = History::default();
        assert!(history.before(0, 0).is_none());
        for second in 0..2_000 {
            let now = second * 1_000;
            assert_eq!(history.is_due(now), second % 10 == 0, "{second}");
            if history.is_due(now) {
                history.add(now, vec![second]);
            }
        }
        let now = 1_999_000;
        let seconds: Vec<u64> = history.until(now).map(|(_, values)| values[0]).collect();
        assert_eq!((seconds.len(), seconds[0], seconds[59]), (60, 1_400, 1_990));
        assert_eq!(history.samples.len(), SAMPLES);
        let before = |age| history.before(now, age).map(|(at, _)| at);
        assert_eq!(before(9_000), Some(1_990_000));
        assert_eq!(before(9_001), Some(1_980_000));
        assert_eq!(before(1_000_000), Some(1_390_000));
        assert_eq!(history.until(now + KEPT_MS).count(), 0);
    }
}
