//! Who has to wait because a queue is full.
//!
//! Owns high and low water (`max_queue_size`). Never reads or writes; bytes that are not
//! read stay in the kernel, whose flow control slows the peer down.

/// Low water is so much of high water (`max_queue_size`): a queue that was full lets reading
/// go on below it.
const LOW_WATER_PART: usize = 4;

/// Who waits until a queue is shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BackPressure {
    /// The client: some of what it sends is answered to itself, so either queue counts.
    pub client_waits: bool,
    /// The server: only the client's queue counts. A server that reads nothing while it
    /// writes would never read again if its own did.
    pub server_waits: bool,
}

impl BackPressure {
    /// What follows from the lengths of the queues, in bytes, below this high water.
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

    /// Whether somebody need not wait any more who had to before.
    pub fn lets_more_than(self, before: BackPressure) -> bool {
        (before.client_waits && !self.client_waits) || (before.server_waits && !self.server_waits)
    }
}

/// Whether a queue of `len` bytes counts as full, which it did or did not before.
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
        assert!(free == none && free.lets_more_than(full) && !full.lets_more_than(free));
        let both = none.after(100, 0, 100);
        assert!(both.client_waits && both.server_waits);
        assert!(both.after(25, 99, 100).lets_more_than(both));
        assert!(!both.after(26, 0, 100).lets_more_than(both));
    }
}
