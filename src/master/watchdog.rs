//! The watchdog of the workers: notices a worker that hangs, and ends it.
//!
//! Each worker writes a heartbeat, a word of shared memory, in every turn of its loop, and an
//! idle worker wakes up for it. The master looks at all heartbeats once per period. A worker
//! whose heartbeat stays the same for as many looks as make up the time limit gets SIGABRT,
//! which leaves a core dump where these are enabled. If it is still there at the next look,
//! it gets SIGKILL. Time in which the master did not run either, because the machine was
//! suspended or overloaded, counts as one look however long it was.

use std::cmp::Ordering;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::{Master, now};
use crate::net::ticket_keys;
use crate::shared_memory::{Words, map};

/// The time limit if systemd sets none, as in the unit. A worker that starts has at least this
/// time, because systemd does not watch a start.
const DEFAULT_LIMIT: Duration = Duration::from_secs(30);
/// Shortest time limit: a worker may be busy for some milliseconds, or wait for a core.
const MIN_LIMIT: Duration = Duration::from_secs(1);
/// Number of looks within the time limit.
const LOOKS: u32 = 4;
/// Distance between the heartbeats of two workers: a cache line, so that one does not slow
/// down the other.
const STRIDE: usize = 8;

/// The heartbeats of the workers.
pub(super) struct Watchdog {
    heartbeats: Words,
    limit: Duration,
    due: Instant,
}

impl Watchdog {
    /// Maps memory for this number of workers. `limit` is systemd's.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(workers: usize, limit: Option<Duration>) -> io::Result<Watchdog> {
        let limit = limit.unwrap_or(DEFAULT_LIMIT).max(MIN_LIMIT);
        Ok(Watchdog {
            heartbeats: map(workers * STRIDE)?,
            limit,
            due: now() + limit / LOOKS,
        })
    }

    /// The word in which a worker writes its heartbeat.
    pub fn heartbeat(&self, worker: usize) -> &'static AtomicU64 {
        &self.heartbeats[worker * STRIDE]
    }

    /// Time between two heartbeats, and between two looks at them.
    pub fn period(&self) -> Duration {
        self.limit / LOOKS
    }

    /// Number of looks at the same heartbeat that make up the time limit of a worker.
    fn looks(&self, is_ready: bool) -> u32 {
        match is_ready {
            true => LOOKS,
            false => LOOKS.max(DEFAULT_LIMIT.div_duration_f64(self.period()) as u32),
        }
    }

    /// When the next look is due.
    pub fn due(&self) -> Instant {
        self.due
    }
}

/// For how long a worker has been silent.
#[derive(Default)]
pub(super) struct Silence {
    heartbeat: u64,
    /// Number of successive looks at the same heartbeat.
    looks: u32,
}

impl Silence {
    /// Looks at the heartbeat of a worker, which may be the same at fewer than `most` looks.
    /// Returns the signal that the worker must get.
    fn look(&mut self, heartbeat: u64, most: u32) -> Option<Signal> {
        self.looks = match heartbeat == self.heartbeat {
            true => self.looks.saturating_add(1),
            false => 0,
        };
        self.heartbeat = heartbeat;
        match self.looks.cmp(&most) {
            Ordering::Less => None,
            Ordering::Equal => Some(Signal::SIGABRT),
            Ordering::Greater => Some(Signal::SIGKILL),
        }
    }
}

impl Master {
    /// If a look is due, ends the workers that hang, sends a heartbeat to systemd, and drops the
    /// secret of old tickets.
    pub(super) fn watch_workers(&mut self) {
        let watchdog = &mut self.watchdog;
        let now = now();
        if now < watchdog.due {
            return;
        }
        // A late look does not bring the next one nearer.
        watchdog.due = now + watchdog.period();
        ticket_keys::drop_old();
        for (at, slot) in self.slots.iter_mut().enumerate() {
            let Some(running) = &mut slot.running else {
                continue;
            };
            let heartbeat = watchdog.heartbeat(at).load(Relaxed);
            let looks = watchdog.looks(running.ready);
            let Some(signal) = running.silence.look(heartbeat, looks) else {
                continue;
            };
            if signal == Signal::SIGABRT {
                self.log.err(format_args!(
                    "worker {at}: process {} sent no heartbeat for {} s: killing it",
                    running.pid,
                    (watchdog.period() * looks).as_secs_f64()
                ));
            }
            let _ = kill(running.pid, signal);
        }
        if self.serves {
            self.notify.alive();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stays_silent_is_aborted_then_killed() {
        let mut silence = Silence::default();
        let mut looks =
            |heartbeat| [(); LOOKS as usize + 2].map(|()| silence.look(heartbeat, LOOKS));
        let expected = [
            None,
            None,
            None,
            None,
            Some(Signal::SIGABRT),
            Some(Signal::SIGKILL),
        ];
        assert_eq!(looks(7), expected);
        // Any other value is a new heartbeat.
        assert_eq!(looks(6), expected);
    }

    #[test]
    fn a_worker_that_is_late_lives() {
        let mut silence = Silence::default();
        for heartbeat in (1..100).flat_map(|n| [n; LOOKS as usize]) {
            assert_eq!(silence.look(heartbeat, LOOKS), None);
        }
    }

    #[test]
    fn a_start_may_take_longer_than_a_short_limit() {
        let looks = |limit: u64| {
            let watchdog = Watchdog::new(1, Some(Duration::from_secs(limit))).unwrap();
            [true, false].map(|is_ready| watchdog.looks(is_ready))
        };
        assert_eq!([looks(2), looks(30), looks(90)], [[4, 60], [4, 4], [4, 4]]);
    }

    #[test]
    fn a_worker_has_some_time_whatever_the_limit() {
        let watchdog = Watchdog::new(1, Some(Duration::from_micros(1))).unwrap();
        assert_eq!(watchdog.period() * LOOKS, MIN_LIMIT);
    }

    #[test]
    fn heartbeats_are_apart() {
        let watchdog = Watchdog::new(3, None).unwrap();
        for worker in 0..3 {
            watchdog.heartbeat(worker).store(1 + worker as u64, Relaxed);
        }
        let read = |worker| watchdog.heartbeat(worker).load(Relaxed);
        assert_eq!([0, 1, 2].map(read), [1, 2, 3]);
        assert_eq!(watchdog.period() * LOOKS, Duration::from_secs(30));
    }
}
