//! What a session holds: the most that it can, and its share of the worker's ledger.
//!
//! Owns the end of a session if all shares together are too much (`max_total_memory`).

use super::Session;
use super::back_pressure::BackPressure;
use super::ledger::Share;
use super::machine::Event;
use super::shared::{READ_SIZE, Shared};
use crate::proto::xmpp::starttls::MAX_SAID;

/// What a frame header and inherited namespaces add to a stanza, and answers to
/// the Pings of one read to a queue.
const FRAMING: usize = 8 << 10;

impl Session {
    /// Looks how long the queues are.
    pub(super) fn measure(&mut self) -> BackPressure {
        let to_server = self.queued().max(self.server.out.len());
        let (before, high) = (self.back_pressure, self.config.max_queue_bytes);
        self.back_pressure = before.after(self.client.out.len(), to_server, high);
        self.back_pressure
    }

    /// Bytes of messages that wait for a connection.
    fn queued(&self) -> usize {
        self.route.as_ref().map_or(0, |route| route.queue.len())
    }

    /// Bytes of a message that is not complete.
    fn unfinished(&self) -> usize {
        let incoming = self.incoming.as_ref();
        incoming.map_or(0, |incoming| incoming.held())
    }

    /// Bytes that wait in queues and unfinished units, in the direction with more.
    pub fn held(&self) -> usize {
        let to_server = self.queued().max(self.server.out.len());
        let up = to_server + self.client.tail.len() + self.unfinished();
        let down = self.client.out.len() + self.stream.held();
        up.max(down)
    }

    /// The most that [`Session::held`] can come to: a queue just below high water
    /// takes one more unit, another may be unfinished, and the rest of a read, or
    /// of what a server said before it was clear that it offers no TLS, waits.
    pub(super) fn most_held(&self) -> usize {
        let config = &self.config;
        let unit = config.max_message_bytes.max(config.max_stanza_bytes);
        let fixed = READ_SIZE + MAX_SAID + FRAMING + config.max_request_bytes;
        unit.saturating_mul(2)
            .saturating_add(config.max_queue_bytes)
            .saturating_add(fixed)
    }

    /// Bytes of its share of the worker's ledger, and of parsers that work for it.
    pub fn memory(&self) -> usize {
        self.share.bytes + self.parser_bytes()
    }

    /// Gives the session up, so that the others have memory.
    pub fn shed(&mut self, shared: &mut Shared) {
        shared.admission.report(
            &shared.log,
            self.log.peer(),
            "max_total_memory",
            "this session is among those that hold the most",
            shared.now,
        );
        // A client that does not read cannot be told, nor can half a frame be taken back.
        let unread = !self.client.out.is_empty();
        self.step(Event::Shed { unread }, "max_total_memory", shared);
    }

    /// Updates its share of the worker's ledger.
    pub(super) fn enter_in_ledger(&mut self, shared: &mut Shared) {
        let sides = [&self.client, &self.server];
        let queues: usize = sides.iter().map(|side| side.memory()).sum();
        let incoming = self.incoming.as_ref();
        let message = incoming.map_or(0, |incoming| incoming.memory());
        let route = self.route.as_ref().map_or(0, |route| route.memory());
        let share = Share {
            bytes: queues + message + route + self.stream.memory(),
            tls: sides.iter().map(|side| u8::from(side.is_tls())).sum(),
        };
        shared.ledger.change(&mut self.share, share);
    }
}
