//! Runs the sessions on the run list, in groups.
//!
//! The sessions of a group first all read, and then all write: a peer that serves many of them,
//! such as the XMPP server, is woken once for several writes instead of once for each. A group
//! is small, so that what was read is still in the processor's cache when it is written.

use std::time::Instant;

use super::{Reactor, SESSIONS_PER_TURN, now};
use crate::meter::Meter;
use crate::session::Turn;
use crate::session::shared::{BytesRead, TLS_STEPS_PER_TURN};

/// Maximum number of sessions in a group.
pub(super) const GROUP: usize = 16;
/// A group that has read this many bytes takes no further session.
pub(super) const GROUP_BYTES: usize = 64 << 10;

/// A session in the middle of its turn: it has read, but not yet written.
pub(super) struct HalfTurn {
    slot: usize,
    again: bool,
    has_relayed: bool,
    /// What the first half of the turn has used.
    meter: Meter,
    /// The bytes read from both peers.
    read: BytesRead,
}

impl Reactor {
    /// Runs a turn of the sessions on the run list, at most [`SESSIONS_PER_TURN`]. Sessions that
    /// want more go to its end.
    pub(super) fn run_sessions(&mut self, woken: Instant) {
        self.shared.tls_budget = TLS_STEPS_PER_TURN;
        let mut left = self.run_list.len().min(SESSIONS_PER_TURN);
        let mut group = std::mem::take(&mut self.group);
        while left > 0 {
            let mut bytes = 0;
            while left > 0 && group.len() < GROUP && bytes < GROUP_BYTES {
                left -= 1;
                if let Some(half) = self.read_next() {
                    bytes += half.read.from_client + half.read.from_server;
                    group.push(half);
                }
            }
            for half in group.drain(..) {
                self.write(half, woken);
            }
        }
        self.group = group;
    }

    /// Lets the first session on the run list read; `None` if it does not exist any more.
    fn read_next(&mut self) -> Option<HalfTurn> {
        let slot = self.run_list.pop_front()?;
        let entry = self.sessions.get_mut(slot)?;
        entry.listed = false;
        let before = self.shared.metrics.relayed();
        let again = entry.session.read(&mut self.shared);
        self.slow_turns.end(now(), &entry.session, &mut self.shared);
        Some(HalfTurn {
            slot,
            again,
            has_relayed: self.shared.metrics.relayed() != before,
            meter: self.shared.meter,
            read: self.shared.read,
        })
    }

    /// Lets a session of the group write.
    fn write(&mut self, half: HalfTurn, woken: Instant) {
        let slot = half.slot;
        let Some(entry) = self.sessions.get_mut(slot) else {
            return;
        };
        (self.shared.meter, self.shared.read) = (half.meter, half.read);
        let turn = entry.session.write(half.again, &mut self.shared);
        self.slow_turns.end(now(), &entry.session, &mut self.shared);
        if half.has_relayed && self.status.is_some() {
            let metrics = &mut self.shared.metrics;
            self.sampler.sample(&entry.session, metrics, woken);
        }
        match turn {
            Turn::Over => {
                entry.session.bury(&mut self.shared);
                self.refusals -= usize::from(entry.refusal);
                self.sessions.remove(slot);
                self.accept_rest = None;
                return;
            }
            Turn::Again => {
                entry.listed = true;
                self.run_list.push_back(slot);
            }
            Turn::Idle => {}
        }
        self.timers
            .arm(slot, entry.session.deadline(), &mut entry.armed);
    }
}
