//! The sessions that have work.

use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct RunLists {
    /// The slots of sessions with little to do.
    pub light: VecDeque<usize>,
    /// Those of busy sessions. However many there are, they do only a little in each turn, so
    /// that the others do not wait for all of them.
    pub busy: VecDeque<usize>,
}

impl RunLists {
    pub fn is_empty(&self) -> bool {
        self.light.is_empty() && self.busy.is_empty()
    }

    /// Puts a session at the end of its list.
    pub fn add(&mut self, slot: usize, is_busy: bool) {
        match is_busy {
            true => self.busy.push_back(slot),
            false => self.light.push_back(slot),
        }
    }
}
