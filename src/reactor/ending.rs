//! How far this process is on its way to its end.

use super::drain::DrainSchedule;
use crate::session::Tick;

#[derive(Default)]
pub(super) struct Ending {
    /// When the drain gives up; set once it has begun.
    pub drain_deadline: Option<Tick>,
    /// The sessions that have not been drained yet.
    pub schedule: DrainSchedule,
    /// When to drain the sessions of this old process; set once a new process serves.
    pub retired_until: Option<Tick>,
    /// A second signal has arrived: exit at once.
    pub at_once: bool,
}

impl Ending {
    /// Whether the sessions are being ended.
    pub fn is_draining(&self) -> bool {
        self.drain_deadline.is_some()
    }

    /// Whether a newer process has taken over.
    pub fn is_retired(&self) -> bool {
        self.retired_until.is_some()
    }

    /// Whether the process ends at this time, even if it has sessions.
    pub fn is_over(&self, now: Tick) -> bool {
        self.at_once || self.drain_deadline.is_some_and(|at| now >= at)
    }

    /// When to begin the drain.
    pub fn drain_due(&self) -> Option<Tick> {
        self.retired_until.filter(|_| !self.is_draining())
    }

    /// When there is something to do.
    pub fn due(&self) -> Option<Tick> {
        let dues = [self.drain_deadline, self.schedule.due(), self.drain_due()];
        dues.into_iter().flatten().min()
    }
}
