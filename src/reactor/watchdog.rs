//! Reports to systemd or the master: that this process serves, then its heartbeats.

use super::Reactor;
use super::notices::announce;
use crate::net::notify::Notify;
use crate::session::Tick;

impl Reactor {
    /// Sends a heartbeat if one is due.
    pub(super) fn send_heartbeat(&mut self) {
        if self.alive_at.is_some_and(|at| self.shared.now >= at) {
            self.setup.notify.alive();
            self.alive_at = self.next_heartbeat();
        }
    }

    pub(super) fn next_heartbeat(&self) -> Option<Tick> {
        let period = self.setup.notify.watchdog()?;
        let period = Tick::try_from(period.as_millis()).unwrap_or(Tick::MAX / 2);
        Some(self.shared.now + period.max(1))
    }

    /// Reports through `notify`, and in the log unless the master does so, that this
    /// process is serving. Keeps `notify` for later reports. Signal handling must be set up
    /// first, because the receiver may send a signal at once.
    pub fn report_ready(&mut self, notify: Notify) {
        self.setup.notify = notify;
        if self.setup.membership.is_none() {
            announce(&self.listeners, &self.shared.log);
        }
        self.setup.notify.ready(std::process::id());
        self.watch_generations();
        self.alive_at = self.next_heartbeat();
    }
}
