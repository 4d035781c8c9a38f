//! The fast path for elements and for tags of roots, checked by Expat. If the fast path finds an
//! element, Expat finds the same element in the same bytes, whatever namespaces it inherits. If
//! it finds a tag, Expat accepts the tag. The bytes after it do not matter, and an incomplete
//! element or tag is not found.
#![no_main]

use jabsocket::expat::{Parser, Token, plain_element, plain_root};
use jabsocket_fuzz::{Random, pieces};
use libfuzzer_sys::fuzz_target;

fn check_root(input: &[u8]) {
    let Some(root) = plain_root(input, "open") else {
        return;
    };
    assert!(input.starts_with(root.bytes));
    let cut = Random::seeded(input).below(root.bytes.len());
    assert!(plain_root(&root.bytes[..cut], "open").is_none());
    let mut parser = Parser::new(0);
    for piece in pieces(root.bytes) {
        parser.feed(piece).unwrap();
    }
    assert_eq!(parser.tokens().len(), 1 + usize::from(root.is_empty));
    let Token::Start(tag) = &parser.tokens()[0] else {
        panic!("{:?}", parser.tokens());
    };
    assert_eq!(tag.end, root.bytes.len() as u64);
    let attributes = parser.declarations(tag).count() + parser.attributes(tag).count();
    assert_eq!(root.attributes().count(), attributes);
}

fuzz_target!(|input: &[u8]| {
    check_root(input);
    let Some(plain) = plain_element(input) else {
        return;
    };
    assert!(input.starts_with(plain.bytes));
    assert_eq!(plain_element(plain.bytes), Some(plain));
    let cut = Random::seeded(input).below(plain.bytes.len());
    assert_eq!(plain_element(&plain.bytes[..cut]), None);
    for (root, inherited) in [("<r>", ""), ("<r xmlns='urn:r' xmlns:p='urn:p'>", "urn:r")] {
        let mut parser = Parser::new(1);
        parser.feed(root.as_bytes()).unwrap();
        parser.forget();
        for piece in pieces(plain.bytes) {
            parser.feed(piece).unwrap();
        }
        let from = root.len() as u64;
        let (Token::Start(tag), Token::End { depth: 1, end }) =
            (&parser.tokens()[0], &parser.tokens()[1])
        else {
            panic!("{:?}", parser.tokens());
        };
        assert_eq!((tag.start, *end), (from, from + plain.bytes.len() as u64));
        assert_eq!(parser.tokens().len(), 2, "{:?}", parser.tokens());
        let namespace = plain.namespace.unwrap_or(inherited.as_bytes());
        assert_eq!(parser.name(tag), (namespace, plain.name));
        parser.finish(b"</r>").unwrap();
    }
});
