//! The tokens of the poll, each of which identifies the receiver of an event.

use mio::Token;

use crate::session::TOKENS;
use crate::status;

pub const SIGNALS: Token = Token(0);
pub const RESOLVER: Token = Token(1);
/// Channels to other generations of the daemon.
pub const GENERATIONS: Token = Token(2);
/// The first listener; the others follow.
pub const FIRST_LISTENER: usize = 3;
/// The first token of the first session.
const FIRST_SESSION: usize = 1024;
/// The first token of the status port, whose tokens are the last before the sessions.
pub const FIRST_STATUS: usize = FIRST_SESSION - status::TOKENS;
pub const MAX_LISTENERS: usize = FIRST_STATUS - FIRST_LISTENER;

/// The receiver of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Signals,
    Resolver,
    /// The listener with this index.
    Listener(usize),
    /// Other generations of the daemon.
    Generations,
    /// A listener or a connection of the status port.
    Status(usize),
    /// A socket of the session in this slot: 0 is the client, the others are the lanes of
    /// the connection to the server.
    Session {
        slot: usize,
        side: usize,
    },
}

/// The receiver of an event with this token.
pub fn owner(token: Token) -> Owner {
    match token {
        SIGNALS => Owner::Signals,
        RESOLVER => Owner::Resolver,
        GENERATIONS => Owner::Generations,
        Token(n) if n < FIRST_STATUS => Owner::Listener(n - FIRST_LISTENER),
        Token(n) if n < FIRST_SESSION => Owner::Status(n - FIRST_STATUS),
        Token(n) => Owner::Session {
            slot: (n - FIRST_SESSION) / TOKENS,
            side: (n - FIRST_SESSION) % TOKENS,
        },
    }
}

/// The first token of the session in `slot`.
pub fn of_session(slot: usize) -> usize {
    FIRST_SESSION + slot * TOKENS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_tell_slot_and_side() {
        for slot in [0, 1, 2, 9_999] {
            for side in 0..TOKENS {
                let token = Token(of_session(slot) + side);
                assert_eq!(owner(token), Owner::Session { slot, side });
            }
        }
        assert_eq!(owner(Token(FIRST_LISTENER + 3)), Owner::Listener(3));
        assert_eq!(owner(Token(FIRST_STATUS)), Owner::Status(0));
        let last = Token(FIRST_STATUS + status::TOKENS - 1);
        assert_eq!(owner(last), Owner::Status(status::TOKENS - 1));
        assert_eq!(owner(SIGNALS), Owner::Signals);
    }
}
