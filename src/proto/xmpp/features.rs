//! What stream features offer, and what of it a client sees.
//!
//! Owns the removal of STARTTLS (RFC 7395, section 3.9) and compression
//! (XEP-0138), both of which would turn the text stream into binary, and on
//! demand of all that binds a login to a TLS channel, in SASL, SASL2 (XEP-0388)
//! and FAST (XEP-0484): it cannot hold through a relay that ends TLS. Owns the
//! stream limits (XEP-0478) too: a client learns the lesser of the server's and
//! ours. The rest of the element keeps its bytes.

use std::ops::Range;

use super::framing::{Element, tag_name};
use super::ns;
use crate::expat::{Error, Parser, Tag, Token};

/// Longest features, in bytes, because they are parsed at once.
pub const MAX_FEATURES: usize = 64 << 10;

/// Features removed, by namespace and name.
const REMOVED: [(&str, &[u8]); 2] = [
    (ns::TLS, b"starttls"),
    (ns::COMPRESS_FEATURE, b"compression"),
];

/// The namespaces of `<mechanism/>`: SASL, SASL2 (XEP-0388) and FAST (XEP-0484).
const MECHANISMS: [&str; 3] = [ns::SASL, "urn:xmpp:sasl:2", "urn:xmpp:fast:0"];
/// The channel bindings that a server offers (XEP-0440).
const CHANNEL_BINDINGS: (&str, &[u8]) = ("urn:xmpp:sasl-cb:0", b"sasl-channel-binding");
/// The namespace of XEP-0478.
const LIMITS: &str = "urn:xmpp:stream-limits:0";
/// Deeper elements are ignored: the mechanisms of FAST are in `<fast/>`, which is in the
/// `<inline/>` of SASL2.
const MAX_DEPTH: u32 = 4;

/// Whether a mechanism with this name uses channel binding: names of SCRAM end in `-PLUS`
/// then (RFC 5802, section 4), names of FAST in the type of the binding
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

/// How the features of a server are changed for its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Channel binding is taken out.
    pub strip_channel_binding: bool,
    /// The longest element that is taken from a client, if there is a limit.
    pub max_bytes: Option<u64>,
    /// When a silent client is asked for a sign of life, if ever.
    pub idle_seconds: Option<u64>,
    /// Our limits are told where the server tells none.
    pub announce_limits: bool,
}

impl Changes {
    /// Appends the features in `element` for a client. Those of the draft inherit
    /// namespaces; `framed` ones declare them. A list without a mechanism left goes with
    /// the last of them, so that a client tries another one.
    ///
    /// # Errors
    /// The element is not well-formed.
    pub fn write(
        &self,
        element: &Element<'_>,
        framed: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let whole = element.whole();
        let inherited = whole.len() - element.bytes.len();
        let mut rewriting = Rewriting {
            changes: self,
            features: &whole,
            edits: Vec::new(),
            mechanisms: Default::default(),
            limits: None,
            told: [false; 2],
        };
        each_child(&whole, |parser, tag, end| rewriting.take(parser, tag, end))?;
        let mut edits = rewriting.edits;
        if !framed {
            let at = element.name_end();
            edits.push(Edit::remove(at..at + inherited));
        }
        edits.sort_by_key(|edit| edit.range.start);
        let mut done = 0;
        for Edit { range, text } in edits {
            // What stands inside a removed element goes with it.
            if range.start >= done {
                out.extend_from_slice(&whole[done..range.start]);
                out.extend_from_slice(text.as_bytes());
                done = range.end;
            }
        }
        out.extend_from_slice(&whole[done..]);
        Ok(())
    }

    /// Names and values of our limits, in the order of [`LIMIT_NAMES`].
    fn limits(&self) -> [Option<u64>; 2] {
        [self.max_bytes, self.idle_seconds]
    }
}

/// The limits that XEP-0478 knows.
const LIMIT_NAMES: [&str; 2] = ["max-bytes", "idle-seconds"];

/// What takes the place of some bytes.
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

/// A run over features that need not be changed yet.
struct Rewriting<'a> {
    changes: &'a Changes,
    features: &'a [u8],
    edits: Vec<Edit>,
    /// How many mechanisms stay and go, by the depth of their lists.
    mechanisms: [(u32, u32); MAX_DEPTH as usize + 1],
    /// The server's limits: the start tag, and where the element ends.
    limits: Option<(Tag, usize)>,
    /// Which of the limits it tells.
    told: [bool; 2],
}

impl Rewriting<'_> {
    /// Takes the element with this start tag, after its children.
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

    /// Takes a limit of the server, which must not be above ours.
    fn take_limit(&mut self, name: &[u8], tag: &Tag, end: usize) {
        let Some(at) = LIMIT_NAMES
            .iter()
            .position(|known| known.as_bytes() == name)
        else {
            return;
        };
        self.told[at] = true;
        let value = content(self.features, tag, end);
        let number = std::str::from_utf8(value.trim_ascii()).unwrap_or_default();
        let theirs = number.parse().unwrap_or(u64::MAX);
        if let Some(ours) = self.changes.limits()[at].filter(|&ours| ours < theirs) {
            let start = tag.end as usize;
            let range = start..start + value.len();
            let text = ours.to_string();
            self.edits.push(Edit { range, text });
        }
    }

    /// Adds our limits that the server does not tell to the end of the features, or of
    /// its limits.
    fn announce(&mut self, tag: &Tag, end: usize) {
        let missing = |at: usize| self.changes.limits()[at].filter(|_| !self.told[at]);
        let limit = |at: usize| {
            let name = LIMIT_NAMES[at];
            missing(at).map(|value| format!("<{name} xmlns='{LIMITS}'>{value}</{name}>"))
        };
        let limits: String = (0..LIMIT_NAMES.len()).filter_map(limit).collect();
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

    /// Puts `text` at the end of an element.
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

/// Whether `features` offer STARTTLS.
///
/// # Errors
/// The element is not well-formed by itself.
pub fn offers_starttls(features: &[u8]) -> Result<bool, Error> {
    let mut offered = false;
    each_child(features, |parser, tag, _| {
        offered |= tag.depth == 1 && parser.name(tag) == (ns::TLS.as_bytes(), b"starttls");
    })?;
    Ok(offered)
}

/// Calls `each` with every element down to [`MAX_DEPTH`] and the offset of its end,
/// children first.
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

/// The bytes between the tags of an element that ends at `end`; none if it is one tag.
pub(super) fn content<'a>(element: &'a [u8], tag: &Tag, end: usize) -> &'a [u8] {
    let inner = &element[tag.end as usize..end.max(tag.end as usize)];
    let end_tag = memchr::memmem::rfind(inner, b"</").unwrap_or(0);
    &inner[..end_tag]
}

/// What a server says to `<starttls/>` that it does not offer (RFC 6120,
/// section 5.4.2.2).
pub const STARTTLS_FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// What a server says to `<compress/>` that it does not offer (XEP-0138).
pub const COMPRESS_FAILURE: &str =
    "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expat::Pool;
    use crate::proto::xmpp::framing::Declarations;

    const FEATURES: &str = "<f:features xmlns:f='http://etherx.jabber.org/streams'>\
        <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
        <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism> PLAIN </mechanism></mechanisms>\
        <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='x'/>\
        </sasl-channel-binding><authentication xmlns='urn:xmpp:sasl:2'>\
        <mechanism>SCRAM-SHA-256-PLUS</mechanism><mechanism>SCRAM-SHA-256</mechanism>\
        <inline><bind/></inline></authentication>\
        <compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>\
        <bind xmlns='urn:x'><starttls/></bind></f:features>";

    /// What a client in the draft sees of `features`, which declare all they use.
    fn changed(features: &str, changes: Changes) -> String {
        let pool = Pool::new(b"<r>");
        let mut parser = pool.inside(b"<r>").unwrap();
        parser.feed(features.as_bytes()).unwrap();
        let Token::Start(tag) = &parser.tokens()[0] else {
            panic!("no tag")
        };
        let start = tag.start;
        let element = Element::seen(features.as_bytes(), (&parser, tag), Declarations::usual());
        let (mut draft, mut framed) = (Vec::new(), Vec::new());
        changes.write(&element, false, &mut draft).unwrap();
        changes.write(&element, true, &mut framed).unwrap();
        assert_eq!(start, 3);
        let (head, tail) = draft.split_at(element.name_end());
        let mut whole = head.to_vec();
        element.inherited(&mut whole);
        whole.extend_from_slice(tail);
        assert!(framed == whole, "the dialects differ");
        String::from_utf8(draft).unwrap()
    }

    fn strip() -> Changes {
        Changes {
            strip_channel_binding: true,
            ..Changes::default()
        }
    }

    fn left(strip_channel_binding: bool) -> String {
        let changes = Changes {
            strip_channel_binding,
            ..Changes::default()
        };
        changed(FEATURES, changes)
    }

    #[test]
    fn starttls_and_compression_go() {
        let text = left(false);
        assert!(
            !text.contains("xmpp-tls") && !text.contains("compress"),
            "{text}"
        );
        assert!(text.contains("-PLUS") && text.contains("sasl-cb"), "{text}");
        assert!(text.contains("<bind xmlns='urn:x'><starttls/></bind></f:features>"));
    }

    #[test]
    fn channel_binding_goes_whole_on_demand() {
        let text = left(true);
        assert!(
            !text.contains("PLUS") && !text.contains("sasl-cb"),
            "{text}"
        );
        assert!(text.contains("<mechanism> PLAIN </mechanism></mechanisms>"));
        assert!(text.contains("<mechanism>SCRAM-SHA-256</mechanism><inline>"));
    }

    #[test]
    fn the_kinds_of_mechanisms_that_bind() {
        for name in [
            "SCRAM-SHA-1-PLUS",
            "GS2-KRB5-PLUS",
            "HT-SHA-256-ENDP",
            "HT-SHA3-512-UNIQ",
            "HT-SHA-256-EXPR",
        ] {
            assert!(is_bound(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "PLAIN",
            "SCRAM-SHA-1",
            "X-PLUS-A",
            "HT-SHA-256-NONE",
            "X-EXPR",
        ] {
            assert!(!is_bound(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_list_without_a_mechanism_left_goes_whole() {
        let sasl = "urn:ietf:params:xml:ns:xmpp-sasl";
        let fast = |names: &[&str]| {
            let list: String = names
                .iter()
                .map(|name| format!("<mechanism>{name}</mechanism>"))
                .collect();
            format!("<fast xmlns='urn:xmpp:fast:0'>{list}</fast>")
        };
        let sasl2 = |name: &str, inline: &str| {
            format!(
                "<f><authentication xmlns='urn:xmpp:sasl:2'><mechanism>{name}</mechanism>\
                 <inline>{inline}</inline></authentication><x xmlns='u'/></f>"
            )
        };
        for (before, after) in [
            (
                format!(
                    "<f><mechanisms xmlns='{sasl}'><mechanism>A-PLUS</mechanism></mechanisms></f>"
                ),
                "<f></f>".to_owned(),
            ),
            (
                format!("<f><mechanisms xmlns='{sasl}'/></f>"),
                format!("<f><mechanisms xmlns='{sasl}'/></f>"),
            ),
            (
                sasl2("A-PLUS", &fast(&["HT-SHA-256-NONE"])),
                "<f><x xmlns='u'/></f>".to_owned(),
            ),
            (
                sasl2("A", &fast(&["HT-SHA-256-EXPR", "HT-SHA-256-UNIQ"])),
                sasl2("A", ""),
            ),
            (
                sasl2("A", &fast(&["HT-SHA-256-NONE", "HT-SHA-256-UNIQ"])),
                sasl2("A", &fast(&["HT-SHA-256-NONE"])),
            ),
        ] {
            assert_eq!(changed(&before, strip()), after);
        }
    }

    #[test]
    fn an_offer_of_starttls_is_found() {
        assert_eq!(offers_starttls(FEATURES.as_bytes()), Ok(true));
        assert_eq!(offers_starttls(left(false).as_bytes()), Ok(false));
    }

    #[test]
    fn the_lesser_limit_is_told() {
        let ours = |max_bytes, idle_seconds| Changes {
            max_bytes,
            idle_seconds,
            ..Changes::default()
        };
        let features = |bytes: &str, idle: &str| {
            format!(
                "<f xmlns='u'><a/><limits xmlns='{LIMITS}'><max-bytes>{bytes}</max-bytes>\
                 <idle-seconds>{idle}</idle-seconds></limits><b/></f>"
            )
        };
        for (theirs, own, told) in [
            (("262144", "840"), (Some(1000), Some(30)), ("1000", "30")),
            (
                ("262144", "840"),
                (Some(1_048_576), None),
                ("262144", "840"),
            ),
            (
                ("262144", " 20 "),
                (Some(262_144), Some(30)),
                ("262144", " 20 "),
            ),
            (
                ("262144", "99999999999999999999"),
                (None, Some(30)),
                ("262144", "30"),
            ),
            (("many", ""), (Some(7), Some(30)), ("7", "30")),
        ] {
            let changed = changed(&features(theirs.0, theirs.1), ours(own.0, own.1));
            assert_eq!(changed, features(told.0, told.1));
        }
        let elsewhere = "<f><limits xmlns='u'><max-bytes>9</max-bytes></limits><g>\
            <limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>9</max-bytes></limits></g></f>";
        assert_eq!(changed(elsewhere, ours(Some(1), Some(1))), elsewhere);
        assert_eq!(changed("<f/>", ours(Some(1), Some(1))), "<f/>");
    }

    #[test]
    fn limits_that_the_server_does_not_tell_are_announced_on_demand() {
        let changes = |max_bytes| Changes {
            max_bytes,
            idle_seconds: Some(30),
            announce_limits: true,
            ..Changes::default()
        };
        let bytes = format!("<max-bytes xmlns='{LIMITS}'>9</max-bytes>");
        let idle = format!("<idle-seconds xmlns='{LIMITS}'>30</idle-seconds>");
        let limits = |inner: &str| format!("<limits xmlns='{LIMITS}'>{inner}</limits>");
        for (before, after) in [
            (
                "<f/>".to_owned(),
                format!("<f>{}</f>", limits(&(bytes.clone() + &idle))),
            ),
            (
                "<f><a/> </f>".to_owned(),
                format!("<f><a/> {}</f>", limits(&(bytes.clone() + &idle))),
            ),
            (
                format!("<f>{}<a/></f>", limits("<max-bytes>8</max-bytes>")),
                format!(
                    "<f>{}<a/></f>",
                    limits(&format!("<max-bytes>8</max-bytes>{idle}"))
                ),
            ),
            (
                format!("<f><l:limits xmlns:l='{LIMITS}'/></f>"),
                format!("<f><l:limits xmlns:l='{LIMITS}'>{bytes}{idle}</l:limits></f>"),
            ),
        ] {
            assert_eq!(changed(&before, changes(Some(9))), after);
        }
        assert_eq!(
            changed("<f></f>", changes(None)),
            format!("<f>{}</f>", limits(&idle))
        );
    }

    /// All that a server can have changed costs one copy, not one for each change.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "work that nobody counts")]
    fn many_changes_are_made_at_once() {
        let begun = std::time::Instant::now();
        let starttls = format!("<starttls xmlns='{}'/>", ns::TLS);
        let features = format!("<f>{}</f>", starttls.repeat((4 << 20) / starttls.len()));
        assert_eq!(changed(&features, strip()), "<f></f>");
        let took = begun.elapsed();
        assert!(took.as_secs() < 4, "{took:?}");
    }
}
