//! Tests of what a parser reports and refuses.

use super::super::check_library;
use super::*;

fn ends(parser: &Parser) -> Vec<(u32, u64)> {
    let end = |t: &Token| match t {
        Token::End { depth, end } => Some((*depth, *end)),
        Token::Start(_) => None,
    };
    parser.tokens().iter().filter_map(end).collect()
}

fn verdict(text: &str) -> Result<(), Error> {
    Parser::new(1).finish(text.as_bytes())
}

#[test]
fn the_library_is_usable() {
    assert_eq!(check_library(), Ok(()));
}

#[test]
fn reports_positions_of_tags() {
    let mut parser = Parser::new(1);
    parser
        .feed(b"<r a='1'><x xmlns='n' b='2'/><y><z/></y> ")
        .unwrap();
    assert_eq!(ends(&parser), [(1, 29), (1, 40)]);
    let Token::Start(root) = &parser.tokens()[0] else {
        panic!("no root")
    };
    let attributes: Vec<_> = parser.attributes(root).collect();
    assert_eq!(attributes, [((&b""[..], &b"a"[..]), &b"1"[..])]);
    let Token::Start(x) = &parser.tokens()[1] else {
        panic!("no child")
    };
    assert_eq!((x.start, x.end), (9, 29));
    assert_eq!(parser.name(x), (&b"n"[..], &b"x"[..]));
    let declarations: Vec<_> = parser.declarations(x).collect();
    assert_eq!(declarations, [(&b""[..], &b"n"[..])]);
    assert_eq!(parser.attributes(x).count(), 0);
}

#[test]
fn a_completed_tag_is_reported_at_once() {
    let text = b"<r><message to='a@b'><body>x</body></message></r>";
    for cut in 1..text.len() - 4 {
        let mut parser = Parser::new(1);
        parser.feed(&text[..cut]).unwrap();
        parser.feed(&text[cut..text.len() - 4]).unwrap();
        assert_eq!(ends(&parser), [(1, 45)], "cut at {cut}");
    }
}

#[test]
fn what_is_scanned_again_is_known() {
    let mut parser = Parser::new(1);
    let before = scanned_bytes();
    parser.feed(b"<r><a>text</a><b c='").unwrap();
    assert_eq!(parser.pending(), 6);
    parser.feed(b"more>more").unwrap();
    assert_eq!(parser.pending(), 15);
    parser.feed(b"'>and text").unwrap();
    assert!(parser.pending() <= 8, "{}", parser.pending());
    assert_eq!(scanned_bytes() - before, 20 + (6 + 9) + (15 + 10));
}

#[test]
fn refuses_restricted_xml() {
    for (text, what) in [
        ("<!DOCTYPE r [<!ENTITY e 'x'>]><r>&e;</r>", "document type"),
        ("<r><!-- x --></r>", "comment"),
        ("<r><?x y?></r>", "processing instruction"),
        ("<r>&e;</r>", "entity reference"),
    ] {
        assert_eq!(verdict(text), Err(Error::Restricted(what)));
    }
    assert_eq!(verdict("<r>&lt;&#x41;<![CDATA[<]]></r>"), Ok(()));
    let latin = "<?xml version='1.0' encoding='ISO-8859-1'?><r/>";
    assert_eq!(verdict(latin), Err(Error::Encoding));
    let utf8 = "<?xml version='1.0' encoding='utf-8'?><r/>";
    assert_eq!(verdict(utf8), Ok(()));
}

#[test]
fn nothing_is_reported_behind_a_violation() {
    let mut parser = Parser::new(1);
    assert!(parser.feed(b"<r><a/><!-- --><b/><c/>").is_err());
    assert_eq!(ends(&parser), [(1, 7)]);
    assert_eq!(parser.feed(b"<d/>"), Err(Error::Restricted("comment")));
}

#[test]
fn depth_is_bounded() {
    let deep = |n: u32| "<a>".repeat(n as usize) + &"</a>".repeat(n as usize);
    assert_eq!(verdict(&deep(Limits::DEFAULT.depth)), Ok(()));
    let too_deep = verdict(&deep(Limits::DEFAULT.depth + 1));
    assert_eq!(too_deep, Err(Error::TooDeep));
}

#[test]
fn names_are_resolved() {
    let error = verdict("<r><p:a/></r>").unwrap_err();
    assert_eq!(error, Error::NotWellFormed("unbound prefix"));
    let mut parser = Parser::new(1);
    parser
        .feed(b"<p:r xmlns:p='urn:p' p:x='1' xml:lang='de'><p:a xmlns:p='urn:x'/><b xmlns=''/>")
        .unwrap();
    let tags = parser.tokens().iter().filter_map(|token| match token {
        Token::Start(tag) => Some(tag),
        Token::End { .. } => None,
    });
    let tags: Vec<_> = tags.collect();
    let names: Vec<_> = tags.iter().map(|tag| parser.name(tag)).collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"urn:p", b"r"), (b"urn:x", b"a"), (b"", b"b")];
    assert_eq!(names, expected);
    let attributes: Vec<_> = parser.attributes(tags[0]).collect();
    let xml = (&b"http://www.w3.org/XML/1998/namespace"[..], &b"lang"[..]);
    let x = (&b"urn:p"[..], &b"x"[..]);
    assert_eq!(attributes, [(x, &b"1"[..]), (xml, &b"de"[..])]);
    let declared = |at: usize| parser.declarations(tags[at]).collect::<Vec<_>>();
    let expected: [(&[u8], &[u8]); 1] = [(b"p", b"urn:p")];
    assert_eq!(declared(0), expected);
    let expected: [(&[u8], &[u8]); 1] = [(b"p", b"urn:x")];
    assert_eq!(declared(1), expected);
    let expected: [(&[u8], &[u8]); 1] = [(b"", b"")];
    assert_eq!(declared(2), expected);
}

#[test]
fn attributes_and_declarations_of_an_element_are_bounded() {
    let limits = Limits {
        depth: 9,
        attributes: 6,
        namespaces: 3,
    };
    let tag = |attributes: u32, namespaces: u32| {
        let attributes = (0..attributes).map(|n| format!(" a{n}=''"));
        let namespaces = (0..namespaces).map(|n| format!(" xmlns:n{n}='u{n}'"));
        let all: String = attributes.chain(namespaces).collect();
        format!("<r><x><y{all}/><y{all}/></x></r>")
    };
    let verdict = |text: String| Parser::bounded(1, limits).finish(text.as_bytes());
    assert_eq!(verdict(tag(6, 0)), Ok(()));
    assert_eq!(verdict(tag(3, 3)), Ok(()));
    for (attributes, namespaces) in [(7, 0), (0, 4), (4, 3)] {
        let refused = verdict(tag(attributes, namespaces));
        assert_eq!(refused, Err(Error::TooManyAttributes));
    }
}
