//! RFC 7395 framing: what an element of the server's stream needs to stand
//! alone in a message (section 3.3.3).
//!
//! Owns the namespace declarations of the server's stream header and the
//! bytes they add to an element. An element inherits on TCP the default
//! namespace and every prefix of the header; in a message nothing is
//! inherited. `xml:lang` is not repeated: the client has it from `<open/>`.

use std::sync::LazyLock;

use super::header::split_name;
use super::{attribute, ns};
use crate::expat::{Parser, Plain, Tag};

/// `<close/>`, byte for byte as clients compare it.
pub const CLOSE: &str = "<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" />";

/// Appends the `<close/>` that sends a client to another endpoint (RFC 7395,
/// section 3.6.1).
pub fn write_close_elsewhere(uri: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"<close");
    attribute(out, b"xmlns", ns::FRAMING.as_bytes());
    attribute(out, b"see-other-uri", uri.as_bytes());
    out.extend_from_slice(b" />");
}

/// `</stream:stream>`, the end of a stream on TCP.
pub const STREAM_END: &str = "</stream:stream>";

/// Bytes that the declarations of a stream header may add to an element.
const MAX_DECLARATIONS: usize = 2048;

/// The namespace declarations of a server's stream header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declarations {
    default: Vec<u8>,
    prefixes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What nearly every server declares, shared by all their sessions.
static USUAL: LazyLock<Declarations> = LazyLock::new(|| Declarations {
    default: ns::CLIENT.into(),
    prefixes: vec![(b"stream".to_vec(), ns::STREAMS.into())],
});

impl Declarations {
    /// The declarations that servers usually make: `jabber:client` by default
    /// and the prefix `stream`.
    pub fn usual() -> &'static Declarations {
        &USUAL
    }

    /// The declarations on `tag`, a root seen by a parser with raw names;
    /// `None` if they are longer than an element may bear.
    pub fn read(parser: &Parser, tag: &Tag) -> Option<Declarations> {
        let mut declarations = Declarations {
            default: Vec::new(),
            prefixes: Vec::new(),
        };
        let mut added = 0;
        for (name, value) in parser.attributes(tag) {
            let Some(rest) = name.strip_prefix(b"xmlns") else {
                continue;
            };
            // An escaped byte takes six at most.
            added += name.len() + 6 * value.len() + 4;
            match rest.strip_prefix(b":") {
                Some(prefix) => declarations
                    .prefixes
                    .push((prefix.to_vec(), value.to_vec())),
                None if rest.is_empty() => declarations.default = value.to_vec(),
                None => {}
            }
        }
        (added <= MAX_DECLARATIONS).then_some(declarations)
    }

    fn find(&self, prefix: &[u8]) -> &[u8] {
        if prefix.is_empty() {
            return &self.default;
        }
        let found = self.prefixes.iter().find(|(p, _)| p == prefix);
        found.map_or(&[], |(_, uri)| uri)
    }
}

/// A complete first-level element of the server's stream.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    /// The element's bytes, as the server sent them.
    pub bytes: &'a [u8],
    name: &'a [u8],
    own: Own<'a>,
    declarations: &'a Declarations,
}

/// The namespace declarations of an element's own tag.
#[derive(Clone, Copy)]
enum Own<'a> {
    /// As a parser with raw names saw them.
    Seen(&'a Parser, &'a Tag),
    /// The default namespace at the most.
    Plain(Option<&'a [u8]>),
}

impl<'a> Element<'a> {
    /// The element that a parser with raw names saw.
    pub(super) fn seen(
        bytes: &'a [u8],
        (parser, tag): (&'a Parser, &'a Tag),
        declarations: &'a Declarations,
    ) -> Element<'a> {
        Element {
            bytes,
            name: parser.name(tag),
            own: Own::Seen(parser, tag),
            declarations,
        }
    }

    /// An element that no parser had to see.
    pub(super) fn plain(plain: Plain<'a>, declarations: &'a Declarations) -> Element<'a> {
        Element {
            bytes: plain.bytes,
            name: plain.name,
            own: Own::Plain(plain.namespace),
            declarations,
        }
    }

    /// Whether the element has this namespace and local name.
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        let (prefix, local) = split_name(self.name);
        local == name.as_bytes() && self.namespace(prefix) == namespace.as_bytes()
    }

    /// Offset in `bytes` behind the element's name, where attributes begin.
    pub fn name_end(&self) -> usize {
        1 + self.name.len()
    }

    /// Appends the declarations that the element inherits and uses, to be
    /// inserted at [`Element::name_end`]. Nothing for an element that is
    /// complete in itself.
    pub fn inherited(&self, out: &mut Vec<u8>) {
        let own = |name: &[u8]| self.own_declaration(name).is_some();
        let declarations = self.declarations;
        if !declarations.default.is_empty() && !own(b"") {
            attribute(out, b"xmlns", &declarations.default);
        }
        for (prefix, uri) in &declarations.prefixes {
            if !own(prefix) && uses_prefix(self.bytes, prefix) {
                attribute(out, &[b"xmlns:", &prefix[..]].concat(), uri);
            }
        }
    }

    /// The element with what it inherits inserted, so that it stands alone.
    pub fn whole(&self) -> Vec<u8> {
        let (head, tail) = self.bytes.split_at(self.name_end());
        let mut whole = head.to_vec();
        self.inherited(&mut whole);
        whole.extend_from_slice(tail);
        whole
    }

    fn namespace(&self, prefix: &[u8]) -> &'a [u8] {
        self.own_declaration(prefix)
            .unwrap_or_else(|| self.declarations.find(prefix))
    }

    /// The namespace that the element's own tag binds to `prefix` (empty for
    /// the default namespace).
    fn own_declaration(&self, prefix: &[u8]) -> Option<&'a [u8]> {
        let (parser, tag) = match self.own {
            Own::Seen(parser, tag) => (parser, tag),
            Own::Plain(default) => return default.filter(|_| prefix.is_empty()),
        };
        let mut attributes = parser.attributes(tag);
        let found = attributes.find(|(name, _)| match name.strip_prefix(b"xmlns") {
            Some(b"") => prefix.is_empty(),
            Some(rest) => !prefix.is_empty() && rest.strip_prefix(b":") == Some(prefix),
            None => false,
        });
        found.map(|(_, uri)| uri)
    }
}

/// Whether `prefix:` stands anywhere in `bytes`. A hit inside text costs a
/// declaration that is not needed; a miss would cost well-formedness.
fn uses_prefix(bytes: &[u8], prefix: &[u8]) -> bool {
    // Colons are few, and found without anything to be set up.
    memchr::memchr_iter(b':', bytes).any(|colon| bytes[..colon].ends_with(prefix))
}
