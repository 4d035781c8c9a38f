//! Recognizes elements that can be relayed without Expat.
//!
//! A small parser that accepts only elements that are certainly well-formed: names of ASCII
//! letters without a prefix, attributes with plain values (including `xmlns` and `xml:lang`),
//! plain text (`text`), few levels. Most chat traffic is like that. It never rejects anything:
//! every other element goes to Expat from its first byte. XML 1.0, sections 2.2 to 3.1;
//! Namespaces in XML.
//!
//! It saves four fifths of the instructions for a stanza of 200 bytes (2,900 instead of 15,600
//! from a client, 18,500 from a server) and nine tenths for a stanza of 4 KiB
//! (tests/bench/callgrind.sh, Expat 2.5). If the variable `JABSOCKET_ALL_TO_EXPAT` is in the
//! environment, Expat gets all elements, so that tests and measurements can be run both ways.

use std::sync::LazyLock;

use super::boundary::MAX_TAG;
use text::plain_len;

mod text;

static ALL_TO_EXPAT: LazyLock<bool> =
    LazyLock::new(|| std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some());

/// Maximum nesting on this path. Inside a root it is within any [`super::Limits`] that can be
/// configured.
const MAX_DEPTH: usize = 14;
/// Maximum number of attributes on this path, for the same reason.
const MAX_ATTRIBUTES: usize = 14;

/// Kinds of bytes, as bits.
const KINDS: [u8; 256] = kinds();
const NAME_START: u8 = 1;
const NAME: u8 = 2;
const VALUE: u8 = 4;

const fn kinds() -> [u8; 256] {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphabetic() || b == b'_' {
            kinds[byte] |= NAME_START | NAME;
        }
        if b.is_ascii_digit() || b == b'-' || b == b'.' {
            kinds[byte] |= NAME;
        }
        if b.is_ascii() && b >= b' ' && !matches!(b, b'<' | b'&' | b'"' | b'\'') {
            kinds[byte] |= VALUE;
        }
        byte += 1;
    }
    kinds
}

/// Returns how many bytes at the front of `bytes` are of this kind.
fn run(bytes: &[u8], kind: u8) -> usize {
    let of_kind = bytes
        .iter()
        .take_while(|&&b| KINDS[usize::from(b)] & kind != 0);
    of_kind.count()
}

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
    let root = start_tag(bytes)?;
    let mut open = [root.name; MAX_DEPTH];
    let mut depth = usize::from(!root.is_empty);
    let mut at = root.len;
    while depth > 0 {
        let rest = &bytes[at..];
        let text = memchr::memchr(b'<', rest)?;
        if plain_len(&rest[..text]) < text {
            return None;
        }
        let tag = &rest[text..];
        at += text;
        if let [b'<', b'/', end @ ..] = tag {
            depth -= 1;
            let name = open[depth];
            let [b'>', ..] = end.strip_prefix(name)? else {
                return None;
            };
            at += 2 + name.len() + 1;
        } else {
            let tag = start_tag(tag)?;
            at += tag.len;
            if !tag.is_empty {
                *open.get_mut(depth)? = tag.name;
                depth += 1;
            }
        }
    }
    Some(Plain {
        bytes: &bytes[..at],
        name: root.name,
        namespace: root.namespace,
    })
}

struct StartTag<'a> {
    len: usize,
    name: &'a [u8],
    namespace: Option<&'a [u8]>,
    is_empty: bool,
}

/// Reads the start tag at the front of `bytes`.
fn start_tag(bytes: &[u8]) -> Option<StartTag<'_>> {
    let [b'<', rest @ ..] = bytes else {
        return None;
    };
    let (name, mut rest) = name(rest)?;
    let mut namespace = None;
    let mut seen: [&[u8]; MAX_ATTRIBUTES] = [&[]; MAX_ATTRIBUTES];
    let mut count = 0;
    loop {
        let spaces = rest.iter().take_while(|&&b| b == b' ').count();
        rest = &rest[spaces..];
        let end = match rest {
            [b'>', end @ ..] | [b'/', b'>', end @ ..] => end,
            _ if spaces > 0 => {
                let (key, value, after) = attribute(rest)?;
                if seen[..count].contains(&key) {
                    return None;
                }
                *seen.get_mut(count)? = key;
                count += 1;
                if key == b"xmlns" {
                    // Empty namespaces are rare, and some are reserved: Expat handles both.
                    if value.is_empty() || value.starts_with(b"http://www.w3.org/") {
                        return None;
                    }
                    namespace = Some(value);
                }
                rest = after;
                continue;
            }
            _ => return None,
        };
        let len = bytes.len() - end.len();
        return (len <= MAX_TAG).then_some(StartTag {
            len,
            name,
            namespace,
            is_empty: rest[0] == b'/',
        });
    }
}

/// Reads a name without a prefix; returns it and the rest.
fn name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if KINDS[usize::from(*bytes.first()?)] & NAME_START == 0 {
        return None;
    }
    let (name, rest) = bytes.split_at(run(bytes, NAME));
    (rest.first() != Some(&b':')).then_some((name, rest))
}

/// The name and value of an attribute, and the rest of the bytes.
type Attribute<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    const LANG: &[u8] = b"xml:lang";
    let (key, rest) = match bytes.strip_prefix(LANG) {
        Some(rest) => (&bytes[..LANG.len()], rest),
        None => name(bytes)?,
    };
    let [b'=', quote @ (b'"' | b'\''), rest @ ..] = rest else {
        return None;
    };
    let mut len = 0;
    loop {
        len += run(&rest[len..], VALUE);
        match *rest.get(len)? {
            byte if byte == *quote => break,
            b'"' | b'\'' => len += 1,
            0x80.. => len += wide_character(&rest[len..])?,
            _ => return None,
        }
    }
    Some((key, &rest[..len], &rest[len + 1..]))
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
    use super::*;

    fn is_plain(text: &str) -> bool {
        let plain = parse(text.as_bytes());
        plain.is_some_and(|plain| plain.bytes == text.as_bytes())
    }

    #[test]
    fn what_chat_is_made_of() {
        for text in [
            "<a/>",
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
        assert_eq!(parse(b"<a b='\xc3\x28'/>"), None);
        assert_eq!(parse(b"<a b='\xed\xa0\x80'/>"), None);
        assert_eq!(parse(b"<a>\xff</a>"), None);
    }

    /// Parts of random documents. The first nine fit together.
    const PARTS: [&str; 48] = [
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
    ];

    #[test]
    fn expat_agrees() {
        let mut state = 3u64;
        let mut random = |n: usize| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
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
