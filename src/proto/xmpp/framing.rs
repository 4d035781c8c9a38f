//! RFC 7395 framing: completes an element of the server's stream, so that it can be a message
//! of its own (section 3.3.3).
//!
//! On TCP, an element inherits the default namespace and all prefixes from the stream header;
//! in a message it inherits nothing, so the declarations that it uses are added to it.
//! `xml:lang` is not repeated, because the client has it from `<open/>`.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::{attribute, is_space, ns};
use crate::expat::{Parser, Plain, Tag};

/// `<close/>`. Some clients compare it byte by byte.
pub const CLOSE: &str = "<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" />";

/// Appends the `<close/>` that sends a client to another endpoint (RFC 7395,
/// section 3.6.1).
pub fn write_close_elsewhere(uri: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<close");
    attribute(out, b"xmlns", ns::FRAMING.as_bytes());
    attribute(out, b"see-other-uri", uri.as_bytes());
    out.extend_from_slice(b" />");
}

/// The end tag of a stream over TCP.
pub const STREAM_END: &str = "</stream:stream>";

/// Maximum number of bytes that the declarations of a stream header may add to an element.
const MAX_DECLARATIONS: usize = 2048;

/// The namespace declarations of a server's stream header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarations {
    default: Vec<u8>,
    /// The default namespace as an attribute; empty if there is none.
    default_attribute: Vec<u8>,
    prefixes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The usual declarations, shared by all sessions.
static USUAL: LazyLock<Declarations> = LazyLock::new(|| {
    let prefixes = vec![(b"stream".to_vec(), ns::STREAMS.into())];
    Declarations::new(ns::CLIENT.into(), prefixes)
});

impl Declarations {
    /// Returns the usual declarations: `jabber:client` as default namespace, and the prefix
    /// `stream`.
    pub fn usual() -> &'static Declarations {
        &USUAL
    }

    fn new(default: Vec<u8>, prefixes: Vec<(Vec<u8>, Vec<u8>)>) -> Declarations {
        let mut default_attribute = Vec::new();
        if !default.is_empty() {
            attribute(&mut default_attribute, b"xmlns", &default);
        }
        Declarations {
            default,
            default_attribute,
            prefixes,
        }
    }

    /// Reads the declarations on `tag`, a root. Returns `None` if they are too long to repeat
    /// them in each element.
    pub fn read(parser: &Parser, tag: &Tag) -> Option<Declarations> {
        let (mut default, mut prefixes) = (Vec::new(), Vec::new());
        let mut added = 0;
        for (prefix, uri) in parser.declarations(tag) {
            // An escaped byte takes at most six bytes.
            added += b" xmlns:=''".len() + prefix.len() + 6 * uri.len();
            match prefix.is_empty() {
                true => default = uri.to_vec(),
                false => prefixes.push((prefix.to_vec(), uri.to_vec())),
            }
        }
        (added <= MAX_DECLARATIONS).then(|| Declarations::new(default, prefixes))
    }

    /// Returns the bytes of memory that they take.
    pub(super) fn memory(&self) -> usize {
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.map(|pair| size_of_val(pair) + pair.0.len() + pair.1.len());
        self.default.len() + self.default_attribute.len() + prefixes.sum::<usize>()
    }

    /// Appends a start tag of a root with these declarations.
    pub(super) fn write_root(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<r");
        out.extend_from_slice(&self.default_attribute);
        for (prefix, uri) in &self.prefixes {
            attribute(out, &[b"xmlns:", &prefix[..]].concat(), uri);
        }
        out.push(b'>');
    }
}

/// A complete first-level element of the server's stream.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// The bytes as received.
    pub bytes: &'a [u8],
    name: Name<'a>,
    declarations: &'a Declarations,
}

/// The name of an element, and the declarations of its own tag.
#[derive(Clone, Copy)]
enum Name<'a> {
    /// As reported by a parser.
    Seen(&'a Parser, &'a Tag),
    /// The name and default namespace of an element that uses no prefixes and declares none.
    Plain(&'a [u8], Option<&'a [u8]>),
    /// Stream features in the usual stream, with a tag that has no attributes.
    Features,
}

impl<'a> Element<'a> {
    /// Creates an element that a parser reported.
    pub(super) fn seen(
        bytes: &'a [u8],
        (parser, tag): (&'a Parser, &'a Tag),
        declarations: &'a Declarations,
    ) -> Element<'a> {
        Element {
            bytes,
            name: Name::Seen(parser, tag),
            declarations,
        }
    }

    /// Creates an element that needed no parser.
    pub(super) fn plain(plain: Plain<'a>, declarations: &'a Declarations) -> Element<'a> {
        Element {
            bytes: plain.bytes,
            name: Name::Plain(plain.name, plain.namespace),
            declarations,
        }
    }

    /// Creates stream features that needed no parser, in a stream with the usual root.
    pub(super) fn features(bytes: &'a [u8]) -> Element<'a> {
        Element {
            bytes,
            name: Name::Features,
            declarations: Declarations::usual(),
        }
    }

    /// Whether the root of the stream is the usual one.
    pub fn is_in_usual_stream(&self) -> bool {
        std::ptr::eq(self.declarations, Declarations::usual())
    }

    /// Whether the element has this namespace and local name.
    #[inline]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        match self.name {
            Name::Seen(parser, tag) => parser.name(tag) == (namespace.as_bytes(), name.as_bytes()),
            Name::Features => (namespace, name) == (ns::STREAMS, "features"),
            Name::Plain(own, own_namespace) => {
                own == name.as_bytes()
                    && own_namespace.unwrap_or(&self.declarations.default) == namespace.as_bytes()
            }
        }
    }

    /// Returns the offset in `bytes` after the element's name, where attributes begin.
    pub fn name_end(&self) -> usize {
        match self.name {
            Name::Seen(..) | Name::Features => 1 + tag_name(self.bytes).len(),
            Name::Plain(name, _) => 1 + name.len(),
        }
    }

    /// Appends the declarations that the element inherits and uses, to be inserted at
    /// [`Element::name_end`]. Appends nothing if the element is complete in itself.
    pub fn inherited(&self, out: &mut Vec<u8>) {
        if !self.declares(b"") {
            out.extend_from_slice(&self.declarations.default_attribute);
        }
        let prefixes = &self.declarations.prefixes;
        if matches!(self.name, Name::Plain(..)) || prefixes.is_empty() {
            return;
        }
        let inherited = prefixes.iter().filter(|(prefix, _)| !self.declares(prefix));
        let mut unused: HashSet<_> = inherited.map(|(prefix, _)| &prefix[..]).collect();
        let used = take_used(self.bytes, &mut unused);
        for (prefix, uri) in prefixes {
            if used.contains(&prefix[..]) {
                attribute(out, &[b"xmlns:", &prefix[..]].concat(), uri);
            }
        }
    }

    /// Returns the element with its inherited declarations, complete in itself.
    pub fn whole(&self) -> Vec<u8> {
        let (head, tail) = self.bytes.split_at(self.name_end());
        let mut whole = head.to_vec();
        self.inherited(&mut whole);
        whole.extend_from_slice(tail);
        whole
    }

    /// Whether the element's own tag declares `prefix` (empty for the default
    /// namespace).
    fn declares(&self, prefix: &[u8]) -> bool {
        match self.name {
            Name::Seen(parser, tag) => parser.declarations(tag).any(|(own, _)| own == prefix),
            Name::Plain(_, namespace) => prefix.is_empty() && namespace.is_some(),
            Name::Features => false,
        }
    }
}

/// Returns the name at the start of a tag, with its prefix.
pub(super) fn tag_name(tag: &[u8]) -> &[u8] {
    let name = tag.get(1..).unwrap_or_default();
    let ends = |&byte: &u8| is_space(byte) || matches!(byte, b'/' | b'>');
    &name[..name.iter().position(ends).unwrap_or(name.len())]
}

/// Removes from `unused` the prefixes that occur in `bytes` as in a tag. A false match in text
/// only adds a needless declaration; a missed prefix would break well-formedness. Scans each
/// byte once.
fn take_used<'a>(bytes: &[u8], unused: &mut HashSet<&'a [u8]>) -> HashSet<&'a [u8]> {
    let mut used = HashSet::new();
    // The start of the current name, if there may be one.
    let mut start = None;
    for (at, &byte) in bytes.iter().enumerate() {
        if matches!(byte, b'<' | b'/') || is_space(byte) {
            start = Some(at + 1);
        } else if byte == b':'
            && let Some(start) = start.take()
            && let Some(prefix) = unused.take(&bytes[start..at])
        {
            used.insert(prefix);
            if unused.is_empty() {
                break;
            }
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::xmpp::cpu_seconds;

    fn used<'a>(text: &str, prefixes: &[&'a str]) -> Vec<&'a str> {
        let mut unused = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
        let used = take_used(text.as_bytes(), &mut unused);
        let is_used = |prefix: &&&str| used.contains(prefix.as_bytes());
        prefixes.iter().filter(is_used).copied().collect()
    }

    #[test]
    fn prefixes_of_tags_and_attributes_are_used() {
        let all = ["a", "b", "ab", "\u{e4}"];
        for (text, expected) in [
            ("<a:x b='c:d'/>", &["a"][..]),
            ("<x a:y=''></b:x>", &["a", "b"]),
            ("<x\n\ta:y='' \u{e4}:z=''/>", &["a", "\u{e4}"]),
            ("<ab:x/>", &["ab"]),
            ("<x>:a:b:</x>", &[]),
            ("<x y='a:b'>(a:b)</x>", &[]),
        ] {
            assert_eq!(used(text, &all), expected, "{text}");
        }
    }

    /// Many prefixes take no longer than one; the bound is 40 times the usual time.
    #[test]
    fn many_prefixes_are_looked_for_at_once() {
        let names: Vec<String> = (0..62).map(|n| format!("p{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let begun = cpu_seconds();
        for text in [":", "a:", " a:", " p99:"] {
            let text = text.repeat((4 << 20) / text.len());
            assert!(used(&text, &names).is_empty());
        }
        let took = cpu_seconds() - begun;
        assert!(took < 4, "{took} s");
    }
}
