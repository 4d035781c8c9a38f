//! Feeds a complete unit to Expat, slice by slice.
//!
//! A large unit takes several turns. Expat gets each byte once, but rescans a token that was
//! cut at the end of a slice. To bound the rescans, each slice is at least as long as the part
//! of a token that Expat holds.

use super::limits::Error;
use super::parser::{Parser, Tag, Token};
use crate::meter::{ATTRIBUTE, Meter};

/// Bytes fed at once. Expat copies them to its own buffer, which must not exceed the memory
/// that an idle parser may keep.
const SLICE: usize = 4 << 10;
/// Bytes of growth of the parser per unit of the meter: a name that is new to Expat costs more
/// than its bytes.
const GROWTH_BYTES: usize = 8;

/// A complete unit on its way through Expat.
pub struct UnitCheck {
    parser: Parser,
    /// Position in the parser of the unit's first byte.
    origin: u64,
    fed: usize,
}

impl UnitCheck {
    /// Begins a unit at the current position of `parser`.
    pub fn new(parser: Parser) -> UnitCheck {
        UnitCheck {
            origin: parser.position(),
            parser,
            fed: 0,
        }
    }

    /// Feeds Expat more of `unit`, at least one slice, until the meter is spent. Returns true
    /// once Expat has all of it.
    ///
    /// # Errors
    /// The unit is not allowed, or not well-formed.
    pub fn proceed(&mut self, unit: &[u8], meter: &mut Meter) -> Result<bool, Error> {
        loop {
            let pending = self.parser.pending();
            let rest = &unit[self.fed..];
            let slice = &rest[..rest.len().min(SLICE.max(pending))];
            meter.draw(pending + slice.len());
            let (before, attributes) = (self.parser.heap_bytes(), self.parser.attribute_count());
            self.parser.feed(slice)?;
            let growth = self.parser.heap_bytes().saturating_sub(before);
            let attributes = (self.parser.attribute_count() - attributes) as usize;
            meter.draw(growth / GROWTH_BYTES + attributes * ATTRIBUTE);
            self.fed += slice.len();
            if slice.len() == rest.len() {
                return Ok(true);
            }
            if meter.is_spent() {
                return Ok(false);
            }
        }
    }

    /// Returns the start tag, if the unit is exactly one first-level element.
    pub fn element(&self) -> Option<&Tag> {
        let end_of_unit = self.parser.position();
        match self.parser.tokens() {
            [Token::Start(tag), Token::End { depth: 1, end }]
                if tag.depth == 1 && tag.start == self.origin && *end == end_of_unit =>
            {
                Some(tag)
            }
            _ => None,
        }
    }

    /// The parser, which has the names in the unit.
    pub fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Returns the parser.
    pub fn into_parser(self) -> Parser {
        self.parser
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser::scanned_bytes;
    use super::super::pool::Pool;
    use super::*;
    use crate::meter::UNITS_PER_TURN;

    const MIB: usize = 1 << 20;

    /// Returns whether `unit` is an element, the number of turns, and the bytes scanned.
    fn check(unit: &str) -> (Result<bool, Error>, usize, u64) {
        let mut pool = Pool::new(b"<r>");
        let mut check = UnitCheck::new(pool.take());
        let (mut meter, mut turns, before) = (Meter::default(), 0, scanned_bytes());
        let verdict = loop {
            turns += 1;
            meter.refill();
            let done = check.proceed(unit.as_bytes(), &mut meter);
            // At most one unfinished token is scanned in addition, and a slice full of names.
            let most = UNITS_PER_TURN + 4 * unit.len().min(SLICE);
            let unfinished = check.parser.pending() > SLICE;
            assert!(unfinished || done.is_err() || meter.drawn() <= most);
            match done {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let verdict = verdict.map(|()| check.element().is_some());
        (verdict, turns, scanned_bytes() - before)
    }

    #[test]
    fn a_large_unit_takes_several_turns_and_no_byte_is_scanned_twice() {
        let elements = format!("<a>{}</a>", "<b/>".repeat(MIB / 4));
        let text = format!("<a>{}</a>", "text &lt; \u{20ac}\r\n]".repeat(MIB / 17));
        let cdata = format!("<a><![CDATA[{}]]></a>", "x]".repeat(MIB / 2));
        for unit in [elements, text, cdata] {
            let (verdict, turns, scanned) = check(&unit);
            assert_eq!(verdict, Ok(true));
            assert!(turns >= unit.len() / UNITS_PER_TURN, "{turns} turns");
            assert!(scanned < unit.len() as u64 + 1000, "{scanned}");
        }
    }

    #[test]
    fn names_that_are_new_to_expat_take_more_turns() {
        let elements = |name: &dyn Fn(usize) -> String| {
            let names: String = (0..7000).map(|n| format!("<{}/>", name(n))).collect();
            format!("<a>{names}</a>")
        };
        let (old, new) = (
            elements(&|_| "n9999".into()),
            elements(&|n| format!("n{n:04}")),
        );
        assert_eq!(old.len(), new.len());
        let turns = |unit| check(unit).1;
        let (old_turns, new_turns) = (turns(&old), turns(&new));
        assert_eq!(old_turns, old.len().div_ceil(UNITS_PER_TURN));
        assert!(new_turns > old_turns, "{new_turns}");
    }

    #[test]
    fn attributes_take_more_turns_than_their_bytes() {
        let unit = format!("<a>{}</a>", "<b c='' d=''/>".repeat(10_000));
        let (_, turns, _) = check(&unit);
        let of_bytes = unit.len().div_ceil(UNITS_PER_TURN);
        assert!(turns > of_bytes + of_bytes / 4, "{turns} turns");
    }

    #[test]
    fn a_long_token_is_scanned_a_few_times_at_the_most() {
        for token in ["<b c='", "&", "&#", "<!--", "<?x "] {
            let unit = format!("<a>{token}{}", "1".repeat(MIB));
            let (_, _, scanned) = check(&unit);
            assert!(scanned <= 4 * unit.len() as u64, "{token}: {scanned}");
        }
    }
}
