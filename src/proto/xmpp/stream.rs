//! The server's stream cut into units: header, first-level elements, end.
//!
//! Owns the bytes of an unfinished unit and, only while one is unfinished, a
//! parser from the pool. An element that is all there and beyond doubt needs
//! none ([`expat::plain_element`]); of all else positions come from Expat. The
//! bytes handed out are the server's own. White space between elements is swallowed. A SASL success
//! ends the document: the next unit is a new header (RFC 6120, section 4.3.3);
//! the success of SASL2 (XEP-0388) does not.
//!
//! Parsing waits for a `>`, or for 4 KiB, since only a `>` can end a unit: a
//! peer that dribbles bytes cannot make long tokens be scanned again and again.

use std::fmt;

use super::framing::{Declarations, Element};
use super::header::{Header, root_name};
use super::{is_space, ns};
use crate::buf::Buf;
use crate::expat::{self, Parser, Pool, Tag, Token};

/// Fresh bytes without a `>` that are parsed all the same.
const MAX_HELD: usize = 4 << 10;
/// Longest tag: the parser scans an unfinished one from its start each time.
const MAX_TAG: u64 = 64 << 10;
/// The root as nearly all servers write it, and as the pool's parsers know it.
const USUAL_ROOT: &[u8] = b"stream:stream";

/// Which rule the server's stream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not XML, or not the part of it that XMPP allows (RFC 6120, section 11).
    Xml(expat::Error),
    /// Text between first-level elements, or before the header.
    Text,
    /// The root is not `stream` in the streams namespace (section 4.8.1).
    NotAStream,
    /// The header declares namespaces beyond all use.
    Declarations,
    /// A unit is longer than the limit, or a tag longer than 64 KiB.
    TooBig,
    /// An end tag that is not the stream's.
    WrongEndTag,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Xml(error) => error.fmt(f),
            Error::Text => f.write_str("text between the elements of the stream"),
            Error::NotAStream => f.write_str("not an XMPP stream header"),
            Error::Declarations => f.write_str("stream header declares too long namespaces"),
            Error::TooBig => f.write_str("stanza longer than max_stanza_size, or tag over 64 KiB"),
            Error::WrongEndTag => f.write_str("an end tag without its element"),
        }
    }
}

/// One unit of the stream.
pub enum Unit<'a> {
    /// The stream header.
    Header {
        /// XML declaration, if any, and start tag as the server sent them.
        bytes: &'a [u8],
        /// Its attributes.
        header: Header,
    },
    /// A complete first-level element.
    Element(Element<'a>),
    /// The end tag of the stream; nothing follows.
    End {
        /// The tag as the server sent it.
        bytes: &'a [u8],
    },
}

/// What the receiver of a unit wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next unit.
    Continue,
    /// No more for now; the bytes that follow are kept.
    Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Content,
    Ended,
}

/// The parser of a unit that is not complete.
struct Work {
    parser: Parser,
    /// Position in the parser of the unit's first byte.
    origin: u64,
    /// Bytes of the unit that the parser has seen.
    fed: usize,
    /// Start tag of the first-level element in work.
    open: Option<Tag>,
    /// Whether the pool can have the parser back, its root being the pool's.
    pooled: bool,
}

/// A reader of one server stream.
pub struct Stream {
    state: State,
    /// Bytes not handed out: an unfinished unit, or what follows a pause.
    tail: Buf,
    work: Option<Box<Work>>,
    /// Name of the root if it is not `stream:stream`, and its declarations if
    /// they are not the usual ones.
    root: Option<Box<(Vec<u8>, Declarations)>>,
}

/// Where a run over some bytes came to rest.
enum Rest {
    /// Bytes from here on are kept until more come.
    Wait(usize),
    /// Bytes from here on are kept until asked for.
    Paused(usize),
}

impl Stream {
    /// A reader that expects a stream header.
    pub fn new() -> Stream {
        Stream {
            state: State::Header,
            tail: Buf::new(),
            work: None,
            root: None,
        }
    }

    /// Takes `fresh` bytes of the server and hands each unit that they complete
    /// to `each`, in order, until it wants a pause. After a pause call again,
    /// with no fresh bytes if there are none. `limit` bounds a unit, in bytes.
    ///
    /// # Errors
    /// The rule that was broken, after all units before it; the stream is of no
    /// use then.
    pub fn feed(
        &mut self,
        pool: &mut Pool,
        fresh: &[u8],
        limit: usize,
        mut each: impl FnMut(Unit<'_>) -> Flow,
    ) -> Result<Flow, Error> {
        if self.tail.is_empty() {
            let rest = self.run(pool, fresh, limit, &mut each)?;
            let (at, flow) = rest.split();
            if at < fresh.len() {
                self.tail.extend(&fresh[at..]);
            }
            return Ok(flow);
        }
        let mut bytes = std::mem::take(&mut self.tail);
        bytes.extend(fresh);
        let rest = self.run(pool, bytes.as_slice(), limit, &mut each)?;
        let (at, flow) = rest.split();
        bytes.consume(at);
        self.tail = bytes;
        Ok(flow)
    }

    /// Bytes kept: of an unfinished unit, or behind a pause.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    /// Bytes of memory in them.
    pub fn memory(&self) -> usize {
        self.tail.capacity()
    }

    /// Whether nothing but white space is kept.
    pub fn rest_is_blank(&self) -> bool {
        self.tail.as_slice().iter().all(|&byte| is_space(byte))
    }

    /// Works off `bytes`, which begin with the unit in work.
    fn run(
        &mut self,
        pool: &mut Pool,
        bytes: &[u8],
        limit: usize,
        each: &mut impl FnMut(Unit<'_>) -> Flow,
    ) -> Result<Rest, Error> {
        let mut at = 0;
        loop {
            if self.work.is_none() {
                at += bytes[at..].iter().take_while(|&&b| is_space(b)).count();
                match (self.state, &bytes[at..]) {
                    (State::Ended, _) => return Ok(Rest::Wait(bytes.len())),
                    (_, []) => return Ok(Rest::Wait(at)),
                    // Two bytes tell an end tag, and UTF-16 from UTF-8.
                    (_, [b'<']) => return Ok(Rest::Wait(at)),
                    (State::Content, [b'<', b'/', ..]) => {
                        return self.end_tag(bytes, at, limit, each);
                    }
                    (State::Header, [b'<', 0, ..]) => return Err(Error::NotAStream),
                    (State::Content, [b'<', ..]) => {
                        if let Some(plain) = expat::plain_element(&bytes[at..]) {
                            let element = Element::plain(plain, self.declarations());
                            let (state, flow) = hand_out(element, limit, each)?;
                            self.state = state;
                            at += plain.bytes.len();
                            if flow == Flow::Pause {
                                return Ok(Rest::Paused(at));
                            }
                            continue;
                        }
                    }
                    (_, [b'<', ..]) => {}
                    _ => return Err(Error::Text),
                }
                self.work = Some(self.begin(pool));
            }
            match self.parse(pool, bytes, &mut at, limit, each)? {
                Some(rest) => return Ok(rest),
                None => continue,
            }
        }
    }

    fn begin(&self, pool: &mut Pool) -> Box<Work> {
        let parser = match self.state {
            State::Header => pool.fresh(),
            State::Content | State::Ended => pool.take(),
        };
        Box::new(Work {
            origin: parser.position(),
            parser,
            fed: 0,
            open: None,
            pooled: self.state == State::Content,
        })
    }

    /// Feeds what there is of the unit at `at` and hands out what is complete.
    /// `None`: stands at a boundary, with `at` moved there.
    fn parse(
        &mut self,
        pool: &mut Pool,
        bytes: &[u8],
        at: &mut usize,
        limit: usize,
        each: &mut impl FnMut(Unit<'_>) -> Flow,
    ) -> Result<Option<Rest>, Error> {
        let Some(mut work) = self.work.take() else {
            return Ok(None);
        };
        let unfed = &bytes[*at + work.fed..];
        let fresh = match memchr::memrchr(b'>', unfed) {
            Some(last) => &unfed[..=last],
            None if unfed.len() >= MAX_HELD => &unfed[..expat::safe_cut(unfed)],
            None => &[],
        };
        if fresh.is_empty() {
            self.work = Some(work);
            return if bytes.len() - *at > limit {
                Err(Error::TooBig)
            } else {
                Ok(Some(Rest::Wait(*at)))
            };
        }
        work.parser.forget(work.open.is_none());
        let verdict = work.parser.feed(fresh);
        work.fed += fresh.len();
        // Offset in `bytes` of a position in the parser.
        let unit_at = *at;
        let origin = work.origin;
        let offset = |position: u64| unit_at + (position - origin) as usize;

        let mut handed = *at;
        for token in work.parser.tokens() {
            match token {
                Token::Start(tag) if tag.depth == 0 => {
                    self.read_root(&work.parser, tag)?;
                    work.pooled = work.parser.name(tag) == USUAL_ROOT;
                    let end = offset(tag.end);
                    if bytes[end - 2] == b'/' {
                        return Err(Error::NotAStream);
                    }
                    let header = Header::read(&work.parser, tag);
                    let flow = each(Unit::Header {
                        bytes: &bytes[handed..end],
                        header,
                    });
                    self.state = State::Content;
                    handed = end;
                    if flow == Flow::Pause {
                        return Ok(Some(Rest::Paused(handed)));
                    }
                }
                Token::Start(tag) => {
                    let start = offset(tag.start);
                    if !bytes[handed..start].iter().all(|&b| is_space(b)) {
                        return Err(Error::Text);
                    }
                    work.open = Some(tag.clone());
                    handed = start;
                }
                Token::End { depth: 0, .. } => break,
                Token::End { end, .. } => {
                    let end = offset(*end);
                    let Some(tag) = work.open.take() else {
                        return Err(Error::WrongEndTag);
                    };
                    let seen = (&work.parser, &tag);
                    let element = Element::seen(&bytes[handed..end], seen, self.declarations());
                    let (state, flow) = hand_out(element, limit, each)?;
                    self.state = state;
                    handed = end;
                    if state == State::Header || flow == Flow::Pause {
                        // The parser may be past this point: it is not used again.
                        *at = handed;
                        let pause = flow == Flow::Pause;
                        return Ok(pause.then_some(Rest::Paused(handed)));
                    }
                }
            }
        }
        let fed_to = *at + work.fed;
        let between = work.open.is_none() && self.state == State::Content;
        if between {
            let rest = &bytes[handed..fed_to];
            let gap = rest.iter().take_while(|&&b| is_space(b)).count();
            let next = &rest[gap..];
            let ended = next.starts_with(b"</");
            if !ended {
                verdict.map_err(Error::Xml)?;
            }
            if ended || next.is_empty() {
                if work.pooled && rest.is_empty() {
                    pool.put(work.parser);
                }
                *at = handed + gap;
                return Ok(None);
            }
            if next[0] != b'<' {
                return Err(Error::Text);
            }
        }
        verdict.map_err(Error::Xml)?;
        // Unfinished. Everything before the unit in work can go.
        let token = work.parser.position() - work.parser.token_start();
        let long_tag = token > MAX_TAG && token > fresh.len() as u64 + 8;
        if long_tag || bytes.len() - handed > limit {
            return Err(Error::TooBig);
        }
        work.fed -= handed - *at;
        work.origin += (handed - *at) as u64;
        self.work = Some(work);
        Ok(Some(Rest::Wait(handed)))
    }

    fn read_root(&mut self, parser: &Parser, tag: &Tag) -> Result<(), Error> {
        if root_name(parser, tag) != (ns::STREAMS.as_bytes(), b"stream") {
            return Err(Error::NotAStream);
        }
        let declarations = Declarations::read(parser, tag).ok_or(Error::Declarations)?;
        let name = match parser.name(tag) {
            USUAL_ROOT => Vec::new(),
            other => other.to_vec(),
        };
        let usual = name.is_empty() && declarations == *Declarations::usual();
        self.root = (!usual).then(|| Box::new((name, declarations)));
        Ok(())
    }

    fn declarations(&self) -> &Declarations {
        match &self.root {
            Some(root) => &root.1,
            None => Declarations::usual(),
        }
    }

    /// Reads the end tag at `at`; pooled parsers do not know the root's name.
    fn end_tag(
        &mut self,
        bytes: &[u8],
        at: usize,
        limit: usize,
        each: &mut impl FnMut(Unit<'_>) -> Flow,
    ) -> Result<Rest, Error> {
        let name = match &self.root {
            Some(root) if !root.0.is_empty() => &root.0[..],
            _ => USUAL_ROOT,
        };
        let tag = &bytes[at..];
        let Some(close) = memchr::memchr(b'>', tag) else {
            let known = tag.len() - 2;
            let as_expected = tag[2..].starts_with(name) || name.starts_with(&tag[2..]);
            return match as_expected {
                false => Err(Error::WrongEndTag),
                true if known > limit => Err(Error::TooBig),
                true => Ok(Rest::Wait(at)),
            };
        };
        match tag[2..close].strip_prefix(name) {
            Some(rest) if rest.iter().all(|&b| is_space(b)) => {
                self.state = State::Ended;
                each(Unit::End {
                    bytes: &tag[..=close],
                });
                Ok(Rest::Wait(bytes.len()))
            }
            _ => Err(Error::WrongEndTag),
        }
    }
}

/// Hands an element out: what the stream goes on with, and what the receiver
/// wants next.
fn hand_out(
    element: Element<'_>,
    limit: usize,
    each: &mut impl FnMut(Unit<'_>) -> Flow,
) -> Result<(State, Flow), Error> {
    if element.bytes.len() > limit {
        return Err(Error::TooBig);
    }
    let state = match element.is(ns::SASL, "success") {
        true => State::Header,
        false => State::Content,
    };
    Ok((state, each(Unit::Element(element))))
}

impl Default for Stream {
    fn default() -> Self {
        Stream::new()
    }
}

impl Rest {
    fn split(self) -> (usize, Flow) {
        match self {
            Rest::Wait(at) => (at, Flow::Continue),
            Rest::Paused(at) => (at, Flow::Pause),
        }
    }
}
