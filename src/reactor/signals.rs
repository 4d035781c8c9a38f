//! The effect of each signal on the process.

use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::Reactor;
use crate::net::orphans;
use crate::net::process_channel::Order;
use crate::upgrade;

impl Reactor {
    /// Handles the signals that have arrived. What takes long is done once for all of them:
    /// otherwise signals that keep arriving would keep the loop here.
    pub(super) fn take_signals(&mut self) {
        let is_stopping = self.ending.is_draining();
        let (mut reload, mut report) = (false, false);
        while let Some((signal, from)) = self.signals.take() {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => self.stop(signal),
                Signal::SIGHUP => reload = true,
                Signal::SIGUSR1 => report = true,
                Signal::SIGUSR2 if is_stopping => upgrade::log_stopping(&self.shared.log),
                Signal::SIGUSR2 => self.take_upgrade_signal(from == getppid()),
                // Without a master this process has no children of its own as process 1.
                Signal::SIGCHLD if self.setup.membership.is_none() => orphans::reap(|_| false),
                _ => {}
            }
        }
        // A stop may have come with the request to reload.
        if reload && !self.ending.is_draining() && !self.ending.is_retired() {
            self.reload();
        }
        if report {
            self.log_status();
            self.order_older(Order::Report);
        }
    }

    /// Begins to stop; at the second signal exits at once.
    fn stop(&mut self, signal: Signal) {
        if self.ending.is_draining() {
            self.ending.at_once = true;
            self.order_older(Order::Leave);
            return;
        }
        self.drain(signal);
        self.order_older(Order::Stop);
    }
}
