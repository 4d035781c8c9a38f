//! The effect of each signal on the process.

use nix::sys::signal::Signal;
use nix::unistd::getppid;

use super::Reactor;
use crate::net::orphans;
use crate::net::process_channel::Order;
use crate::upgrade;

impl Reactor {
    pub(super) fn take_signals(&mut self) {
        let is_stopping = self.ending.is_draining();
        while let Some((signal, from)) = self.signals.take() {
            match signal {
                Signal::SIGTERM | Signal::SIGINT => self.stop(signal),
                Signal::SIGHUP if !is_stopping && !self.ending.is_retired() => self.reload(),
                Signal::SIGUSR1 => {
                    self.log_status();
                    self.order_older(Order::Report);
                }
                Signal::SIGUSR2 if is_stopping => upgrade::log_stopping(&self.shared.log),
                Signal::SIGUSR2 => self.take_upgrade_signal(from == getppid()),
                // Without a master this process has no children of its own as process 1.
                Signal::SIGCHLD if self.setup.membership.is_none() => orphans::reap(|_| false),
                _ => {}
            }
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
