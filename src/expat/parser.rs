//! One Expat parser: feed bytes, then read the tags it saw near the root.
//!
//! Owns the library's parser object and the record that its handlers write. A
//! handler does arithmetic and pushes, nothing else; it cannot panic through C
//! since the program aborts on panic. Character data is not reported: callers
//! cut elements out of their own bytes by position.
//!
//! Long texts that are beyond doubt are not shown to Expat (`text`). Positions
//! count them all the same.
//!
//! Refused here: document types, comments, processing instructions and entity
//! references beside the five predefined ones (RFC 6120, section 11.1),
//! encodings other than UTF-8 (11.6), too deep nesting.

use std::ffi::CStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::ptr::NonNull;

use nix::libc::{c_char, c_int, c_uchar, c_void};

use super::library::reparse_deferral;
use super::rules::{Error, Limits};
use super::{ffi, text};

/// Between namespace and local name in the names of a namespace-aware parser;
/// no UTF-8 text contains it.
const SEPARATOR: u8 = 0xff;

/// Whether a parser resolves prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Names and `xmlns` attributes are reported as they stand.
    Raw,
    /// Names are reported with their namespace; an unbound prefix is an error.
    Resolved,
}

/// A start tag. Its texts lie in the parser until [`Parser::forget`].
#[derive(Clone, Debug)]
pub struct Tag {
    /// Depth of the element; the root has 0.
    pub depth: u32,
    /// Position of its `<`, counted from the first byte ever fed.
    pub start: u64,
    /// Position behind its `>`.
    pub end: u64,
    name: Range<u32>,
    attributes: Range<u32>,
}

/// What a parser saw, in the order of the document.
#[derive(Clone, Debug)]
pub enum Token {
    /// A start tag (of an empty element too).
    Start(Tag),
    /// An element ended.
    End {
        /// Depth of the element; the root has 0.
        depth: u32,
        /// Position behind the last byte of the element.
        end: u64,
    },
}

/// What the handlers write.
struct Record {
    raw: ffi::RawParser,
    limits: Limits,
    /// Declarations of the element whose start tag is being reported; only a
    /// parser with resolved names counts them here.
    namespaces: u32,
    depth: u32,
    watch: u32,
    /// Position behind the last tag.
    tag_end: u64,
    /// Bytes that Expat was not shown.
    skipped: u64,
    /// Where the first-level element in work began, and the size of the largest
    /// until now, both without what was skipped.
    element_start: u64,
    largest: u64,
    failed: Option<Error>,
    tokens: Vec<Token>,
    text: Vec<u8>,
    attributes: Vec<[Range<u32>; 2]>,
}

/// An Expat parser with the tags it saw down to a watched depth.
pub struct Parser {
    raw: NonNull<ffi::ParserStruct>,
    record: NonNull<Record>,
    position: u64,
}

impl Parser {
    /// A parser at the start of a document, with the default limits. Tags of
    /// elements down to depth `watch` are reported (the root has depth 0).
    pub fn new(names: Names, watch: u32) -> Parser {
        Parser::bounded(names, watch, Limits::DEFAULT)
    }

    /// The same with other limits.
    pub fn bounded(names: Names, watch: u32, limits: Limits) -> Parser {
        // SAFETY: the encoding is a NUL-terminated literal; the calls have no
        // other precondition.
        let raw = unsafe {
            let utf8 = c"UTF-8".as_ptr();
            match names {
                Names::Raw => ffi::XML_ParserCreate(utf8),
                Names::Resolved => ffi::XML_ParserCreateNS(utf8, SEPARATOR as c_char),
            }
        };
        let raw = NonNull::new(raw).expect("no memory for an XML parser");
        let record = Box::new(Record {
            raw: raw.as_ptr(),
            limits,
            namespaces: 0,
            depth: 0,
            watch,
            tag_end: 0,
            skipped: 0,
            element_start: 0,
            largest: 0,
            failed: None,
            tokens: Vec::new(),
            text: Vec::new(),
            attributes: Vec::new(),
        });
        let record = NonNull::from(Box::leak(record));
        let p = raw.as_ptr();
        // SAFETY: `p` was just created. `record` stays valid until the parser
        // is freed (see Drop), and the handlers take it for what it is.
        unsafe {
            // Expat would ask the kernel for each parser.
            ffi::XML_SetHashSalt(p, RandomState::new().build_hasher().finish());
            ffi::XML_SetUserData(p, record.as_ptr().cast());
            ffi::XML_SetElementHandler(p, on_start, on_end);
            if names == Names::Resolved {
                ffi::XML_SetStartNamespaceDeclHandler(p, on_namespace);
            }
            ffi::XML_SetStartDoctypeDeclHandler(p, on_doctype);
            ffi::XML_SetCommentHandler(p, on_comment);
            ffi::XML_SetProcessingInstructionHandler(p, on_instruction);
            ffi::XML_SetXmlDeclHandler(p, on_declaration);
            if let Some(set) = reparse_deferral() {
                set(p, 0);
            }
        }
        Parser {
            raw,
            record,
            position: 0,
        }
    }

    /// Parses `bytes`. Tokens found before an error are kept.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        loop {
            if self.is_in_text() {
                let run = memchr::memchr(b'<', rest).unwrap_or(rest.len());
                let plain = text::plain_len(&rest[..run]);
                self.skip(plain as u64);
                rest = &rest[plain..];
                if rest.is_empty() {
                    return Ok(());
                }
            }
            let end = text::seam(rest).unwrap_or(rest.len());
            self.parse(&rest[..end], false)?;
            rest = &rest[end..];
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    /// Parses `bytes`, all of which Expat gets to see.
    pub fn feed_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.parse(bytes, false)
    }

    /// Whether the parser stands behind a tag, or text that was skipped there,
    /// inside a first-level element: then Expat holds nothing unfinished.
    fn is_in_text(&self) -> bool {
        let record = self.record();
        record.depth >= 2 && record.tag_end == self.position && record.failed.is_none()
    }

    fn skip(&mut self, len: u64) {
        self.position += len;
        // SAFETY: no other reference to the record lives outside a parse.
        let record = unsafe { self.record.as_mut() };
        record.skipped += len;
        record.tag_end = self.position;
    }

    /// Parses `bytes` as the last of the document: what is cut off is an error.
    pub fn finish(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.parse(bytes, true)
    }

    fn parse(&mut self, bytes: &[u8], last: bool) -> Result<(), Error> {
        if let Some(error) = self.record().failed {
            return Err(error);
        }
        let len = c_int::try_from(bytes.len()).map_err(|_| Error::NotWellFormed("too long"))?;
        self.position += bytes.len() as u64;
        let p = self.raw.as_ptr();
        // SAFETY: `p` is live and not inside a handler (`&mut self`), `bytes`
        // is valid for `len` bytes and Expat keeps no pointer to it; no
        // reference to the record lives while the handlers write to it.
        let status = unsafe { ffi::XML_Parse(p, bytes.as_ptr().cast(), len, c_int::from(last)) };
        if status != ffi::STATUS_ERROR && self.record().failed.is_none() {
            return Ok(());
        }
        // SAFETY: `p` is live; the string is a static of the library.
        let (code, text) = unsafe {
            let code = ffi::XML_GetErrorCode(p);
            (code, ffi::XML_ErrorString(code))
        };
        let error = self.record().failed.unwrap_or_else(|| {
            if code == ffi::ERROR_UNDEFINED_ENTITY {
                return Error::Restricted("entity reference");
            }
            // SAFETY: XML_ErrorString gives NULL or a static C string.
            let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr::<'static>(text) });
            Error::NotWellFormed(text.and_then(|t| t.to_str().ok()).unwrap_or("error"))
        });
        // SAFETY: no other reference to the record lives outside a parse.
        unsafe { self.record.as_mut() }.failed = Some(error);
        Err(error)
    }

    /// Bytes fed so far: the position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes of them that Expat was shown.
    pub fn shown(&self) -> u64 {
        self.position - self.record().skipped
    }

    /// Size of the largest first-level element that Expat was shown; the next
    /// are compared with nothing.
    pub fn take_largest(&mut self) -> u64 {
        // SAFETY: no other reference to the record lives outside a parse.
        std::mem::take(unsafe { &mut self.record.as_mut().largest })
    }

    /// Position of the token in work: all before it is parsed.
    pub fn token_start(&self) -> u64 {
        // SAFETY: the parser is live.
        let index = unsafe { ffi::XML_GetCurrentByteIndex(self.raw.as_ptr()) };
        u64::try_from(index).unwrap_or(0) + self.record().skipped
    }

    /// The tokens since the last [`Parser::forget`].
    pub fn tokens(&self) -> &[Token] {
        &self.record().tokens
    }

    /// Drops the tokens handed out, and with `texts` all names and attributes:
    /// tags read before are of no use then.
    pub fn forget(&mut self, texts: bool) {
        // SAFETY: no other reference to the record lives outside a parse.
        let record = unsafe { self.record.as_mut() };
        record.tokens.clear();
        if texts {
            record.text.clear();
            record.attributes.clear();
        }
    }

    /// The name of `tag` as a parser with raw names saw it.
    pub fn name(&self, tag: &Tag) -> &[u8] {
        self.text(&tag.name)
    }

    /// Namespace (empty for none) and local name of `tag` as a parser with
    /// resolved names saw it.
    pub fn resolved_name(&self, tag: &Tag) -> (&[u8], &[u8]) {
        let name = self.text(&tag.name);
        match memchr::memchr(SEPARATOR, name) {
            Some(at) => (&name[..at], &name[at + 1..]),
            None => (&[], name),
        }
    }

    /// Attributes of `tag`, unescaped, in their order. Below the root only
    /// namespace declarations are kept.
    pub fn attributes(&self, tag: &Tag) -> impl Iterator<Item = (&[u8], &[u8])> {
        let range = tag.attributes.start as usize..tag.attributes.end as usize;
        self.record().attributes[range]
            .iter()
            .map(|[name, value]| (self.text(name), self.text(value)))
    }

    fn text(&self, range: &Range<u32>) -> &[u8] {
        &self.record().text[range.start as usize..range.end as usize]
    }

    fn record(&self) -> &Record {
        // SAFETY: the record lives as long as the parser, and is written only
        // by the handlers inside `parse`, which holds `&mut self`.
        unsafe { self.record.as_ref() }
    }
}

impl Drop for Parser {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`, are freed once, and nothing refers
        // to them any more; no handler runs here.
        unsafe {
            ffi::XML_ParserFree(self.raw.as_ptr());
            drop(Box::from_raw(self.record.as_ptr()));
        }
    }
}

impl Record {
    /// Start and end of the token that the current handler reports.
    fn span(&self) -> (u64, u64) {
        // SAFETY: `raw` is the live parser whose handler is running.
        let (index, count) = unsafe {
            (
                ffi::XML_GetCurrentByteIndex(self.raw),
                ffi::XML_GetCurrentByteCount(self.raw),
            )
        };
        let start = u64::try_from(index).unwrap_or(0) + self.skipped;
        (start, start + u64::try_from(count).unwrap_or(0))
    }

    /// Whether the start tag being reported keeps to the limits.
    ///
    /// # Safety
    /// `atts` is the list that Expat gave to the current handler.
    unsafe fn counts_within_limits(&mut self, atts: *mut *const c_char) -> bool {
        let mut namespaces = std::mem::take(&mut self.namespaces);
        let mut attributes = namespaces;
        let mut at = atts;
        // SAFETY: pairs of NUL-terminated texts up to NULL, by the caller's promise.
        unsafe {
            while !(*at).is_null() {
                attributes += 1;
                let declares = CStr::from_ptr(*at).to_bytes().starts_with(b"xmlns");
                namespaces += u32::from(declares);
                at = at.add(2);
            }
        }
        attributes <= self.limits.attributes && namespaces <= self.limits.namespaces
    }

    fn push_text(&mut self, text: &[u8]) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(text);
        start..self.text.len() as u32
    }

    fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
        // SAFETY: `raw` is the live parser whose handler is running.
        unsafe { ffi::XML_StopParser(self.raw, 0 as c_uchar) };
    }
}

/// The record behind a handler's first argument.
///
/// # Safety
/// `data` is the pointer given to XML_SetUserData, and no other reference to
/// the record lives.
unsafe fn record<'a>(data: *mut c_void) -> &'a mut Record {
    // SAFETY: by the caller's promise.
    unsafe { &mut *data.cast::<Record>() }
}

unsafe extern "C" fn on_start(data: *mut c_void, name: *const c_char, atts: *mut *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    let record = unsafe { record(data) };
    if record.failed.is_some() {
        return;
    }
    let depth = record.depth;
    record.depth += 1;
    if record.depth > record.limits.depth {
        return record.fail(Error::TooDeep);
    }
    // SAFETY: Expat hands out a list of pairs of NUL-terminated texts that ends
    // with NULL, all valid during this call.
    let within = unsafe { record.counts_within_limits(atts) };
    if !within {
        return record.fail(Error::TooManyAttributes);
    }
    let (start, end) = record.span();
    record.tag_end = end;
    if depth == 1 {
        record.element_start = start - record.skipped;
    }
    if depth > record.watch {
        return;
    }
    // SAFETY: Expat hands out NUL-terminated names and values, in a list of
    // pairs that ends with NULL, all valid during this call.
    unsafe {
        let name = record.push_text(CStr::from_ptr(name).to_bytes());
        let first = record.attributes.len() as u32;
        let mut at = atts;
        while !(*at).is_null() {
            let key = CStr::from_ptr(*at).to_bytes();
            if depth == 0 || key.starts_with(b"xmlns") {
                let key = record.push_text(key);
                let value = record.push_text(CStr::from_ptr(*at.add(1)).to_bytes());
                record.attributes.push([key, value]);
            }
            at = at.add(2);
        }
        let attributes = first..record.attributes.len() as u32;
        record.tokens.push(Token::Start(Tag {
            depth,
            start,
            end,
            name,
            attributes,
        }));
    }
}

unsafe extern "C" fn on_namespace(data: *mut c_void, _prefix: *const c_char, _uri: *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    unsafe { record(data) }.namespaces += 1;
}

unsafe extern "C" fn on_end(data: *mut c_void, _name: *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    let record = unsafe { record(data) };
    if record.failed.is_some() {
        return;
    }
    record.depth -= 1;
    let (_, end) = record.span();
    record.tag_end = end;
    let depth = record.depth;
    if depth == 1 {
        let size = end - record.skipped - record.element_start;
        record.largest = record.largest.max(size);
    }
    if depth <= record.watch {
        record.tokens.push(Token::End { depth, end });
    }
}

unsafe extern "C" fn on_doctype(
    data: *mut c_void,
    _name: *const c_char,
    _sysid: *const c_char,
    _pubid: *const c_char,
    _has_internal_subset: c_int,
) {
    // SAFETY: Expat calls with our user data; see `record`.
    unsafe { record(data) }.fail(Error::Restricted("document type"));
}

unsafe extern "C" fn on_comment(data: *mut c_void, _text: *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    unsafe { record(data) }.fail(Error::Restricted("comment"));
}

unsafe extern "C" fn on_instruction(
    data: *mut c_void,
    _target: *const c_char,
    _text: *const c_char,
) {
    // SAFETY: Expat calls with our user data; see `record`.
    unsafe { record(data) }.fail(Error::Restricted("processing instruction"));
}

unsafe extern "C" fn on_declaration(
    data: *mut c_void,
    _version: *const c_char,
    encoding: *const c_char,
    _standalone: c_int,
) {
    if encoding.is_null() {
        return;
    }
    // SAFETY: not NULL, so a NUL-terminated name, valid during this call.
    let encoding = unsafe { CStr::from_ptr(encoding) }.to_bytes();
    if !encoding.eq_ignore_ascii_case(b"UTF-8") {
        // SAFETY: Expat calls with our user data; see `record`.
        unsafe { record(data) }.fail(Error::Encoding);
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
