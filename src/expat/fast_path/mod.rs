//! Recognizes elements that can be relayed without Expat.
//!
//! A small parser that accepts only elements that are certainly well-formed: names of ASCII
//! letters without a prefix, attributes with plain values (including `xmlns` and `xml:lang`),
//! plain text (`text`), few levels; `run` looks at eight bytes at once. `root` does the same for
//! stream headers. Most chat traffic is like that. It never rejects anything: everything else
//! goes to Expat from its first byte. XML 1.0, sections 2.2 to 3.1; Namespaces in XML.
//!
//! It saves five sixths of the instructions for a stanza of 200 bytes (2,400 instead of 15,600
//! from a client, 2,200 instead of 18,500 from a server) and nine tenths for a stanza of 4 KiB
//! (tests/bench/callgrind.sh, Expat 2.5). If the variable `JABSOCKET_ALL_TO_EXPAT` is in the
//! environment, Expat gets all elements, so that tests and measurements can be run both ways.

use std::sync::LazyLock;

use super::boundary::{MAX_NAMESPACE, MAX_TAG};
use run::{run, share_name, word};
use text::text_len;

#[cfg(test)]
mod random;
mod root;
mod run;
mod text;

pub use root::{PlainRoot, plain_root};

static ALL_TO_EXPAT: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some());

/// Maximum nesting on this path, not counting an empty element at the end. Inside stream
/// features, which are inside a root, it is within any [`super::Limits`] that can be configured.
const MAX_DEPTH: usize = 13;
/// Maximum number of attributes on this path, for the same reason.
const MAX_ATTRIBUTES: usize = 14;

/// The bytes of names: ASCII without `:`, which follows a prefix.
const IN_NAME: [bool; 256] = {
    let mut in_name = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        in_name[byte] = b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        byte += 1;
    }
    in_name
};

/// An element that is certainly well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Its bytes, from the `<` of its start tag to the `>` of its end tag.
    pub bytes: &'a [u8],
    /// Its name, which has no prefix.
    pub name: &'a [u8],
    /// The value of its `xmlns` attribute, never empty.
    pub namespace: Option<&'a [u8]>,
}

/// Returns the element at the front of `bytes`, if it is complete and certainly well-formed. A
/// parser inside a root would report the same element, with or without namespaces.
pub fn plain_element(bytes: &[u8]) -> Option<Plain<'_>> {
    match *ALL_TO_EXPAT {
        true => None,
        false => parse(bytes),
    }
}

fn parse(bytes: &[u8]) -> Option<Plain<'_>> {
    let mut root = None;
    // Where the names of the open elements start, and their lengths.
    let mut open = [(0, 0); MAX_DEPTH];
    let mut depth = 0;
    let mut at = 0;
    loop {
        match bytes[at..] {
            [b'<', b'/', ref end @ ..] => {
                depth = usize::checked_sub(depth, 1)?;
                let (start, len) = open[depth];
                if !share_name(end, &bytes[start..], len) || end.get(len) != Some(&b'>') {
                    return None;
                }
                at += 2 + len + 1;
            }
            [b'<', ref rest @ ..] => {
                let tag = start_tag(rest)?;
                root.get_or_insert((tag.name_len, tag.namespace));
                if !tag.is_empty {
                    *open.get_mut(depth)? = (at + 1, tag.name_len);
                    depth += 1;
                }
                at += 1 + tag.len;
            }
            _ if depth > 0 => at += text_len(&bytes[at..])?,
            _ => return None,
        }
        if depth == 0 {
            break;
        }
    }
    let (name_len, namespace) = root?;
    Some(Plain {
        bytes: &bytes[..at],
        name: &bytes[1..=name_len],
        namespace,
    })
}

struct StartTag<'a> {
    len: usize,
    name_len: usize,
    namespace: Option<&'a [u8]>,
    is_empty: bool,
}

/// Reads the rest of a start tag, which is at the front of `bytes`.
fn start_tag(bytes: &[u8]) -> Option<StartTag<'_>> {
    let name_len = name_len(bytes)?;
    let mut rest = &bytes[name_len..];
    let mut namespace = None;
    // The names of the attributes so far, each cut to eight bytes. If two are equal, Expat has to
    // look at the rest.
    let mut keys = [0; MAX_ATTRIBUTES];
    let mut count = 0;
    let mut spaced = false;
    let (rest, is_empty) = loop {
        match rest {
            [b' ', after @ ..] => {
                rest = after;
                spaced = true;
                continue;
            }
            [b'>', after @ ..] => break (after, false),
            [b'/', b'>', after @ ..] => break (after, true),
            _ if spaced => {}
            _ => return None,
        }
        spaced = false;
        let (key, value, after) = attribute(rest)?;
        if keys[..count].contains(&key) {
            return None;
        }
        *keys.get_mut(count)? = key;
        count += 1;
        if key == XMLNS {
            // Expat handles empty namespaces, which are rare, and reserved ones. Long ones are
            // refused before it.
            let is_usual = (1..=MAX_NAMESPACE as usize).contains(&value.len());
            if !is_usual || value.starts_with(b"http://www.w3.org/") {
                return None;
            }
            namespace = Some(value);
        }
        rest = after;
    };
    let len = bytes.len() - rest.len();
    // The end tag may be a byte longer.
    (len + 1 < MAX_TAG).then_some(StartTag {
        len,
        name_len,
        namespace,
        is_empty,
    })
}

const XMLNS: u64 = u64::from_le_bytes(*b"xmlns\0\0\0");

/// Returns the length of the name at the front of `bytes`, which other bytes follow.
fn name_len(bytes: &[u8]) -> Option<usize> {
    let ends = |byte: &u8| !IN_NAME[usize::from(*byte)];
    let len = bytes.iter().position(ends)?;
    matches!(bytes[0], b'a'..=b'z' | b'A'..=b'Z' | b'_').then_some(len)
}

/// The name of an attribute, cut to eight bytes, its value, and the rest of the bytes.
type Attribute<'a> = (u64, &'a [u8], &'a [u8]);

fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    let mut len = name_len(bytes)?;
    if bytes[len] == b':' && bytes.starts_with(b"xml:lang") {
        len = b"xml:lang".len();
    }
    let [b'=', quote @ (b'"' | b'\''), rest @ ..] = &bytes[len..] else {
        return None;
    };
    let key = word(bytes, len);
    let len = value_len(rest, *quote)?;
    Some((key, &rest[..len], &rest[len + 1..]))
}

/// Returns the length of the value at the front of `bytes`, which ends with `quote`.
// Most values are short: a call would cost a fourth of the work.
#[inline(always)]
fn value_len(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut len = 0;
    loop {
        len += run(&bytes[len..], quote);
        match *bytes.get(len)? {
            byte if byte == quote => return Some(len),
            0x80.. => len += wide_character(&bytes[len..])?,
            _ => return None,
        }
    }
}

/// Returns the length of the non-ASCII character at the front, in bytes.
fn wide_character(bytes: &[u8]) -> Option<usize> {
    let len = match bytes.first()? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let character = std::str::from_utf8(bytes.get(..len)?).ok()?;
    // These are not XML characters.
    (!["\u{fffe}", "\u{ffff}"].contains(&character)).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::super::parser::{Parser, Token};
    use super::random::random;
    use super::*;

    fn is_plain(text: &str) -> bool {
        let plain = parse(text.as_bytes());
        plain.is_some_and(|plain| plain.bytes == text.as_bytes())
    }

    #[test]
    fn what_chat_is_made_of() {
        for text in [
            "<a/>",
            "<a xmlns='urn:xmpp:sm:3' h='5'/>",
            "<a><longname1 attribute1='' b=''/><longname1></longname1>]</a>",
            "<presence xml:lang='de'  to=\"r\u{f6}meo@example.org/\u{1f339}\" />",
            "<message xmlns='jabber:client' id=\"it's\"><body>art thou &lt;not&gt; Romeo, \
             and a Montague? \u{20ac}</body><x xmlns='u'>\n</x></message>",
            "<iq type='get'><query xmlns='u:1'><item a='>'/><item a=']]>'/></query></iq>",
        ] {
            assert!(is_plain(text), "{text}");
        }
        let two = parse(b"<a xmlns='u'></a><b/>").unwrap();
        assert_eq!(
            (two.bytes, two.name),
            (&b"<a xmlns='u'></a>"[..], &b"a"[..])
        );
        assert_eq!(two.namespace, Some(&b"u"[..]));
    }

    #[test]
    fn all_else_is_left_to_expat() {
        let deep = "<a>".repeat(MAX_DEPTH + 1) + &"</a>".repeat(MAX_DEPTH + 1);
        let wide: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
        let wide = format!("<a{wide}/>");
        for text in [
            "",
            "a",
            "<",
            "<a",
            "<a>",
            "<a/",
            "<a></a",
            "<a></b>",
            "<a></a >",
            "<a><b></a></b>",
            "<p:a/>",
            "<a p:b=''/>",
            "<a xml:space='default'/>",
            "<a xmlns=''/>",
            "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
            "<a xmlns:p='u'/>",
            "<a b/>",
            "<a b=c/>",
            "<a b = ''/>",
            "<a\tb=''/>",
            "<a b=''c=''/>",
            "<a b='' b=''/>",
            "<a longname1='' longname2=''/>",
            "<longname1></longname2>",
            "<longname1></longname",
            "<a b='&lt;'/>",
            "<a b='<'/>",
            "<a b='\n'/>",
            "<a b='\u{ffff}'/>",
            "<a b='/>",
            "<1/>",
            "<-a/>",
            "<\u{e4}/>",
            "<a><!-- --></a>",
            "<a><![CDATA[]]></a>",
            "<a><?b?></a>",
            "<a>&#65;</a>",
            "<a>]]></a>",
            "<a>\u{1}</a>",
            &deep,
            &wide,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        let long = "x".repeat(MAX_TAG - "<>".len());
        assert_eq!(parse(format!("<{long}></{long}>").as_bytes()), None);
        assert_eq!(parse(b"<a b='\xc3\x28'/>"), None);
        assert_eq!(parse(b"<a b='\xed\xa0\x80'/>"), None);
        assert_eq!(parse(b"<a>\xff</a>"), None);
    }

    /// Parts of random documents. The first nine fit together.
    const PARTS: [&str; 51] = [
        "<a>",
        "<a>",
        "<body>",
        "<b c='d'>",
        "</a>",
        "</a>",
        "</body>",
        "</b>",
        "<e/>",
        "<",
        ">",
        "/>",
        "/",
        "=",
        "'",
        "\"",
        " ",
        "\n",
        "a",
        "text ",
        "xmlns='u'",
        " xmlns='v'>",
        "xmlns=''",
        " xml:lang='en'",
        "xml:space='x'",
        " id='m1'",
        " id='m1'",
        " to=\"it's\"",
        "p:a",
        "xmlns:p='u'",
        "&amp;",
        "&#65;",
        "&e;",
        "]]>",
        "]",
        "<!--",
        "-->",
        "<![CDATA[",
        "<?x?>",
        "\u{e4}",
        "\u{20ac}",
        "\u{ffff}",
        "\u{1f600}",
        "\u{7f}",
        "\u{1}",
        "1",
        "-",
        "http://www.w3.org/2000/xmlns/",
        "<longname1>",
        "</longname1>",
        " longname1=''",
    ];

    #[test]
    fn expat_agrees() {
        let mut random = random(3);
        let mut plain = 0;
        for round in 0..200_000 {
            let mut text = "<a".to_owned();
            text += [">", "", " ", " b='c'>", " xmlns='u'>"][random(5)];
            for _ in 0..random(7) {
                // Mostly parts that fit together.
                let parts = [9, PARTS.len()][random(2)];
                text += PARTS[random(parts)];
            }
            text += ["", "</a>", "/>", "'/>"][random(4)];
            let Some(found) = parse(text.as_bytes()) else {
                continue;
            };
            plain += 1;
            let mut parser = Parser::new(1);
            parser.feed(b"<r>").unwrap();
            parser.forget();
            assert_eq!(parser.feed(found.bytes), Ok(()), "{round}: {text:?}");
            let [Token::Start(tag), Token::End { depth: 1, end }] = parser.tokens() else {
                panic!("{text:?}: {:?}", parser.tokens());
            };
            assert_eq!((tag.start, *end), (3, 3 + found.bytes.len() as u64));
            let (namespace, local) = parser.name(tag);
            assert_eq!(local, found.name);
            assert_eq!(namespace, found.namespace.unwrap_or_default(), "{text:?}");
        }
        assert!(plain > 10_000, "{plain}");
    }
}
