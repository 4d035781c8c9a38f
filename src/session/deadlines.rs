//! Deadlines of a session, and what happens when one has passed.
//!
//! Owns the deadlines of phases, of stuck queues and of Pings. The reactor keeps the
//! nearest of them.

use std::time::Duration;

use super::phase::{Event, Phase};
use super::shared::Shared;
use super::side::Side;
use super::{NEVER, Session, Tick};

/// How long to wait for the end of a connection after everything was sent.
const LINGER: Duration = Duration::from_secs(2);
/// Unanswered Pings after which the client is dropped.
const MISSED_PINGS: u8 = 2;

impl Session {
    /// When `expire` must be called, at the latest.
    pub fn deadline(&self) -> Tick {
        let mut deadline = self.phase_deadline;
        if let Some(route) = &self.route {
            deadline = deadline.min(route.patience);
            if self.phase == Phase::Connecting {
                deadline = deadline.min(route.next_start());
            }
        }
        for side in [&self.client, &self.server] {
            if self.is_stuck(side) {
                deadline = deadline.min(self.stalls_at(side));
            }
        }
        deadline
    }

    /// Does what is due; call `turn` afterwards.
    pub fn expire(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let stalled = |session: &Session, side: &Side| {
            session.is_stuck(side) && now >= session.stalls_at(side)
        };
        if stalled(self, &self.client) {
            self.step(Event::ClientStalled, "", shared);
        }
        if stalled(self, &self.server) {
            self.step(Event::ServerGone, "it takes nothing", shared);
            // The server is of no use if the session is already ending.
            self.server.close();
        }
        if self
            .route
            .as_ref()
            .is_some_and(|route| now >= route.patience)
        {
            self.lose_patience(shared);
        }
        if now < self.phase_deadline {
            return;
        }
        if self.phase != Phase::Relaying {
            match self.excess {
                Some(_) if self.phase <= Phase::Opening => self.leave_unanswered(shared),
                _ => {
                    let awaited = self.awaited(shared);
                    self.step(Event::Deadline, &awaited, shared);
                }
            }
            return;
        }
        // The client may be alive if it is not read because of its server.
        let silent = !self.heard && !self.paused;
        self.missed_pings = if silent { self.missed_pings + 1 } else { 0 };
        self.heard = false;
        // A server that said nothing but its header for so long will hardly send
        // its clients elsewhere.
        self.route = None;
        self.arm(now);
        if self.missed_pings >= MISSED_PINGS {
            self.step(Event::ClientSilent, "", shared);
        } else {
            self.step(Event::Deadline, "", shared);
        }
    }

    /// What did not arrive in time, for the log.
    fn awaited(&self, shared: &Shared) -> String {
        let Some(route) = &self.route else {
            return String::new();
        };
        match self.phase {
            Phase::Locating => route.asked(&shared.locator),
            Phase::Connecting => route.dialled(),
            _ => route
                .target
                .as_ref()
                .map_or(String::new(), |target| target.address.to_string()),
        }
    }

    /// Sets the deadline of the phase.
    pub(super) fn arm(&mut self, now: Tick) {
        let config = &self.config;
        let wait = match self.phase {
            // Both share the time that began with the connection.
            Phase::Accepting | Phase::Opening => return,
            Phase::AwaitOpen => config.open_timeout,
            // All servers of a set-up share one deadline.
            Phase::Locating if self.is_redirected() => return,
            Phase::Locating => config.connect_timeout,
            Phase::Connecting | Phase::Securing | Phase::Greeting => return,
            Phase::Relaying => match config.ping_interval {
                Some(interval) => interval,
                None => {
                    self.phase_deadline = NEVER;
                    return;
                }
            },
            Phase::Lingering if !self.server.is_connected() => LINGER,
            Phase::Closing | Phase::Lingering | Phase::Gone => config.close_timeout,
        };
        self.phase_deadline = now + millis(wait);
    }
}

/// Converts a configured time to the reactor's unit.
pub(super) fn millis(time: Duration) -> Tick {
    Tick::try_from(time.as_millis()).unwrap_or(NEVER / 2)
}
