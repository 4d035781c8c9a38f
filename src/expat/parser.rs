//! One Expat parser: takes bytes, and records the tags near the root.
//!
//! Owns the library's parser object and the record that its handlers write. A handler only
//! computes positions and appends to the record. A panic cannot unwind through C, because the
//! program aborts on panic. Character data is not reported: callers use the positions to cut
//! elements out of their own bytes.
//!
//! Refuses document types, comments, processing instructions and entity references other than
//! the five predefined ones (RFC 6120, section 11.1), encodings other than UTF-8 (11.6), and
//! documents over a limit.

use std::cell::Cell;
use std::ffi::CStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::ptr::NonNull;

use nix::libc::{c_char, c_int, c_uchar, c_void};

use super::limits::{Error, Limits};
use super::{ffi, memory};

/// Separates namespace and local name in the names that Expat reports. UTF-8 text never
/// contains this byte.
const SEPARATOR: u8 = 0xff;

/// Memory for names and values that a parser keeps, in bytes.
const MAX_TEXT: usize = 4 << 10;

thread_local! {
    static SCANNED: Cell<u64> = const { Cell::new(0) };
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// Returns the bytes that the parsers of this thread have scanned, including rescans.
pub fn scanned_bytes() -> u64 {
    SCANNED.get()
}

/// Returns how many parsers this thread has created.
pub fn parsers_made() -> u64 {
    MADE.get()
}

/// A start tag. The parser keeps its texts until [`Parser::forget`].
#[derive(Clone, Debug)]
pub struct Tag {
    /// The depth of the element; the root is at depth 0.
    pub depth: u32,
    /// The position of its `<`, counted from the first byte that the parser got.
    pub start: u64,
    /// The position after its `>`.
    pub end: u64,
    name: Range<u32>,
    declarations: Range<u32>,
    attributes: Range<u32>,
}

/// A tag that a parser has read.
#[derive(Clone, Debug)]
pub enum Token {
    /// A start tag, or the tag of an empty element.
    Start(Tag),
    /// The end of an element.
    End {
        /// The depth of the element; the root is at depth 0.
        depth: u32,
        /// The position after the last byte of the element.
        end: u64,
    },
}

/// The data that the handlers write.
struct Record {
    raw: ffi::RawParser,
    limits: Limits,
    /// Number of namespace declarations on the start tag that is being reported.
    namespaces: u32,
    /// Number of attributes of all start tags, with the declarations.
    attribute_count: u64,
    depth: u32,
    watch: u32,
    failed: Option<Error>,
    tokens: Vec<Token>,
    text: Vec<u8>,
    /// Declarations and attributes, in the order of their tags.
    attributes: Vec<[Range<u32>; 2]>,
}

/// An Expat parser with the tags that it has read, down to the watched depth.
pub struct Parser {
    raw: NonNull<ffi::ParserStruct>,
    record: NonNull<Record>,
    position: u64,
    /// Bytes that Expat holds for this parser.
    heap: usize,
}

impl Parser {
    /// Creates a parser with the default limits. It reports the tags of elements down to depth
    /// `watch` (the root is at depth 0).
    pub fn new(watch: u32) -> Parser {
        Parser::bounded(watch, Limits::DEFAULT)
    }

    /// Creates a parser with these limits.
    pub fn bounded(watch: u32, limits: Limits) -> Parser {
        MADE.set(MADE.get() + 1);
        let held = memory::heap_bytes();
        let separator = SEPARATOR as c_char;
        // SAFETY: the encoding is a NUL-terminated literal, the suite is a static, and Expat
        // reads only the one byte of the separator, during this call.
        let raw =
            unsafe { ffi::XML_ParserCreate_MM(c"UTF-8".as_ptr(), &memory::COUNTED, &separator) };
        let raw = NonNull::new(raw).expect("no memory for an XML parser");
        let record = Box::new(Record {
            raw: raw.as_ptr(),
            limits,
            namespaces: 0,
            attribute_count: 0,
            depth: 0,
            watch,
            failed: None,
            tokens: Vec::new(),
            text: Vec::new(),
            attributes: Vec::new(),
        });
        let record = NonNull::from(Box::leak(record));
        let p = raw.as_ptr();
        // SAFETY: `p` was just created. `record` stays valid until the parser is freed (see
        // Drop), and the handlers cast it to its true type.
        unsafe {
            // Without this, Expat would ask the kernel for a salt for each parser.
            ffi::XML_SetHashSalt(p, RandomState::new().build_hasher().finish());
            ffi::XML_SetUserData(p, record.as_ptr().cast());
            ffi::XML_SetElementHandler(p, on_start, on_end);
            ffi::XML_SetStartNamespaceDeclHandler(p, on_namespace);
            ffi::XML_SetStartDoctypeDeclHandler(p, on_doctype);
            ffi::XML_SetCommentHandler(p, on_comment);
            ffi::XML_SetProcessingInstructionHandler(p, on_instruction);
            ffi::XML_SetXmlDeclHandler(p, on_declaration);
            if let Some(set) = ffi::reparse_deferral() {
                set(p, 0);
            }
        }
        Parser {
            raw,
            record,
            position: 0,
            heap: memory::heap_bytes() - held,
        }
    }

    /// Parses `bytes`. Keeps the tokens before an error.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.parse(bytes, false)
    }

    /// Parses `bytes` as the end of the document: an incomplete document is an error.
    pub fn finish(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.parse(bytes, true)
    }

    fn parse(&mut self, bytes: &[u8], last: bool) -> Result<(), Error> {
        if let Some(error) = self.record().failed {
            return Err(error);
        }
        let len = c_int::try_from(bytes.len()).map_err(|_| Error::NotWellFormed("too long"))?;
        let scanned = (self.pending() + bytes.len()) as u64;
        SCANNED.set(SCANNED.get() + scanned);
        self.position += bytes.len() as u64;
        let held = memory::heap_bytes();
        let p = self.raw.as_ptr();
        // SAFETY: `p` is live and not inside a handler (`&mut self`), `bytes`
        // is valid for `len` bytes and Expat keeps no pointer to it; no
        // reference to the record lives while the handlers write to it.
        let status = unsafe { ffi::XML_Parse(p, bytes.as_ptr().cast(), len, c_int::from(last)) };
        self.heap = self.heap + memory::heap_bytes() - held;
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

    /// Returns the position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of bytes of an unfinished token, which Expat keeps and rescans.
    pub fn pending(&self) -> usize {
        // SAFETY: the parser is live.
        let index = unsafe { ffi::XML_GetCurrentByteIndex(self.raw.as_ptr()) };
        let token = u64::try_from(index).unwrap_or(0);
        self.position.saturating_sub(token) as usize
    }

    /// Returns the number of attributes and declarations that it has read.
    pub fn attribute_count(&self) -> u64 {
        self.record().attribute_count
    }

    /// Returns the bytes of memory that this parser holds.
    pub fn heap_bytes(&self) -> usize {
        self.heap
    }

    /// The tokens since the last [`Parser::forget`].
    pub fn tokens(&self) -> &[Token] {
        &self.record().tokens
    }

    /// Drops all tokens with their names and attributes.
    pub fn forget(&mut self) {
        // SAFETY: no other reference to the record lives outside a parse.
        let record = unsafe { self.record.as_mut() };
        record.tokens.clear();
        record.text.clear();
        record.text.shrink_to(MAX_TEXT);
        record.attributes.clear();
    }

    /// Returns the namespace (empty for none) and local name of `tag`.
    pub fn name(&self, tag: &Tag) -> (&[u8], &[u8]) {
        split_name(self.text(&tag.name))
    }

    /// Returns the prefixes that `tag` declares (empty for the default namespace), and their
    /// namespaces.
    pub fn declarations(&self, tag: &Tag) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs(&tag.declarations)
    }

    /// Returns the attributes of `tag`, which must be a root, in document order: namespace and
    /// local name, and the unescaped value.
    pub fn attributes(&self, tag: &Tag) -> impl Iterator<Item = ((&[u8], &[u8]), &[u8])> {
        let pairs = self.pairs(&tag.attributes);
        pairs.map(|(name, value)| (split_name(name), value))
    }

    fn pairs(&self, range: &Range<u32>) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.record().attributes[range.start as usize..range.end as usize]
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
    /// Returns the start and end of the token that the current handler reports.
    fn span(&self) -> (u64, u64) {
        // SAFETY: `raw` is the live parser whose handler is running.
        let (index, count) = unsafe {
            (
                ffi::XML_GetCurrentByteIndex(self.raw),
                ffi::XML_GetCurrentByteCount(self.raw),
            )
        };
        let start = u64::try_from(index).unwrap_or(0);
        (start, start + u64::try_from(count).unwrap_or(0))
    }

    /// Whether the start tag that is being reported is within the limits.
    ///
    /// # Safety
    /// `atts` is the list that Expat gave to the current handler.
    unsafe fn counts_within_limits(&mut self, atts: *mut *const c_char) -> bool {
        let mut attributes = self.namespaces;
        let mut at = atts;
        // SAFETY: the caller guarantees pairs of texts, ending with NULL.
        unsafe {
            while !(*at).is_null() {
                attributes += 1;
                at = at.add(2);
            }
        }
        self.attribute_count += u64::from(attributes);
        attributes <= self.limits.attributes && self.namespaces <= self.limits.namespaces
    }

    fn push_pair(&mut self, name: &[u8], value: &[u8]) {
        let name = self.push_text(name);
        let value = self.push_text(value);
        self.attributes.push([name, value]);
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

/// Splits a name from Expat into namespace and local name.
fn split_name(name: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(SEPARATOR, name) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (&[], name),
    }
}

/// Returns the record that a handler's first argument points to.
///
/// # Safety
/// `data` is the pointer given to XML_SetUserData, and no other reference to
/// the record lives.
unsafe fn record<'a>(data: *mut c_void) -> &'a mut Record {
    // SAFETY: the caller guarantees it.
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
    let declared = std::mem::take(&mut record.namespaces);
    if depth > record.watch {
        return;
    }
    let (start, end) = record.span();
    let first = record.attributes.len() as u32;
    let declarations = first - declared..first;
    // SAFETY: Expat hands out NUL-terminated names and values, in a list of
    // pairs that ends with NULL, all valid during this call.
    unsafe {
        let name = record.push_text(CStr::from_ptr(name).to_bytes());
        let mut at = atts;
        while depth == 0 && !(*at).is_null() {
            let (key, value) = (CStr::from_ptr(*at), CStr::from_ptr(*at.add(1)));
            record.push_pair(key.to_bytes(), value.to_bytes());
            at = at.add(2);
        }
        let attributes = first..record.attributes.len() as u32;
        record.tokens.push(Token::Start(Tag {
            depth,
            start,
            end,
            name,
            declarations,
            attributes,
        }));
    }
}

unsafe extern "C" fn on_namespace(data: *mut c_void, prefix: *const c_char, uri: *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    let record = unsafe { record(data) };
    record.namespaces += 1;
    if record.depth > record.watch || record.failed.is_some() {
        return;
    }
    let text = |text: *const c_char| match text.is_null() {
        true => &b""[..],
        // SAFETY: not NULL, so a NUL-terminated text, valid during this call.
        false => unsafe { CStr::from_ptr(text) }.to_bytes(),
    };
    record.push_pair(text(prefix), text(uri));
}

unsafe extern "C" fn on_end(data: *mut c_void, _name: *const c_char) {
    // SAFETY: Expat calls with our user data; see `record`.
    let record = unsafe { record(data) };
    if record.failed.is_some() {
        return;
    }
    record.depth -= 1;
    let depth = record.depth;
    if depth <= record.watch {
        let (_, end) = record.span();
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
