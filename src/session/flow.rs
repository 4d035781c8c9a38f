//! What a session may hold: the marks of its queues, its share of the ledger.
//!
//! Owns high and low water (`max_queue_size`), the most that one session can
//! hold, its share of the worker's ledger, and its end if all shares together are
//! too much (`max_total_memory`). Never reads or writes.

use super::deadlines::millis;
use super::ledger::Share;
use super::phase::Event;
use super::shared::{READ_SIZE, Shared};
use super::side::Side;
use super::{Session, Tick};
use crate::proto::xmpp::server_stream::ServerStream;
use crate::proto::xmpp::starttls::MAX_SAID;

/// Low water is so much of high water (`max_queue_size`): a queue that was full
/// lets reading go on below it.
const LOW_WATER_PART: usize = 4;

/// What a frame header and inherited namespaces add to a stanza, and answers to
/// the Pings of one read to a queue.
const FRAMING: usize = 8 << 10;

impl Session {
    /// Whether the queue of `side` keeps others from being read.
    pub(super) fn is_stuck(&self, side: &Side) -> bool {
        let len = side.out.len();
        side.is_connected() && self.is_full(len, self.paused)
    }

    pub(super) fn stalls_at(&self, side: &Side) -> Tick {
        side.progress_at() + millis(self.config.write_timeout)
    }

    /// Whether either queue is so full that reading the client must wait: some
    /// of what it sends is answered to itself.
    pub(super) fn is_paused(&mut self) -> bool {
        let queued = self.route.as_ref().map_or(0, |route| route.queue.len());
        let fullest = self.client.out.len().max(self.server.out.len()).max(queued);
        self.paused = self.is_full(fullest, self.paused);
        self.paused
    }

    /// Whether the client's queue is so full that reading the server must wait.
    /// Its own does not count: a server that reads nothing while it writes
    /// would never read again.
    pub(super) fn is_client_full(&mut self) -> bool {
        self.client_full = self.is_full(self.client.out.len(), self.client_full);
        self.client_full
    }

    /// Whether a queue of `len` bytes counts as full, which it did or did not
    /// before.
    pub(super) fn is_full(&self, len: usize, was_full: bool) -> bool {
        let high = self.config.max_queue_bytes;
        len >= high || (was_full && len > high / LOW_WATER_PART)
    }

    /// Bytes of a message that is not complete.
    fn unfinished(&self) -> usize {
        let incoming = self.incoming.as_ref();
        incoming.map_or(0, |incoming| incoming.held())
    }

    /// Bytes that wait in queues and unfinished units, in the direction with more.
    pub fn held(&self) -> usize {
        let queued = self.route.as_ref().map_or(0, |route| route.queue.len());
        let up = queued.max(self.server.out.len()) + self.client.tail.len() + self.unfinished();
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

    /// Gives the session up, so that the others have memory; to be followed by
    /// `turn`.
    pub fn shed(&mut self, shared: &mut Shared) {
        shared.admission.report(
            &shared.log,
            self.report.peer(),
            "max_total_memory",
            "this session is among those that hold the most",
            shared.now,
        );
        // A client that does not read cannot be told, nor can half a frame be
        // taken back.
        let event = match self.client.out.is_empty() {
            true => Event::Shed,
            false => Event::ShedUnread,
        };
        self.step(event, "max_total_memory", shared);
        self.server.close();
        self.abandon_route(shared);
        self.stream = ServerStream::new();
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
