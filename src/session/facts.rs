//! What an operator may know about a session. Never has an address of XMPP or a stanza.

use super::machine::Phase;
use super::shared::Shared;
use super::{Session, Tick};
use crate::net::peer::Peer;
use crate::proto::xmpp::Dialect;

/// The state of a session.
pub struct Facts<'a> {
    /// As in the log.
    pub number: u32,
    pub peer: Peer,
    pub origin: Option<&'a str>,
    pub domain: Option<&'a str>,
    pub dialect: Option<Dialect>,
    /// As in the metrics.
    pub phase: &'static str,
    /// Since the connection was accepted.
    pub age_ms: Tick,
    /// Since a message was passed on, or since the connection.
    pub idle_ms: Tick,
    /// Payload passed on to the server and to the client.
    pub up_bytes: u64,
    pub down_bytes: u64,
    /// Bytes in the session's queues.
    pub queued_bytes: usize,
}

/// The unit of the time when a message was last passed on.
pub(super) const ACTIVE_UNIT_MS: Tick = 100;

impl Session {
    /// Returns the state of the session.
    pub fn facts(&self, now: Tick) -> Facts<'_> {
        let accepted_at = self.log.accepted_at;
        let active_at = Tick::from(self.active_at) * ACTIVE_UNIT_MS;
        Facts {
            number: self.log.name.number,
            peer: self.log.name.peer,
            origin: self.log.origin.as_deref(),
            domain: self.domain.as_deref(),
            dialect: self.machine.dialect(),
            phase: Phase::LABELS[self.machine.phase() as usize],
            age_ms: now.saturating_sub(accepted_at),
            idle_ms: now.saturating_sub(active_at.max(accepted_at)),
            up_bytes: self.log.up.bytes,
            down_bytes: self.log.down.bytes,
            queued_bytes: self.server.waiting()
                + self.server.side.out.len()
                + self.client.out.len(),
        }
    }

    /// Notes that a message is passed on.
    pub(super) fn note_activity(&mut self, shared: &Shared) {
        self.active_at = u32::try_from(shared.now / ACTIVE_UNIT_MS).unwrap_or(u32::MAX);
    }
}
