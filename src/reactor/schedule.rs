//! Runs the sessions that have work: first those with little to do, in groups, then some of the
//! busy ones.
//!
//! The sessions of a group first all read, and then all write: a peer that serves many of them,
//! such as the XMPP server, is woken once for several writes instead of once for each. A group
//! is small, so that what was read is still in the processor's cache when it is written.
//!
//! A session is busy if it did much in its last turn, or has more to do. Together, the busy ones
//! do only a little work in each turn of the loop: a session with a stanza now and then waits for
//! few of them, however many there are. TLS handshakes, which cost most, are part of that work.

use std::time::Instant;

use super::{Reactor, SESSIONS_PER_TURN, now};
use crate::meter::{Meter, UNITS_PER_TURN};
use crate::session::Turn;
use crate::session::shared::{BytesRead, READ_SIZE, TLS_STEPS_PER_TURN};

/// Maximum number of sessions in a group.
pub(super) const GROUP: usize = 16;
/// A group that has read this many bytes takes no further session.
pub(super) const GROUP_BYTES: usize = 64 << 10;

/// A session that does this much work in a turn is busy. A byte that was read counts as one, and
/// so does a unit of the meter.
pub(super) const BUSY: usize = READ_SIZE;
/// Work that all busy sessions together may do in one turn.
const BUSY_WORK_PER_TURN: usize = UNITS_PER_TURN;

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
    /// Runs a turn of the sessions on the run list, at most [`SESSIONS_PER_TURN`], then of some
    /// busy ones. Sessions that want more go to the end of the list of busy ones.
    pub(super) fn run_sessions(&mut self, woken: Instant) {
        // TLS handshakes are left to the busy ones.
        self.shared.tls_budget = 0;
        let mut left = self.run_list.len().min(SESSIONS_PER_TURN);
        let mut group = std::mem::take(&mut self.group);
        while left > 0 {
            let mut bytes = 0;
            while left > 0 && group.len() < GROUP && bytes < GROUP_BYTES {
                left -= 1;
                let slot = self.run_list.pop_front();
                if let Some(half) = slot.and_then(|slot| self.read(slot)) {
                    bytes += half.read.from_client + half.read.from_server;
                    group.push(half);
                }
            }
            for half in group.drain(..) {
                self.write(half, woken);
            }
        }
        self.group = group;
        self.shared.tls_budget = TLS_STEPS_PER_TURN;
        self.run_busy_sessions(woken);
    }

    fn run_busy_sessions(&mut self, woken: Instant) {
        let mut work = 0;
        for _ in 0..self.busy_list.len().min(SESSIONS_PER_TURN) {
            if work >= BUSY_WORK_PER_TURN {
                return;
            }
            let slot = self.busy_list.pop_front();
            if let Some(half) = slot.and_then(|slot| self.read(slot)) {
                work += self.write(half, woken);
            }
        }
    }

    /// Lets a session read; `None` if it does not exist any more.
    fn read(&mut self, slot: usize) -> Option<HalfTurn> {
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

    /// Lets a session write that has read. Returns the work of its turn.
    fn write(&mut self, half: HalfTurn, woken: Instant) -> usize {
        let slot = half.slot;
        let Some(entry) = self.sessions.get_mut(slot) else {
            return 0;
        };
        (self.shared.meter, self.shared.read) = (half.meter, half.read);
        let turn = entry.session.write(half.again, &mut self.shared);
        self.slow_turns.end(now(), &entry.session, &mut self.shared);
        if half.has_relayed && self.status.is_some() {
            let metrics = &mut self.shared.metrics;
            self.sampler.sample(&entry.session, metrics, woken);
        }
        let units = self.shared.meter.drawn();
        let work = units + half.read.from_client + half.read.from_server;
        if turn == Turn::Over {
            entry.session.bury(&mut self.shared);
            self.refusals -= usize::from(entry.refusal);
            self.sessions.remove(slot);
            self.accept_rest = None;
            return work;
        }
        entry.listed = turn == Turn::Again;
        entry.busy = entry.listed || work >= BUSY;
        if entry.listed {
            self.busy_list.push_back(slot);
        }
        self.timers
            .arm(slot, entry.session.deadline(), &mut entry.armed);
        work
    }
}
