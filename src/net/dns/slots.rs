//! Limits how many questions may be in flight, in total and per client.

use std::collections::HashMap;

use crate::net::source::Source;

/// Maximum number of questions in flight for any domain.
const MAX_GENERAL: usize = 48;
/// Maximum number per asker among these.
const MAX_OF_ASKER: usize = 16;
/// The last slots are reserved for askers with few questions in flight.
const KEPT_FOR_FEW: usize = 16;
/// An asker with fewer questions in flight than this has few.
const FEW: usize = 4;
/// Maximum number of additional questions in flight for known domains.
const MAX_KNOWN: usize = 16;
/// Maximum number per asker among these.
const MAX_KNOWN_OF_ASKER: usize = 8;

/// The two kinds of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// For any domain.
    General,
    /// For domains that worked recently.
    Known,
}

/// The occupied slots.
#[derive(Default)]
pub struct Slots {
    taken: [usize; 2],
    of_asker: HashMap<Source, [usize; 2]>,
}

impl Slots {
    /// Whether any slot is free.
    pub fn has_free(&self, kind: SlotKind) -> bool {
        self.taken[kind as usize]
            < match kind {
                SlotKind::General => MAX_GENERAL,
                SlotKind::Known => MAX_KNOWN,
            }
    }

    /// Whether a slot is free for this asker.
    pub fn has_free_for(&self, kind: SlotKind, asker: Source) -> bool {
        let own = self
            .of_asker
            .get(&asker)
            .map_or(0, |own| own[kind as usize]);
        self.has_free(kind)
            && match kind {
                SlotKind::General => {
                    own < FEW
                        || (own < MAX_OF_ASKER
                            && self.taken[SlotKind::General as usize] < MAX_GENERAL - KEPT_FOR_FEW)
                }
                SlotKind::Known => own < MAX_KNOWN_OF_ASKER,
            }
    }

    pub fn take(&mut self, kind: SlotKind, asker: Source) {
        self.taken[kind as usize] += 1;
        self.of_asker.entry(asker).or_default()[kind as usize] += 1;
    }

    pub fn give_back(&mut self, kind: SlotKind, asker: Source) {
        self.taken[kind as usize] -= 1;
        if let Some(own) = self.of_asker.get_mut(&asker) {
            own[kind as usize] -= 1;
            if *own == [0; 2] {
                self.of_asker.remove(&asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(slots: &mut Slots, kind: SlotKind, asker: Source) -> usize {
        let mut taken = 0;
        while slots.has_free_for(kind, asker) {
            slots.take(kind, asker);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_few_askers_cannot_take_all_slots() {
        let mut slots = Slots::default();
        let greedy = (0..10).map(Source::V4);
        let taken: Vec<_> = greedy
            .map(|asker| take_all(&mut slots, SlotKind::General, asker))
            .collect();
        assert_eq!(taken, [16, 16, 4, 4, 4, 4, 0, 0, 0, 0]);
        assert!(!slots.has_free(SlotKind::General));
        // The slots for known domains are separate.
        assert_eq!(take_all(&mut slots, SlotKind::Known, Source::Unix), 8);
        assert_eq!(take_all(&mut slots, SlotKind::Known, Source::V6(1)), 8);
        assert!(!slots.has_free(SlotKind::Known));
        slots.give_back(SlotKind::Known, Source::Unix);
        assert!(!slots.has_free_for(SlotKind::Known, Source::V6(1)));
        assert!(slots.has_free_for(SlotKind::Known, Source::V6(2)));
    }

    #[test]
    fn askers_without_slots_are_forgotten() {
        let mut slots = Slots::default();
        for _ in 0..2 {
            assert_eq!(take_all(&mut slots, SlotKind::General, Source::Unix), 16);
            for _ in 0..16 {
                slots.give_back(SlotKind::General, Source::Unix);
            }
        }
        assert!(slots.of_asker.is_empty());
    }
}
