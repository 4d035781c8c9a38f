//! Deadlines of sessions: a heap with one live entry per session.
//!
//! Updates are lazy. Moving a deadline later costs nothing: the old entry pops early and
//! is pushed again. Moving it earlier pushes a new entry at once; when the old one pops,
//! its generation marks it as stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::session::{NEVER, Tick};

/// The part of a deadline that the session's slot keeps.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    at: Tick,
    generation: u32,
}

impl Armed {
    /// There is no live entry in the heap.
    pub const NOT: Armed = Armed {
        at: NEVER,
        generation: 0,
    };

    /// Whether the entry of this generation is the live one. If so, it is used up.
    pub fn take(&mut self, generation: u32) -> bool {
        let live = self.generation == generation;
        if live {
            *self = Armed::NOT;
        }
        live
    }
}

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Tick, u32, u32)>>,
    /// The generation of the newest entry. When it wraps around, entries with the same
    /// number have long been popped.
    generation: u32,
}

impl Timers {
    /// Creates an empty heap with room for this many sessions.
    pub fn with_capacity(sessions: usize) -> Timers {
        Timers {
            heap: BinaryHeap::with_capacity(sessions),
            generation: 0,
        }
    }

    /// Makes sure that an entry for `slot` pops at `deadline` or earlier.
    pub fn arm(&mut self, slot: usize, deadline: Tick, armed: &mut Armed) {
        if deadline < armed.at {
            self.generation = self.generation.wrapping_add(1).max(1);
            *armed = Armed {
                at: deadline,
                generation: self.generation,
            };
            let slot = u32::try_from(slot).expect("descriptors are fewer");
            self.heap.push(Reverse((deadline, slot, self.generation)));
        }
    }

    /// When the next entry pops, live or stale.
    pub fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Pops an entry that is due: its slot and generation. It is live only if the slot is
    /// still [`Armed`] with that generation.
    pub fn pop(&mut self, now: Tick) -> Option<(usize, u32)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, slot, generation)) = self.heap.pop()?;
        Some((slot as usize, generation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(timers: &mut Timers, now: Tick, armed: &mut [Armed]) -> Vec<usize> {
        let mut slots = Vec::new();
        while let Some((slot, generation)) = timers.pop(now) {
            if armed[slot].take(generation) {
                slots.push(slot);
            }
        }
        slots
    }

    #[test]
    fn pops_in_order_and_only_what_is_due() {
        let mut timers = Timers::default();
        let mut armed = [Armed::NOT; 3];
        for (slot, at) in [(0, 30), (1, 10), (2, 20)] {
            timers.arm(slot, at, &mut armed[slot]);
        }
        assert_eq!(timers.next(), Some(10));
        assert_eq!(due(&mut timers, 9, &mut armed), []);
        assert_eq!(due(&mut timers, 20, &mut armed), [1, 2]);
        assert_eq!(due(&mut timers, 99, &mut armed), [0]);
        assert_eq!(timers.heap.len(), 0);
    }

    #[test]
    fn a_later_deadline_costs_no_entry_and_a_nearer_one_replaces() {
        let mut timers = Timers::default();
        let mut armed = [Armed::NOT];
        timers.arm(0, 50, &mut armed[0]);
        timers.arm(0, 80, &mut armed[0]);
        assert_eq!(timers.heap.len(), 1);
        timers.arm(0, 20, &mut armed[0]);
        assert_eq!(due(&mut timers, 20, &mut armed), [0]);
        assert_eq!(due(&mut timers, 99, &mut armed), []);
    }

    #[test]
    fn an_entry_of_a_slot_used_again_is_stale() {
        let mut timers = Timers::default();
        let mut armed = [Armed::NOT];
        timers.arm(0, 10, &mut armed[0]);
        armed[0] = Armed::NOT;
        timers.arm(0, 20, &mut armed[0]);
        assert_eq!(due(&mut timers, 10, &mut armed), []);
        assert_eq!(due(&mut timers, 20, &mut armed), [0]);
    }
}
