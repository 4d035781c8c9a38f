//! Decides which side must wait because a queue is full.
//!
//! Has the high and low water marks (`max_queue_size`). Unread bytes stay in the kernel, whose
//! flow control slows the peer down.

use super::Session;

/// The low water mark is the high water mark (`max_queue_size`) divided by this. When a queue
/// was full, reading resumes below the low water mark.
const LOW_WATER_PART: usize = 4;

/// Which side waits until a queue is shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BackPressure {
    /// The client waits if either queue is full, because some of its messages are answered to
    /// itself.
    pub client_waits: bool,
    /// The server waits only if the client's queue is full. Some servers do not read while they
    /// write; if their own queue counted, both sides would wait forever.
    pub server_waits: bool,
}

impl BackPressure {
    /// Returns the state after a change of the queues. Their lengths and the high water mark
    /// are in bytes.
    pub fn after(self, to_client: usize, to_server: usize, high: usize) -> BackPressure {
        BackPressure {
            client_waits: is_full(to_client.max(to_server), self.client_waits, high),
            server_waits: is_full(to_client, self.server_waits, high),
        }
    }

    pub fn or(self, other: BackPressure) -> BackPressure {
        BackPressure {
            client_waits: self.client_waits || other.client_waits,
            server_waits: self.server_waits || other.server_waits,
        }
    }

    /// Whether a side that had to wait in the state `before` may be read again.
    pub fn resumes_from(self, before: BackPressure) -> bool {
        (before.client_waits && !self.client_waits) || (before.server_waits && !self.server_waits)
    }
}

impl Session {
    /// Returns the back pressure for the current lengths of the queues.
    pub(super) fn measure(&mut self) -> BackPressure {
        let to_server = self.server.queued();
        let (before, high) = (self.back_pressure, self.config.max_queue_bytes);
        self.back_pressure = before.after(self.client.out.len(), to_server, high);
        self.back_pressure
    }
}

/// Whether a queue of `len` bytes counts as full. `was_full`: it did so before.
pub(super) fn is_full(len: usize, was_full: bool, high: usize) -> bool {
    len >= high || (was_full && len > high / LOW_WATER_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_full_is_full_down_to_low_water() {
        let none = BackPressure::default();
        assert_eq!(none.after(99, 99, 100), none);
        let full = none.after(0, 100, 100);
        assert!(full.client_waits && !full.server_waits);
        assert!(full.after(0, 26, 100).client_waits);
        let free = full.after(0, 25, 100);
        assert!(free == none && free.resumes_from(full) && !full.resumes_from(free));
        let both = none.after(100, 0, 100);
        assert!(both.client_waits && both.server_waits);
        assert!(both.after(25, 99, 100).resumes_from(both));
        assert!(!both.after(26, 0, 100).resumes_from(both));
    }
}
