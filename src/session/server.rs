//! What the server sends: read while there is room for it.
//!
//! Owns the path from the server's socket to whoever is its reader: the
//! dialogue before TLS, the stream, or nobody any more.

use super::phase::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{READS_PER_TURN, Session};

impl Session {
    /// Reads from the server while there is something and the client's queue has
    /// room; true when the turn's budget ended it.
    pub(super) fn take_server(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let (mut reads, mut has_read) = (0, false);
        loop {
            if self.phase == Phase::Securing {
                return self.take_securing(shared, scratch);
            }
            let relaying = matches!(self.phase, Phase::Greeting | Phase::Relaying);
            if relaying && self.is_client_full() {
                return false;
            }
            if relaying && self.stream_paused {
                self.relay_down(&[], shared);
                // Each turn has at least one unit for the server, whatever the client used.
                if shared.meter.is_spent() {
                    return true;
                }
                continue;
            }
            if !self.server.is_readable() {
                return false;
            }
            // At least one read, whatever the client used of the turn.
            if reads == READS_PER_TURN || (has_read && shared.meter.is_spent()) {
                return true;
            }
            has_read = true;
            let read = self.server.read(scratch, &mut shared.meter);
            reads += u32::from(read != Read::Later);
            match (read, relaying) {
                (Read::Later, _) => {}
                (Read::Bytes(n), true) => {
                    shared.taken.1 += n;
                    self.relay_down(&scratch[..n], shared);
                }
                (Read::Bytes(n), false) => {
                    if !self.server.drop_bytes(n) {
                        self.server.close();
                    }
                }
                (Read::Nothing, _) => return false,
                (Read::End | Read::Broken, true) => {
                    // Behind a stream error the end is no surprise.
                    let event = match self.server_error {
                        Some(_) => Event::ServerEnded,
                        None => Event::ServerGone,
                    };
                    self.step(event, self.server_error_name(), shared);
                }
                (Read::End, false) => return false,
                (Read::Broken, false) => self.server.close(),
            }
        }
    }

    /// Reads what the server says before TLS, one piece a call: what follows may
    /// be TLS already.
    fn take_securing(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        if self.shakes_hands() {
            // Each step may cost a signature: so many in a turn of the loop.
            if !self.server.is_readable() || shared.tls_budget == 0 {
                return self.server.is_readable();
            }
            self.shake_hands(shared);
            return self.phase != Phase::Securing || self.server.is_readable();
        }
        if !self.server.is_readable() {
            return false;
        }
        match self.server.read(scratch, &mut shared.meter) {
            Read::Bytes(n) => self.secure_with(&scratch[..n], shared),
            Read::Later => {}
            Read::Nothing => return false,
            Read::End | Read::Broken => self.insecure("the connection was lost before TLS", shared),
        }
        true
    }
}
