//! Reads from the server.
//!
//! The bytes go to the dialogue before TLS, to the stream, or are dropped, depending on the
//! phase.

use super::machine::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{READS_PER_TURN, Session};

impl Session {
    /// Reads from the server while there are bytes and the client's queue has room. Returns
    /// true if the turn's budget stopped it.
    pub(super) fn take_server(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let (mut reads, mut has_read) = (0, false);
        loop {
            let phase = self.machine.phase();
            if phase == Phase::Securing {
                return self.take_securing(shared, scratch);
            }
            let relaying = phase.reads_stream();
            if relaying && self.measure().server_waits {
                return false;
            }
            if relaying && self.stream_paused {
                self.relay_down(&[], shared);
                // Each turn handles at least one unit from the server, whatever the client
                // used.
                if shared.meter.is_spent() {
                    return true;
                }
                continue;
            }
            if !self.server.is_readable() {
                return false;
            }
            // Read at least once, whatever the client used of the turn.
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
                        self.step(Event::ServerGone, "", shared);
                    }
                }
                (Read::Nothing, _) | (Read::End, false) => return false,
                (Read::End | Read::Broken, _) => {
                    self.step(Event::ServerGone, self.server_error_name(), shared);
                }
            }
        }
    }

    /// Returns the condition of the server's stream error; empty if there was none.
    pub(super) fn server_error_name(&self) -> &'static str {
        self.server_error.copied().unwrap_or_default()
    }

    /// Reads from the server before TLS, one piece per call, because the next bytes may be TLS.
    fn take_securing(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        if self.shakes_hands() {
            // Each step may cost a signature, so the number of steps per turn of the loop is
            // limited.
            if !self.server.is_readable() || shared.tls_budget == 0 {
                return self.server.is_readable();
            }
            self.shake_hands(shared);
            return self.machine.phase() != Phase::Securing || self.server.is_readable();
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
