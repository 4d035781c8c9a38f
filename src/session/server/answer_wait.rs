//! How long a connected server may take for its first answer before another one is tried.

use crate::session::{NEVER, Tick};

/// How long a server may be silent before the next one is tried, if there is one.
const SILENCE_MS: Tick = 3000;
/// How long to wait for the features of a server at a loopback address before assuming that it
/// offers no TLS. A client gives up 2 s after its `<open/>`.
const FEATURES_MS: Tick = 200;
/// How long to wait for the answer of a server that was asked for TLS but offers none.
const UNOFFERED_MS: Tick = 1000;

/// The wait for the first bytes of a server, for its features, or for its answer about TLS.
pub(in crate::session) struct AnswerWait {
    connected_at: Tick,
    /// The server has sent nothing on this connection.
    is_silent: bool,
    /// When the wait ends, or [`NEVER`].
    until: Tick,
}

impl AnswerWait {
    /// There is no wait before a server is connected.
    pub fn none() -> AnswerWait {
        AnswerWait {
            connected_at: 0,
            is_silent: false,
            until: NEVER,
        }
    }

    /// Starts when a server is connected. `has_more`: there are others to try.
    pub fn start(now: Tick, has_more: bool) -> AnswerWait {
        AnswerWait {
            connected_at: now,
            is_silent: true,
            until: match has_more {
                true => now + SILENCE_MS,
                false => NEVER,
            },
        }
    }

    /// Notes that the server has sent something.
    pub fn note_bytes(&mut self) {
        if std::mem::take(&mut self.is_silent) {
            self.until = NEVER;
        }
    }

    /// Waits a moment for the features, unless there is a wait already.
    pub fn expect_features(&mut self, now: Tick) {
        if self.until == NEVER {
            self.until = now + FEATURES_MS;
        }
    }

    /// Waits for the answer to a request for TLS, which the server does not offer.
    pub fn expect_answer(&mut self, now: Tick) {
        self.until = now + UNOFFERED_MS;
    }

    pub fn stop(&mut self) {
        self.until = NEVER;
    }

    /// Stops the wait if it is over. Returns whether it was.
    pub fn expire(&mut self, now: Tick) -> bool {
        let is_over = now >= self.until;
        if is_over {
            self.until = NEVER;
        }
        is_over
    }

    pub fn until(&self) -> Tick {
        self.until
    }

    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// Whether the server has had the time to answer.
    pub fn had_time(&self, now: Tick) -> bool {
        now >= self.connected_at + SILENCE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silent_server_makes_room_for_another() {
        let alone = AnswerWait::start(10, false);
        assert!(alone.is_silent() && alone.until() == NEVER);
        let mut wait = AnswerWait::start(10, true);
        assert!(!wait.expire(3009) && !wait.had_time(3009));
        assert!(wait.expire(3010) && wait.had_time(3010));
        assert!(wait.is_silent() && !wait.expire(NEVER - 1));
        let mut wait = AnswerWait::start(10, true);
        wait.note_bytes();
        assert!(!wait.is_silent() && wait.until() == NEVER);
    }

    #[test]
    fn the_features_are_awaited_once() {
        let mut wait = AnswerWait::start(10, false);
        wait.expect_features(20);
        wait.expect_features(30);
        assert_eq!(wait.until(), 220);
        // The first bytes were not all of the features.
        wait.note_bytes();
        wait.expect_features(40);
        wait.note_bytes();
        assert_eq!(wait.until(), 240);
        wait.stop();
        assert_eq!(wait.until(), NEVER);
    }
}
