//! What a client's message is: judged before anything reaches the server.
//!
//! Owns the choice of the dialect by the first message, and for RFC 7395 the
//! rule that every message is exactly one complete element that is well-formed
//! on its own (section 3.3.3). The parser resolves namespaces and knows none
//! beforehand: a prefix borrowed from the stream header is an error. What is
//! beyond doubt needs no parser.

use super::error::StreamError;
use super::header::{Header, root_name, split_name};
use super::{Dialect, Parsers, is_space, ns};
use crate::expat::{self, Names, Parser, Tag, Token};

/// What the first message of a client opened.
#[derive(Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// `<open/>`: the client speaks RFC 7395.
    Framed(Header),
    /// An unclosed stream start tag: the client speaks the draft.
    Draft {
        /// Its attributes.
        header: Header,
        /// The start tag as it stands, without its `>` or `/>`.
        tag: &'a str,
        /// What follows it in the message.
        rest: &'a str,
    },
    /// `<close/>` at once.
    Close,
}

/// One message of a client that speaks RFC 7395.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Empty or white space: swallowed.
    Blank,
    /// `<open/>`: a stream restart.
    Open(Header),
    /// `<close/>`.
    Close,
    /// `<starttls/>`, which has no place here (section 3.9).
    StartTls,
    /// `<compress/>` of XEP-0138, which has no place here either.
    Compress,
    /// Any other element, to be relayed as it is.
    Element(&'a str),
}

/// Judges the first message.
///
/// # Errors
/// The dialect in which to answer, and the stream error.
pub fn first(text: &str) -> Result<First<'_>, (Dialect, StreamError)> {
    let framed = |error| (Dialect::Framed, error);
    if !text.starts_with('<') {
        let rule = "the first character of a message must be '<'";
        return Err(framed(StreamError::BadFormat(rule)));
    }
    let mut parser = Parser::new(Names::Raw, 0);
    let verdict = parser.feed(text.as_bytes());
    let Some(Token::Start(tag)) = parser.tokens().first() else {
        let error = verdict.map_or_else(StreamError::from, |()| StreamError::NotWellFormed);
        return Err(framed(error));
    };
    let (namespace, local) = root_name(&parser, tag);
    if local == b"stream" {
        verdict.map_err(|error| (Dialect::Draft, error.into()))?;
        if namespace != ns::STREAMS.as_bytes() {
            return Err((Dialect::Draft, StreamError::InvalidNamespace));
        }
        return draft(text, &parser, tag).map_err(|error| (Dialect::Draft, error));
    }
    let names = whole(text).map_err(framed)?;
    let header = Header::read(&parser, tag);
    match (&names.namespace[..], &names.local[..]) {
        (space, b"open") if space == ns::FRAMING.as_bytes() => Ok(First::Framed(header)),
        (space, b"close") if space == ns::FRAMING.as_bytes() => Ok(First::Close),
        (_, b"open" | b"close") => Err(framed(StreamError::InvalidNamespace)),
        _ => {
            let rule = "the first message must be <open/>";
            Err(framed(StreamError::NotAuthorized(rule)))
        }
    }
}

fn draft<'a>(text: &'a str, parser: &Parser, tag: &Tag) -> Result<First<'a>, StreamError> {
    let (start, end) = (tag.start as usize, tag.end as usize);
    let whole = &text[start..end];
    let rest = &text[end..];
    let tag_text = match whole.strip_suffix("/>") {
        // Some clients of the time closed the tag to have a document.
        Some(tag) if rest.trim().is_empty() => tag,
        Some(_) => return Err(StreamError::NotWellFormed),
        None => whole.strip_suffix('>').unwrap_or(whole),
    };
    Ok(First::Draft {
        header: Header::read(parser, tag),
        tag: tag_text,
        rest,
    })
}

/// Judges a message behind the first.
///
/// # Errors
/// The stream error to answer with.
pub fn read<'a>(parsers: &mut Parsers, text: &'a str) -> Result<Message<'a>, StreamError> {
    let text = text.trim_end_matches([' ', '\t', '\r', '\n']);
    match text.as_bytes() {
        [] => return Ok(Message::Blank),
        // A declaration or a document type: not to be had inside a root.
        [b'<', b'?' | b'!', ..] => {
            let names = whole(text)?;
            let element = &text[names.start..];
            return classify(&names.namespace, &names.local, element);
        }
        [b'<', ..] => {}
        _ => {
            let rule = "the first character of a message must be '<'";
            return Err(StreamError::BadFormat(rule));
        }
    }
    if let Some(plain) = expat::plain_element(text.as_bytes())
        && plain.bytes.len() == text.len()
    {
        return classify(plain.namespace.unwrap_or_default(), plain.name, text);
    }
    let mut parser = parsers.message.take();
    let origin = parser.position();
    parser.feed(text.as_bytes())?;
    let tag = match parser.tokens() {
        [Token::Start(tag), Token::End { depth: 1, end }]
            if tag.start == origin && end - origin == text.len() as u64 =>
        {
            tag.clone()
        }
        [] | [Token::Start(_)] => return Err(StreamError::NotWellFormed),
        _ => {
            let rule = "a message must be exactly one element";
            return Err(StreamError::BadFormat(rule));
        }
    };
    let (namespace, local) = parser.resolved_name(&tag);
    let message = classify(namespace, local, text);
    parsers.message.put(parser);
    message
}

fn classify<'a>(
    namespace: &[u8],
    local: &[u8],
    element: &'a str,
) -> Result<Message<'a>, StreamError> {
    if namespace == ns::FRAMING.as_bytes() {
        return match local {
            b"open" => Ok(Message::Open(open_header(element)?)),
            b"close" => Ok(Message::Close),
            _ => Err(StreamError::UnsupportedStanzaType(
                "unknown element in the framing namespace",
            )),
        };
    }
    if namespace == ns::TLS.as_bytes() && local == b"starttls" {
        return Ok(Message::StartTls);
    }
    if namespace == ns::COMPRESS.as_bytes() && local == b"compress" {
        return Ok(Message::Compress);
    }
    Ok(Message::Element(element))
}

fn open_header(element: &str) -> Result<Header, StreamError> {
    let mut parser = Parser::new(Names::Raw, 0);
    parser.finish(element.as_bytes())?;
    match parser.tokens().first() {
        Some(Token::Start(tag)) => Ok(Header::read(&parser, tag)),
        _ => Err(StreamError::NotWellFormed),
    }
}

/// The root of a document that is complete.
struct Root {
    namespace: Vec<u8>,
    local: Vec<u8>,
    /// Offset of the root's `<`.
    start: usize,
}

/// Judges `text` as a document of its own, XML declaration allowed.
fn whole(text: &str) -> Result<Root, StreamError> {
    let mut parser = Parser::new(Names::Resolved, 0);
    parser.finish(text.as_bytes())?;
    let Some(Token::Start(tag)) = parser.tokens().first() else {
        return Err(StreamError::NotWellFormed);
    };
    let (namespace, local) = parser.resolved_name(tag);
    Ok(Root {
        namespace: namespace.to_vec(),
        local: local.to_vec(),
        start: tag.start as usize,
    })
}

/// What follows the `<compress/>` of XEP-0138 with which a message of the draft
/// begins; `None` if it begins with anything else. A server that got it could
/// switch to binary, which has no place on a WebSocket.
///
/// # Errors
/// The message begins with a `<compress>` that it does not end.
pub fn after_compress<'a>(
    parsers: &mut Parsers,
    text: &'a str,
) -> Result<Option<&'a str>, StreamError> {
    let element = text.trim_start_matches([' ', '\t', '\r', '\n']);
    let name = element.strip_prefix('<').unwrap_or_default();
    let name = &name[..name
        .find([' ', '\t', '\r', '\n', '/', '>'])
        .unwrap_or(name.len())];
    if split_name(name.as_bytes()).1 != b"compress" {
        return Ok(None);
    }
    let mut parser = parsers.message.take();
    let origin = parser.position();
    let verdict = parser.feed(element.as_bytes());
    let compress = (ns::COMPRESS.as_bytes(), &b"compress"[..]);
    match parser.tokens() {
        [Token::Start(tag), ..] if parser.resolved_name(tag) != compress => Ok(None),
        [_, Token::End { end, .. }, ..] => Ok(Some(&element[(end - origin) as usize..])),
        _ => {
            let rule = "<compress/> must be whole in its message";
            Err(verdict.map_or_else(StreamError::from, |()| StreamError::BadFormat(rule)))
        }
    }
}

/// Whether a message of the draft ends the client's stream.
pub fn ends_draft(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let inner = text.strip_suffix('>').map(str::trim_end);
    inner.is_some_and(|text| text.ends_with("</stream:stream") || text.ends_with("</stream"))
}
