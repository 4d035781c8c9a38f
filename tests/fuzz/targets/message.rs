//! The check of client messages, with parsers from a pool that other messages have used,
//! compared with a namespace-aware parser that reads the message as a document. A zero
//! byte ends a message.
#![no_main]

use jabsocket::expat::{Error, MAX_TAG, Parser, Token};
use jabsocket::meter::Meter;
use jabsocket::proto::xmpp::client_message::{self, First, Message};
use jabsocket::proto::xmpp::error::StreamError;
use jabsocket::proto::xmpp::{Dialect, Parsers, ns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let mut parsers = Parsers::default();
    for text in input.split('\0') {
        check_first(&parsers, text);
        check_message(&mut parsers, text);
    }
    // The parsers in the pool still work.
    let sound = "<a xmlns='b'><c/></a>";
    assert_eq!(read(&mut parsers, sound), Ok(Message::Element(sound)));
    assert!(read(&mut parsers, "<p:a/>").is_err());
});

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

/// Namespace and local name of the root of a document.
fn judge(text: &str) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut parser = Parser::new(0);
    parser.finish(text.as_bytes())?;
    let Some(Token::Start(tag)) = parser.tokens().first() else {
        panic!("a document without a root");
    };
    let (namespace, local) = parser.name(tag);
    Ok((namespace.to_vec(), local.to_vec()))
}

fn check_message(parsers: &mut Parsers, text: &str) {
    // A tag that is too long is always refused.
    if text.len() > MAX_TAG {
        return;
    }
    let verdict = read(parsers, text);
    if verdict == Ok(Message::Blank) {
        return assert!(text.bytes().all(|byte| b" \t\r\n".contains(&byte)));
    }
    let judged = judge(text);
    // In a pool's parser an element stands one deeper.
    if judged == Err(Error::TooDeep) || verdict == Err(StreamError::TooDeep) {
        return assert!(verdict.is_err());
    }
    let framing = |(namespace, local): &(Vec<u8>, Vec<u8>)| {
        (namespace == ns::FRAMING.as_bytes()).then(|| local.clone())
    };
    match (verdict, judged) {
        (Ok(Message::Element(element)), Ok(root)) => {
            assert_eq!(framing(&root), None);
            assert!(element.starts_with('<') && element.ends_with('>'));
            // The document is relayed without its XML declaration.
            assert_eq!(judge(element), Ok(root));
            assert!(text.contains(element) && !element.starts_with("<?"));
        }
        (Ok(Message::Open(_)), Ok(root)) => {
            assert_eq!(framing(&root).as_deref(), Some(&b"open"[..]))
        }
        (Ok(Message::Close), Ok(root)) => {
            assert_eq!(framing(&root).as_deref(), Some(&b"close"[..]))
        }
        (Ok(Message::StartTls), Ok((namespace, local))) => {
            assert_eq!(
                (&namespace[..], &local[..]),
                (ns::TLS.as_bytes(), &b"starttls"[..])
            );
        }
        (Ok(Message::Compress), Ok((namespace, local))) => {
            assert_eq!(
                (&namespace[..], &local[..]),
                (ns::COMPRESS.as_bytes(), &b"compress"[..])
            );
        }
        (Err(StreamError::UnsupportedStanzaType(_)), Ok(root)) => {
            let is_stream = root == (ns::STREAMS.into(), b"stream".to_vec());
            assert!(framing(&root).is_some() || is_stream);
        }
        (Err(StreamError::InvalidNamespace), Ok((namespace, local))) => {
            assert!(matches!(&local[..], b"open" | b"close"));
            assert!(namespace.is_empty() || namespace == ns::CLIENT.as_bytes());
        }
        // A long namespace.
        (Err(StreamError::LongTag), Ok(_)) => assert!(text.len() > 256),
        // White space before an element is valid in a document but not in a message.
        (Err(StreamError::BadFormat(_)), Ok(_)) => assert!(!text.starts_with('<')),
        (Err(_), Err(_)) => {}
        (verdict, judged) => panic!("{verdict:?} but {judged:?}"),
    }
}

fn check_first(parsers: &Parsers, text: &str) {
    let judged = judge(text);
    match client_message::first(parsers, text) {
        Ok(First::Framed(_)) => {
            let root = (ns::FRAMING.into(), b"open".to_vec());
            assert_eq!(judged, Ok(root));
        }
        Ok(First::Close) => {
            let root = (ns::FRAMING.into(), b"close".to_vec());
            assert_eq!(judged, Ok(root));
        }
        Ok(First::Draft { tag, rest, .. }) => {
            assert!(tag.starts_with('<') && !tag.ends_with('>'));
            // With an end tag it is a document if the rest is valid content.
            let name = tag[1..].split([' ', '\t', '\r', '\n', '/']).next();
            assert!(name.is_some_and(|name| name.ends_with("stream")), "{tag}");
            assert!(text.contains(tag) && text.ends_with(rest));
        }
        Err((Dialect::Framed | Dialect::Draft, _)) => {}
    }
}
