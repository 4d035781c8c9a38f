//! Finds the end of a unit of XML: a first-level element, or the start tag of a root.
//!
//! Scans the bytes before a unit is complete, each byte once. It tracks tags, quotes, CDATA
//! sections and depth, and keeps only its position among these. It refuses comments, processing
//! instructions and document types (RFC 6120, section 11.1) at their first bytes, and tags that
//! are too long. It may accept anything else: Expat must then find exactly one element from the
//! unit's first byte to its last.

use super::limits::{Error, Limits};

/// Maximum length of a tag or of an XML declaration. Expat treats either as one token.
pub const MAX_TAG: usize = 64 << 10;

/// Maximum length of a namespace, as it is written. Expat copies and hashes that of a prefix for
/// each attribute with the prefix, and we may copy those of all elements: with long ones, a
/// message of 1 MiB would take seconds.
pub(super) const MAX_NAMESPACE: u32 = 256;

/// The reason to refuse text before a unit, in a CDATA section too.
const OUTSIDE_TEXT: &str = "text outside an element";

/// The target of an XML declaration: follows `<?`, and is followed by white space.
const DECLARATION: &[u8] = b"xml";

/// The name of an attribute that declares the default namespace.
const XMLNS: &[u8] = b"xmlns";
/// Marks a name that consists of [`XMLNS`], a `:` and a prefix.
const DECLARES_PREFIX: u8 = XMLNS.len() as u8 + 1;
/// Marks a name that declares nothing.
const OTHER_NAME: u8 = u8::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Text, up to a `<`.
    Text,
    /// After a `<`.
    Open,
    /// In a start tag. `slash`: the last byte was a `/`; `name`: how many bytes of
    /// [`XMLNS`] the attribute's name begins with, or one of the marks.
    Tag {
        slash: bool,
        name: u8,
    },
    /// In an attribute's value, which ends with this quote and may have `left` further bytes.
    Quoted {
        quote: u8,
        left: u32,
    },
    EndTag,
    /// After `<!`.
    Bang,
    /// In a CDATA section, after this many `]`, at most two.
    Cdata(u8),
    /// After `<?` and this many bytes of the name.
    DeclarationName(u8),
    /// In an XML declaration; `question`: the last byte was a `?`.
    Declaration {
        question: bool,
    },
}

/// A search for the end of one unit, which begins with a `<`.
#[derive(Clone, Debug)]
pub struct Boundary {
    step: Step,
    /// The unit is a start tag, not an element.
    is_header: bool,
    may_declare: bool,
    depth: u32,
    /// The deepest level allowed; the unit is at level 1.
    max_depth: u32,
    /// Maximum number of attributes of a tag. Expat looks up the name of each of them before it
    /// reports the tag.
    max_attributes: u32,
    /// Attributes of the current tag.
    attributes: u32,
    /// Bytes of the current tag.
    tag: u32,
}

impl Boundary {
    /// Finds the end of an element inside a root.
    pub fn element(limits: Limits) -> Boundary {
        Boundary {
            step: Step::Text,
            is_header: false,
            may_declare: false,
            depth: 0,
            max_depth: limits.depth.saturating_sub(1),
            max_attributes: limits.attributes,
            attributes: 0,
            tag: 0,
        }
    }

    /// Finds the end of a root's start tag, which an XML declaration may precede.
    pub fn header(limits: Limits) -> Boundary {
        Boundary {
            is_header: true,
            may_declare: true,
            ..Boundary::element(limits)
        }
    }

    /// Scans the next bytes of the unit. If the unit ends among them, returns how many of
    /// them belong to it.
    ///
    /// # Errors
    /// The unit is invalid, whatever follows.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let mut at = 0;
        while at < bytes.len() {
            let (used, ended) = self.go_on(&bytes[at..])?;
            at += used;
            if ended {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Consumes some bytes of `rest`, which is not empty; true if the unit ends there.
    fn go_on(&mut self, rest: &[u8]) -> Result<(usize, bool), Error> {
        let mut ended = false;
        let used = match self.step {
            Step::Text => return Ok((self.text(rest)?, false)),
            Step::Cdata(brackets) => return Ok((self.cdata(rest, brackets), false)),
            Step::Open => self.open(rest[0])?,
            Step::Bang => self.bang(rest[0])?,
            Step::Tag { slash, name } => {
                let is_stop = |byte: &u8| matches!(byte, b'>' | b'"' | b'\'');
                let end = rest.iter().position(is_stop);
                let before = &rest[..end.unwrap_or(rest.len())];
                match end.map(|at| rest[at]) {
                    Some(b'>') => {
                        let slash = before.last().map_or(slash, |last| *last == b'/');
                        ended = self.start_tag(slash)?;
                    }
                    Some(quote) => self.value(quote, name_after(name, before))?,
                    None => {
                        let slash = before.last() == Some(&b'/');
                        let name = name_after(name, before);
                        self.step = Step::Tag { slash, name };
                    }
                }
                before.len() + usize::from(end.is_some())
            }
            Step::Quoted { quote, left } => {
                let name = 0;
                let used = self.skip_to(quote, rest, Step::Tag { slash: false, name });
                let closed = matches!(self.step, Step::Tag { .. });
                let left = left.checked_sub((used - usize::from(closed)) as u32);
                let left = left.ok_or(Error::LongTag)?;
                if !closed {
                    self.step = Step::Quoted { quote, left };
                }
                used
            }
            Step::EndTag => {
                let used = self.skip_to(b'>', rest, Step::Text);
                if self.step == Step::Text {
                    self.depth -= 1;
                    ended = self.depth == 0;
                }
                used
            }
            Step::DeclarationName(known) => self.declaration_name(rest[0], known)?,
            Step::Declaration { question: true } if rest[0] == b'>' => {
                self.step = Step::Text;
                1
            }
            Step::Declaration { .. } => {
                self.step = Step::Declaration { question: false };
                self.skip_to(b'?', rest, Step::Declaration { question: true })
            }
        };
        self.tag = self.tag.saturating_add(used as u32);
        match self.tag as usize > MAX_TAG {
            true => Err(Error::LongTag),
            false => Ok((used, ended)),
        }
    }

    /// Consumes `rest` up to `byte`, after which `next` begins.
    fn skip_to(&mut self, byte: u8, rest: &[u8], next: Step) -> usize {
        match memchr::memchr(byte, rest) {
            Some(at) => {
                self.step = next;
                at + 1
            }
            None => rest.len(),
        }
    }

    fn text(&mut self, rest: &[u8]) -> Result<usize, Error> {
        self.tag = 1;
        let used = self.skip_to(b'<', rest, Step::Open);
        let text = &rest[..used - usize::from(self.step == Step::Open)];
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        match self.depth > 0 || text.iter().all(is_space) {
            true => Ok(used),
            false => Err(Error::NotWellFormed(OUTSIDE_TEXT)),
        }
    }

    fn cdata(&mut self, rest: &[u8], brackets: u8) -> usize {
        if brackets == 0 {
            return self.skip_to(b']', rest, Step::Cdata(1));
        }
        self.step = match (rest[0], brackets) {
            (b'>', 2) => Step::Text,
            (b']', _) => Step::Cdata(2),
            _ => Step::Cdata(0),
        };
        1
    }

    fn open(&mut self, byte: u8) -> Result<usize, Error> {
        let may_declare = std::mem::take(&mut self.may_declare);
        self.step = match byte {
            b'!' => Step::Bang,
            b'?' if may_declare => Step::DeclarationName(0),
            b'?' => return Err(Error::Restricted("processing instruction")),
            b'/' if self.depth == 0 => {
                return Err(Error::NotWellFormed("end tag without a start tag"));
            }
            b'/' => Step::EndTag,
            _ => {
                self.step = Step::Tag {
                    slash: false,
                    name: OTHER_NAME,
                };
                self.attributes = 0;
                return Ok(0);
            }
        };
        Ok(1)
    }

    fn bang(&mut self, byte: u8) -> Result<usize, Error> {
        match byte {
            b'-' => Err(Error::Restricted("comment")),
            b'D' => Err(Error::Restricted("document type")),
            b'[' if self.depth == 0 => Err(Error::NotWellFormed(OUTSIDE_TEXT)),
            b'[' => {
                self.step = Step::Cdata(0);
                Ok(1)
            }
            _ => Err(Error::NotWellFormed("not well-formed (invalid token)")),
        }
    }

    fn declaration_name(&mut self, byte: u8, known: u8) -> Result<usize, Error> {
        self.step = match DECLARATION.get(usize::from(known)) {
            Some(&next) if next == byte => Step::DeclarationName(known + 1),
            None if byte.is_ascii_whitespace() => Step::Declaration { question: false },
            _ => return Err(Error::Restricted("processing instruction")),
        };
        Ok(1)
    }

    /// Begins the value of an attribute; `name` as in [`Step::Tag`].
    fn value(&mut self, quote: u8, name: u8) -> Result<(), Error> {
        let declares = usize::from(name) == XMLNS.len() || name == DECLARES_PREFIX;
        let left = if declares { MAX_NAMESPACE } else { u32::MAX };
        self.step = Step::Quoted { quote, left };
        self.attributes += 1;
        match self.attributes > self.max_attributes {
            true => Err(Error::TooManyAttributes),
            false => Ok(()),
        }
    }

    /// Ends a start tag; true if the unit ends with it.
    fn start_tag(&mut self, is_empty: bool) -> Result<bool, Error> {
        self.step = Step::Text;
        if self.depth >= self.max_depth {
            return Err(Error::TooDeep);
        }
        self.depth += u32::from(!is_empty);
        Ok(self.is_header || self.depth == 0)
    }
}

/// Continues the name of an attribute, as in [`Step::Tag`], with `bytes` before its value.
fn name_after(name: u8, bytes: &[u8]) -> u8 {
    bytes.iter().fold(name, |name, byte| {
        let next = XMLNS.get(usize::from(name));
        let is_whole = usize::from(name) == XMLNS.len();
        match byte {
            _ if name == DECLARES_PREFIX => name,
            b':' if is_whole => DECLARES_PREFIX,
            b'=' | b' ' | b'\t' | b'\r' | b'\n' if is_whole => name,
            b' ' | b'\t' | b'\r' | b'\n' => 0,
            byte if next == Some(byte) => name + 1,
            _ => OTHER_NAME,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits::DEFAULT;
    const COMMENT: Error = Error::Restricted("comment");
    const INSTRUCTION: Error = Error::Restricted("processing instruction");

    /// Scans `text` as a whole and byte by byte, and checks that the results agree.
    fn end(start: &Boundary, text: &str) -> Result<Option<usize>, Error> {
        let whole = start.clone().feed(text.as_bytes());
        let mut dribbled = start.clone();
        let mut bytes = text.bytes().enumerate();
        let found = bytes.find_map(|(at, byte)| match dribbled.feed(&[byte]) {
            Ok(None) => None,
            Ok(Some(used)) => Some(Ok(Some(at + used))),
            Err(error) => Some(Err(error)),
        });
        assert_eq!(found.unwrap_or(Ok(None)), whole, "{text}");
        whole
    }

    #[test]
    fn an_element_ends_with_its_end_tag() {
        for text in [
            "<a/>",
            "<a></a >",
            "<a b='>' c=\"/>\" />",
            "<a b='\"'><b c=\"'\"/>text > ]]</a>",
            "<a><b/><c></c><![CDATA[</a>]] >]]]]></a>",
            "<a\n/>",
            "<a b='/'></a>",
        ] {
            let unit = text.len();
            assert_eq!(
                end(&Boundary::element(LIMITS), text),
                Ok(Some(unit)),
                "{text}"
            );
            let followed = format!("{text}<b/><!-- -->");
            assert_eq!(end(&Boundary::element(LIMITS), &followed), Ok(Some(unit)));
            let cut = &text[..unit - 1];
            assert_eq!(end(&Boundary::element(LIMITS), cut), Ok(None), "{cut}");
        }
    }

    #[test]
    fn a_header_ends_with_its_start_tag() {
        for text in [
            "<s:s>",
            "<s a='>'/>",
            "<?xml version='1.0'?><s>",
            "<?xml\tversion=\"1.0\" ??>\r\n <s>",
        ] {
            let followed = format!("{text}<a></b>");
            assert_eq!(
                end(&Boundary::header(LIMITS), &followed),
                Ok(Some(text.len()))
            );
        }
        for text in ["<?x y?><s>", "<?xml-style y?><s>", "<?xml y?><?xml y?><s>"] {
            assert_eq!(
                end(&Boundary::header(LIMITS), text),
                Err(INSTRUCTION),
                "{text}"
            );
        }
    }

    #[test]
    fn a_tag_with_too_many_attributes_is_refused_before_it_ends() {
        let attributes = |count: usize| " a='\"'".repeat(count);
        let limits = Limits {
            attributes: 3,
            ..LIMITS
        };
        let element = Boundary::element(limits);
        for unit in [
            format!("<a{0}><b{0}/></a>", attributes(3)),
            format!("<a{}/>", " b=\"'\"".repeat(3)),
        ] {
            assert_eq!(end(&element, &unit), Ok(Some(unit.len())));
        }
        for (start, text) in [
            (&element, format!("<a{}", attributes(4))),
            (&element, format!("<a{}><b{}", attributes(1), attributes(4))),
            (&Boundary::header(limits), format!("<a{}", attributes(4))),
        ] {
            assert_eq!(end(start, &text), Err(Error::TooManyAttributes), "{text}");
        }
    }

    #[test]
    fn namespaces_are_short_and_other_values_are_not() {
        let (short, long) = ("u".repeat(256), "u".repeat(257));
        let verdict = |tag: &str, value: &str| {
            let tag = tag.replace('*', value);
            let element = end(&Boundary::element(LIMITS), &format!("<c>{tag}</c>"));
            let header = end(&Boundary::header(LIMITS), &tag);
            assert_eq!(header.map(|_| ()), element.map(|_| ()), "{tag}");
            element.map(|end| end.is_some())
        };
        for tag in [
            "<a xmlns:p='*'/>",
            "<a b='' xmlns:p=\"*\"/>",
            "<a\n\txmlns:xmlns \r\n = '*' >",
            "<a xmlns='' xmlns:q='q' xmlns:p='*'/>",
            "<a xmlns='*'/>",
            "<a b='c'\rxmlns\t=\n\"*\">",
        ] {
            assert!(verdict(tag, &short).is_ok(), "{tag}");
            assert_eq!(verdict(tag, &long), Err(Error::LongTag), "{tag}");
        }
        for tag in [
            "<a xmlns='q' b='*'/>",
            "<a xmlns:p='q' b='*'/>",
            "<a xmln='*'/>",
            "<a xmlnsx='*'/>",
            "<a xmlnsx:p='*'/>",
            "<a xmlns.p='*'/>",
            "<a p:xmlns:q='*'/>",
            "<a xxmlns:q='*'/>",
            "<xmlns:a b='*'/>",
        ] {
            assert!(verdict(tag, &long).is_ok(), "{tag}");
        }
    }

    #[test]
    fn what_is_restricted_is_refused_at_its_first_bytes() {
        for (text, error) in [
            ("<!-", COMMENT),
            ("<a><b/>text<!-", COMMENT),
            ("<a><?", INSTRUCTION),
            ("<?", INSTRUCTION),
            ("<a><!D", Error::Restricted("document type")),
        ] {
            assert_eq!(end(&Boundary::element(LIMITS), text), Err(error), "{text}");
        }
        for text in ["</a>", "<![CDATA[", "<a><!x"] {
            let verdict = end(&Boundary::element(LIMITS), text);
            assert!(matches!(verdict, Err(Error::NotWellFormed(_))), "{text}");
        }
        let verdict = end(&Boundary::header(LIMITS), "<?xml y?>x");
        assert!(matches!(verdict, Err(Error::NotWellFormed(_))));
    }

    #[test]
    fn tags_and_depth_are_bounded_and_texts_are_not() {
        let tag = |len: usize| format!("<a><a b='{}'/></a>", "x".repeat(len - 9));
        let element = Boundary::element(LIMITS);
        let (longest, longer) = (tag(MAX_TAG), tag(MAX_TAG + 1));
        let found = end(&Boundary::element(LIMITS), &longest);
        assert_eq!(found, Ok(Some(longest.len())));
        assert_eq!(
            end(&Boundary::element(LIMITS), &longer),
            Err(Error::LongTag)
        );
        let deep = |depth: u32| "<a>".repeat(depth as usize - 1) + "<a/>";
        assert_eq!(end(&element, &deep(LIMITS.depth - 1)), Ok(None));
        assert_eq!(end(&element, &deep(LIMITS.depth)), Err(Error::TooDeep));
        let text = "x".repeat(MAX_TAG + 1);
        for text in [
            format!("<a>{text}</a>"),
            format!("<a><![CDATA[{text}]]></a>"),
        ] {
            assert_eq!(end(&Boundary::element(LIMITS), &text), Ok(Some(text.len())));
        }
        let declaration = format!("<?xml {text}");
        assert_eq!(
            end(&Boundary::header(LIMITS), &declaration),
            Err(Error::LongTag)
        );
    }
}
