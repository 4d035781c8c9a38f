//! The stream tokenizer, with random pieces and parsers from a pool that another stream
//! uses too, compared with one parser that has the whole document: both find the same
//! units and the same error.
#![no_main]

use jabsocket::expat::{self, Parser, Pool, Tag, Token, scanned_bytes};
use jabsocket::meter::Meter;
use jabsocket::proto::xmpp::server_stream::{Error, Flow, ServerStream, Unit};
use jabsocket::proto::xmpp::{Parsers, ns};
use jabsocket_fuzz::{Random, pieces};
use libfuzzer_sys::fuzz_target;

/// Larger than all inputs, because the pieces decide when a unit is too long.
const NO_LIMIT: usize = 1 << 20;
/// The depth to which names are compared.
const WATCH: u32 = 6;
/// Another stream, which makes the parsers of the pool change hands.
const OTHER: &[u8] = b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
    xmlns='jabber:client'><message xmlns:q='q'><q:b xmlns='z'/>&lt;</message> <iq/>\
    <a><b><c><d/></c></b></a><!-- broken -->";

/// A unit that owns its bytes. An element also with its inherited declarations.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Header(Vec<u8>),
    Element(Vec<u8>, Vec<u8>),
    End(Vec<u8>),
}

fuzz_target!(|input: &[u8]| {
    // This target does not check how early a unit is refused.
    let last = input.iter().rposition(|byte| *byte == b'>');
    let input = &input[..last.map_or(0, |last| last + 1)];
    let mut pool = Parsers::default().stream;
    let before = scanned_bytes();
    let (units, error, waits) = read(&mut pool, &[input]);
    // Escaping may make a root six times as long.
    let scanned = (scanned_bytes() - before) as usize;
    assert!(scanned <= 8 * input.len() + 200, "{scanned} bytes scanned");
    let among_others = read_among_others(&mut pool, input);
    assert_eq!(among_others, (units.clone(), error.is_some()));

    let (parts, verdict) = judge(input);
    if verdict == Verdict::Foreign {
        return assert!(error.is_some(), "read as a stream");
    }
    if matches!(error, Some(Error::Declarations | Error::TooBig)) {
        return;
    }
    assert!(units.len() >= parts.len(), "{units:?} {error:?}");
    for (unit, part) in units.iter().zip(&parts) {
        match unit {
            Seen::Header(bytes) | Seen::End(bytes) => assert_eq!(bytes, part.bytes),
            Seen::Element(bytes, alone) => {
                assert_eq!(bytes, part.bytes);
                assert_eq!(names_of_document(alone), part.names, "{alone:?}");
            }
        }
    }
    match verdict {
        Verdict::Sound => {
            assert_eq!(units.len(), parts.len());
            // The tokenizer refuses a unit at its first bytes. Expat waits for the last byte of
            // the unit, for the end of a text outside an element, or for the rest of a character
            // that the end of a tag has split.
            let is_early = matches!(
                error,
                Some(Error::Xml(
                    expat::Error::Restricted(_)
                        | expat::Error::NotWellFormed("text outside an element")
                ))
            );
            let is_cut = std::str::from_utf8(input).is_err();
            assert!(error.is_none() || is_early || is_cut, "{error:?}");
        }
        // A unit is checked when it is complete.
        Verdict::Broken => assert!(error.is_some() || waits, "{units:?}"),
        Verdict::Undecided | Verdict::Foreign => {}
    }
});

fn seen(unit: &Unit<'_>) -> Seen {
    match unit {
        Unit::Header { bytes, .. } => Seen::Header(bytes.to_vec()),
        Unit::Element(element) => Seen::Element(element.bytes.to_vec(), element.whole()),
        Unit::End { bytes } => Seen::End(bytes.to_vec()),
    }
}

/// The units, the error, and whether a unit is incomplete.
fn read(pool: &mut Pool, pieces: &[&[u8]]) -> (Vec<Seen>, Option<Error>, bool) {
    let mut stream = ServerStream::default();
    let mut units = Vec::new();
    for piece in pieces {
        let mut fresh = *piece;
        loop {
            let mut meter = Meter::default();
            let result = stream.feed(pool, fresh, NO_LIMIT, &mut meter, |unit| {
                units.push(seen(&unit));
                Flow::Continue
            });
            fresh = &[];
            match result {
                Ok(Flow::Continue) => break,
                Ok(Flow::Pause) => {}
                Err(error) => return (units, Some(error), false),
            }
        }
    }
    (units, None, stream.held() > 0)
}

/// The units of a stream in pieces, while another stream is read.
fn read_among_others(pool: &mut Pool, input: &[u8]) -> (Vec<Seen>, bool) {
    let (mut stream, mut other) = (ServerStream::default(), ServerStream::default());
    let mut units = Vec::new();
    let mut random = Random::seeded(input);
    let mut beside = OTHER.chunks(1 + random.below(30)).cycle();
    let mut meter = Meter::default();
    for piece in pieces(input) {
        meter.refill();
        let said = beside.next().unwrap_or_default();
        let fed = other.feed(pool, said, NO_LIMIT, &mut meter, |_| Flow::Continue);
        if fed.is_err() {
            other = ServerStream::default();
            beside = OTHER.chunks(1 + random.below(30)).cycle();
        }
        let mut fresh = piece;
        loop {
            if random.below(2) == 0 {
                meter.refill();
            }
            let flow = stream.feed(pool, fresh, NO_LIMIT, &mut meter, |unit| {
                units.push(seen(&unit));
                [Flow::Continue, Flow::Pause][random.below(2)]
            });
            fresh = &[];
            match flow {
                Ok(Flow::Pause) => {}
                Ok(Flow::Continue) => break,
                Err(_) => return (units, true),
            }
        }
    }
    (units, false)
}

/// What one parser finds.
#[derive(Debug, PartialEq)]
enum Verdict {
    Sound,
    /// Not XML, or not a stream.
    Broken,
    /// Not decided here.
    Undecided,
    /// The root is not a stream.
    Foreign,
}

/// Namespace and local name.
type Name = (Vec<u8>, Vec<u8>);

/// A unit and the names in it, to some depth.
struct Part<'a> {
    bytes: &'a [u8],
    names: Vec<Name>,
}

fn names_of_document(text: &[u8]) -> Vec<Name> {
    let mut parser = Parser::new(WATCH - 1);
    assert_eq!(parser.finish(text), Ok(()), "{text:?}");
    let tags = parser.tokens().iter().filter_map(|token| match token {
        Token::Start(tag) => Some(name(&parser, tag)),
        Token::End { .. } => None,
    });
    tags.collect()
}

fn name(parser: &Parser, tag: &Tag) -> Name {
    let (namespace, local) = parser.name(tag);
    (namespace.to_vec(), local.to_vec())
}

/// Reads all documents, each with its own parser.
fn judge(input: &[u8]) -> (Vec<Part<'_>>, Verdict) {
    let mut parts = Vec::new();
    let mut rest = input;
    loop {
        match document(rest, &mut parts) {
            Ok(after) => rest = after,
            Err(verdict) => return (parts, verdict),
        }
    }
}

fn blanks(bytes: &[u8]) -> usize {
    let blank = bytes.iter().take_while(|byte| b" \t\r\n".contains(byte));
    blank.count()
}

fn check_gap(bytes: &[u8]) -> Result<(), Verdict> {
    match blanks(bytes) == bytes.len() {
        true => Ok(()),
        false => Err(Verdict::Broken),
    }
}

/// Whether the end of the document, or an element named like a stream error, is next.
fn ends_here(rest: &[u8]) -> bool {
    let rest = &rest[blanks(rest)..];
    let tag = rest.strip_prefix(b"<").unwrap_or_default();
    let ends = |byte: &u8| b" \t\r\n/>".contains(byte);
    let name = &tag[..tag.iter().position(ends).unwrap_or(tag.len())];
    let is_error = name.rsplit(|byte| *byte == b':').next() == Some(b"error");
    tag.starts_with(b"/") || (is_error && name.len() <= 256)
}

/// Reads one document; returns the rest if the stream restarts there.
fn document<'a>(input: &'a [u8], parts: &mut Vec<Part<'a>>) -> Result<&'a [u8], Verdict> {
    let input = &input[blanks(input)..];
    match input {
        [] => return Err(Verdict::Sound),
        [b'<', 0, ..] => return Err(Verdict::Foreign),
        [b'<', ..] => {}
        _ => return Err(Verdict::Broken),
    }
    let mut parser = Parser::new(WATCH);
    let verdict = parser.feed(input);
    let mut at = 0;
    let mut open: Option<(usize, Vec<Name>)> = None;
    for token in parser.tokens() {
        match (token, &mut open) {
            (Token::Start(tag), None) if tag.depth == 0 => {
                at = tag.end as usize;
                let is_stream = parser.name(tag) == (ns::STREAMS.as_bytes(), b"stream");
                if !is_stream || input[at - 2] == b'/' {
                    return Err(Verdict::Foreign);
                }
                parts.push(Part {
                    bytes: &input[..at],
                    names: Vec::new(),
                });
            }
            (Token::Start(tag), Some((_, names))) => names.push(name(&parser, tag)),
            (Token::Start(tag), None) => {
                check_gap(&input[at..tag.start as usize])?;
                open = Some((tag.start as usize, vec![name(&parser, tag)]));
            }
            (Token::End { depth: 1, end }, Some((start, names))) => {
                at = *end as usize;
                let restart = names[0] == (ns::SASL.into(), b"success".to_vec());
                parts.push(Part {
                    bytes: &input[*start..at],
                    names: std::mem::take(names),
                });
                open = None;
                if restart && !ends_here(&input[at..]) {
                    return Ok(&input[at..]);
                }
            }
            (Token::End { depth: 0, end }, _) => {
                let end = *end as usize;
                let start = input[..end].iter().rposition(|byte| *byte == b'<');
                let start = start.unwrap_or(at);
                check_gap(&input[at..start])?;
                parts.push(Part {
                    bytes: &input[start..end],
                    names: Vec::new(),
                });
                return Err(Verdict::Sound);
            }
            (Token::End { .. }, _) => {}
        }
    }
    if verdict.is_ok() {
        let text = &input[at + blanks(&input[at..])..];
        // For the parser, this end tag continues after the input, inside a character.
        if open.is_none() && text.starts_with(b"</") {
            return Err(Verdict::Undecided);
        }
        let is_text = open.is_none() && text.first().is_some_and(|byte| *byte != b'<');
        return Err(if is_text {
            Verdict::Broken
        } else {
            Verdict::Sound
        });
    }
    // The parser does not see what follows the error, which may restart the stream.
    let success = input.windows(7).any(|word| word == b"success");
    match success {
        true => Err(Verdict::Undecided),
        false => Err(Verdict::Broken),
    }
}
