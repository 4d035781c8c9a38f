//! Passes events to the state machine, and carries out its actions.
//!
//! `client` writes what the client is told, and `server::server_side` carries out what concerns
//! only the server. This file also has what each new phase needs: a log line, the metrics, and
//! the deadline.

use std::borrow::Cow;

use super::Session;
use super::machine::{Actions, Cause, Event, Phase, ServerAction};
use super::shared::{READ_SIZE, Shared};
use super::step::Step;
use crate::proto::ws::{Opcode, frame};

impl Session {
    /// Passes an event to the state machine and carries out its actions. `detail` is for the
    /// log. Actions never cause events: the work of a phase is done in turns.
    pub(super) fn step(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let actions = self.decide(event, detail, shared);
        self.carry_out(&actions, shared);
        actions
    }

    /// Does the same for bytes from the client to the server. Returns whether they were
    /// relayed.
    pub(super) fn pass_on(
        &mut self,
        event: Event,
        bytes: Cow<'_, [u8]>,
        shared: &mut Shared,
    ) -> bool {
        let greeted = self.machine.phase().reads_stream();
        let actions = self.decide(event, "", shared);
        if actions.relay {
            let room = shared.read.from_client.min(READ_SIZE);
            self.server.queue(bytes, greeted, room);
        }
        self.carry_out(&actions, shared);
        actions.relay
    }

    fn decide(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let before = self.machine.phase();
        let actions = self.machine.step(event);
        let after = self.machine.phase();
        if let Some(cause) = actions.cause {
            self.note_cause(before, cause, actions.server, detail, shared);
        }
        if before != after {
            shared.log.debug(format_args!(
                "session {}: {} -> {} ({event:?})",
                self.log.name,
                before.name(),
                after.name(),
            ));
            if before.is_setting_up() {
                self.remember_server(before, event, actions.cause, shared);
            }
            self.enter(before, shared);
        }
        actions
    }

    /// Logs and counts why the session ends.
    fn note_cause(
        &mut self,
        phase: Phase,
        cause: Cause,
        server: ServerAction,
        detail: &str,
        shared: &mut Shared,
    ) {
        if let Some(key) = cause.limit(&self.config) {
            shared.report_limit(self.log.name.peer, key, detail);
        }
        if phase.is_open() {
            let ended = Step::Ended { cause, detail };
            shared.observer.tell(&ended);
            self.log.end(cause, detail, server);
            shared.metrics.count_end(cause.words());
            if let Some(why) = cause.unreachable(phase) {
                self.note_outage(why, detail, shared);
            }
        }
    }

    /// Carries out actions, except relaying a message and answering a Close frame: the callers
    /// have the message and the frame.
    fn carry_out(&mut self, actions: &Actions, shared: &mut Shared) {
        if let Some(refusal) = actions.refuse {
            self.refuse(refusal, shared);
        }
        if actions.error.is_some() || actions.end_stream {
            self.tell_client(actions, shared);
        }
        if actions.elsewhere {
            self.send_elsewhere();
        }
        if let Some((code, reason)) = actions.close {
            frame::write_close(&mut self.client.out, Some(code), reason);
        }
        if actions.ping {
            frame::write_control(&mut self.client.out, Opcode::Ping, b"");
        }
        self.server.carry_out(actions.server, shared);
        if self.server.route.is_some() && !self.machine.needs_route() {
            self.server.abandon_route(shared);
        }
    }

    /// Enters the phase after `before`: sets its deadline, counts it, and finishes or closes
    /// the client's side if necessary.
    fn enter(&mut self, before: Phase, shared: &mut Shared) {
        let phase = self.machine.phase();
        if let Some((total, connect)) = self.log.reach(phase, shared.now) {
            shared.metrics.count_opening(total, connect);
        }
        match phase {
            Phase::Relaying => self.note_recovery(shared),
            Phase::Lingering => {
                self.client.tail.clear();
                self.incoming.clear();
                self.client.finish();
            }
            Phase::Gone => {
                self.incoming.clear();
                self.client.close();
            }
            _ => {}
        }
        self.arm(before, shared.now);
        self.tally(shared);
    }
}
