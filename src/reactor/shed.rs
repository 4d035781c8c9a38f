//! Sessions are given up while all together have too much queued.
//!
//! Owns the choice: those with the most first (`max_total_queue_size`).

use super::Reactor;

impl Reactor {
    /// Gives up the sessions with the most queued while all together have too
    /// much.
    pub(super) fn shed(&mut self) {
        let limit = self.worker.config.max_total_queue_bytes;
        if self.worker.held <= limit {
            return;
        }
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.session.counted()));
        // Some room more, or the next bytes would bring the same again.
        let mut excess = self.worker.held - limit + limit / 8;
        let mut chosen = Vec::new();
        for (slot, entry) in sessions {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(entry.session.counted());
            chosen.push(slot);
        }
        for slot in chosen {
            self.sessions[slot].session.shed(&mut self.worker);
            self.list(slot);
        }
    }
}
