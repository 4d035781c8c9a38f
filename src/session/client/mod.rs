//! The client's side: reads from the client, and answers it.
//!
//! This is the path from the client's socket to the server's queue: `tls` establishes TLS,
//! `address` determines the client's address, `admission` counts it, `request` handles the
//! request, `frames` the frames, and `messages` the messages; `incoming` keeps what is unfinished.
//! In the other direction, `message_writer` writes the server's messages, and `answers` our own.

mod address;
pub(super) mod admission;
mod answers;
mod frames;
pub(super) mod incoming;
pub(super) mod message_writer;
mod messages;
mod request;
mod tls;

use super::machine::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{READS_PER_TURN, Session};

impl Session {
    /// Reads from the client while there are bytes and the queues have room. Returns true if
    /// the turn's budget stopped it.
    pub(super) fn read_client(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let mut reads = 0;
        while self.machine.phase() != Phase::Gone {
            let phase = self.machine.phase();
            if phase == Phase::Accepting {
                if self.accept_tls(shared, scratch) {
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
            if self.incoming.has_message() {
                self.continue_message(shared);
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
                    shared.read.from_client += n;
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
}
