//! How the master ends: after a signal, or after a newer process has taken over.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{GRACE, Master, now};
use crate::net::process_channel::Order;
use crate::upgrade::{self, Event};

impl Master {
    /// Whether workers that end are no longer replaced.
    pub(super) fn is_ending(&self) -> bool {
        self.kill_at.is_some() || self.generations.is_retired()
    }

    pub(super) fn stop(&mut self, signal: Signal) {
        self.stop_signals += 1;
        let wait = match self.stop_signals {
            1 => {
                self.log
                    .notice(format_args!("{signal}: stopping all workers"));
                self.notify.stopping("ending sessions");
                self.config.drain_timeout + GRACE
            }
            2 => GRACE,
            _ => Duration::ZERO,
        };
        self.kill_at = Some(now() + wait);
        self.close_listeners();
        self.relay(signal);
        self.generations.order(match self.stop_signals {
            1 => Order::Stop,
            _ => Order::Leave,
        });
    }

    /// Otherwise clients would wait for a process that never accepts them.
    fn close_listeners(&mut self) {
        for slot in &mut self.slots {
            slot.listeners.clear();
            slot.status.clear();
            slot.due = None;
        }
    }

    /// Handles messages from other generations.
    pub(super) fn handle_generation_events(&mut self) {
        while let Some(event) = self.generations.next_event(now()) {
            match event {
                Event::Retire(pid) => {
                    self.notify.hand_over(pid);
                    self.close_listeners();
                    self.relay(Signal::SIGUSR2);
                    upgrade::log_retired(&self.log, pid);
                    self.generations.hand_over();
                }
                Event::Failed(why) => upgrade::log_failed(&self.log, &why),
                Event::Promoted => self.notify.take_over(),
                Event::Ordered(Order::Stop) if self.stop_signals == 0 => self.stop(Signal::SIGTERM),
                Event::Ordered(Order::Leave) => self.stop(Signal::SIGTERM),
                Event::Ordered(Order::Report) => self.log_status(),
                Event::Ordered(_) => {}
                Event::OlderEnded(number) => upgrade::log_older_ended(&self.log, number),
            }
        }
        if let Some(metrics) = self.metrics {
            metrics.set_older_generations(self.generations.older());
        }
    }
}
