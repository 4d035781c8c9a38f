//! Measures by samples how long messages take through the process.
//!
//! Chooses which turns to measure: on average one in [`EVERY`] of those that relay
//! messages, at random intervals, so that sampling does not fall into step with a
//! pattern among sessions. Measures from the wake-up of the loop to the end of the
//! session's turn, when the kernel has the messages. Does not see how long a session waited for
//! its turn since earlier turns of the loop. Runs only if metrics are served.

use std::time::Instant;

use super::random::random;
use super::status::micros_since;
use crate::metrics::Metrics;
use crate::session::Session;

/// On average one turn in this many is measured.
const EVERY: u32 = 16;

#[derive(Debug, Default)]
pub(super) struct Sampler {
    /// Turns to skip before the next measurement.
    left: u32,
}

impl Sampler {
    /// Measures a turn in which `session` relayed messages, if it is chosen. `woken` is when the
    /// turn of the loop began.
    pub fn sample(&mut self, session: &Session, metrics: &mut Metrics, woken: Instant) {
        if let Some(flushed) = session.is_flushed()
            && self.choose()
        {
            metrics.relay_turn(flushed.then(|| micros_since(woken)));
        }
    }

    /// Whether this turn is to be measured; the first one is.
    fn choose(&mut self) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        self.left = random(2 * EVERY - 2);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_sixteen_and_none_far_from_the_next() {
        let mut sampler = Sampler::default();
        let (mut chosen, mut distance) = (0, 0);
        let mut distances = std::collections::BTreeSet::new();
        for _ in 0..160_000 {
            distance += 1;
            if sampler.choose() {
                chosen += 1;
                distances.insert(std::mem::take(&mut distance));
            }
        }
        // Nine standard deviations.
        assert!((9_500..10_500).contains(&chosen), "{chosen}");
        assert!(distances.into_iter().eq(1..2 * EVERY), "all distances");
    }
}
