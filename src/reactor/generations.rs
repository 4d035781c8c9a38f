//! An upgrade in place, as seen by the only process of the daemon or by one of its workers.

use std::os::fd::AsRawFd;
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;

use super::{Reactor, now, ticks, token};
use crate::net::process_channel::Order;
use crate::session::Tick;
use crate::upgrade::{self, Event, Generations};

impl Reactor {
    /// Registers channels to other generations with the poll.
    pub(super) fn watch_generations(&mut self) {
        let generations = self.setup.generations.iter();
        for fd in generations.flat_map(Generations::descriptors) {
            // Fails if it is already registered, or without memory; in that case its
            // message is read together with the next event.
            let fd = fd.as_raw_fd();
            let _ = self.poll.registry().register(
                &mut SourceFd(&fd),
                token::GENERATIONS,
                Interest::READABLE,
            );
        }
    }

    /// Starts the next generation, or, as a worker, retires when the master says so.
    pub(super) fn take_upgrade_signal(&mut self, from_master: bool) {
        let Some(generations) = &mut self.setup.generations else {
            if from_master {
                self.retire();
            }
            return;
        };
        generations.begin(now(), &self.shared.log);
        self.watch_generations();
    }

    /// Forwards an order to older generations.
    pub(super) fn order_older(&mut self, order: Order) {
        if let Some(generations) = &mut self.setup.generations {
            generations.order(order);
        }
    }

    /// Whether older generations still have sessions.
    pub(super) fn has_older(&self) -> bool {
        let generations = self.setup.generations.as_ref();
        generations.is_some_and(|generations| generations.older() > 0)
    }

    /// The time by which the new process must serve.
    pub(super) fn upgrade_deadline(&self) -> Option<Tick> {
        let deadline = self.setup.generations.as_ref()?.deadline()?;
        Some(ticks(deadline.saturating_duration_since(self.started)))
    }

    /// Handles events from other generations.
    pub(super) fn handle_generation_events(&mut self, now: Instant) {
        while let Some(generations) = &mut self.setup.generations
            && let Some(event) = generations.next_event(now)
        {
            match event {
                Event::Retire(pid) => {
                    self.setup.notify.hand_over(pid);
                    self.retire();
                    upgrade::log_retired(&self.shared.log, pid);
                    self.setup
                        .generations
                        .iter()
                        .for_each(Generations::hand_over);
                }
                Event::Failed(why) => upgrade::log_failed(&self.shared.log, &why),
                Event::Promoted => self.setup.notify.take_over(),
                Event::Ordered(Order::Stop) => self.drain("the new process"),
                Event::Ordered(Order::Leave) => self.ending.at_once = true,
                Event::Ordered(Order::Report) => self.log_status(),
                Event::Ordered(Order::TakeOver) => {}
                Event::OlderEnded(number) => upgrade::log_older_ended(&self.shared.log, number),
            }
        }
    }

    /// Stops accepting clients and keeps the sessions until `old_sessions_timeout`.
    fn retire(&mut self) {
        self.stop_accepting();
        if let Some(status) = &mut self.status {
            status.stop_accepting(self.poll.registry());
        }
        let limit = self.shared.config.old_sessions_timeout;
        self.ending.retired_until = Some(self.shared.now + ticks(limit));
        upgrade::mark_as_old(self.setup.generation);
    }

    /// Closes the listeners. Deregisters them first, because copies in other processes
    /// would keep them registered.
    pub(super) fn stop_accepting(&mut self) {
        for listener in self.acceptor.listeners.drain(..) {
            listener.deregister(self.poll.registry());
        }
    }
}
