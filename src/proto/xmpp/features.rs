//! Edits the stream features of a server before the client sees them.
//!
//! Removes STARTTLS (RFC 7395, section 3.9) and compression (XEP-0138), because both would turn
//! the text stream into binary. Optionally removes channel binding from SASL, SASL2 (XEP-0388)
//! and FAST (XEP-0484), because it fails through a relay that terminates TLS. Adjusts the
//! stream limits (XEP-0478): a client learns the lower of the server's limit and ours. All
//! other bytes stay as they are.

use std::ops::Range;

use super::framing::{Element, tag_name};
use super::ns;
use crate::expat::{self, Error, Parser, Tag, Token};

/// Maximum length of stream features, in bytes. They are parsed in one turn.
pub const MAX_FEATURES: usize = 64 << 10;

/// The features that are removed, by namespace and name.
const REMOVED: [(&str, &[u8]); 2] = [
    (ns::TLS, b"starttls"),
    (ns::COMPRESS_FEATURE, b"compression"),
];

/// The namespaces of `<mechanism/>`: SASL, SASL2 (XEP-0388) and FAST (XEP-0484).
const MECHANISMS: [&str; 3] = [ns::SASL, "urn:xmpp:sasl:2", "urn:xmpp:fast:0"];
/// The list of the server's channel bindings (XEP-0440).
const CHANNEL_BINDINGS: (&str, &[u8]) = ("urn:xmpp:sasl-cb:0", b"sasl-channel-binding");
/// The namespace of XEP-0478.
const LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Deeper elements are ignored: the mechanisms of FAST are in `<fast/>`, which is in the
/// `<inline/>` of SASL2.
const MAX_DEPTH: u32 = 4;

/// Whether a mechanism with this name uses channel binding. Such names end in `-PLUS` for SCRAM
/// (RFC 5802, section 4), and in the type of the binding for FAST
/// (draft-schmaus-kitten-sasl-ht).
fn is_bound(mechanism: &[u8]) -> bool {
    let hashed_token = || {
        mechanism.starts_with(b"HT-")
            && [&b"-ENDP"[..], b"-UNIQ", b"-EXPR"]
                .iter()
                .any(|kind| mechanism.ends_with(kind))
    };
    mechanism.ends_with(b"-PLUS") || hashed_token()
}

/// The changes to a server's features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether channel binding is removed.
    pub strip_channel_binding: bool,
    /// The maximum length of an element from a client, if there is a limit.
    pub max_bytes: Option<u64>,
    /// The time after which an idle client gets a Ping, if it does.
    pub idle_seconds: Option<u64>,
    /// Whether our limits are announced if the server announces none.
    pub announce_limits: bool,
}

impl Changes {
    /// Appends the features in `element` for a client. If `framed`, the element declares its
    /// namespaces; in the draft it inherits them. A list that loses its last mechanism is
    /// removed, so that the client tries another list. Returns the stream limits that the
    /// client learns.
    ///
    /// # Errors
    /// The element is not well-formed.
    pub fn write(
        &self,
        element: &Element<'_>,
        framed: bool,
        out: &mut Vec<u8>,
    ) -> Result<StreamLimits, Error> {
        let whole = element.whole();
        let inherited = whole.len() - element.bytes.len();
        let mut rewriting = Rewriting {
            changes: self,
            features: &whole,
            edits: Vec::new(),
            mechanisms: Default::default(),
            limits: None,
            told: [None; 2],
        };
        each_child(&whole, |parser, tag, end| rewriting.take(parser, tag, end))?;
        let (mut edits, told) = (rewriting.edits, rewriting.told);
        if !framed {
            let at = element.name_end();
            edits.push(Edit::remove(at..at + inherited));
        }
        edits.sort_by_key(|edit| edit.range.start);
        let mut done = 0;
        for Edit { range, text } in edits {
            // Skip edits inside an element that was removed.
            if range.start >= done {
                out.extend_from_slice(&whole[done..range.start]);
                out.extend_from_slice(text.as_bytes());
                done = range.end;
            }
        }
        out.extend_from_slice(&whole[done..]);
        Ok(told)
    }

    /// Returns our limits.
    fn limits(&self) -> StreamLimits {
        [self.max_bytes, self.idle_seconds]
    }
}

/// The limits of XEP-0478 in the order of [`LIMIT_NAMES`]; `None` where there is no limit.
pub type StreamLimits = [Option<u64>; 2];

const LIMIT_NAMES: [&str; 2] = ["max-bytes", "idle-seconds"];

/// Replaces some bytes with others.
struct Edit {
    range: Range<usize>,
    text: String,
}

impl Edit {
    fn remove(range: Range<usize>) -> Edit {
        let text = String::new();
        Edit { range, text }
    }
}

/// One pass over features, which collects the edits.
struct Rewriting<'a> {
    changes: &'a Changes,
    features: &'a [u8],
    edits: Vec<Edit>,
    /// How many mechanisms are kept and removed, by the depth of their lists.
    mechanisms: [(u32, u32); MAX_DEPTH as usize + 1],
    /// The server's limits: the start tag and the end of the element.
    limits: Option<(Tag, usize)>,
    /// The limits that the client learns.
    told: StreamLimits,
}

impl Rewriting<'_> {
    /// Handles the element with this start tag, after its children.
    fn take(&mut self, parser: &Parser, tag: &Tag, end: usize) {
        let (namespace, local) = parser.name(tag);
        let named = |(space, name): &(&str, &[u8])| namespace == space.as_bytes() && local == *name;
        let depth = tag.depth as usize;
        let lost_all = matches!(std::mem::take(&mut self.mechanisms[depth]), (0, 1..));
        let mut gone = depth == 1 && REMOVED.iter().any(named);
        if self.changes.strip_channel_binding && depth > 0 {
            gone |= lost_all || named(&CHANNEL_BINDINGS);
            if local == b"mechanism" && MECHANISMS.iter().any(|s| namespace == s.as_bytes()) {
                let bound = is_bound(content(self.features, tag, end).trim_ascii());
                let (stay, go) = &mut self.mechanisms[depth - 1];
                *if bound { go } else { stay } += 1;
                gone |= bound;
            }
        }
        if gone {
            self.edits.push(Edit::remove(tag.start as usize..end));
        }
        match depth {
            0 if self.changes.announce_limits => self.announce(tag, end),
            1 if namespace == LIMITS.as_bytes() && local == b"limits" => {
                self.limits = Some((tag.clone(), end));
            }
            2 if namespace == LIMITS.as_bytes() => self.take_limit(local, tag, end),
            _ => {}
        }
    }

    /// Handles a limit of the server: lowers it to ours if it is higher.
    fn take_limit(&mut self, name: &[u8], tag: &Tag, end: usize) {
        let Some(at) = LIMIT_NAMES
            .iter()
            .position(|known| known.as_bytes() == name)
        else {
            return;
        };
        let value = content(self.features, tag, end);
        let number = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
        let theirs = number.parse().ok();
        self.told[at] = theirs;
        let ours = self.changes.limits()[at];
        if let Some(ours) = ours.filter(|&ours| theirs.is_none_or(|theirs| ours < theirs)) {
            self.told[at] = Some(ours);
            let start = tag.end as usize;
            let range = start..start + value.len();
            let text = ours.to_string();
            self.edits.push(Edit { range, text });
        }
    }

    /// Adds those of our limits that the server does not announce, to the end of its limits or
    /// of the features.
    fn announce(&mut self, tag: &Tag, end: usize) {
        let mut limits = String::new();
        for (at, name) in LIMIT_NAMES.iter().enumerate() {
            if let (None, Some(ours)) = (self.told[at], self.changes.limits()[at]) {
                self.told[at] = Some(ours);
                limits += &format!("<{name} xmlns='{LIMITS}'>{ours}</{name}>");
            }
        }
        if limits.is_empty() {
            return;
        }
        let edit = match &self.limits {
            Some((tag, end)) => self.append(tag, *end, &limits),
            None => {
                let limits = format!("<limits xmlns='{LIMITS}'>{limits}</limits>");
                self.append(tag, end, &limits)
            }
        };
        self.edits.push(edit);
    }

    /// Returns the edit that puts `text` at the end of an element.
    fn append(&self, tag: &Tag, end: usize, text: &str) -> Edit {
        let element = &self.features[tag.start as usize..end];
        if tag.end as usize == end {
            let name = String::from_utf8_lossy(tag_name(element));
            let text = format!(">{text}</{name}>");
            let range = end - "/>".len()..end;
            return Edit { range, text };
        }
        let at = tag.end as usize + content(self.features, tag, end).len();
        let (range, text) = (at..at, text.to_owned());
        Edit { range, text }
    }
}

/// Returns the features at the front of `bytes`, in a stream with the usual root, if they are
/// complete and certainly well-formed.
pub(super) fn plain(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"<stream:features>")?;
    loop {
        if let Some(after) = rest.strip_prefix(b"</stream:features>") {
            return Some(&bytes[..bytes.len() - after.len()]);
        }
        rest = &rest[expat::plain_element(rest)?.bytes.len()..];
    }
}

/// Whether `features` offer STARTTLS.
///
/// # Errors
/// The element is not a well-formed document.
pub fn offers_starttls(features: &[u8]) -> Result<bool, Error> {
    let mut offered = false;
    each_child(features, |parser, tag, _| {
        offered |= tag.depth == 1 && parser.name(tag) == (ns::TLS.as_bytes(), b"starttls");
    })?;
    Ok(offered)
}

/// An element of stream features.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// 1 for a feature.
    pub depth: u32,
    pub namespace: String,
    pub name: String,
    /// The text in it; empty if it contains elements.
    pub text: String,
}

/// Returns the elements of `features` down to [`MAX_DEPTH`], children before their parents.
///
/// # Errors
/// They are not a well-formed document.
pub(crate) fn items(features: &[u8]) -> Result<Vec<Item>, Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut items = Vec::new();
    each_child(features, |parser, tag, end| {
        let (namespace, name) = parser.name(tag);
        let inside = content(features, tag, end).trim_ascii();
        items.push(Item {
            depth: tag.depth,
            namespace: text(namespace),
            name: text(name),
            text: if inside.contains(&b'<') {
                String::new()
            } else {
                text(inside)
            },
        });
    })?;
    Ok(items)
}

/// Calls `each` with every element down to [`MAX_DEPTH`] and the offset of its end. Children
/// come before their parents.
pub(super) fn each_child(
    element: &[u8],
    mut each: impl FnMut(&Parser, &Tag, usize),
) -> Result<(), Error> {
    let mut parser = Parser::new(MAX_DEPTH);
    parser.finish(element)?;
    let mut open: Vec<&Tag> = Vec::new();
    for token in parser.tokens() {
        match token {
            Token::Start(tag) => open.push(tag),
            Token::End { end, .. } => {
                if let Some(tag) = open.pop() {
                    each(&parser, tag, *end as usize);
                }
            }
        }
    }
    Ok(())
}

/// Returns the bytes between the tags of an element that ends at `end`; empty if it is a single
/// tag.
pub(super) fn content<'a>(element: &'a [u8], tag: &Tag, end: usize) -> &'a [u8] {
    let inner = &element[tag.end as usize..end.max(tag.end as usize)];
    let end_tag = memchr::memmem::rfind(inner, b"</").unwrap_or(0);
    &inner[..end_tag]
}

/// The response to `<starttls/>` (RFC 6120, section 5.4.2.2).
pub const STARTTLS_FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// The response to `<compress/>` (XEP-0138).
pub const COMPRESS_FAILURE: &str =
    "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>";

#[cfg(test)]
#[path = "features_tests.rs"]
mod tests;
