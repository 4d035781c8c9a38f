//! Runs the sessions that have work: first those with little to do, then some of the busy ones.
//!
//! They run in groups. The sessions of a group first all read, and then all write: a peer that
//! serves many of them, such as the XMPP server, is woken once for several writes instead of once
//! for each. A group is small, so that what was read is still in the processor's cache when it is
//! written.
//!
//! A session is busy if it has done much lately, has more to do, or is being set up or closed.
//! Together, the busy ones do only a little work in each turn of the loop: a session with a stanza
//! now and then waits for few of them, however many there are, even if all clients come back at
//! once. TLS handshakes, which cost most, are part of that work.

use std::collections::VecDeque;
use std::time::Instant;

use super::run_lists::RunLists;
use super::{Reactor, SESSIONS_PER_TURN, now};
use crate::meter::{Meter, READ_BYTES, UNITS_PER_TURN};
use crate::session::Turn;
use crate::session::shared::{BytesRead, TLS_STEPS_PER_TURN};

/// Maximum number of sessions in a group.
pub(super) const GROUP: usize = 16;
/// A group that has read this many bytes takes no further session.
pub(super) const GROUP_BYTES: usize = 64 << 10;

/// Units for a session's turn besides those that it draws: for its system calls.
const TURN: usize = 128;
/// A session that does this much work in a turn is busy. It gets no more while it is among those
/// with little to do, so that these wait only briefly even if many begin to do much at once.
const BUSY: usize = UNITS_PER_TURN / 8;
/// So is a session that does this much in about a second.
const BUSY_FOR_LONG: usize = 64 << 10;
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

impl HalfTurn {
    fn bytes(&self) -> usize {
        self.read.from_client + self.read.from_server
    }

    /// The work so far, in units of the meter.
    fn work(&self) -> usize {
        TURN + self.meter.drawn() + self.bytes() / READ_BYTES
    }
}

impl Reactor {
    /// Runs a turn of the sessions with little to do, at most [`SESSIONS_PER_TURN`], then of some
    /// busy ones. Sessions that want more go to the end of the list of busy ones.
    pub(super) fn run_sessions(&mut self, woken: Instant) {
        // TLS handshakes are left to the busy ones.
        self.shared.tls_budget = 0;
        self.shared.meter = Meter::new(BUSY);
        self.run_list(|lists| &mut lists.light, usize::MAX, woken);
        self.shared.tls_budget = TLS_STEPS_PER_TURN;
        self.shared.meter = Meter::default();
        self.run_list(|lists| &mut lists.busy, BUSY_WORK_PER_TURN, woken);
    }

    /// Runs the sessions of a list until they have done `most` units of work.
    fn run_list(
        &mut self,
        list: fn(&mut RunLists) -> &mut VecDeque<usize>,
        most: usize,
        woken: Instant,
    ) {
        let mut left = list(&mut self.run_lists).len().min(SESSIONS_PER_TURN);
        let mut group = std::mem::take(&mut self.group);
        let mut work = 0;
        while left > 0 && work < most {
            let (mut bytes, mut reading) = (0, work);
            while left > 0 && group.len() < GROUP && bytes < GROUP_BYTES && reading < most {
                left -= 1;
                let slot = list(&mut self.run_lists).pop_front();
                if let Some(half) = slot.and_then(|slot| self.read(slot)) {
                    bytes += half.bytes();
                    reading += half.work();
                    group.push(half);
                }
            }
            for half in group.drain(..) {
                work += self.write(half, woken);
            }
        }
        self.group = group;
    }

    /// Lets a session read; `None` if it does not exist any more, or if it has begun to end: that
    /// takes longer than to relay a stanza, so it goes on among the busy ones.
    fn read(&mut self, slot: usize) -> Option<HalfTurn> {
        let entry = self.sessions.get_mut(slot)?;
        entry.listed = false;
        let before = self.shared.metrics.relayed();
        let again = entry.session.read(&mut self.shared);
        self.slow_turns.end(now(), &entry.session, &mut self.shared);
        if !entry.busy && entry.session.is_flushed().is_none() {
            (entry.busy, entry.listed) = (true, true);
            self.run_lists.add(slot, true);
            return None;
        }
        Some(HalfTurn {
            slot,
            again,
            has_relayed: self.shared.metrics.relayed() != before,
            meter: self.shared.meter,
            read: self.shared.read,
        })
    }

    /// Lets a session write that has read. Returns the work of its turn.
    fn write(&mut self, mut half: HalfTurn, woken: Instant) -> usize {
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
        half.meter = self.shared.meter;
        let work = half.work();
        if turn == Turn::Over {
            entry.session.bury(&mut self.shared);
            self.acceptor.refusals -= usize::from(entry.refusal);
            self.sessions.remove(slot);
            self.acceptor.rest_until = None;
            return work;
        }
        entry.listed = turn == Turn::Again;
        let recent = entry.recent.add(work, self.shared.now);
        let is_relaying = entry.session.is_flushed().is_some();
        entry.busy = entry.listed || !is_relaying || work >= BUSY || recent >= BUSY_FOR_LONG;
        if entry.listed {
            self.run_lists.add(slot, true);
        }
        self.timers
            .arm(slot, entry.session.deadline(), &mut entry.armed);
        work
    }
}
