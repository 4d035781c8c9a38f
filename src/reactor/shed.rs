//! Ends sessions when they hold too much memory.
//!
//! Drops caches first, then the sessions that hold the most memory (`max_total_memory`). A turn
//! ends at most as many sessions as work in it, and the largest of all: together these hold at
//! least what the others can have added, so what is held does not grow from turn to turn.

use super::{Reactor, SESSIONS_PER_TURN};
use crate::session::Session;

impl Reactor {
    /// Drops caches, then sessions, if the memory held exceeds the limit.
    pub(super) fn shed(&mut self) {
        let limit = self.shared.config.max_total_memory_bytes;
        if self.shared.memory().bounded() <= limit {
            return;
        }
        self.shared.drop_caches();
        if self.shared.memory().bounded() <= limit {
            return;
        }
        // Free some more, otherwise the next bytes would exceed the limit again.
        let goal = limit - limit / 8;
        for _ in 0..SESSIONS_PER_TURN {
            if self.shared.memory().bounded() <= goal {
                return;
            }
            let Some(first_token) = self.shared.ledger.largest() else {
                return;
            };
            self.poke_session(first_token as usize, Session::shed);
        }
    }
}
