//! A free list of parsers parked at depth 1.
//!
//! At the boundary of two depth-1 elements a parser carries nothing into the
//! future, so any parser serves any session, and an idle session needs none.
//! Parsers that grew (Expat keeps every distinct name it ever saw) or that
//! failed are dropped instead of parked.

use super::parser::{Names, Parser};
use super::rules::Limits;

/// A parser is dropped once Expat was shown this much, in bytes.
const MAX_INPUT: u64 = 1 << 20;
/// A parser is dropped after an element of this size: its buffers grew.
const MAX_ELEMENT: u64 = 16 << 10;
/// Parsers kept at most: units are rarely cut in so many sessions at a time, and
/// each takes tens of kilobytes.
const MAX_PARKED: usize = 32;

/// Parsers of one kind, each with its root element open.
pub struct Pool {
    names: Names,
    root: &'static [u8],
    limits: Limits,
    parked: Vec<Parser>,
}

impl Pool {
    /// A pool of parsers that have read the start tag `root`.
    pub fn new(names: Names, root: &'static [u8]) -> Pool {
        Pool {
            names,
            root,
            limits: Limits::DEFAULT,
            parked: Vec::new(),
        }
    }

    /// Sets the limits of parsers from now on; those parked are dropped.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.parked.clear();
    }

    /// A parser at the start of a document, within the pool's limits; it is not
    /// to be parked.
    pub fn fresh(&self) -> Parser {
        Parser::bounded(self.names, 1, self.limits)
    }

    /// A parser inside an open root element; tags of depth 1 are reported.
    pub fn take(&mut self) -> Parser {
        self.parked.pop().unwrap_or_else(|| {
            let mut parser = self.fresh();
            parser.feed(self.root).expect("the root tag parses");
            parser.forget(true);
            parser
        })
    }

    /// Parks `parser` again. It must stand exactly behind the end of a depth-1
    /// element.
    pub fn put(&mut self, mut parser: Parser) {
        let fit = parser.shown() < MAX_INPUT && parser.take_largest() <= MAX_ELEMENT;
        if fit && self.parked.len() < MAX_PARKED {
            parser.forget(true);
            self.parked.push(parser);
        }
    }

    /// Parsers parked now.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_serves_one_document_after_another() {
        let mut pool = Pool::new(Names::Raw, b"<r>");
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
        let mut pool = Pool::new(Names::Raw, b"<r>");
        let attribute = "x".repeat(MAX_ELEMENT as usize);
        let mut parser = pool.take();
        parser
            .feed(format!("<a b='{attribute}'/>").as_bytes())
            .unwrap();
        pool.put(parser);
        assert_eq!(pool.parked(), 0);
        // Text that Expat was not shown does not count.
        let mut parser = pool.take();
        parser
            .feed(format!("<a>{attribute}</a>").as_bytes())
            .unwrap();
        pool.put(parser);
        assert_eq!(pool.parked(), 1);
        let mut parser = pool.take();
        for _ in 0..(MAX_INPUT / 1024) {
            parser.feed(&[b' '; 1024]).unwrap();
        }
        pool.put(parser);
        assert_eq!(pool.parked(), 0);
    }
}
