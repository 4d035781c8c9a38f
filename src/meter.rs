//! Bounds the work that one session may cause in a turn of the loop.
//!
//! A worker has one meter, which counts down units: the reactor refills it before each
//! session's turn, and all work for the session draws on it. Once it is spent, the session
//! continues in the next turn, after all other sessions had theirs. The last draw may exceed
//! the units left, so a large piece of work can still be done.
//!
//! A unit is the cost of feeding Expat one byte, at most 40 ns.

/// Units for one session in one turn, at most 3 ms.
pub const UNITS_PER_TURN: usize = 64 << 10;

/// Units for a TLS record without payload, such as a KeyUpdate.
pub const TLS_RECORD: usize = 512;
/// Units for creating an XML parser.
pub const PARSER: usize = 256;
/// Units for looking up a name.
pub const LOOK_UP: usize = 1024;
/// Bytes per unit of XML that only our own code scans.
pub const LOOKED_AT_BYTES: usize = 8;
/// Inflated bytes per unit.
pub const INFLATED_BYTES: usize = 4;

/// The units left in a turn.
#[derive(Debug)]
pub struct Meter {
    left: usize,
    drawn: u64,
}

/// A full meter.
impl Default for Meter {
    fn default() -> Meter {
        Meter {
            left: UNITS_PER_TURN,
            drawn: 0,
        }
    }
}

impl Meter {
    /// Refills the meter for the next turn.
    pub fn refill(&mut self) {
        self.left = UNITS_PER_TURN;
    }

    /// Counts work that was done or is about to be done.
    pub fn draw(&mut self, units: usize) {
        self.left = self.left.saturating_sub(units);
        self.drawn += units as u64;
    }

    /// Returns the units drawn in all turns since the start.
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Returns the units that are left.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Whether the session has to wait for its next turn.
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_gone_until_the_next_turn() {
        let mut meter = Meter::default();
        meter.draw(UNITS_PER_TURN - 1);
        assert!(!meter.is_spent());
        meter.draw(1000);
        assert!(meter.is_spent());
        meter.refill();
        assert_eq!(meter.left(), UNITS_PER_TURN);
        assert_eq!(meter.drawn(), UNITS_PER_TURN as u64 + 999);
    }
}
