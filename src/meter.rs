//! Bounds the work that one session may cause in a turn of the loop.
//!
//! A worker has one meter, which counts units: it is refilled before each session's turn, and
//! all work for the session draws on it. Once it is spent, the session continues in the next
//! turn, after all other sessions had theirs. The last draw may exceed the units left, so a
//! large piece of work can still be done.
//!
//! A unit is the cost of feeding Expat one byte, at most 40 ns.

/// Units for one session in one turn, at most 0.7 ms. A [`Meter`] may have fewer.
pub const UNITS_PER_TURN: usize = 16 << 10;

/// Units for a TLS record without payload, such as a KeyUpdate.
pub const TLS_RECORD: usize = 512;
/// Units for creating an XML parser.
pub const PARSER: usize = 256;
/// Units for an attribute that Expat reads, besides its bytes: Expat copies and hashes the
/// namespace of its prefix, which has up to 256 bytes.
pub const ATTRIBUTE: usize = 8;
/// Units for a connect that got no local port: the kernel has tried all of them, which takes up to
/// 2 ms.
pub const NO_LOCAL_PORT: usize = UNITS_PER_TURN;
/// Units for looking up a name.
pub const LOOK_UP: usize = 1024;
/// Units for a frame, besides its bytes.
pub const FRAME: usize = 4;
/// Bytes read from a peer per unit.
pub const READ_BYTES: usize = 8;
/// Bytes per unit of XML that only our own code scans.
pub const LOOKED_AT_BYTES: usize = 8;
/// Inflated bytes per unit.
pub const INFLATED_BYTES: usize = 4;

/// The work that was done for a session in this turn.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    drawn: usize,
    most: usize,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter::new(UNITS_PER_TURN)
    }
}

impl Meter {
    /// A meter for turns of this many units.
    pub fn new(most: usize) -> Meter {
        Meter { drawn: 0, most }
    }

    /// Begins a turn.
    pub fn refill(&mut self) {
        self.drawn = 0;
    }

    /// Counts work that was done or is about to be done.
    pub fn draw(&mut self, units: usize) {
        self.drawn += units;
    }

    /// Returns the units drawn in this turn.
    pub fn drawn(&self) -> usize {
        self.drawn
    }

    /// Whether the session has to wait for its next turn.
    pub fn is_spent(&self) -> bool {
        self.drawn >= self.most
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
        assert_eq!(meter.drawn(), UNITS_PER_TURN + 999);
        meter.refill();
        assert!(!meter.is_spent());
        assert_eq!(meter.drawn(), 0);
    }
}
