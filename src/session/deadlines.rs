//! The deadlines of a session, and what happens when one passes.
//!
//! There are deadlines for phases, stuck queues and Pings. The reactor keeps the nearest one.

use std::time::Duration;

use super::back_pressure::is_full;
use super::machine::{Event, Phase};
use super::shared::Shared;
use super::side::Side;
use super::{NEVER, Session, Tick, ticks};

/// How long to wait for the end of a connection after everything was sent and our direction has
/// ended.
const LINGER: Duration = Duration::from_secs(2);

impl Session {
    /// Returns when `expire` must be called at the latest.
    pub fn deadline(&self) -> Tick {
        let mut deadline = self.phase_deadline;
        if let Some(route) = &self.server.route {
            deadline = deadline.min(route.wait.until());
            if self.machine.phase() == Phase::Connecting {
                deadline = deadline.min(route.next_start());
            }
        }
        for side in [&self.client, &self.server.side] {
            deadline = deadline.min(self.stalls_at(side));
        }
        deadline
    }

    /// Returns when the peer of a side with a full queue counts as stalled.
    fn stalls_at(&self, side: &Side) -> Tick {
        match self.is_stuck(side) {
            true => side.progress_at() + ticks(self.config.write_timeout),
            false => NEVER,
        }
    }

    /// Whether the queue of `side` blocks reading.
    pub(super) fn is_stuck(&self, side: &Side) -> bool {
        let (was_full, high) = (self.back_pressure.client_waits, self.config.max_queue_bytes);
        side.is_connected() && is_full(side.out.len(), was_full, high)
    }

    /// Handles a deadline that has passed.
    pub fn expire(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let meter = &mut shared.meter;
        if now >= self.stalls_at(&self.client) && !self.client.write_unannounced(meter, now) {
            self.step(Event::ClientStalled, "", shared);
        }
        let meter = &mut shared.meter;
        if now >= self.stalls_at(&self.server.side)
            && !self.server.side.write_unannounced(meter, now)
        {
            self.step(Event::ServerStalled, "server does not read", shared);
        }
        if now < self.phase_deadline {
            return;
        }
        if self.is_over_limit() && self.machine.phase() <= Phase::Opening {
            return self.drop_unanswered(shared);
        }
        // If the client is not read because of its server, it may still be alive.
        let silent = !self.heard && !self.back_pressure.client_waits;
        self.heard = false;
        let awaited = self.awaited(shared);
        if self.step(Event::Deadline { silent }, &awaited, shared).ping {
            self.arm(self.machine.phase(), now);
        }
    }

    /// Describes what did not arrive in time, for the log.
    fn awaited(&self, shared: &Shared) -> String {
        let Some(route) = &self.server.route else {
            return String::new();
        };
        match self.machine.phase() {
            Phase::Relaying => String::new(),
            Phase::Locating => route.look_up.describe(&shared.locator),
            Phase::Connecting => route.dialled(shared.servers.queue.awaited(self.token as usize)),
            _ => route
                .target
                .as_ref()
                .map_or(String::new(), |target| target.address.to_string()),
        }
    }

    /// Sets the deadline of the current phase, which follows `before`.
    pub(super) fn arm(&mut self, before: Phase, now: Tick) {
        let config = &self.config;
        let wait = match self.machine.phase() {
            // Both phases share the deadline that was set at the start of the connection.
            Phase::Accepting | Phase::Opening => return,
            Phase::AwaitOpen => config.open_timeout,
            // All servers share one deadline for the set-up.
            Phase::Locating if before == Phase::Securing => return,
            Phase::Locating => config.connect_timeout,
            Phase::Connecting | Phase::Securing | Phase::Greeting => return,
            Phase::Relaying => match config.ping_interval {
                Some(interval) => interval,
                None => {
                    self.phase_deadline = NEVER;
                    return;
                }
            },
            Phase::Lingering if !self.machine.is_connected() => LINGER,
            Phase::Closing | Phase::Lingering | Phase::Gone => config.close_timeout,
        };
        self.phase_deadline = now + ticks(wait);
    }
}
