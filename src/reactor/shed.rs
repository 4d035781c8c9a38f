//! Ends sessions when they hold too much memory.
//!
//! Drops caches first, then the sessions that hold the most memory (`max_total_memory`).

use super::Reactor;
use crate::session::Session;

impl Reactor {
    /// Drops caches, then sessions, if the memory held exceeds the limit.
    pub(super) fn shed(&mut self) {
        let limit = self.shared.config.max_total_memory_bytes;
        let held = |reactor: &Reactor| reactor.shared.memory().bounded();
        if held(self) <= limit {
            return;
        }
        self.shared.drop_caches();
        let held = held(self);
        if held <= limit {
            return;
        }
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.session.memory()));
        // Free some more, otherwise the next bytes would exceed the limit again.
        let mut excess = held - limit + limit / 8;
        let mut chosen = Vec::new();
        for (slot, entry) in sessions {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.session.memory());
            chosen.push(slot);
        }
        for slot in chosen {
            self.poke(slot, Session::shed);
        }
    }
}
