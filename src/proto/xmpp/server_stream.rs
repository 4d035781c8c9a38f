//! Splits the server's stream into units: header, first-level elements, end.
//!
//! Holds the bytes of an unfinished unit. A unit that is complete and certainly well-formed needs
//! no parser ([`expat::plain_element`], [`expat::plain_root`]). Any other unit is kept until it
//! is complete ([`expat::Boundary`]), and then checked by Expat, over several turns if it is
//! large ([`expat::UnitCheck`]). The bytes of a unit are passed on unchanged. White space between
//! elements is dropped. After a SASL success the next unit is the header of a new document (RFC
//! 6120, section 4.3.3), unless the server ends the old one there. A success of SASL2 (XEP-0388)
//! changes nothing.

use std::fmt;

use super::error::StreamError;
use super::framing::{Declarations, Element, tag_name};
use super::header::Header;
use super::{features, is_space, ns};
use crate::buf::Buf;
use crate::expat::{self, Boundary, Parser, Pool, Token, UnitCheck};
use crate::meter::{LOOKED_AT_BYTES, Meter, PARSER};

/// The usual name of the root.
const USUAL_ROOT: &str = "stream:stream";

/// Maximum length of the name of a stream error with its prefix.
const MAX_ERROR_NAME: usize = 256;

/// The work for a unit in addition to its bytes, for the meter.
const UNIT_WORK: usize = 4;

/// The rule that the server's stream broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is not XML, or not the subset that XMPP allows (RFC 6120, section 11).
    Xml(expat::Error),
    /// There is text between first-level elements, or before the header.
    Text,
    /// The root is not `stream` in the streams namespace (section 4.8.1).
    NotAStream,
    /// The header declares too many or too long namespaces.
    Declarations,
    /// A unit is longer than the limit, a tag longer than 64 KiB, or a namespace longer than
    /// 256 bytes.
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
            Error::Declarations => {
                f.write_str("namespace declarations in the stream header are too long")
            }
            Error::TooBig => f.write_str(
                "stanza longer than max_stanza_size, tag over 64 KiB, or namespace over 256 bytes",
            ),
            Error::WrongEndTag => f.write_str("end tag without a start tag"),
        }
    }
}

/// One unit of the stream.
pub enum Unit<'a> {
    /// The stream header.
    Header {
        /// The start tag, with the XML declaration if there is one, as received.
        bytes: &'a [u8],
        /// Its attributes.
        header: Header,
    },
    /// A complete first-level element.
    Element(Element<'a>),
    /// The end tag of the stream, after which nothing follows.
    End {
        /// The tag as received.
        bytes: &'a [u8],
    },
}

/// What the receiver of a unit asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next unit.
    Continue,
    /// No more units for now; the remaining bytes are kept.
    Pause,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Content,
    /// After a SASL success: a new header, or a stream error or the end tag of the old stream.
    Restart,
    Ended,
}

/// A unit that is not yet passed on.
struct UnfinishedUnit {
    boundary: Boundary,
    /// Bytes scanned; once the unit is complete, its length.
    seen: usize,
    /// Present once the unit is complete.
    check: Option<UnitCheck>,
}

/// A root other than the usual one.
struct Root {
    name: Vec<u8>,
    declarations: Declarations,
}

/// The reader of a server's stream. It expects a stream header first.
#[derive(Default)]
pub struct ServerStream {
    state: State,
    /// Bytes not yet passed on: an unfinished unit, or the bytes after a pause.
    tail: Buf,
    unfinished: Option<Box<UnfinishedUnit>>,
    root: Option<Box<Root>>,
}

/// What a call of [`ServerStream::feed`] works with.
struct Feed<'a, F> {
    pool: &'a mut Pool,
    limit: usize,
    meter: &'a mut Meter,
    each: F,
}

impl ServerStream {
    /// Takes `fresh` bytes from the server and passes each complete unit to `each`, in order,
    /// until `each` asks for a pause or the meter is spent. Each call makes progress: it passes
    /// on at least one unit or checks a part of a large one. After a pause the caller must call
    /// again, if need be without fresh bytes. `limit` is the maximum length of a unit in bytes.
    ///
    /// # Errors
    /// The stream broke a rule. The units before that were passed on; the stream cannot be used
    /// any more.
    pub fn feed(
        &mut self,
        pool: &mut Pool,
        fresh: &[u8],
        limit: usize,
        meter: &mut Meter,
        each: impl FnMut(Unit<'_>) -> Flow,
    ) -> Result<Flow, Error> {
        let mut feed = Feed {
            pool,
            limit,
            meter,
            each,
        };
        let mut bytes = std::mem::take(&mut self.tail);
        if bytes.is_empty() {
            let (at, flow) = self.run(fresh, &mut feed)?;
            self.tail.extend(&fresh[at..]);
            return Ok(flow);
        }
        bytes.extend(fresh);
        let (at, flow) = self.run(bytes.as_slice(), &mut feed)?;
        bytes.consume(at);
        self.tail = bytes;
        Ok(flow)
    }

    /// Returns the number of bytes that are kept: an unfinished unit, or the bytes after a
    /// pause.
    pub fn held(&self) -> usize {
        self.tail.len()
    }

    /// Returns the bytes of memory that the kept bytes and an unusual root take.
    pub fn memory(&self) -> usize {
        let root = self
            .root
            .as_ref()
            .map_or(0, |root| root.name.len() + root.declarations.memory());
        self.tail.capacity() + root
    }

    /// Returns the bytes of memory in parsers that are not in the pool at the moment.
    pub fn parser_bytes(&self) -> usize {
        let unfinished = self.unfinished.as_ref();
        let check = unfinished.and_then(|unit| unit.check.as_ref());
        check.map_or(0, |check| check.parser().heap_bytes())
    }

    /// Whether nothing but white space is kept.
    pub fn rest_is_blank(&self) -> bool {
        self.tail.as_slice().iter().all(|&byte| is_space(byte))
    }

    /// Processes `bytes`, which begin with the current unit. Returns how many bytes are done
    /// with, and whether the rest waits only for more bytes.
    fn run(
        &mut self,
        bytes: &[u8],
        feed: &mut Feed<'_, impl FnMut(Unit<'_>) -> Flow>,
    ) -> Result<(usize, Flow), Error> {
        let mut at = 0;
        loop {
            let unit = self.unfinished.take();
            if unit.is_none() {
                at += bytes[at..].iter().take_while(|&&b| is_space(b)).count();
                match (self.state, &bytes[at..]) {
                    (State::Ended, _) => return Ok((bytes.len(), Flow::Continue)),
                    // It takes two bytes to recognize an end tag, or UTF-16.
                    (_, [] | [b'<']) => return Ok((at, Flow::Continue)),
                    (State::Content | State::Restart, [b'<', b'/', ..]) => {
                        let len = self.end_tag(&bytes[at..], feed)?;
                        return Ok((at + len, Flow::Continue));
                    }
                    (State::Header | State::Restart, [b'<', 0, ..]) => {
                        return Err(Error::NotAStream);
                    }
                    (State::Restart, tag) => match begins_error(tag) {
                        Some(true) => self.state = State::Content,
                        Some(false) => self.state = State::Header,
                        None => return Ok((at, Flow::Continue)),
                    },
                    (_, [b'<', ..]) => {}
                    _ => return Err(Error::Text),
                }
            }
            let (len, flow) = match unit {
                Some(unit) => self.go_on(unit, &bytes[at..], feed)?,
                None => match self.plain(&bytes[at..], feed)? {
                    Some(done) => done,
                    None => {
                        let new = UnfinishedUnit::new(self.state, feed.pool);
                        self.go_on(Box::new(new), &bytes[at..], feed)?
                    }
                },
            };
            at += len;
            if flow == Flow::Pause || self.unfinished.is_some() {
                return Ok((at, flow));
            }
            if feed.meter.is_spent() {
                return Ok((at, Flow::Pause));
            }
        }
    }

    /// Passes on the unit at the start of `bytes`, if it is complete and certainly well-formed.
    /// Returns its length, and what the receiver asks for.
    fn plain(
        &mut self,
        bytes: &[u8],
        feed: &mut Feed<'_, impl FnMut(Unit<'_>) -> Flow>,
    ) -> Result<Option<(usize, Flow)>, Error> {
        match self.state {
            State::Header => return Ok(self.plain_header(bytes, feed)),
            State::Content => {}
            State::Restart | State::Ended => return Ok(None),
        }
        let plain = expat::plain_element(bytes);
        let element = plain.map(|plain| Element::plain(plain, self.declarations()));
        let features = || features::plain(bytes).filter(|_| self.root.is_none());
        let Some(element) = element.or_else(|| features().map(Element::features)) else {
            return Ok(None);
        };
        let len = element.bytes.len();
        feed.meter.draw(UNIT_WORK + len / LOOKED_AT_BYTES);
        let (state, flow) = feed.hand_out(element)?;
        self.state = state;
        Ok(Some((len, flow)))
    }

    /// Passes on the header at the start of `bytes`, if it is usual, complete and certainly
    /// well-formed.
    fn plain_header(
        &mut self,
        bytes: &[u8],
        feed: &mut Feed<'_, impl FnMut(Unit<'_>) -> Flow>,
    ) -> Option<(usize, Flow)> {
        let root = expat::plain_root(bytes, USUAL_ROOT)?;
        let len = root.bytes.len();
        let usual = root.declares(ns::CLIENT, Some(ns::STREAMS)) && !root.is_empty;
        if !usual || len > feed.limit {
            return None;
        }
        feed.meter.draw(UNIT_WORK + len / LOOKED_AT_BYTES);
        self.root = None;
        self.state = State::Content;
        let (bytes, header) = (root.bytes, Header::of_plain(&root));
        Some((len, (feed.each)(Unit::Header { bytes, header })))
    }

    /// Finds the end of `unit`, which starts with `bytes`, checks it and passes it on. Returns
    /// its length, and what the receiver asks for. If the unit is not complete, or the check
    /// must continue in another turn, keeps the unit and returns 0.
    fn go_on(
        &mut self,
        mut unit: Box<UnfinishedUnit>,
        bytes: &[u8],
        feed: &mut Feed<'_, impl FnMut(Unit<'_>) -> Flow>,
    ) -> Result<(usize, Flow), Error> {
        if unit.check.is_none() {
            let came_whole = unit.seen == 0;
            // Ignore everything beyond the limit, however the input was split.
            let within = bytes.len().min(feed.limit.saturating_add(1));
            let fresh = &bytes[unit.seen..within];
            let end = unit.boundary.feed(fresh)?;
            let seen = end.unwrap_or(fresh.len());
            feed.meter.draw(UNIT_WORK + seen / LOOKED_AT_BYTES);
            unit.seen += seen;
            if unit.seen > feed.limit {
                return Err(Error::TooBig);
            }
            if end.is_none() {
                self.unfinished = Some(unit);
                return Ok((0, Flow::Continue));
            }
            if !came_whole && let Some(done) = self.plain(&bytes[..unit.seen], feed)? {
                return Ok(done);
            }
        }
        let bytes = &bytes[..unit.seen];
        let mut check = match unit.check.take() {
            Some(check) => check,
            None => UnitCheck::new(self.parser(feed.pool, feed.meter)?),
        };
        if !check.proceed(bytes, feed.meter)? {
            unit.check = Some(check);
            self.unfinished = Some(unit);
            return Ok((0, Flow::Pause));
        }
        if self.state == State::Header {
            let header = self.header(bytes, check.parser())?;
            return Ok((bytes.len(), (feed.each)(Unit::Header { bytes, header })));
        }
        let Some(tag) = check.element() else {
            let why = "not exactly one element";
            return Err(Error::Xml(expat::Error::NotWellFormed(why)));
        };
        let element = Element::seen(bytes, (check.parser(), tag), self.declarations());
        let (state, flow) = feed.hand_out(element)?;
        self.state = state;
        if self.root.is_none() {
            feed.pool.put(check.into_parser());
        }
        Ok((bytes.len(), flow))
    }

    /// Returns a parser for the next unit. For an unusual root the pool has none, so one is
    /// created for each unit; an idle session holds none.
    fn parser(&self, pool: &mut Pool, meter: &mut Meter) -> Result<Parser, Error> {
        match &self.root {
            _ if self.state == State::Header => {
                meter.draw(PARSER);
                Ok(pool.fresh())
            }
            None => Ok(pool.take()),
            Some(root) => {
                let mut tag = Vec::new();
                root.declarations.write_root(&mut tag);
                meter.draw(PARSER + tag.len());
                pool.inside(&tag).map_err(Error::from)
            }
        }
    }

    /// Takes the root from the header that `parser` reported, and returns its attributes.
    fn header(&mut self, bytes: &[u8], parser: &Parser) -> Result<Header, Error> {
        let [Token::Start(tag)] = parser.tokens() else {
            return Err(Error::NotAStream);
        };
        if parser.name(tag) != (ns::STREAMS.as_bytes(), b"stream") {
            return Err(Error::NotAStream);
        }
        let declarations = Declarations::read(parser, tag).ok_or(Error::Declarations)?;
        let name = tag_name(&bytes[tag.start as usize..]);
        let usual = name == USUAL_ROOT.as_bytes() && declarations == *Declarations::usual();
        self.root = (!usual).then(|| {
            Box::new(Root {
                name: name.to_vec(),
                declarations,
            })
        });
        self.state = State::Content;
        Ok(Header::read(parser, tag))
    }

    fn declarations(&self) -> &Declarations {
        match &self.root {
            Some(root) => &root.declarations,
            None => Declarations::usual(),
        }
    }

    /// Reads the end tag at the start of `bytes`. Returns how many bytes are done with: all, or
    /// none if the tag is not complete. Pooled parsers do not know the root's name.
    fn end_tag(
        &mut self,
        bytes: &[u8],
        feed: &mut Feed<'_, impl FnMut(Unit<'_>) -> Flow>,
    ) -> Result<usize, Error> {
        let name = match &self.root {
            Some(root) => &root.name[..],
            None => USUAL_ROOT.as_bytes(),
        };
        let Some(close) = memchr::memchr(b'>', bytes) else {
            let begun = &bytes["</".len()..];
            let as_expected = begun.starts_with(name) || name.starts_with(begun);
            return match as_expected {
                false => Err(Error::WrongEndTag),
                true if begun.len() > feed.limit => Err(Error::TooBig),
                true => Ok(0),
            };
        };
        match bytes["</".len()..close].strip_prefix(name) {
            Some(rest) if rest.iter().all(|&b| is_space(b)) => {
                self.state = State::Ended;
                let tag = &bytes[..=close];
                (feed.each)(Unit::End { bytes: tag });
                Ok(bytes.len())
            }
            _ => Err(Error::WrongEndTag),
        }
    }
}

/// Whether `bytes`, the start of a tag, belong to an element named `error` with any prefix.
/// Returns `None` if that takes more bytes.
fn begins_error(bytes: &[u8]) -> Option<bool> {
    let name = tag_name(bytes);
    let is_short = name.len() <= MAX_ERROR_NAME;
    let is_whole = 1 + name.len() < bytes.len();
    let local = || name.rsplit(|&byte| byte == b':').next();
    (is_whole || !is_short).then(|| is_short && local() == Some(b"error"))
}

impl<F: FnMut(Unit<'_>) -> Flow> Feed<'_, F> {
    /// Passes an element on. Returns the next state of the stream, and what the receiver asks
    /// for.
    fn hand_out(&mut self, element: Element<'_>) -> Result<(State, Flow), Error> {
        if element.bytes.len() > self.limit {
            return Err(Error::TooBig);
        }
        let state = match element.is(ns::SASL, "success") {
            true => State::Restart,
            false => State::Content,
        };
        Ok((state, (self.each)(Unit::Element(element))))
    }
}

impl UnfinishedUnit {
    /// Begins the next unit of a stream in this state.
    fn new(state: State, pool: &Pool) -> UnfinishedUnit {
        UnfinishedUnit {
            boundary: match state {
                State::Header => Boundary::header(pool.limits()),
                State::Content | State::Restart | State::Ended => Boundary::element(pool.limits()),
            },
            seen: 0,
            check: None,
        }
    }
}

/// The stream error that the server gets.
impl From<Error> for StreamError {
    fn from(error: Error) -> StreamError {
        match error {
            Error::Xml(error) => error.into(),
            Error::Text => StreamError::BadFormat("text between the elements"),
            Error::NotAStream => StreamError::InvalidNamespace,
            Error::Declarations => StreamError::BadFormat("too long namespace declarations"),
            Error::TooBig => StreamError::TooBig,
            Error::WrongEndTag => StreamError::NotWellFormed,
        }
    }
}

impl From<expat::Error> for Error {
    fn from(error: expat::Error) -> Error {
        match error {
            expat::Error::LongTag => Error::TooBig,
            error => Error::Xml(error),
        }
    }
}
