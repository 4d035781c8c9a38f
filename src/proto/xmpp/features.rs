//! What stream features offer, and what of it must not reach a client.
//!
//! Owns the removal of STARTTLS (RFC 7395, section 3.9) and compression
//! (XEP-0138), both of which would turn the text stream into binary, and on
//! demand of all that binds a login to a TLS channel, in SASL, SASL2 (XEP-0388)
//! and FAST (XEP-0484): it cannot hold through a relay that ends TLS. The rest of
//! the element keeps its bytes.

use std::ops::Range;

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

/// The byte ranges of `features` to leave out, in order; with `strip_channel_binding` those of
/// channel binding too. A list without a mechanism left goes with the last of
/// them, so that a client tries another one. `features` is a complete element
/// with all namespaces it uses declared.
///
/// # Errors
/// The element is not well-formed by itself.
pub fn removed(features: &[u8], strip_channel_binding: bool) -> Result<Vec<Range<usize>>, Error> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    // How many mechanisms stay and go, by the depth of their lists.
    let mut mechanisms = [(0, 0); MAX_DEPTH as usize + 1];
    each_child(features, |parser, tag, end| {
        let (namespace, local) = parser.name(tag);
        let named = |(space, name): &(&str, &[u8])| namespace == space.as_bytes() && local == *name;
        let depth = tag.depth as usize;
        let lost_all = matches!(std::mem::take(&mut mechanisms[depth]), (0, 1..));
        let mut gone = depth == 1 && REMOVED.iter().any(named);
        if strip_channel_binding && depth > 0 {
            gone |= lost_all || named(&CHANNEL_BINDINGS);
            if local == b"mechanism" && MECHANISMS.iter().any(|s| namespace == s.as_bytes()) {
                let (stay, go) = &mut mechanisms[depth - 1];
                if is_bound(content(features, tag, end).trim_ascii()) {
                    gone = true;
                    *go += 1;
                } else {
                    *stay += 1;
                }
            }
        }
        if gone {
            ranges.push(tag.start as usize..end);
        }
    })?;
    ranges.sort_by_key(|range| range.start);
    // What stands inside another range goes with it.
    let mut last_end = 0;
    ranges.retain(|range| {
        let outside = range.start >= last_end;
        last_end = last_end.max(range.end);
        outside
    });
    Ok(ranges)
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

/// The text of a child of `element`, as it stands there.
pub fn child_text(element: &[u8], namespace: &str, name: &[u8]) -> Option<String> {
    let mut text = None;
    each_child(element, |parser, tag, end| {
        if tag.depth == 1 && parser.name(tag) == (namespace.as_bytes(), name) {
            let bytes = content(element, tag, end).trim_ascii();
            text = Some(String::from_utf8_lossy(bytes).into_owned());
        }
    })
    .ok()?;
    text
}

/// Local names of the children of `element` in `namespace`, in their order; none
/// if it is not well-formed.
pub fn children(element: &[u8], namespace: &str) -> Vec<String> {
    let mut names = Vec::new();
    let verdict = each_child(element, |parser, tag, _| {
        let (space, local) = parser.name(tag);
        if tag.depth == 1 && space == namespace.as_bytes() {
            names.push(String::from_utf8_lossy(local).into_owned());
        }
    });
    match verdict {
        Ok(()) => names,
        Err(_) => Vec::new(),
    }
}

/// Calls `each` with every element down to [`MAX_DEPTH`] and the offset of its end,
/// children first.
fn each_child(element: &[u8], mut each: impl FnMut(&Parser, &Tag, usize)) -> Result<(), Error> {
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

/// The bytes between the tags of an element that ends at `end`.
fn content<'a>(element: &'a [u8], tag: &Tag, end: usize) -> &'a [u8] {
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

    fn left(strip_channel_binding: bool) -> String {
        let mut text = FEATURES.as_bytes().to_vec();
        for range in removed(FEATURES.as_bytes(), strip_channel_binding)
            .unwrap()
            .into_iter()
            .rev()
        {
            text.drain(range);
        }
        String::from_utf8(text).unwrap()
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
        let stripped = |text: &str| {
            let mut left = text.to_owned();
            for range in removed(text.as_bytes(), true).unwrap().into_iter().rev() {
                left.replace_range(range, "");
            }
            left
        };
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
            assert_eq!(stripped(&before), after);
        }
    }

    #[test]
    fn an_offer_of_starttls_is_found() {
        assert_eq!(offers_starttls(FEATURES.as_bytes()), Ok(true));
        assert_eq!(offers_starttls(left(false).as_bytes()), Ok(false));
    }

    #[test]
    fn the_text_of_a_child() {
        let error =
            "<error><other xmlns='u'/><see-other-host xmlns='u'> a.b:1 </see-other-host></error>";
        let text = child_text(error.as_bytes(), "u", b"see-other-host");
        assert_eq!(text.as_deref(), Some("a.b:1"));
        assert_eq!(
            child_text(error.as_bytes(), "u", b"other").as_deref(),
            Some("")
        );
        assert_eq!(child_text(error.as_bytes(), "v", b"other"), None);
    }
}
