//! The classification of client messages, and messages that are never relayed.

use jabsocket::expat::Limits;
use jabsocket::meter::Meter;
use jabsocket::proto::xmpp::client_message::{self, First, Message, ends_draft, is_draft_end};
use jabsocket::proto::xmpp::error::StreamError;
use jabsocket::proto::xmpp::header::Header;
use jabsocket::proto::xmpp::{Dialect, Parsers, ns};

const STREAM: &str =
    "<stream:stream to='d' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";

fn first(text: &str) -> Result<First<'_>, (Dialect, StreamError)> {
    client_message::first(&Parsers::default(), text)
}

/// Reads a whole message.
fn read<'a>(parsers: &mut Parsers, text: &'a str) -> Result<Message<'a>, StreamError> {
    let (mut begun, mut meter) = (None, Meter::default());
    loop {
        meter.refill();
        if let Some(message) = client_message::read(parsers, text, &mut begun, &mut meter)? {
            return Ok(message);
        }
    }
}

fn open(attributes: &str) -> String {
    format!("<open xmlns='{}'{attributes}/>", ns::FRAMING)
}

fn to(domain: &str) -> Header {
    Header {
        to: Some(domain.to_owned()),
        ..Header::default()
    }
}

#[test]
fn an_open_in_any_spelling_chooses_the_framed_dialect() {
    for text in [
        open(" to='d'"),
        format!("<open to=\"d\"\n xmlns=\"{}\"></open>", ns::FRAMING),
        format!("<f:open to='d' xmlns:f='{}' />", ns::FRAMING),
        format!("<?xml version='1.0' encoding='UTF-8'?>{}", open(" to='d'")),
        open(" to='d'") + " \r\n",
        open(" to='d' xmlns:stream='http://etherx.jabber.org/streams'"),
    ] {
        assert_eq!(first(&text), Ok(First::Framed(to("d"))), "{text}");
    }
}

#[test]
fn a_stream_start_tag_chooses_the_draft() {
    let tag = STREAM;
    for (text, rest) in [
        (format!("{STREAM}>"), ""),
        (format!("<?xml version='1.0'?>{STREAM}>"), ""),
        (format!("{STREAM}/>"), ""),
        (format!("{STREAM}/>\n"), "\n"),
        (format!("{STREAM}><auth/>"), "<auth/>"),
    ] {
        let header = to("d");
        assert_eq!(
            first(&text),
            Ok(First::Draft { header, tag, rest }),
            "{text}"
        );
    }
}

#[test]
fn a_first_message_that_opens_nothing() {
    let framed = |error| Err((Dialect::Framed, error));
    let draft = |error| Err((Dialect::Draft, error));
    assert_eq!(
        first(&format!("<close xmlns='{}'/>", ns::FRAMING)),
        Ok(First::Close)
    );
    for (text, verdict) in [
        (
            "<open to='d'/>".to_owned(),
            framed(StreamError::InvalidNamespace),
        ),
        ("<close/>".to_owned(), framed(StreamError::InvalidNamespace)),
        (
            "<stream:stream xmlns:stream='x'>".to_owned(),
            draft(StreamError::InvalidNamespace),
        ),
        (
            "<stream to='d'>".to_owned(),
            draft(StreamError::InvalidNamespace),
        ),
        (
            "<open xmlns='x'".to_owned(),
            framed(StreamError::NotWellFormed),
        ),
        (
            open("")[..20].to_owned(),
            framed(StreamError::NotWellFormed),
        ),
        (open("") + &open(""), framed(StreamError::NotWellFormed)),
        (
            "<f:open xmlns='x'/>".to_owned(),
            framed(StreamError::NotWellFormed),
        ),
        (
            format!("<!-- -->{}", open("")),
            framed(StreamError::RestrictedXml),
        ),
        (
            format!("<!DOCTYPE open>{}", open("")),
            framed(StreamError::RestrictedXml),
        ),
        (
            format!("{}<!-- -->", open("")),
            framed(StreamError::RestrictedXml),
        ),
        (
            format!("<?xml version='1.0' encoding='UTF-16'?>{}", open("")),
            framed(StreamError::UnsupportedEncoding),
        ),
    ] {
        assert_eq!(first(&text), verdict, "{text}");
    }
    for text in ["", " ", "hello", " <open/>", "\u{feff}<open/>"] {
        let verdict = first(text);
        assert!(
            matches!(verdict, Err((_, StreamError::BadFormat(_)))),
            "{text:?}"
        );
    }
    let verdict = first("<presence xmlns='jabber:client'/>");
    assert!(matches!(verdict, Err((_, StreamError::NotAuthorized(_)))));
}

#[test]
fn one_whole_element_passes_as_it_is() {
    let mut parsers = Parsers::default();
    for text in [
        "<presence/>",
        "<message xmlns='jabber:client' to='a&gt;b'><body>]]&gt; \u{1f600}</body></message>",
        "<message><body><![CDATA[</message>]]></body></message>",
        "<p:x xmlns:p='urn:p' p:a='1'><p:y/></p:x>",
        "<a>&lt;&#x41;</a>",
    ] {
        assert_eq!(read(&mut parsers, text), Ok(Message::Element(text)));
        let spaced = format!("{text}\r\n \t");
        assert_eq!(read(&mut parsers, &spaced), Ok(Message::Element(text)));
        let declared = format!("<?xml version='1.0'?>\n{text}");
        assert_eq!(read(&mut parsers, &declared), Ok(Message::Element(text)));
    }
    assert_eq!(parsers.message.parked(), 1, "one parser served them all");
}

#[test]
fn the_elements_of_the_framing() {
    let mut parsers = Parsers::default();
    let close = format!("<close xmlns=\"{}\" />", ns::FRAMING);
    assert_eq!(read(&mut parsers, &close), Ok(Message::Close));
    assert_eq!(
        read(&mut parsers, &open(" to='d'")),
        Ok(Message::Open(to("d")))
    );
    let prefixed = format!("<f:close xmlns:f='{}'/>", ns::FRAMING);
    assert_eq!(read(&mut parsers, &prefixed), Ok(Message::Close));
    let odd = format!("<odd xmlns='{}'/>", ns::FRAMING);
    let verdict = read(&mut parsers, &odd);
    assert!(matches!(
        verdict,
        Err(StreamError::UnsupportedStanzaType(_))
    ));
    let other = "<close xmlns='urn:other'/>";
    assert_eq!(read(&mut parsers, other), Ok(Message::Element(other)));
    let starttls = format!("<starttls xmlns='{}'/>", ns::TLS);
    assert_eq!(read(&mut parsers, &starttls), Ok(Message::StartTls));
    let compress = format!(
        "<compress xmlns='{}'><method>zlib</method></compress>",
        ns::COMPRESS
    );
    assert_eq!(read(&mut parsers, &compress), Ok(Message::Compress));
    for blank in ["", " ", "\r\n\r\n"] {
        assert_eq!(read(&mut parsers, blank), Ok(Message::Blank));
    }
}

/// RFC 7395, section 3.3.2.
#[test]
fn a_stream_header_in_a_namespace_of_stanzas_is_refused() {
    let mut parsers = Parsers::default();
    for name in ["open", "close"] {
        for text in [
            format!("<{name}/>"),
            format!("<{name} xmlns='jabber:client' to='h'></{name}>"),
            format!("<c:{name} xmlns:c='jabber:client'/>"),
        ] {
            let outcome = read(&mut parsers, &text);
            assert_eq!(outcome, Err(StreamError::InvalidNamespace), "{text}");
        }
    }
}

#[test]
fn nothing_else_passes() {
    let mut parsers = Parsers::default();
    for text in [
        "</stream:stream>",
        "</r>",
        "</r><r>",
        "<a/></r>",
        "<a/></r><r><b/>",
        "<a/><b/>",
        "<a/> <b/>",
        "<a/>text",
        "<a/><b",
        "<a",
        "<a>",
        "<a><b></a>",
        "<a></b>",
        "<a b='1' b='2'/>",
        "<a><![CDATA[</a>",
        "<![CDATA[<a/>]]>",
        "<a/><![CDATA[x]]>",
        "<stream:error/>",
        "<a><p:b/></a>",
        "<a p:b='1'/>",
        "<a xmlns:p=''/>",
        "text",
        " <a/>",
        "\u{feff}<a/>",
        "<a>\u{1}</a>",
        "<a>\u{fffe}</a>",
        "<a>&#0;</a>",
        "<a>&e;</a>",
        "<a><!-- --></a>",
        "<!-- --><a/>",
        "<a/><!-- -->",
        "<a><?x y?></a>",
        "<?x y?><a/>",
        "<a/><?x y?>",
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
        "<?xml version='1.0'?>",
        "<?xml version='1.0'?><a/><b/>",
        "<?xml version='1.0' encoding='ISO-8859-1'?><a/>",
        "<a/><?xml version='1.0'?>",
        "<?xml version='1.0'?><?xml version='1.0'?><a/>",
        "<?xml versio='1.0'?><a/>",
        "<stream:stream xmlns:stream='http://etherx.jabber.org/streams'/>",
        "<stream xmlns='http://etherx.jabber.org/streams' to='d'></stream>",
        "<a><?xml version='1.0'?></a>",
    ] {
        let verdict = read(&mut parsers, text);
        assert!(verdict.is_err(), "{text:?} passed as {verdict:?}");
        // The parsers still work for the next session.
        assert_eq!(read(&mut parsers, "<b/>"), Ok(Message::Element("<b/>")));
    }
}

#[test]
fn depth_is_bounded() {
    let mut parsers = Parsers::default();
    let deep = "<a>".repeat(600) + &"</a>".repeat(600);
    assert_eq!(read(&mut parsers, &deep), Err(StreamError::TooDeep));
}

#[test]
fn limits_hold_for_every_message() {
    let mut parsers = Parsers::default();
    parsers.set_limits(Limits {
        depth: 9,
        attributes: 5,
        namespaces: 3,
    });
    let body = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
    let attributes = |n: u32| (0..n).map(|n| format!(" a{n}=''")).collect::<String>();
    let spaces = |n: u32| {
        (0..n)
            .map(|n| format!(" xmlns:n{n}='u'"))
            .collect::<String>()
    };
    let framed = |inner: String, body: String| {
        let text = open(&inner).replace("/>", ">") + &body + "</open>";
        client_message::first(&parsers, &text)
            .map(|_| ())
            .map_err(|(_, error)| error)
    };
    let many = Err(StreamError::TooManyAttributes);
    assert_eq!(framed(attributes(4), body(8)), Ok(()));
    assert_eq!(framed(spaces(2), String::new()), Ok(()));
    assert_eq!(framed(attributes(5), String::new()), many);
    assert_eq!(framed(spaces(3), String::new()), many);
    assert_eq!(framed(String::new(), body(9)), Err(StreamError::TooDeep));
    let draft = format!("{STREAM}{}>", attributes(3));
    let verdict = client_message::first(&parsers, &draft).map(|_| ());
    assert_eq!(
        verdict,
        Err((Dialect::Framed, StreamError::TooManyAttributes))
    );
    // The reference is for Expat: what needs no parser is within any limit in a configuration.
    let text = open(&(attributes(5) + " b='&lt;'"));
    assert_eq!(read(&mut parsers, &text).map(|_| ()), many);
}

/// Otherwise Expat would hash it for each of the attributes.
#[test]
fn namespaces_are_bounded() {
    let mut parsers = Parsers::default();
    let message = |namespace: usize| {
        let namespace = "u".repeat(namespace);
        format!(
            "<a xmlns:p='{namespace}'>{}</a>",
            "<b p:c=''/>".repeat(1000)
        )
    };
    let (short, long) = (message(256), message(257));
    assert!(read(&mut parsers, &short) == Ok(Message::Element(&short)));
    assert!(read(&mut parsers, &long) == Err(StreamError::LongTag));
    // One that the fast path could take.
    let plain = |len: usize| format!("<a xmlns='{}'/>", "u".repeat(len));
    assert!(read(&mut parsers, &plain(256)).is_ok());
    assert!(read(&mut parsers, &plain(257)) == Err(StreamError::LongTag));
    let declares = format!(" xmlns:p='{}'", "u".repeat(257));
    let inside = open("").replace("/>", &format!("><c{declares}/></open>"));
    for first in [open(&declares), inside] {
        let refused = client_message::first(&parsers, &first).unwrap_err();
        assert_eq!(refused, (Dialect::Framed, StreamError::LongTag));
    }
}

#[test]
fn a_large_message_is_judged_over_several_turns() {
    let mut parsers = Parsers::default();
    let large = format!("<a>{}</a>", "<p:b xmlns:p='c'/>".repeat(50_000));
    for (text, is_good) in [
        (large.clone(), true),
        (format!("<?xml version='1.0'?>{large} "), true),
        (large.replace("</a>", "<b></a></b>"), false),
    ] {
        let (mut begun, mut meter, mut turns) = (None, Meter::default(), 0);
        let verdict = loop {
            turns += 1;
            meter.refill();
            match client_message::read(&mut parsers, &text, &mut begun, &mut meter) {
                Ok(None) => assert!(begun.is_some()),
                verdict => break verdict,
            }
        };
        assert!(turns > 10, "{turns} turns");
        assert!(begun.is_none());
        match is_good {
            true => assert_eq!(verdict, Ok(Some(Message::Element(&large)))),
            false => assert!(verdict.is_err()),
        }
        assert_eq!(read(&mut parsers, "<b/>"), Ok(Message::Element("<b/>")));
    }
}

#[test]
fn prefixes_of_an_open_are_left_out() {
    let text = open(
        " to='d' xmlns:p='http://etherx.jabber.org/streams' xmlns:stream='s' p:a='1' \
         stream:a='2' xml:lang='de' a='3'",
    );
    let header = Header {
        lang: Some("de".to_owned()),
        others: vec![("a".to_owned(), "3".to_owned())],
        ..to("d")
    };
    assert_eq!(first(&text), Ok(First::Framed(header.clone())));
    let mut parsers = Parsers::default();
    assert_eq!(read(&mut parsers, &text), Ok(Message::Open(header)));
}

#[test]
fn a_namespace_of_one_message_does_not_reach_the_next() {
    let mut parsers = Parsers::default();
    let with = "<p:a xmlns:p='urn:p'/>";
    assert_eq!(read(&mut parsers, with), Ok(Message::Element(with)));
    assert_eq!(
        read(&mut parsers, "<p:a/>"),
        Err(StreamError::NotWellFormed)
    );
    let default = "<a xmlns='jabber:client'/>";
    assert_eq!(read(&mut parsers, default), Ok(Message::Element(default)));
    let framing = format!("<close xmlns='{}'/>", ns::FRAMING);
    assert_eq!(read(&mut parsers, &framing), Ok(Message::Close));
    assert_eq!(
        read(&mut parsers, "<close/>"),
        Err(StreamError::InvalidNamespace)
    );
}

#[test]
fn the_end_of_a_draft_stream() {
    for text in [
        "</stream:stream>",
        "</stream:stream >\r\n",
        "<a/></stream:stream>",
        "</stream>",
    ] {
        assert!(ends_draft(text), "{text}");
    }
    for text in [
        "<a/>",
        "",
        "<a><![CDATA[</stream:stream>]]></a>",
        "</stream:stream",
    ] {
        assert!(!ends_draft(text), "{text}");
    }
    assert!(is_draft_end("</stream:stream>\n") && is_draft_end("</stream >"));
    for text in [
        "</a><b/></stream:stream>",
        "<a/></stream:stream>",
        "</a>",
        "",
    ] {
        assert!(!is_draft_end(text), "{text}");
    }
}
