//! How many bytes Expat scans. The input is random bytes from every kind of token, in
//! random pieces, from either side. Expat scans at most four bytes per byte of input.

use super::random::Random;
use jabsocket::expat::{heap_bytes, scanned_bytes};
use jabsocket::meter::Meter;
use jabsocket::proto::xmpp::features::Changes;
use jabsocket::proto::xmpp::server_stream::{Flow, ServerStream, Unit};
use jabsocket::proto::xmpp::starttls::Dialogue;
use jabsocket::proto::xmpp::{Parsers, client_message, starttls};

const HEADER: &str = "<?xml version='1.0'?><stream:stream id='i' version='1.0' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' from='h'>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>&#65;</success>";
const MIB: usize = 1 << 20;

/// Parts of tokens, and bytes that break tokens.
const PARTS: [&str; 34] = [
    "<a>",
    "</a>",
    "<a/>",
    "<p:a xmlns:p='u' p:b='c'>",
    "</p:a>",
    "<a b='",
    "<a xmlns='",
    "'/>",
    "'>",
    "\"",
    ">",
    "/>",
    "<",
    "</",
    "<!-- ",
    "-->",
    "<!-",
    "<?x ",
    "<?xml version='1.0'?>",
    "?>",
    "<![CDATA[",
    "]]>",
    "]",
    "&lt;",
    "&#65;",
    "&",
    "&#1",
    "<!DOCTYPE a>",
    "text",
    " ",
    "\r\n",
    "\u{20ac}",
    SUCCESS,
    HEADER,
];

/// Strings to repeat, for long tokens and elements.
const LONG: [&str; 8] = ["x", ">", "]", "<b/>", "&lt;", "a='>' ", "&", "-"];

/// A mostly well-formed document, because parsing stops at the first error.
fn document(random: &mut Random, size: usize) -> String {
    let mut text = String::new();
    let kinds = 1 + random.below(PARTS.len());
    let parts: Vec<&str> = (0..kinds).map(|_| random.pick(&PARTS)).collect();
    while text.len() < size {
        match random.below(24) {
            0 => text += &random.pick(&LONG).repeat(1 + random.below(size)),
            1 => text += &format!("<a b='{}'/>", ">".repeat(random.below(2000))),
            2 => text += &format!("<a>&#65;{}</a>", "]x".repeat(random.below(2000))),
            3 => text += &format!("{SUCCESS}{HEADER}"),
            4..10 => text += "<a b='&lt;'><p:c xmlns:p='d'/><![CDATA[<]]></a>",
            _ => text += parts[random.below(parts.len())],
        }
    }
    text
}

fn pieces<'a>(text: &'a [u8], longest: usize, random: &mut Random) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(longest)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Feeds `text` in pieces of up to `longest` bytes until an error; returns the number of
/// bytes fed.
fn stream(text: &[u8], longest: usize, random: &mut Random) -> usize {
    let (mut parsers, mut stream, mut meter) = (
        Parsers::default(),
        ServerStream::default(),
        Meter::default(),
    );
    let mut fed = 0;
    for piece in pieces(text, longest, random) {
        fed += piece.len();
        let mut fresh = piece;
        loop {
            meter.refill();
            let pause = [Flow::Continue, Flow::Pause][random.below(2)];
            let fed_to = stream.feed(&mut parsers.stream, fresh, MIB, &mut meter, |unit| {
                // Like the relay.
                if let Unit::Element(element) = unit
                    && element.is("jabber:client", "features")
                {
                    let _ = Changes::default().write(&element, true, &mut Vec::new());
                }
                pause
            });
            fresh = &[];
            match fed_to {
                Ok(Flow::Pause) => {}
                Ok(Flow::Continue) => break,
                Err(_) => return fed,
            }
        }
    }
    fed
}

fn dialogue(text: &[u8], longest: usize, random: &mut Random) -> usize {
    let (mut parsers, mut dialogue, mut meter) =
        (Parsers::default(), Dialogue::default(), Meter::default());
    let mut fed = 0;
    for piece in pieces(text, longest, random) {
        fed += piece.len();
        match dialogue.feed(&mut parsers.stream, piece, &mut meter) {
            Ok(starttls::Progress::Wait | starttls::Progress::Ask) => {}
            _ => break,
        }
    }
    fed
}

fn messages(text: &str) {
    let (mut parsers, mut begun, mut meter) = (Parsers::default(), None, Meter::default());
    let _ = client_message::first(&parsers, text);
    while let Ok(None) = client_message::read(&mut parsers, text, &mut begun, &mut meter) {
        meter.refill();
    }
}

/// The number of bytes that Expat scans per byte that `run` reports as input.
fn check(what: &str, run: impl FnOnce() -> usize) {
    let before = scanned_bytes();
    let received = run() as u64;
    let scanned = scanned_bytes() - before;
    // A parser of the pool reads its root only once.
    assert!(
        scanned <= 4 * received + 200,
        "{what}: {scanned} bytes scanned of {received}"
    );
}

#[test]
fn a_token_without_an_end_is_scanned_once() {
    for open in [
        "<a><!-- ",
        "<a><?x ",
        "<a>&",
        "<a b='",
        "<a><![CDATA[",
        "<?xml ",
    ] {
        let mut text = open.to_owned();
        while text.len() < MIB {
            text += "<x>";
            text += &"T".repeat(48);
        }
        check(open, || {
            messages(&text);
            // As first and as later message.
            2 * text.len()
        });
        let text = format!("{HEADER}{text}");
        for longest in [100, 16 << 10] {
            check(open, || stream(text.as_bytes(), longest, &mut Random(1)));
            check(open, || dialogue(text.as_bytes(), longest, &mut Random(1)));
        }
    }
}

#[test]
fn whatever_comes_is_scanned_a_few_times_at_the_most() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut read, mut all) = (0, 0);
    for round in 0..4000 {
        let size = [300, 3000, 100_000][random.below(40).saturating_sub(37)];
        let body = document(&mut random, size);
        let header = [HEADER, HEADER, "<?xml version='1.0'?>", ""][random.below(4)];
        let features = ["", "<stream:features>", "<stream:error>"][random.below(3)];
        let text = format!("{header}{features}{body}");
        let longest = [1, 30, 3000, 1 << 20][random.below(4)];
        let what = format!("round {round}");
        check(&what, || {
            let fed = stream(text.as_bytes(), longest, &mut random);
            read += fed;
            fed
        });
        check(&what, || dialogue(text.as_bytes(), longest, &mut random));
        check(&what, || {
            messages(&body);
            2 * body.len()
        });
        all += text.len();
        assert!(heap_bytes() == 0, "parsers are left");
    }
    assert!(read > all / 20, "only {read} bytes of {all} were read");
}
