//! Checks a client's message before anything reaches the server.
//!
//! The first message determines the dialect. In RFC 7395, every message must be exactly one
//! complete element that is well-formed on its own (section 3.3.3). The parser starts without
//! namespaces, so a prefix that only the stream header declares is an error. Messages that
//! are certainly well-formed need no parser.

use super::error::StreamError;
use super::framing::tag_name;
use super::header::Header;
use super::{Dialect, Parsers, is_space, ns};
use crate::expat::{self, Boundary, Limits, MAX_TAG, Parser, Pool, Tag, Token, UnitCheck};
use crate::meter::{LOOKED_AT_BYTES, Meter, PARSER};

/// The first message of a client.
#[derive(Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// `<open/>`: the client speaks RFC 7395.
    Framed(Header),
    /// An unclosed stream start tag: the client speaks the draft.
    Draft {
        /// Its attributes.
        header: Header,
        /// The start tag as received, without its `>` or `/>`.
        tag: &'a str,
        /// The rest of the message.
        rest: &'a str,
    },
    /// `<close/>`, without a stream.
    Close,
}

/// One message of a client that speaks RFC 7395.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Empty or white space, to be ignored.
    Blank,
    /// `<open/>`: a stream restart.
    Open(Header),
    /// `<close/>`.
    Close,
    /// `<starttls/>`, which is not allowed here (section 3.9).
    StartTls,
    /// `<compress/>` of XEP-0138, which is not allowed here either.
    Compress,
    /// Any other element, to be relayed unchanged.
    Element(&'a str),
}

const NO_TAG: StreamError = StreamError::BadFormat("the first character of a message must be '<'");

/// Checks the first message, or in the draft the first message after the authentication.
///
/// # Errors
/// The dialect of the answer, and the stream error.
pub fn first<'a>(parsers: &Parsers, text: &'a str) -> Result<First<'a>, (Dialect, StreamError)> {
    let framed = |error| (Dialect::Framed, error);
    if !text.starts_with('<') {
        return Err(framed(NO_TAG));
    }
    if let Some(header) = plain_open(text) {
        return Ok(First::Framed(header));
    }
    let (head, rest) = split_start_tag(&parsers.message, text).map_err(framed)?;
    let mut parser = parsers.message.fresh();
    let verdict = parser.feed(head.as_bytes());
    verdict.map_err(|error| framed(error.into()))?;
    let Some(Token::Start(tag)) = parser.tokens().first() else {
        return Err(framed(StreamError::NotWellFormed));
    };
    let (namespace, local) = parser.name(tag);
    if local == b"stream" {
        if namespace != ns::STREAMS.as_bytes() {
            return Err((Dialect::Draft, StreamError::InvalidNamespace));
        }
        return draft((head, rest), &parser, tag).map_err(|error| (Dialect::Draft, error));
    }
    let is_framing = namespace == ns::FRAMING.as_bytes();
    let first = match local {
        b"open" if is_framing => Ok(First::Framed(Header::read(&parser, tag))),
        b"close" if is_framing => Ok(First::Close),
        b"open" | b"close" => Err(StreamError::InvalidNamespace),
        _ => Err(StreamError::NotAuthorized(
            "the first message must be <open/>",
        )),
    };
    // Like any other message, except that this one is not inside a root.
    let mut limits = parsers.message.limits();
    limits.depth += 1;
    let (_, element) = split_declaration(text);
    let verdict = Boundary::element(limits)
        .feed(element.as_bytes())
        .and_then(|_| parser.finish(rest.as_bytes()));
    verdict.map_err(|error| framed(error.into()))?;
    first.map_err(framed)
}

/// Returns the header in `text` if it is an `<open/>` that needs no parser.
fn plain_open(text: &str) -> Option<Header> {
    let root = expat::plain_root(text.as_bytes(), "open")?;
    let is_all = root.is_empty && root.bytes.len() == text.len();
    (is_all && root.declares(ns::FRAMING, None)).then(|| Header::of_plain(&root))
}

/// Splits `text`, which begins with a `<`, after its first start tag; an XML declaration
/// may precede the tag.
fn split_start_tag<'a>(pool: &Pool, text: &'a str) -> Result<(&'a str, &'a str), StreamError> {
    match Boundary::header(pool.limits()).feed(text.as_bytes())? {
        Some(end) => Ok(text.split_at(end)),
        None => Err(StreamError::NotWellFormed),
    }
}

fn draft<'a>(
    (head, rest): (&'a str, &'a str),
    parser: &Parser,
    tag: &Tag,
) -> Result<First<'a>, StreamError> {
    let whole = &head[tag.start as usize..];
    let tag_text = match whole.strip_suffix("/>") {
        // Some clients of the draft close the tag to get a complete document.
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

/// Checks a message after the first. Returns `None` if this must continue in another turn;
/// `begun` then keeps the state.
///
/// # Errors
/// The stream error for the client.
pub fn read<'a>(
    parsers: &mut Parsers,
    text: &'a str,
    begun: &mut Option<UnitCheck>,
    meter: &mut Meter,
) -> Result<Option<Message<'a>>, StreamError> {
    let text = text.trim_end_matches(SPACE);
    match text.as_bytes() {
        [] => return Ok(Some(Message::Blank)),
        [b'<', ..] => {}
        _ => return Err(NO_TAG),
    }
    let (declaration, element) = split_declaration(text);
    let mut check = match begun.take() {
        Some(check) => check,
        None => {
            meter.draw(element.len() / LOOKED_AT_BYTES);
            if !declaration.is_empty() {
                check_declaration(&parsers.message, declaration, meter)?;
            }
            if let Some(plain) = expat::plain_element(element.as_bytes())
                && plain.bytes.len() == element.len()
            {
                let namespace = plain.namespace.unwrap_or_default();
                return classify(parsers, (namespace, plain.name), element).map(Some);
            }
            meter.draw(element.len() / LOOKED_AT_BYTES);
            check_end(element, parsers.message.limits())?;
            UnitCheck::new(parsers.message.take())
        }
    };
    if !check.proceed(element.as_bytes(), meter)? {
        *begun = Some(check);
        return Ok(None);
    }
    let tag = check.element().ok_or(StreamError::NotWellFormed)?;
    let message = classify(parsers, check.parser().name(tag), element);
    parsers.message.put(check.into_parser());
    message.map(Some)
}

/// Checks that nothing follows the first element in `text`.
fn check_end(text: &str, limits: Limits) -> Result<(), StreamError> {
    let end = Boundary::element(limits).feed(text.as_bytes())?;
    let end = end.ok_or(StreamError::NotWellFormed)?;
    let rest = text[end..].trim_start_matches(SPACE);
    if rest.is_empty() {
        return Ok(());
    }
    // Report restricted XML rather than its wrong place.
    if rest.starts_with('<') {
        Boundary::element(limits).feed(rest.as_bytes())?;
    }
    let rule = "a message must be exactly one element";
    Err(StreamError::BadFormat(rule))
}

/// White space in XML.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Splits `text` into its XML declaration (empty if there is none) and the rest.
fn split_declaration(text: &str) -> (&str, &str) {
    let declares = text.strip_prefix("<?xml");
    match declares.is_some_and(|rest| rest.starts_with(SPACE)) {
        true => {
            let end = text.find("?>").map_or(text.len(), |end| end + 2);
            (&text[..end], text[end..].trim_start_matches(SPACE))
        }
        false => ("", text),
    }
}

fn check_declaration(pool: &Pool, text: &str, meter: &mut Meter) -> Result<(), StreamError> {
    if text.len() > MAX_TAG {
        return Err(StreamError::LongTag);
    }
    meter.draw(PARSER + text.len());
    Ok(pool.fresh().feed(text.as_bytes())?)
}

fn classify<'a>(
    parsers: &Parsers,
    (namespace, local): (&[u8], &[u8]),
    element: &'a str,
) -> Result<Message<'a>, StreamError> {
    if namespace == ns::FRAMING.as_bytes() {
        return match local {
            b"open" => Ok(Message::Open(open_header(&parsers.message, element)?)),
            b"close" => Ok(Message::Close),
            _ => Err(StreamError::UnsupportedStanzaType(
                "unknown element in the framing namespace",
            )),
        };
    }
    let is_header = matches!(local, b"open" | b"close");
    if is_header && (namespace.is_empty() || namespace == ns::CLIENT.as_bytes()) {
        return Err(StreamError::InvalidNamespace);
    }
    if namespace == ns::STREAMS.as_bytes() && local == b"stream" {
        let rule = "a stream is opened by <open/>";
        return Err(StreamError::UnsupportedStanzaType(rule));
    }
    if namespace == ns::TLS.as_bytes() && local == b"starttls" {
        return Ok(Message::StartTls);
    }
    if namespace == ns::COMPRESS.as_bytes() && local == b"compress" {
        return Ok(Message::Compress);
    }
    Ok(Message::Element(element))
}

fn open_header(pool: &Pool, element: &str) -> Result<Header, StreamError> {
    if let Some(header) = plain_open(element) {
        return Ok(header);
    }
    let (head, _) = split_start_tag(pool, element)?;
    let mut parser = pool.fresh();
    parser.feed(head.as_bytes())?;
    match parser.tokens().first() {
        Some(Token::Start(tag)) => Ok(Header::read(&parser, tag)),
        _ => Err(StreamError::NotWellFormed),
    }
}

/// If a message of the draft begins with the `<compress/>` of XEP-0138, returns the rest, else
/// `None`. It must not reach the server, which might switch to compressed bytes; these cannot
/// be sent as text.
///
/// # Errors
/// The message begins with an incomplete `<compress>`.
pub fn after_compress<'a>(
    parsers: &mut Parsers,
    text: &'a str,
    meter: &mut Meter,
) -> Result<Option<&'a str>, StreamError> {
    let element = text.trim_start_matches(SPACE);
    if !tag_name(element.as_bytes()).ends_with(b"compress") {
        return Ok(None);
    }
    let rule = "<compress/> must be complete in one message";
    let is_cut = StreamError::BadFormat(rule);
    let limits = parsers.message.limits();
    let head = Boundary::header(limits).feed(element.as_bytes())?;
    let head = head.ok_or(is_cut)?;
    meter.draw(PARSER + head + element.len() / LOOKED_AT_BYTES);
    let mut parser = parsers.message.take();
    parser.feed(&element.as_bytes()[..head])?;
    match parser.tokens().first() {
        Some(Token::Start(tag)) if parser.name(tag) == (ns::COMPRESS.as_bytes(), b"compress") => {}
        _ => return Ok(None),
    }
    let mut boundary = Boundary::element(limits);
    let end = boundary.feed(element.as_bytes())?.ok_or(is_cut)?;
    Ok(Some(&element[end..]))
}

/// Whether a message of the draft ends the client's stream.
pub fn ends_draft(text: &str) -> bool {
    let text = text.trim_end_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let inner = text.strip_suffix('>').map(str::trim_end);
    inner.is_some_and(|text| text.ends_with("</stream:stream") || text.ends_with("</stream"))
}

/// Whether a message of the draft is just the end tag of the client's stream.
pub fn is_draft_end(text: &str) -> bool {
    ends_draft(text) && text.rfind('<') == Some(0)
}
