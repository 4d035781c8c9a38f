//! The server's stream. However it is split, the tokenizer reports the same units and the
//! same error, each unit with its last byte.

use crate::common::chop::chop;
use jabsocket::expat::{Error as XmlError, MAX_TAG, Parser, Pool, heap_bytes};
use jabsocket::meter::{Meter, UNITS_PER_TURN};
use jabsocket::proto::xmpp::server_stream::{Error, Flow, ServerStream, Unit};
use jabsocket::proto::xmpp::{Parsers, ns};

pub(crate) const HEADER: &str = "<?xml version='1.0'?><stream:stream id='i>d' version='1.0' \
    xml:lang='en' xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' from='h'>";
const LIMIT: usize = 4096;

/// A unit that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Header(String),
    /// The element with the declarations that it inherits.
    Element(String),
    End(String),
}

pub(crate) fn seen(unit: &Unit<'_>) -> Seen {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match unit {
        Unit::Header { bytes, .. } => Seen::Header(text(bytes)),
        Unit::Element(element) => {
            let mut whole = element.bytes[..element.name_end()].to_vec();
            element.inherited(&mut whole);
            whole.extend_from_slice(&element.bytes[element.name_end()..]);
            Seen::Element(text(&whole))
        }
        Unit::End { bytes } => Seen::End(text(bytes)),
    }
}

pub(crate) fn pool() -> Pool {
    Parsers::default().stream
}

/// Feeds bytes with a full meter.
pub(crate) fn feed(
    stream: &mut ServerStream,
    pool: &mut Pool,
    bytes: &[u8],
    each: impl FnMut(Unit<'_>) -> Flow,
) -> Result<Flow, Error> {
    stream.feed(pool, bytes, LIMIT, &mut Meter::default(), each)
}

/// The units of `pieces`, each with the number of bytes fed before it was reported.
fn timed(pieces: &[&[u8]]) -> (Vec<(Seen, usize)>, Option<Error>) {
    let (mut pool, mut stream) = (pool(), ServerStream::default());
    let (mut units, mut fed) = (Vec::new(), 0);
    for piece in pieces {
        fed += piece.len();
        let result = feed(&mut stream, &mut pool, piece, |unit| {
            units.push((seen(&unit), fed));
            Flow::Continue
        });
        if let Err(error) = result {
            return (units, Some(error));
        }
    }
    (units, None)
}

pub(crate) fn read(pieces: &[&[u8]]) -> (Vec<Seen>, Option<Error>) {
    let (units, error) = timed(pieces);
    (units.into_iter().map(|(unit, _)| unit).collect(), error)
}

fn elements(body: &str) -> Vec<String> {
    let text = format!("{HEADER}{body}");
    let (units, error) = chop(text.as_bytes(), read);
    assert_eq!(error, None);
    let element = |unit| match unit {
        Seen::Element(text) => Some(text),
        _ => None,
    };
    units.into_iter().filter_map(element).collect()
}

fn broken(body: &str) -> (usize, Error) {
    let text = format!("{HEADER}{body}");
    let (units, error) = chop(text.as_bytes(), read);
    (units.len() - 1, error.expect("no rule was broken"))
}

#[test]
fn every_cut_gives_the_same_units() {
    let body = "\n<stream:features><bind xmlns='b'/></stream:features>  \r\n\
        <r xmlns='urn:xmpp:sm:3'/><presence from='a&gt;b' to=\"c>d\"><show>away</show></presence>\
        <message\n  id='1'><body>]]&gt; <![CDATA[<not a tag>]]> \u{1f600}</body></message>\
        <iq/></stream:stream>";
    let text = format!("{HEADER}{body}");
    let (units, error) = chop(text.as_bytes(), read);
    assert_eq!(error, None);
    assert_eq!(units.len(), 7);
    assert_eq!(units[0], Seen::Header(HEADER.to_owned()));
    let streams = "xmlns:stream=\"http://etherx.jabber.org/streams\"";
    assert_eq!(
        units[1],
        Seen::Element(format!(
            "<stream:features xmlns=\"jabber:client\" {streams}><bind xmlns='b'/></stream:features>"
        ))
    );
    assert_eq!(
        units[2],
        Seen::Element("<r xmlns='urn:xmpp:sm:3'/>".to_owned())
    );
    assert_eq!(
        units[5],
        Seen::Element("<iq xmlns=\"jabber:client\"/>".to_owned())
    );
    assert_eq!(units[6], Seen::End("</stream:stream>".to_owned()));
}

#[test]
fn no_unit_is_late() {
    let units = [
        HEADER,
        "<stream:features><mechanisms xmlns='m'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
        "<message to='a@b'><body>x</body></message>",
        "<a/>",
        "</stream:stream>",
    ];
    let ends: Vec<usize> = units
        .iter()
        .scan(0, |sum, unit| {
            *sum += unit.len();
            Some(*sum)
        })
        .collect();
    chop(units.concat().as_bytes(), |pieces| {
        let (seen, _) = timed(pieces);
        let arrivals = pieces.iter().scan(0, |sum, piece| {
            *sum += piece.len();
            Some(*sum)
        });
        let arrivals: Vec<usize> = arrivals.collect();
        for ((_, came), end) in seen.iter().zip(&ends) {
            let due = arrivals.iter().find(|sum| *sum >= end);
            assert_eq!(Some(came), due, "a unit that ends at {end}");
        }
        seen.len()
    });
}

#[test]
fn a_sasl_success_is_followed_by_a_new_document() {
    let success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    let (units, error) = chop(
        format!("{HEADER}{success}\n{HEADER}<a xmlns='x'/>").as_bytes(),
        read,
    );
    assert_eq!(error, None);
    assert_eq!(units[2], Seen::Header(HEADER.to_owned()));
    assert_eq!(units.len(), 4);
    // Anything else but the end of the old stream is an error.
    let long = format!("<{}:error xmlns:{0}='u'/>", "p".repeat(256));
    for text in ["<features/>", "<errors/>", "<\0", &long] {
        let text = format!("{HEADER}{success}{text}");
        let (units, error) = chop(text.as_bytes(), read);
        assert_eq!((units.len(), error), (2, Some(Error::NotAStream)), "{text}");
    }
    let text = format!("{HEADER}{success}<{}", "x".repeat(LIMIT));
    assert_eq!(read(&[text.as_bytes()]).1, Some(Error::TooBig));
}

#[test]
fn a_stream_may_end_between_a_sasl_success_and_the_new_header() {
    let success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    for (header, error, end) in [
        (HEADER, "", "</stream:stream>"),
        (
            HEADER,
            "<stream:error><reset xmlns='e'/></stream:error>",
            "</stream:stream>",
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams'>",
            "<error><a xmlns='e'/></error>",
            "</stream >",
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams'>",
            "<error/>",
            "",
        ),
    ] {
        let text = format!("{header}{success}\n{error} {end}");
        let (units, broken) = chop(text.as_bytes(), read);
        assert_eq!(broken, None, "{text}");
        let mut units = units[2..].iter();
        if !error.is_empty() {
            let Some(Seen::Element(element)) = units.next() else {
                panic!("no error in {text}");
            };
            assert!(element.contains("error"), "{element}");
        }
        let ended = (!end.is_empty()).then(|| Seen::End(end.to_owned()));
        assert_eq!(units.next(), ended.as_ref(), "{text}");
    }
}

#[test]
fn a_sasl2_success_is_not() {
    let body = "<success xmlns='urn:xmpp:sasl:2'/><stream:features/>";
    assert_eq!(elements(body).len(), 2);
}

#[test]
fn inherited_namespaces_are_declared_where_they_are_used() {
    let header = HEADER.replace(
        "from='h'",
        "from='h' xmlns:db='urn:db\"&lt;' xmlns:unused='u'",
    );
    let text = format!(
        "{header}<message><db:x/></message><message xmlns='jabber:client' xmlns:db='own'><db:x/></message>\
         <db:root db:a='1'/><stream:error><a xmlns='e'/></stream:error>"
    );
    let (units, error) = read(&[text.as_bytes()]);
    assert_eq!(error, None);
    let expected = [
        "<message xmlns=\"jabber:client\" xmlns:db=\"urn:db&quot;&lt;\"><db:x/></message>",
        "<message xmlns='jabber:client' xmlns:db='own'><db:x/></message>",
        "<db:root xmlns=\"jabber:client\" xmlns:db=\"urn:db&quot;&lt;\" db:a='1'/>",
        "<stream:error xmlns=\"jabber:client\" xmlns:stream=\"http://etherx.jabber.org/streams\">\
         <a xmlns='e'/></stream:error>",
    ];
    for (unit, expected) in units[1..].iter().zip(expected) {
        assert_eq!(unit, &Seen::Element(expected.to_owned()));
        let judged = Parser::new(0).finish(expected.as_bytes());
        assert_eq!(judged, Ok(()));
    }
}

#[test]
fn other_names_of_the_root() {
    let header = "<stream xmlns='http://etherx.jabber.org/streams' xmlns:c='jabber:client'>";
    let text = format!("{header}<features/><c:message/><c:iq/></stream >");
    let (units, error) = chop(text.as_bytes(), read);
    assert_eq!(error, None);
    let streams = "xmlns=\"http://etherx.jabber.org/streams\"";
    assert_eq!(
        units[1..],
        [
            Seen::Element(format!("<features {streams}/>")),
            Seen::Element(format!("<c:message {streams} xmlns:c=\"jabber:client\"/>")),
            Seen::Element(format!("<c:iq {streams} xmlns:c=\"jabber:client\"/>")),
            Seen::End("</stream >".to_owned()),
        ]
    );
}

#[test]
fn what_is_no_stream_is_refused() {
    for text in [
        "<html xmlns='http://etherx.jabber.org/streams'>",
        "<stream:stream xmlns:stream='urn:other'>",
        "<stream>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>",
    ] {
        let (units, error) = chop(text.as_bytes(), read);
        assert_eq!((units.len(), error), (0, Some(Error::NotAStream)), "{text}");
    }
    let utf16: Vec<u8> = "<a/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(read(&[&utf16]).1, Some(Error::NotAStream));
    for text in ["HTTP/1.1 400 Bad\r\n", "\u{feff}<stream:stream>", "\0<"] {
        assert_eq!(chop(text.as_bytes(), read).1, Some(Error::Text), "{text:?}");
    }
    let unbound = Error::Xml(XmlError::NotWellFormed("unbound prefix"));
    assert_eq!(chop(b"<stream:stream>", read).1, Some(unbound));
    let many = format!(
        "{} xmlns:p='{uri}' xmlns:q='{uri}'>",
        &HEADER[..HEADER.len() - 1],
        uri = "u".repeat(200)
    );
    assert_eq!(read(&[many.as_bytes()]).1, Some(Error::Declarations));
}

#[test]
fn broken_rules_come_after_the_units_before_them() {
    let restricted = |what| Error::Xml(XmlError::Restricted(what));
    assert_eq!(broken("<a/><!-- x --><b/>"), (1, restricted("comment")));
    assert_eq!(
        broken("<a/><b><?x y?></b>"),
        (1, restricted("processing instruction"))
    );
    assert_eq!(
        broken("<a/><b>&e;</b>"),
        (1, restricted("entity reference"))
    );
    assert_eq!(broken("<a/><b/>text<c/>"), (2, Error::Text));
    assert_eq!(broken("<a/></wrong>"), (1, Error::WrongEndTag));
    assert_eq!(broken("<a/></stream:streams>"), (1, Error::WrongEndTag));
    let (units, error) = broken("<a/><b></c>");
    assert!(matches!(
        (units, error),
        (1, Error::Xml(XmlError::NotWellFormed(_)))
    ));
    let (units, error) = broken("<a/><b x='1' x='2'/>");
    assert!(matches!(
        (units, error),
        (1, Error::Xml(XmlError::NotWellFormed(_)))
    ));
}

#[test]
fn nothing_after_the_end_is_read() {
    let text = format!("{HEADER}<a xmlns='x'/></stream:stream><b/>garbage");
    let (units, error) = chop(text.as_bytes(), read);
    assert_eq!((units.len(), error), (3, None));
}

#[test]
fn units_are_bounded() {
    let exact = format!("<a>{}</a>", "x".repeat(LIMIT - 7));
    let over = format!("<a>{}</a>", "x".repeat(LIMIT - 6));
    for size in [1, 100, 10_000] {
        let read_in = |body: &str| {
            let text = format!("{HEADER}{body}");
            let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
            read(&pieces)
        };
        assert_eq!(read_in(&exact).1, None);
        assert_eq!(read_in(&over).1, Some(Error::TooBig));
        let endless = format!("<a {}", "x".repeat(LIMIT));
        assert_eq!(read_in(&endless).1, Some(Error::TooBig));
        let endless = format!("</stream:stream{}", " ".repeat(LIMIT));
        assert_eq!(read_in(&endless).1, Some(Error::TooBig));
        let header = |len: usize| HEADER.replace("i>d", &"i".repeat(len + 3 - HEADER.len()));
        for (len, error) in [(LIMIT, None), (LIMIT + 1, Some(Error::TooBig))] {
            let text = header(len);
            let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
            assert_eq!(read(&pieces).1, error);
        }
    }
}

#[test]
fn an_idle_stream_holds_no_parser_and_no_bytes() {
    let (mut pool, mut stream) = (pool(), ServerStream::default());
    let mut say = |text: &str| {
        let result = feed(&mut stream, &mut pool, text.as_bytes(), |_| Flow::Continue);
        assert_eq!(result, Ok(Flow::Continue));
        (pool.parked(), stream.held())
    };
    // Usual headers and elements need no parser, and others a header has for itself.
    assert_eq!(say(HEADER), (0, 0));
    let all_to_expat = usize::from(std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some());
    assert_eq!(say("<a/><b/>\r\n "), (all_to_expat, 0));
    assert_eq!(say("<a>&#65;"), (all_to_expat, 8));
    assert_eq!(say("</a>\r"), (1, 0));
    assert_eq!(say("<"), (1, 1));
    assert_eq!(say("a"), (1, 2));
    assert_eq!(say("/><a b='"), (1, 6));
    assert_eq!(say("&lt;'/>"), (1, 0));
}

#[test]
fn a_pause_keeps_the_rest_and_loses_nothing() {
    let body: String = (0..50).map(|i| format!("<a n='{i}'/>\n")).collect();
    let text = format!("{HEADER}{body}</stream:stream>");
    let (mut pool, mut stream) = (pool(), ServerStream::default());
    let (mut units, mut fresh) = (Vec::new(), text.as_bytes());
    loop {
        let flow = feed(&mut stream, &mut pool, fresh, |unit| {
            units.push(seen(&unit));
            Flow::Pause
        });
        fresh = &[];
        if flow.unwrap() == Flow::Continue {
            break;
        }
    }
    assert_eq!(units, read(&[text.as_bytes()]).0);
    assert_eq!(units.len(), 52);
}

#[test]
fn the_namespace_tells_the_kind_of_an_element() {
    let text = format!(
        "{HEADER}<stream:features/><features xmlns='{}'/><s:success xmlns:s='{}'/><features/>",
        ns::STREAMS,
        ns::TLS
    );
    let (mut pool, mut stream) = (pool(), ServerStream::default());
    let mut kinds = Vec::new();
    feed(&mut stream, &mut pool, text.as_bytes(), |unit| {
        if let Unit::Element(element) = unit {
            kinds.push((
                element.is(ns::STREAMS, "features"),
                element.is(ns::TLS, "success"),
            ));
        }
        Flow::Continue
    })
    .unwrap();
    assert_eq!(
        kinds,
        [(true, false), (true, false), (false, true), (false, false)]
    );
}

#[test]
fn prefixes_are_declared_by_the_header_or_the_element() {
    let unbound = Error::Xml(XmlError::NotWellFormed("unbound prefix"));
    assert_eq!(broken("<a/><p:b/>"), (1, unbound));
    assert_eq!(broken("<a xmlns:p='u'/><b p:c=''/>"), (1, unbound));
    let known = "<stream:a xml:lang='de'/><p:b xmlns:p='u' p:c=''/>";
    assert_eq!(elements(known).len(), 2);
    // Also after a different header.
    let header = HEADER.replace("from='h'", "from='h' xmlns:p='urn:p'");
    let text = format!("{header}<p:a/><stream:b/><p:c xmlns:p='q' p:d=''/><q:e/>");
    let (units, error) = chop(text.as_bytes(), read);
    assert_eq!((units.len(), error), (4, Some(unbound)));
}

/// An endless unit is kept as bytes, without a parser.
#[test]
fn an_unfinished_unit_holds_no_parser() {
    let (mut pool, mut stream, mut meter) = (pool(), ServerStream::default(), Meter::default());
    let mut text = format!("{HEADER}<a>");
    for n in 0.. {
        text += &format!("<n{n} a{n}=''/>");
        if text.len() > 1_000_000 {
            break;
        }
    }
    for piece in text.as_bytes().chunks(1000) {
        meter.refill();
        let flow = stream.feed(&mut pool, piece, 1 << 20, &mut meter, |_| Flow::Continue);
        assert_eq!(flow, Ok(Flow::Continue));
        assert!(heap_bytes() < 100_000, "{} bytes", heap_bytes());
    }
    assert_eq!(stream.held(), text.len() - HEADER.len());
}

#[test]
fn a_large_unit_is_judged_over_several_turns() {
    let unit = format!("<a xmlns='x'>{}</a>", "<p:b xmlns:p='c'/>".repeat(50_000));
    let text = format!("{HEADER}{unit}<a/>");
    let (mut pool, mut stream, mut meter) = (pool(), ServerStream::default(), Meter::default());
    let (mut units, mut turns) = (0, 0);
    let mut pieces = text.as_bytes().chunks(16 << 10);
    let mut fresh = pieces.next();
    while fresh.is_some() {
        meter.refill();
        let bytes = fresh.unwrap_or_default();
        let result = stream.feed(&mut pool, bytes, 1 << 20, &mut meter, |_| {
            units += 1;
            Flow::Continue
        });
        turns += 1;
        // The first scan of a large unit, and one slice of it.
        let most = UNITS_PER_TURN + (unit.len() / 4) + (64 << 10);
        assert!(meter.drawn() < most);
        fresh = match result.unwrap() {
            Flow::Continue => pieces.next(),
            Flow::Pause => Some(&[]),
        };
        let judging = fresh == Some(&[]) && units == 1;
        assert_eq!(stream.parser_bytes() > 0, judging);
    }
    assert_eq!((units, stream.held()), (3, 0));
    let reads = text.len().div_ceil(16 << 10);
    assert!(
        turns >= reads + unit.len() / UNITS_PER_TURN,
        "{turns} turns"
    );
}

#[test]
fn tags_and_namespaces_are_bounded_however_they_come() {
    let tag = |len: usize| format!("{HEADER}<a b='{}'/>", "x".repeat(len - 9));
    let namespace = |name: &str, len: usize| format!("{HEADER}<a {name}='{}'/>", "u".repeat(len));
    for (text, verdict) in [
        (tag(MAX_TAG), None),
        (tag(MAX_TAG + 1), Some(Error::TooBig)),
        (namespace("xmlns:p", 256), None),
        (namespace("xmlns:p", 257), Some(Error::TooBig)),
        (namespace("xmlns", 256), None),
        (namespace("xmlns", 257), Some(Error::TooBig)),
    ] {
        for size in [1 << 20, 1000, 1] {
            let (mut pool, mut stream) = (pool(), ServerStream::default());
            let error = text.as_bytes().chunks(size).find_map(|piece| {
                let mut meter = Meter::default();
                let fed = stream.feed(&mut pool, piece, 1 << 20, &mut meter, |_| Flow::Continue);
                fed.err()
            });
            assert_eq!(error, verdict);
        }
    }
}
