//! Accounts for the memory that a worker holds for its sessions.
//!
//! Keeps the sums over all sessions, which are updated at the end of each session's turn, and
//! selects the parts that `max_total_memory` limits. The fixed cost of a connection (a slot, a
//! TLS object) is not among them, because ending a session would only make room for the next;
//! `max_connections` limits it.

/// A TLS object with the buffers of an incomplete record, in bytes.
pub(super) const TLS_BYTES: usize = 40 << 10;

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
    /// Connections with TLS.
    pub tls: u8,
}

/// The sums over all sessions of a worker.
#[derive(Debug, Default)]
pub struct Ledger {
    bytes: usize,
    tls: usize,
}

impl Ledger {
    /// Changes the share of a session from `from` to `to`.
    pub fn change(&mut self, from: &mut Share, to: Share) {
        self.bytes = self.bytes - from.bytes + to.bytes;
        self.tls = self.tls - usize::from(from.tls) + usize::from(to.tls);
        *from = to;
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
