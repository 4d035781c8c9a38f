//! The memory of a session: its maximum, and its share of the worker's ledger.
//!
//! Ends the session if the sum of all shares is too high (`max_total_memory`).

use super::Session;
use super::ledger::Share;
use super::machine::Event;
use super::shared::{READ_SIZE, Shared};
use crate::proto::xmpp::starttls::MAX_RECEIVED;

/// Maximum size of a frame header, inherited namespaces, and the answers to the Pings in one
/// read.
const FRAMING: usize = 8 << 10;

impl Session {
    /// Returns the bytes in queues and unfinished units, for the direction with more.
    pub fn held(&self) -> usize {
        let up = self.server.queued() + self.client.tail.len() + self.incoming.size().held;
        let down = self.client.out.len() + self.server.stream.held();
        up.max(down)
    }

    /// Returns the maximum of [`Session::held`]: a queue just below the high water mark takes
    /// one more unit, another unit may be unfinished, and there may be the rest of a read, or
    /// the bytes that a server sent before it turned out to offer no TLS.
    pub(super) fn most_held(&self) -> usize {
        let config = &self.config;
        let unit = config.max_message_bytes.max(config.max_stanza_bytes);
        let fixed = READ_SIZE + MAX_RECEIVED + FRAMING + config.max_request_bytes;
        unit.saturating_mul(2)
            .saturating_add(config.max_queue_bytes)
            .saturating_add(fixed)
    }

    /// Returns the bytes of memory in parsers that are not in the pool but in use by this
    /// session.
    pub fn parser_bytes(&self) -> usize {
        self.incoming.size().parser + self.server.stream.parser_bytes()
    }

    /// Ends the session to free memory for others. Writes what the client is told, so that the
    /// ledger has the difference at once.
    pub fn shed(&mut self, shared: &mut Shared) {
        let detail = "this session is among those that hold the most";
        shared.report_limit(self.log.name.peer, "max_total_memory", detail);
        // A client that does not read cannot be told, and a partly written frame cannot be
        // revoked.
        let unread = !self.client.out.is_empty();
        self.step(Event::Shed { unread }, "max_total_memory", shared);
        self.flush(shared);
        self.enter_in_ledger(shared);
    }

    /// Updates the session's share of the worker's ledger.
    pub(super) fn enter_in_ledger(&mut self, shared: &mut Shared) {
        let sides = [&self.client, &self.server.side];
        let share = Share {
            bytes: self.client.memory() + self.incoming.size().memory + self.server.memory(),
            parser_bytes: u32::try_from(self.parser_bytes()).unwrap_or(u32::MAX),
            tls: sides.iter().map(|side| u8::from(side.is_tls())).sum(),
        };
        shared.ledger.change(self.token, &mut self.share, share);
    }
}
