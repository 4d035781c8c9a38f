//! A free list of parsers, parked inside their root element.
//!
//! Between two first-level elements a parser has no state that matters, so any parser can serve
//! any session, and an idle session needs none. A parser that failed is dropped instead of
//! parked, and so is one that has grown: Expat keeps every distinct name that it has read.

use super::limits::{Error, Limits};
use super::parser::Parser;

/// Maximum memory of a parked parser, in bytes; a new parser holds 10 KiB.
const MAX_HEAP: usize = 64 << 10;
/// Maximum number of parked parsers.
const MAX_PARKED: usize = 32;

/// Parked parsers, each with the same root element open.
pub struct Pool {
    root: &'static [u8],
    limits: Limits,
    parked: Vec<Parser>,
}

impl Pool {
    /// Creates a pool of parsers that have read the start tag `root`.
    pub fn new(root: &'static [u8]) -> Pool {
        Pool {
            root,
            limits: Limits::DEFAULT,
            parked: Vec::new(),
        }
    }

    /// Sets the limits of future parsers, and drops the parked ones.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.parked.clear();
    }

    /// The limits of its parsers.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns a parser at the start of a document, with the pool's limits, that reports only
    /// the root. It must not be parked.
    pub fn fresh(&self) -> Parser {
        Parser::bounded(0, self.limits)
    }

    /// Returns a parser inside an open root element, which reports tags at depth 1.
    pub fn take(&mut self) -> Parser {
        self.parked
            .pop()
            .unwrap_or_else(|| self.inside(self.root).expect("the root tag parses"))
    }

    /// Returns a parser inside a root with this start tag. It must not be parked.
    ///
    /// # Errors
    /// The tag is not well-formed.
    pub fn inside(&self, root: &[u8]) -> Result<Parser, Error> {
        let mut parser = Parser::bounded(1, self.limits);
        parser.feed(root)?;
        parser.forget();
        Ok(parser)
    }

    /// Parks `parser`. The last byte that it got must be the end of a first-level element.
    pub fn put(&mut self, mut parser: Parser) {
        parser.forget();
        if self.parked.len() < MAX_PARKED && parser.heap_bytes() <= MAX_HEAP {
            self.parked.push(parser);
        }
    }

    /// Returns the number of parked parsers.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::heap_bytes;
    use super::*;

    #[test]
    fn a_parser_serves_one_document_after_another() {
        let mut pool = Pool::new(b"<r>");
        for i in 0..100 {
            let mut parser = pool.take();
            let start = parser.position();
            parser.feed(b"<a/>").unwrap();
            assert_eq!(parser.tokens().len(), 2, "turn {i}");
            assert_eq!(parser.position() - start, 4);
            pool.put(parser);
            assert_eq!(pool.parked(), 1);
        }
    }

    #[test]
    fn grown_parsers_are_not_parked() {
        let mut pool = Pool::new(b"<r>");
        let attribute = "x".repeat(MAX_HEAP);
        let names: String = (0..2000).map(|n| format!("<n{n} a{n}=''/>")).collect();
        for (element, parked) in [
            (format!("<a>{}</a>", "<b/>text".repeat(100_000)), 1),
            (format!("<a b='{attribute}'/>"), 0),
            (format!("<a>{names}</a>"), 0),
        ] {
            let mut parser = pool.take();
            for piece in element.as_bytes().chunks(16 << 10) {
                parser.feed(piece).unwrap();
            }
            pool.put(parser);
            assert_eq!(pool.parked(), parked, "{}", &element[..20]);
        }
        assert_eq!(heap_bytes(), 0);
    }

    #[test]
    fn memory_is_counted_and_given_back() {
        let mut parser = Parser::new(0);
        let fresh = parser.heap_bytes();
        assert!((1000..20_000).contains(&fresh), "{fresh}");
        parser.feed(b"<r>").unwrap();
        for n in 0..10_000 {
            parser.feed(format!("<n{n} a{n}=''/>").as_bytes()).unwrap();
        }
        let grown = parser.heap_bytes();
        assert!(grown > fresh + 10_000, "{grown}");
        assert_eq!(heap_bytes(), grown);
        drop(parser);
        assert_eq!(heap_bytes(), 0);
    }
}
