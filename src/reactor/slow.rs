//! Slow turns: turns of one session that kept all others waiting.
//!
//! Owns the timing of each turn. Counts slow turns (`slow_turns_total`), and logs at most
//! one per second. Never ends a session for it: the machine itself may have stalled.

use std::time::{Duration, Instant};

use crate::session::shared::Shared;
use crate::session::{Session, Tick};

/// A turn longer than this is slow.
const SLOW: Duration = Duration::from_millis(50);
/// Time between two lines, in milliseconds.
const PAUSE_MS: Tick = 1000;

/// Watches the turns of one loop.
#[derive(Debug)]
pub(super) struct SlowTurns {
    /// When the previous turn ended, or the loop's turn began.
    since: Instant,
    /// When the next line may be written.
    next_line: Tick,
}

impl SlowTurns {
    /// Starts without slow turns.
    pub fn new(now: Instant) -> SlowTurns {
        SlowTurns {
            since: now,
            next_line: 0,
        }
    }

    /// Notes that a turn of the loop begins.
    pub fn begin(&mut self, woken: Instant) {
        self.since = woken;
    }

    /// Notes that a turn of `session` ended at `now`.
    pub fn end(&mut self, now: Instant, session: &Session, shared: &mut Shared) {
        let took = now.duration_since(self.since);
        self.since = now;
        if took < SLOW {
            return;
        }
        shared.metrics.slow_turns += 1;
        if shared.now < self.next_line {
            return;
        }
        self.next_line = shared.now + PAUSE_MS;
        let (client, server) = shared.taken;
        shared.log.warning(format_args!(
            "session {}: kept all others waiting for {} ms in {}, over {client} bytes from the \
             client and {server} from the server",
            session.name(),
            took.as_millis(),
            session.phase().name(),
        ));
    }
}
