//! Returns memory to the system after many sessions have ended.
//!
//! The allocator keeps what is freed. One call returns all of it, but takes milliseconds, so
//! it waits until it is worth it, and then until the others of a crowd have ended too.

use super::Reactor;
use crate::session::Tick;

/// So many sessions must have ended to make the call worthwhile.
const SOME: usize = 256;
/// After so many the call is made at once: with more memory to return it would take too long.
const MANY: usize = 2048;
/// How long to wait for others of the crowd after the first [`SOME`].
const REST_MS: Tick = 1000;

#[derive(Default)]
pub(super) struct Trim {
    /// The most sessions since the last call.
    most: usize,
    at: Option<Tick>,
}

impl Trim {
    /// Notes the number of sessions. Returns whether the call is due. During a drain it never is:
    /// the process will soon end.
    fn note(&mut self, sessions: usize, draining: bool, now: Tick) -> bool {
        if draining {
            *self = Trim::default();
            return false;
        }
        self.most = self.most.max(sessions);
        let ended = self.most - sessions;
        if ended >= MANY {
            self.at = Some(now);
        } else if self.at.is_none() && ended >= SOME && ended >= self.most / 2 {
            self.at = Some(now + REST_MS);
        }
        let is_due = self.at.is_some_and(|at| at <= now);
        if is_due {
            (self.most, self.at) = (sessions, None);
        }
        is_due
    }

    /// When the next call is due.
    pub fn due(&self) -> Option<Tick> {
        self.at
    }
}

impl Reactor {
    /// Returns memory, if that is due.
    pub(super) fn trim(&mut self) {
        let draining = self.ending.is_draining();
        let (sessions, now) = (self.sessions.len(), self.shared.now);
        if self.trim.note(sessions, draining, now) {
            return_memory();
        }
    }
}

/// Returns all freed pages to the system.
#[expect(unsafe_code, reason = "a call of the C library: see SAFETY")]
pub(super) fn return_memory() {
    // SAFETY: the call takes a number and no pointer, and changes only free memory.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times at which memory is returned while the numbers of sessions change.
    fn calls(numbers: &[(Tick, usize)]) -> Vec<Tick> {
        let mut trim = Trim::default();
        let mut times = Vec::new();
        for &(now, sessions) in numbers {
            if trim.note(sessions, false, now) {
                times.push(now);
            }
        }
        times
    }

    #[test]
    fn memory_is_returned_once_after_a_crowd_has_left() {
        let crowd = [
            (0, 1000),
            (10, 744),
            (20, 500),
            (999, 0),
            (1020, 0),
            (3000, 0),
        ];
        assert_eq!(calls(&crowd), [1020]);
    }

    #[test]
    fn a_drain_returns_no_memory() {
        let mut trim = Trim::default();
        assert!(!trim.note(5000, false, 0) && !trim.note(4000, false, 1));
        for (now, sessions) in [(2, 2900), (3, 800), (2000, 0)] {
            assert!(!trim.note(sessions, true, now));
            assert_eq!(trim.due(), None);
        }
    }

    #[test]
    fn a_large_crowd_is_not_waited_for() {
        let crowd = [
            (0, 5000),
            (1, 2953),
            (2, 2952),
            (3, 905),
            (4, 904),
            (2000, 0),
        ];
        assert_eq!(calls(&crowd), [2, 4]);
        let rest = [(0, 904), (10, 0), (1009, 0), (1010, 0)];
        assert_eq!(calls(&rest), [1010]);
    }

    #[test]
    fn sessions_that_come_and_go_in_small_numbers_cost_nothing() {
        let few: Vec<_> = (0..5000).map(|n| (n, [255, 0][n as usize % 2])).collect();
        assert_eq!(calls(&few), []);
        let many: Vec<_> = (0..5000)
            .map(|n| (n, [9000, 8000][n as usize % 2]))
            .collect();
        assert_eq!(calls(&many), []);
    }
}
