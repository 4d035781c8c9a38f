//! Ends all sessions without making all clients reconnect at the same time.
//!
//! Owns the choice of when each session ends. Sessions without an open stream end at once.
//! The others end in random order, evenly spread over `drain_spread`, to spread the cost of
//! reconnecting too: each client costs its new server a TLS handshake and a login. A turn looks
//! at a part of the slots only, and ends a part of the sessions.

use std::fmt::Display;
use std::time::Duration;

use super::random::random;
use super::{Reactor, SESSIONS_PER_TURN, ticks};
use crate::session::{Session, Tick};

/// Time between two sessions if `drain_spread` is not set: 500 sessions per second.
const INTERVAL: Duration = Duration::from_millis(2);

/// How much longer the main process waits for older generations.
const GRACE_MS: Tick = 1000;

/// Maximum number of slots to look at in a turn. Most sessions are only noted.
const SLOTS_PER_TURN: usize = 16 * SESSIONS_PER_TURN;

/// Sessions that have not been drained yet.
#[derive(Default)]
pub(super) struct DrainSchedule {
    /// The next slot to look at, while the sessions are being collected.
    next_slot: Option<usize>,
    waiting: Vec<usize>,
    total: u64,
    began: Tick,
    time_ms: Tick,
}

impl DrainSchedule {
    /// A schedule for about this many sessions, which are yet to be collected.
    fn begin(sessions: usize, now: Tick) -> DrainSchedule {
        DrainSchedule {
            next_slot: Some(0),
            waiting: Vec::with_capacity(sessions),
            began: now,
            ..DrainSchedule::default()
        }
    }

    /// Spreads the collected sessions over `time_ms` since the beginning.
    fn start(&mut self, time_ms: Tick) {
        self.next_slot = None;
        self.total = self.waiting.len() as u64;
        self.time_ms = time_ms;
    }

    /// When the next session is due, or more slots are to be looked at.
    pub fn due(&self) -> Option<Tick> {
        if self.next_slot.is_some() {
            return Some(self.began);
        }
        let left = self.waiting.len() as u64;
        (left > 0).then(|| self.began + self.time_ms * (self.total - left) / self.total)
    }

    /// Returns the slot of a session that is due, drawn from `random`.
    fn next(&mut self, now: Tick, random: fn(u32) -> u32) -> Option<usize> {
        let last = self.waiting.len().checked_sub(1)?;
        self.due().filter(|due| *due <= now)?;
        let at = random(u32::try_from(last).unwrap_or(u32::MAX));
        Some(self.waiting.swap_remove(at as usize))
    }
}

impl Reactor {
    /// Stops accepting and begins to end all sessions.
    pub(super) fn drain(&mut self, why: impl Display) {
        if self.ending.is_draining() {
            return;
        }
        let sessions = self.sessions.len();
        self.shared.log.notice(format_args!(
            "{why}: stopping, {sessions} sessions to drain"
        ));
        self.stop_accepting();
        self.setup.notify.stopping("ending sessions");
        let now = self.shared.now;
        let limit = self.shared.config.drain_timeout;
        // Older generations end at the same time, and they go first.
        let grace = if self.has_older() { GRACE_MS } else { 0 };
        self.ending.drain_deadline = Some(now + ticks(limit) + grace);
        self.ending.schedule = DrainSchedule::begin(sessions, now);
        self.drain_those_due();
    }

    /// Drains sessions that are due, at most [`SESSIONS_PER_TURN`].
    pub(super) fn drain_those_due(&mut self) {
        if let Some(next) = self.ending.schedule.next_slot {
            self.collect_open_sessions(next);
            return;
        }
        for _ in 0..SESSIONS_PER_TURN {
            let Some(slot) = self.ending.schedule.next(self.shared.now, random) else {
                return;
            };
            self.drain_session(slot);
        }
    }

    /// Looks at the slots from `next` on: drains sessions without an open stream, and
    /// schedules the others once all slots have been looked at.
    fn collect_open_sessions(&mut self, next: usize) {
        let slots = self.sessions.capacity();
        let (mut slot, mut drained) = (next, 0);
        while slot < slots && slot < next + SLOTS_PER_TURN && drained < SESSIONS_PER_TURN {
            if let Some(entry) = self.sessions.get(slot) {
                if entry.session.is_flushed().is_some() {
                    self.ending.schedule.waiting.push(slot);
                } else {
                    self.drain_session(slot);
                    drained += 1;
                }
            }
            slot += 1;
        }
        self.ending.schedule.next_slot = Some(slot);
        if slot >= slots {
            let time_ms = ticks(self.drain_time());
            self.ending.schedule.start(time_ms);
            self.drain_those_due();
        }
    }

    /// Over how long the collected sessions are spread.
    fn drain_time(&self) -> Duration {
        let limit = self.shared.config.drain_timeout;
        let count = u32::try_from(self.ending.schedule.waiting.len()).unwrap_or(u32::MAX);
        let workers = self.setup.membership.as_ref().map_or(1, |m| m.workers);
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let spread = self.shared.config.drain_spread;
        let spread =
            spread.unwrap_or_else(|| (INTERVAL * workers).saturating_mul(count).min(limit / 2));
        spread.min(limit)
    }

    fn drain_session(&mut self, slot: usize) {
        // No new session has taken the slot, because no clients are accepted any more.
        self.poke(slot, Session::drain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A schedule of the sessions in this many slots.
    fn planned(slots: usize, began: Tick, time_ms: Tick) -> DrainSchedule {
        let mut schedule = DrainSchedule::begin(slots, began);
        schedule.waiting.extend(0..slots);
        schedule.start(time_ms);
        schedule
    }

    /// The number of slots that are due at each of the times.
    fn due_at(schedule: &mut DrainSchedule, times: &[Tick]) -> Vec<usize> {
        let count = |now: &Tick| std::iter::from_fn(|| schedule.next(*now, random)).count();
        times.iter().map(count).collect()
    }

    #[test]
    fn sessions_are_drained_evenly_and_never_faster() {
        let mut schedule = planned(10_000, 500, 20_000);
        let mut sum = 0;
        while let Some(due) = schedule.due() {
            let now = due.max(500 + sum);
            let n = std::iter::from_fn(|| schedule.next(now, random)).count() as u64;
            sum += n;
            // 500 per second, one every 2 ms.
            assert_eq!(sum, (now - 500) / 2 + 1, "at {now}");
        }
        assert_eq!(sum, 10_000);
        // A loop that was late catches up, and the last session is in time.
        let mut late = planned(100, 0, 1_000);
        assert_eq!(
            due_at(&mut late, &[0, 499, 500, 989, 990]),
            [1, 49, 1, 48, 1]
        );
        assert_eq!(late.due(), None);
    }

    #[test]
    fn their_order_is_random_and_nobody_is_left_out() {
        let order = || {
            let mut schedule = planned(1_000, 0, 0);
            std::iter::from_fn(|| schedule.next(0, random)).collect::<Vec<_>>()
        };
        let (one, other) = (order(), order());
        assert_ne!(one, other);
        let mut sorted = one;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1_000));
    }
}
