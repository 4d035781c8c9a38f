//! The memory that a worker holds for its sessions.
//!
//! Owns the sums over all sessions, kept up to date as each session's turn ends,
//! and what of the whole is bounded by `max_total_memory`. What connections cost
//! by being there (a slot, a TLS object) is bounded by `max_connections` instead:
//! giving a session up for it would only make room for the next.

/// A TLS object with the buffers of a record that is half there, in bytes.
pub(super) const TLS_BYTES: usize = 40 << 10;

/// Memory by what it is for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Queues, messages that are not complete, stream headers.
    pub sessions: usize,
    /// XML parsers, at work or waiting for it.
    pub parsers: usize,
    /// Compression.
    pub compression: usize,
    /// Look-ups under way and the DNS cache.
    pub names: usize,
    /// TLS objects.
    pub tls: usize,
}

impl Memory {
    /// What `max_total_memory` bounds.
    pub fn bounded(&self) -> usize {
        self.sessions + self.parsers + self.compression + self.names
    }

    /// The parts with their names.
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

/// One session's part of the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Of [`Memory::sessions`].
    pub bytes: usize,
    /// Connections under TLS.
    pub tls: u8,
}

/// The sums over the sessions of a worker.
#[derive(Debug, Default)]
pub struct Ledger {
    bytes: usize,
    tls: usize,
}

impl Ledger {
    /// Puts the share of a session at what it is now.
    pub fn change(&mut self, from: &mut Share, to: Share) {
        self.bytes = self.bytes - from.bytes + to.bytes;
        self.tls = self.tls - usize::from(from.tls) + usize::from(to.tls);
        *from = to;
    }

    /// What all sessions hold by themselves.
    pub fn memory(&self) -> Memory {
        Memory {
            sessions: self.bytes,
            tls: self.tls * TLS_BYTES,
            ..Memory::default()
        }
    }
}
