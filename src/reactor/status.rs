//! Runs the status port inside the event loop.

use std::time::Instant;

use slab::Slab;

use super::{Reactor, ScheduledSession, now, token};
use crate::log::Level;
use crate::metrics::{Publisher, SharedMetrics};
use crate::net::endpoint;
use crate::session::facts::Facts;
use crate::session::shared::Shared;
use crate::session::{Session, Tick};
use crate::status::{Sessions, Status, View};
use crate::upgrade::Generations;

impl Reactor {
    /// Serves `status_listen`; each worker has its own ports.
    pub fn open_status(&mut self) -> Result<(), String> {
        let membership = self.setup.membership.as_ref();
        let worker = membership.map_or(0, |membership| membership.worker);
        let listeners = std::mem::take(&mut self.setup.status);
        if listeners.is_empty() {
            return Ok(());
        }
        for listener in &listeners {
            let text = match listener.is_unix() {
                true => format!("status at {listener}"),
                false => format!("status at http://{listener}/metrics"),
            };
            self.shared.log.startup(Level::Info, format_args!("{text}"));
        }
        let metrics = match self.setup.metrics {
            Some(metrics) => metrics,
            None => {
                let metrics = SharedMetrics::new(1);
                let metrics =
                    metrics.map_err(|error| format!("cannot publish metrics: {error}"))?;
                self.shared.log.share_recent(metrics.recent_lines(Some(0)));
                metrics
            }
        };
        let shared = &mut self.shared;
        shared.metrics.max_sessions = self.acceptor.max_sessions;
        shared.metrics.generation = self.setup.generation;
        shared.metrics.certificates = endpoint::expiries(&self.acceptor.endpoints);
        let publisher = Publisher::start(metrics, worker, &shared.metrics, &shared.gauges());
        let registry = &shared.registry;
        let status = Status::new(listeners, registry, token::FIRST_STATUS, publisher)?;
        self.status = Some(status);
        Ok(())
    }

    /// Finishes a turn of the loop that began at `woken`: serves the status port, publishes
    /// the metrics if they are due, and measures the turn, including this work.
    pub(super) fn serve_status(&mut self, woken: Instant) {
        let Some(status) = &mut self.status else {
            return;
        };
        let shared = &mut self.shared;
        let mut to_close = Vec::new();
        if status.note_turn(shared.now) {
            shared.metrics.draining = self.ending.is_draining();
            let generations = self.setup.generations.as_ref();
            shared.metrics.older_generations = generations.map_or(0, Generations::older);
            shared.metrics.max_sessions = self.acceptor.max_sessions;
            let sessions = Listed(&self.sessions, shared.now);
            to_close = status.serve(&shared.registry, &view(shared), &sessions);
        }
        shared.metrics.turns.observe(micros_since(woken));
        for slot in to_close {
            self.poke(slot, Session::dismiss);
        }
    }

    /// Publishes the metrics a last time before this worker ends.
    pub(super) fn publish_last(&mut self) {
        if let Some(status) = &mut self.status {
            status.leave(&view(&self.shared));
        }
    }
}

/// The sessions at a time.
struct Listed<'a>(&'a Slab<ScheduledSession>, Tick);

impl Sessions for Listed<'_> {
    fn slots(&self) -> usize {
        self.0.capacity()
    }

    fn facts(&self, slot: usize) -> Option<Facts<'_>> {
        let Listed(sessions, now) = self;
        Some(sessions.get(slot)?.session.facts(*now))
    }
}

fn view(shared: &Shared) -> View<'_> {
    View {
        now: shared.now,
        metrics: &shared.metrics,
        gauges: shared.gauges(),
        hosts: &shared.config.status_hosts,
        log: &shared.log,
    }
}

pub(super) fn micros_since(then: Instant) -> u64 {
    u64::try_from(now().duration_since(then).as_micros()).unwrap_or(u64::MAX)
}
