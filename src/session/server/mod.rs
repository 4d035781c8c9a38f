//! The server's side: connects to the server, and reads from it.
//!
//! `server_side` has the state, and this file what passes between it and the machine. `route`
//! finds and dials the server, `redirect` reads and follows its redirects, and `tls` makes the
//! connection secure. `reachability` notes how that went. `relay` relays the stream, and reports
//! its end or loss.

mod access_rules;
mod answer_wait;
pub(super) mod greeting;
mod look_up;
mod reachability;
mod redirect;
mod relay;
pub(super) mod route;
pub(super) mod server_side;
mod tls;

use super::machine::{Event, Phase};
use super::shared::Shared;
use super::side::{Read, Side};
use super::{READS_PER_TURN, Session};
use crate::net::dns::locator::Answer;
use route::{Outcome, Route};

impl Session {
    /// Handles the locator's answer.
    pub fn located(&mut self, answer: Answer, shared: &mut Shared) {
        self.on_route(shared, |route, _, shared| route.take_answer(answer, shared));
    }

    /// Continues to connect to the server, as far as possible without waiting for its bytes.
    pub(super) fn connect(&mut self, shared: &mut Shared) {
        if let Some(answer) = self.server.take_answer() {
            self.located(answer, shared);
        }
        let Some(route) = &mut self.server.route else {
            return;
        };
        if route.wait.expire(shared.now) && self.machine.phase() == Phase::Securing {
            self.on_route(shared, |route, _, shared| route.give_up_waiting(shared));
        }
        while self.machine.phase() == Phase::Connecting {
            self.on_route(shared, Route::dial);
            if self.machine.phase() != Phase::Securing {
                return;
            }
            self.on_route(shared, Route::secure);
        }
    }

    /// Lets the route take a step, and tells the machine what happened.
    pub(super) fn on_route(
        &mut self,
        shared: &mut Shared,
        step: impl FnOnce(&mut Route, &mut Side, &mut Shared) -> Outcome,
    ) {
        let Some(route) = &mut self.server.route else {
            return;
        };
        let Some((event, detail)) = step(route, &mut self.server.side, shared) else {
            return;
        };
        self.server.lane = route.lane;
        let received = route.greeting.take_answer();
        self.step(event, &detail, shared);
        if !received.is_empty() {
            self.relay_down(&received, shared);
        }
    }

    /// Reads from the server while there are bytes and the client's queue has room. Returns
    /// true if the turn's budget stopped it.
    pub(super) fn read_server(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let (mut reads, mut has_read) = (0, false);
        loop {
            let phase = self.machine.phase();
            if phase == Phase::Securing {
                return self.read_before_tls(shared, scratch);
            }
            let relaying = phase.reads_stream();
            if relaying && self.measure().server_waits {
                return false;
            }
            if relaying && self.server.stream_paused {
                self.relay_down(&[], shared);
                // Each turn handles at least one unit from the server, whatever the client
                // used.
                if shared.meter.is_spent() {
                    return true;
                }
                continue;
            }
            if !self.server.side.is_readable() {
                return false;
            }
            // Read at least once, whatever the client used of the turn.
            if reads == READS_PER_TURN || (has_read && shared.meter.is_spent()) {
                return true;
            }
            has_read = true;
            let read = self.server.side.read(scratch, &mut shared.meter);
            reads += u32::from(read != Read::Later);
            match (read, relaying) {
                (Read::Later, _) => {}
                (Read::Bytes(n), true) => {
                    shared.read.from_server += n;
                    self.relay_down(&scratch[..n], shared);
                }
                (Read::Bytes(n), false) => {
                    if !self.server.side.drop_bytes(n) {
                        self.step(Event::ServerGone, "", shared);
                    }
                }
                (Read::Nothing, _) | (Read::End, false) => return false,
                (Read::End | Read::Broken, _) => {
                    self.step(Event::ServerGone, "", shared);
                }
            }
        }
    }

    /// Reads from the server before TLS, one piece per call, because the next bytes may be TLS.
    fn read_before_tls(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        if self.server.shakes_hands() {
            // Each step may cost a signature, so the number of steps per turn of the loop is
            // limited.
            if !self.server.side.is_readable() || shared.tls_budget == 0 {
                return self.server.side.is_readable();
            }
            self.on_route(shared, Route::shake_hands);
            return self.machine.phase() != Phase::Securing || self.server.side.is_readable();
        }
        if !self.server.side.is_readable() {
            return false;
        }
        match self.server.side.read(scratch, &mut shared.meter) {
            Read::Bytes(n) => self.on_route(shared, |route, server, shared| {
                route.take_bytes(&scratch[..n], server, shared)
            }),
            Read::Later => {}
            Read::Nothing => return false,
            Read::End | Read::Broken => {
                self.on_route(shared, |route, _, shared| route.lose(shared));
            }
        }
        true
    }
}
