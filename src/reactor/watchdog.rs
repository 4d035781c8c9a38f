//! Reports to systemd or the master: that this process serves, then its heartbeats.

use super::Reactor;
use super::notices::announce;
use crate::net::notify::Notify;
use crate::session::Tick;

impl Reactor {
    /// Gives a sign of life if one is due.
    pub(super) fn give_sign_of_life(&mut self) {
        if self.alive_at.is_some_and(|at| self.shared.now >= at) {
            self.upkeep.notify.alive();
            self.alive_at = self.next_sign_of_life();
        }
    }

    pub(super) fn next_sign_of_life(&self) -> Option<Tick> {
        let period = self.upkeep.notify.watchdog()?;
        let period = Tick::try_from(period.as_millis()).unwrap_or(Tick::MAX / 2);
        Some(self.shared.now + period.max(1))
    }

    /// Tells `notify` now and from now on that this process serves: the log too, unless
    /// its master does. Signals are taken by now: who reads it may send one.
    pub fn tell_ready(&mut self, notify: Notify) {
        self.upkeep.notify = notify;
        if self.upkeep.membership.is_none() {
            announce(&self.listeners, &self.shared.log);
        }
        self.upkeep.notify.ready(std::process::id());
        self.watch_generations();
        self.alive_at = self.next_sign_of_life();
    }
}
