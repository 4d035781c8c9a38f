//! What turns of the loop cost.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The cost of turns, in processor time: on a busy machine a turn may wait for its core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub turns: u32,
    pub total: Duration,
    pub longest: Duration,
}

impl Cost {
    /// Adds a turn that takes as long as `work`.
    pub fn turn(&mut self, work: impl FnOnce()) {
        let begin = processor_time();
        work();
        let took = processor_time().saturating_sub(begin);
        self.turns += 1;
        self.total += took;
        self.longest = self.longest.max(took);
    }
}

impl Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            turns: self.turns + other.turns,
            total: self.total + other.total,
            longest: self.longest.max(other.longest),
        }
    }
}

/// Writes the fields of a line for the benchmark.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, longest) = (self.total.as_nanos(), self.longest.as_nanos());
        write!(f, "{total} {longest} {}", self.turns)
    }
}

/// The processor time that this thread has taken.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("a clock").into()
}
