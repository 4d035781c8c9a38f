//! Ends all sessions without making all clients reconnect at the same time.
//!
//! Owns the choice of when each session ends. Sessions without an open stream end at once.
//! The others end in random order, evenly spread over `drain_spread`, to spread the cost of
//! reconnecting too: each client costs its new server a TLS handshake and a login.

use std::fmt::Display;
use std::time::Duration;

use super::random::random;
use super::{Reactor, ticks};
use crate::session::{Session, Tick};

/// Time between two sessions if `drain_spread` is not set: 500 sessions per second.
const INTERVAL: Duration = Duration::from_millis(2);

/// How much longer the main process waits for older generations.
const GRACE_MS: Tick = 1000;

/// Sessions that have not been drained yet.
#[derive(Default)]
pub(super) struct DrainSchedule {
    waiting: Vec<usize>,
    total: u64,
    began: Tick,
    time_ms: Tick,
}

impl DrainSchedule {
    /// Spreads the sessions in these slots over `time_ms`, in an order drawn from `random`.
    fn new(
        mut slots: Vec<usize>,
        began: Tick,
        time_ms: Tick,
        random: fn(u32) -> u32,
    ) -> DrainSchedule {
        for at in (1..slots.len()).rev() {
            let most = u32::try_from(at).unwrap_or(u32::MAX);
            slots.swap(at, random(most) as usize);
        }
        DrainSchedule {
            total: slots.len() as u64,
            waiting: slots,
            began,
            time_ms,
        }
    }

    /// When the next session is due.
    pub fn due(&self) -> Option<Tick> {
        let left = self.waiting.len() as u64;
        (left > 0).then(|| self.began + self.time_ms * (self.total - left) / self.total)
    }

    /// Returns the slot of a session that is due.
    fn next(&mut self, now: Tick) -> Option<usize> {
        self.due()
            .filter(|due| *due <= now)
            .and_then(|_| self.waiting.pop())
    }
}

impl Reactor {
    /// Stops accepting and begins to end all sessions.
    pub(super) fn drain(&mut self, why: impl Display) {
        if self.drain_deadline.is_some() {
            return;
        }
        self.shared.log.notice(format_args!(
            "{why}: stopping, {} sessions to drain",
            self.sessions.len()
        ));
        self.stop_accepting();
        self.setup.notify.stopping("ending sessions");
        let now = self.shared.now;
        let limit = self.shared.config.drain_timeout;
        // Older generations end at the same time, and they go first.
        let grace = if self.has_older() { GRACE_MS } else { 0 };
        self.drain_deadline = Some(now + ticks(limit) + grace);
        let (open, others): (Vec<_>, Vec<_>) = self
            .sessions
            .iter()
            .partition(|(_, slot)| slot.session.is_flushed().is_some());
        let slots = |list: Vec<(usize, _)>| list.into_iter().map(|(slot, _)| slot).collect();
        let (open, others): (Vec<usize>, Vec<usize>) = (slots(open), slots(others));
        let time = self.shared.config.drain_spread.unwrap_or_else(|| {
            let count = u32::try_from(open.len()).unwrap_or(u32::MAX);
            let workers = self.setup.membership.as_ref().map_or(1, |m| m.workers);
            let workers = u32::try_from(workers).unwrap_or(u32::MAX);
            (INTERVAL * workers).saturating_mul(count).min(limit / 2)
        });
        self.drain_schedule = DrainSchedule::new(open, now, ticks(time.min(limit)), random);
        for slot in others {
            self.drain_session(slot);
        }
        self.drain_those_due();
    }

    /// Drains the sessions that are due.
    pub(super) fn drain_those_due(&mut self) {
        while let Some(slot) = self.drain_schedule.next(self.shared.now) {
            self.drain_session(slot);
        }
    }

    fn drain_session(&mut self, slot: usize) {
        // No new session has taken the slot, because no clients are accepted any more.
        self.poke(slot, Session::drain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of slots that are due at each of the times.
    fn due_at(schedule: &mut DrainSchedule, times: &[Tick]) -> Vec<usize> {
        let count = |now: &Tick| std::iter::from_fn(|| schedule.next(*now)).count();
        times.iter().map(count).collect()
    }

    #[test]
    fn sessions_are_told_evenly_and_never_faster() {
        let mut schedule = DrainSchedule::new((0..10_000).collect(), 500, 20_000, random);
        let mut sum = 0;
        while let Some(due) = schedule.due() {
            let now = due.max(500 + sum);
            let n = std::iter::from_fn(|| schedule.next(now)).count() as u64;
            sum += n;
            // 500 per second, one every 2 ms.
            assert_eq!(sum, (now - 500) / 2 + 1, "at {now}");
        }
        assert_eq!(sum, 10_000);
        // A loop that was late catches up, and the last session is in time.
        let mut late = DrainSchedule::new((0..100).collect(), 0, 1_000, random);
        assert_eq!(
            due_at(&mut late, &[0, 499, 500, 989, 990]),
            [1, 49, 1, 48, 1]
        );
        assert_eq!(late.due(), None);
    }

    #[test]
    fn their_order_is_random_and_nobody_is_left_out() {
        let order = || {
            let mut schedule = DrainSchedule::new((0..1_000).collect(), 0, 0, random);
            std::iter::from_fn(|| schedule.next(0)).collect::<Vec<_>>()
        };
        let (one, other) = (order(), order());
        assert_ne!(one, other);
        let mut sorted = one;
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1_000));
    }
}
