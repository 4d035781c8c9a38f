//! Accounts for the memory that a worker holds for its sessions.
//!
//! Keeps the sums over all sessions, and the order of those that hold memory, by how much. Both
//! are updated at the end of each session's turn. Selects the parts that `max_total_memory`
//! limits. The fixed cost of a connection (a slot, a TLS object) is not among them, because
//! ending a session would only make room for the next; `max_connections` limits it.

use std::collections::BTreeSet;

/// A TLS object with the buffers of an incomplete record, in bytes.
const TLS_BYTES: usize = 40 << 10;

/// Memory by purpose, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Queues, incomplete messages, stream headers.
    pub sessions: usize,
    /// XML parsers, busy or idle, and what is remembered of stream features.
    pub parsers: usize,
    /// Compression.
    pub compression: usize,
    /// Look-ups in progress and the DNS cache.
    pub names: usize,
    /// TLS objects.
    pub tls: usize,
}

impl Memory {
    /// Returns the bytes that count towards `max_total_memory`.
    pub fn bounded(&self) -> usize {
        self.sessions + self.parsers + self.compression + self.names
    }

    /// Returns the parts with their names.
    pub fn parts(&self) -> [(&'static str, usize); 5] {
        [
            ("sessions", self.sessions),
            ("parsers", self.parsers),
            ("compression", self.compression),
            ("names", self.names),
            ("tls", self.tls),
        ]
    }
}

/// The share of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The share of [`Memory::sessions`].
    pub bytes: usize,
    /// The share of [`Memory::parsers`].
    pub parser_bytes: u32,
    /// Connections with TLS.
    pub tls: u8,
}

impl Share {
    /// Returns the bytes that are freed when the session ends.
    pub fn total(self) -> usize {
        self.bytes + self.parser_bytes as usize
    }
}

/// The shares of all sessions of a worker.
#[derive(Debug, Default)]
pub struct Ledger {
    bytes: usize,
    tls: usize,
    /// The sessions that hold memory: the total of each, and its token. An idle session is not
    /// among them.
    by_total: BTreeSet<(usize, u32)>,
}

impl Ledger {
    /// Changes the share of the session with this token from `from` to `to`.
    pub fn change(&mut self, token: u32, from: &mut Share, to: Share) {
        let totals = (from.total(), to.total());
        if totals.0 != totals.1 {
            self.by_total.remove(&(totals.0, token));
            if totals.1 > 0 {
                self.by_total.insert((totals.1, token));
            }
        }
        self.bytes = self.bytes - from.bytes + to.bytes;
        self.tls = self.tls - usize::from(from.tls) + usize::from(to.tls);
        *from = to;
    }

    /// Returns the token of the session that holds the most memory, if any does.
    pub fn largest(&self) -> Option<u32> {
        self.by_total.last().map(|(_, token)| *token)
    }

    /// Returns the sums over all sessions.
    pub fn memory(&self) -> Memory {
        Memory {
            sessions: self.bytes,
            tls: self.tls * TLS_BYTES,
            ..Memory::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_share_is_known_whatever_changes() {
        let mut ledger = Ledger::default();
        let mut shares = [Share::default(); 4];
        let of = |bytes, parser_bytes| Share {
            bytes,
            parser_bytes,
            tls: 1,
        };
        for (token, to, largest) in [
            (0, of(0, 0), None),
            (1, of(10, 0), Some(1)),
            (2, of(10, 5), Some(2)),
            (3, of(1, 20), Some(3)),
            (3, of(0, 1), Some(2)),
            (1, of(16, 0), Some(1)),
            (1, of(0, 0), Some(2)),
            (2, Share::default(), Some(3)),
            (3, Share::default(), None),
        ] {
            ledger.change(token, &mut shares[token as usize], to);
            assert_eq!(ledger.largest(), largest, "{token}: {to:?}");
        }
    }
}
