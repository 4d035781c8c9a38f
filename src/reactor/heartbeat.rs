//! Reports to systemd or the master: that this process serves, then its heartbeats.

use std::sync::atomic::Ordering::Relaxed;

use super::Reactor;
use super::notices::log_listeners;
use crate::net::notify::Notify;
use crate::net::ticket_keys;
use crate::session::{Tick, ticks};

impl Reactor {
    /// Sends a heartbeat to systemd if one is due, or in every turn to the master, because
    /// that costs no system call. If one is due, also drops the secret of old tickets.
    pub(super) fn send_heartbeat(&mut self) {
        let now = self.shared.now;
        let is_due = self.alive_at.is_some_and(|at| now >= at);
        match &self.setup.membership {
            Some(membership) => membership.heartbeat.store(now, Relaxed),
            None if is_due => self.setup.notify.alive(),
            None => {}
        }
        if is_due {
            ticket_keys::drop_old();
            self.alive_at = self.next_heartbeat();
        }
    }

    fn next_heartbeat(&self) -> Option<Tick> {
        let period = self.setup.notify.watchdog()?;
        Some(self.shared.now + ticks(period).max(1))
    }

    /// Reports through `notify`, and in the log unless the master does so, that this
    /// process is serving. Keeps `notify` for later reports. Signal handling must be set up
    /// first, because the receiver may send a signal at once.
    pub fn report_ready(&mut self, notify: Notify) {
        self.setup.notify = notify;
        if self.setup.membership.is_none() {
            log_listeners(&self.acceptor.listeners, &self.shared.log);
        }
        self.setup.notify.ready(std::process::id());
        self.watch_generations();
        self.alive_at = self.next_heartbeat();
    }
}
