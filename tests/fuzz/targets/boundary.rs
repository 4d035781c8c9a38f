//! The search for the end of an element, with random pieces, compared with Expat: both
//! find the same end.
#![no_main]

use jabsocket::expat::{Boundary, Error, Limits, MAX_TAG, Parser, Token};
use jabsocket_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if input.first() != Some(&b'<') || input.len() > MAX_TAG {
        return;
    }
    let whole = Boundary::element(Limits::DEFAULT).feed(input);
    assert_eq!(find(&pieces(input)), whole);
    // A namespace is too long; Expat has no limit on it.
    if whole == Err(Error::LongTag) {
        return;
    }

    let mut parser = Parser::new(1);
    parser.feed(b"<r>").unwrap();
    parser.forget();
    let verdict = parser.feed(input);
    let end = parser.tokens().iter().find_map(|token| match token {
        Token::End { depth: 1, end } => Some(*end as usize - 3),
        _ => None,
    });
    let begins = matches!(parser.tokens().first(), Some(Token::Start(tag)) if tag.start == 3);
    match (whole, end) {
        // Expat may refuse the element, or see the last byte as part of a character.
        (Ok(Some(found)), Some(end)) => assert!(!begins || found == end, "{found} {end}"),
        (Ok(Some(_)), None) => assert!(verdict.is_err() || parser.pending() > 0),
        (_, end) => assert!(!begins || end.is_none(), "{whole:?} {end:?}"),
    }
});

fn find(pieces: &[&[u8]]) -> Result<Option<usize>, Error> {
    let (mut boundary, mut fed) = (Boundary::element(Limits::DEFAULT), 0);
    for piece in pieces {
        if let Some(used) = boundary.feed(piece)? {
            return Ok(Some(fed + used));
        }
        fed += piece.len();
    }
    Ok(None)
}
