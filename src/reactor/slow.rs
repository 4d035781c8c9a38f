//! Slow turns: turns of one session that kept all others waiting.
//!
//! Owns the timing of each turn. Counts slow turns (`slow_turns_total`), and logs at most
//! one per second. Never ends a session because of a slow turn, since the whole machine may
//! have stalled.

use std::time::{Duration, Instant};

use crate::session::shared::{BytesRead, Shared};
use crate::session::{Session, Tick};

/// A turn longer than this is slow.
const SLOW: Duration = Duration::from_millis(50);
/// Minimum time between two log lines, in milliseconds.
const PAUSE_MS: Tick = 1000;

#[derive(Debug)]
pub(super) struct SlowTurns {
    /// When the previous session's turn ended, or when the loop's turn began.
    since: Instant,
    /// Earliest time of the next log line.
    next_line: Tick,
}

impl SlowTurns {
    pub fn new(now: Instant) -> SlowTurns {
        SlowTurns {
            since: now,
            next_line: 0,
        }
    }

    /// Starts the timing at the beginning of a turn of the loop.
    pub fn begin(&mut self, woken: Instant) {
        self.since = woken;
    }

    /// Records that a turn of `session` ended at `now`.
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
        let BytesRead {
            from_client,
            from_server,
        } = shared.read;
        shared.log.warning(format_args!(
            "session {}: kept all others waiting for {} ms in {}, over {from_client} bytes from \
             the client and {from_server} from the server",
            session.name(),
            took.as_millis(),
            session.phase().name(),
        ));
    }
}
