//! Reads from the client, and handles its messages.
//!
//! This is the path from the client's socket to the server's queue. `request` handles the
//! request, `frames` the frames, and `first_message`, `framed` and `draft` the messages.

use super::machine::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{READS_PER_TURN, Session};
use crate::expat::Judgement;
use crate::proto::xmpp::Dialect;

impl Session {
    /// Reads from the client while there are bytes and the queues have room. Returns true if
    /// the turn's budget stopped it.
    pub(super) fn take_client(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let mut reads = 0;
        while self.machine.phase() != Phase::Gone {
            let phase = self.machine.phase();
            if phase == Phase::Accepting {
                if self.take_tls(shared, scratch) {
                    continue;
                }
                return self.awaits_turn();
            }
            if phase.is_open() && self.measure().client_waits {
                return false;
            }
            if shared.meter.is_spent() {
                return true;
            }
            if self.is_judging() {
                self.judge_on(shared);
                continue;
            }
            if !self.client.tail.is_empty() && phase != Phase::Opening {
                let mut tail = self.client.tail.take();
                self.take_frames(&mut tail, shared);
                continue;
            }
            if !self.client.is_readable() {
                return false;
            }
            if reads == READS_PER_TURN {
                return true;
            }
            match self.client.read(scratch, &mut shared.meter) {
                Read::Bytes(n) => {
                    reads += 1;
                    self.heard = true;
                    shared.taken.0 += n;
                    self.take_client_bytes(&mut scratch[..n], shared);
                }
                Read::Later => {}
                Read::Nothing => return false,
                // If a client has only ended its direction, its queue is flushed before it
                // counts as gone.
                Read::End if !phase.is_open() => return false,
                Read::End | Read::Broken => {
                    self.step(Event::ClientGone, "", shared);
                }
            }
        }
        false
    }

    fn take_client_bytes(&mut self, bytes: &mut [u8], shared: &mut Shared) {
        match self.machine.phase() {
            Phase::Opening => self.take_request(bytes, shared),
            Phase::Lingering | Phase::Gone => {
                if !self.client.drop_bytes(bytes.len()) {
                    self.step(Event::ClientGone, "", shared);
                }
            }
            _ => self.take_frames(bytes, shared),
        }
    }

    /// Handles a message, part of which may already be checked. Returns what remains to be
    /// checked in another turn.
    pub(super) fn take_message(
        &mut self,
        text: &str,
        mut begun: Option<Judgement>,
        shared: &mut Shared,
    ) -> Option<Judgement> {
        let verdict = match (self.machine.phase(), self.machine.dialect()) {
            (Phase::AwaitOpen, _) => self.take_first(text, shared),
            (_, Some(Dialect::Draft)) => self.take_draft(text, shared),
            _ => self.take_element(text, &mut begun, shared),
        };
        if let Err(error) = verdict {
            self.step(Event::Violation(error), "", shared);
            return None;
        }
        begun
    }

    /// Relays a message to the server, and counts it.
    pub(super) fn relay_up(&mut self, event: Event, text: &str, shared: &mut Shared) {
        if self.pass_on(event, text.as_bytes(), shared) {
            self.log.up.count(text.len());
            shared.metrics.up.count(text.len());
        }
    }
}
