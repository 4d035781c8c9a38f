//! Recognizes start tags of roots that need no Expat: stream headers and `<open/>`.
//!
//! Like `plain_element`, it accepts only what is certainly well-formed, and rejects nothing.
//! Software writes these tags in few ways, so the caller names the tag and checks its
//! namespaces. It saves the creation of a parser, which costs more than the tag itself.

use super::{ALL_TO_EXPAT, MAX_ATTRIBUTES, name_len, value_len};
use crate::expat::MAX_TAG;

/// The XML declarations in use. All others are left to Expat.
const DECLARATIONS: [&[u8]; 4] = [
    b"<?xml version='1.0'?>",
    b"<?xml version=\"1.0\"?>",
    b"<?xml version='1.0' encoding='UTF-8'?>",
    b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>",
];

/// The only prefix that a tag may declare.
const STREAM_PREFIX: &[u8] = b"xmlns:stream";

/// A start tag of a root that is well-formed, if its prefix is declared.
#[derive(Clone, Copy, Debug)]
pub struct PlainRoot<'a> {
    /// The tag, with the XML declaration before it if there is one.
    pub bytes: &'a [u8],
    /// Whether the tag is a complete element.
    pub is_empty: bool,
    attributes: [(&'a [u8], &'a [u8]); MAX_ATTRIBUTES],
    count: usize,
}

impl<'a> PlainRoot<'a> {
    /// Returns the names and values of its attributes, including declarations, in document
    /// order. Only `xml:lang` and `xmlns:stream` have a prefix.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.attributes[..self.count].iter().copied()
    }

    /// Whether it declares exactly these namespaces: the default one, and that of `stream`.
    pub fn declares(&self, default: &str, stream: Option<&str>) -> bool {
        let is = |name: &[u8], expected: Option<&str>| {
            let value = self.attributes().find(|(key, _)| *key == name);
            value.map(|(_, uri)| uri) == expected.map(str::as_bytes)
        };
        is(b"xmlns", Some(default)) && is(STREAM_PREFIX, stream)
    }
}

/// Returns the start tag of a root with this name at the front of `bytes`, if it is complete and
/// certainly well-formed.
pub fn plain_root<'a>(bytes: &'a [u8], name: &str) -> Option<PlainRoot<'a>> {
    match *ALL_TO_EXPAT {
        true => None,
        false => parse(bytes, name),
    }
}

fn parse<'a>(bytes: &'a [u8], name: &str) -> Option<PlainRoot<'a>> {
    let declaration = DECLARATIONS.iter().find(|text| bytes.starts_with(text));
    let tag = &bytes[declaration.map_or(0, |text| text.len())..];
    let mut rest = tag.strip_prefix(b"<")?.strip_prefix(name.as_bytes())?;
    let mut attributes: [(&[u8], &[u8]); MAX_ATTRIBUTES] = [(&[], &[]); MAX_ATTRIBUTES];
    let mut count = 0;
    loop {
        let spaces = rest.iter().take_while(|&&b| b == b' ').count();
        rest = &rest[spaces..];
        if let [b'>', end @ ..] | [b'/', b'>', end @ ..] = rest {
            let bytes = &bytes[..bytes.len() - end.len()];
            return (bytes.len() <= MAX_TAG).then_some(PlainRoot {
                bytes,
                is_empty: rest[0] == b'/',
                attributes,
                count,
            });
        }
        let (key, value, after) = attribute(rest).filter(|_| spaces > 0)?;
        let is_repeated = attributes[..count].iter().any(|(known, _)| *known == key);
        let declares = key == b"xmlns" || key == STREAM_PREFIX;
        // Expat handles empty and reserved namespaces.
        let is_special = value.is_empty() || value.starts_with(b"http://www.w3.org/");
        if is_repeated || (declares && is_special) {
            return None;
        }
        *attributes.get_mut(count)? = (key, value);
        count += 1;
        rest = after;
    }
}

/// The name and value of an attribute, and the rest of the bytes.
type Attribute<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn attribute(bytes: &[u8]) -> Option<Attribute<'_>> {
    let mut prefixed = [b"xml:lang", STREAM_PREFIX].into_iter();
    let len = match prefixed.find(|name| bytes.starts_with(name)) {
        Some(name) => name.len(),
        None => name_len(bytes)?,
    };
    let [b'=', quote @ (b'"' | b'\''), rest @ ..] = &bytes[len..] else {
        return None;
    };
    let (name, len) = (&bytes[..len], value_len(rest, *quote)?);
    Some((name, &rest[..len], &rest[len + 1..]))
}

#[cfg(test)]
mod tests {
    use super::super::random::random;
    use super::*;
    use crate::expat::{Parser, Token};

    const STREAMS: &str = "http://etherx.jabber.org/streams";

    #[test]
    fn tags_as_software_writes_them() {
        let header = b"<?xml version='1.0'?><stream:stream id='' xmlns=\"jabber:client\" \
            xmlns:stream='http://etherx.jabber.org/streams'><stream:features>";
        let root = parse(header, "stream:stream").unwrap();
        assert!(header.starts_with(root.bytes) && root.bytes.ends_with(b"streams'>"));
        assert!(!root.is_empty);
        assert!(root.declares("jabber:client", Some(STREAMS)));
        assert!(!root.declares("jabber:client", None) && !root.declares("x", Some(STREAMS)));
        let open = b"<open xmlns='u' to=\"it's\" xml:lang='de' />";
        let root = parse(open, "open").unwrap();
        assert!(root.bytes == open && root.is_empty && root.declares("u", None));
        let all: Vec<(&[u8], &[u8])> = root.attributes().collect();
        let (to, lang) = ((&b"to"[..], &b"it's"[..]), (&b"xml:lang"[..], &b"de"[..]));
        assert_eq!(all, [(&b"xmlns"[..], &b"u"[..]), to, lang]);
    }

    #[test]
    fn all_else_is_left_to_expat() {
        let wide: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
        let long = format!("<open a='{}'/>", "x".repeat(MAX_TAG));
        for text in [
            "<open",
            "<open ",
            "<open/",
            "<opened/>",
            "<p:open/>",
            " <open/>",
            "<?xml version='1.1'?><open/>",
            "<?xml version='1.0' encoding='ascii'?><open/>",
            "<?xml version='1.0'?>",
            "<open a='' a=''/>",
            "<open a=''b=''/>",
            "<open a='&amp;'/>",
            "<open a='<'/>",
            "<open a='\n'/>",
            "<open\na=''/>",
            "<open p:a=''/>",
            "<open xmlns:p='u'/>",
            "<open xmlns:stream2='u'/>",
            "<open xmlns:stream:a='u'/>",
            "<open xmlns:streama = 'u'/>",
            &format!("<open{wide}/>"),
            &long,
        ] {
            assert!(parse(text.as_bytes(), "open").is_none(), "{text}");
        }
    }

    /// Parts of random tags. The first ones fit together.
    const PARTS: [&str; 30] = [
        " xmlns='urn:a'",
        " xmlns:stream='urn:s'",
        " to='a'",
        " id=\"it's>\"",
        " version='1.0'",
        " xml:lang='\u{e4}'",
        " ",
        " odd=''",
        " a-b.c_1='\u{1f600}'",
        ">",
        "/>",
        "xmlns",
        "xmlns:stream",
        ":",
        "=",
        "'",
        "\"",
        "&amp;",
        "&e;",
        "<",
        "\n",
        "\u{ffff}",
        "\u{1}",
        "\u{7f}",
        " xmlns='http://www.w3.org/2000/xmlns/'",
        " xmlns:stream='http://www.w3.org/XML/1998/namespace'",
        " xmlns:stream=''",
        " xmlns=''",
        " stream:a=''",
        " xml:space='x'",
    ];

    #[test]
    fn expat_agrees() {
        let mut random = random(5);
        let mut plain = 0;
        for _ in 0..200_000 {
            let name = ["open", "stream:stream"][random(2)];
            let start = ["", "<?xml version='1.0'?>", DECLARATION][random(3)];
            let mut text = format!("{start}<{name}");
            for _ in 0..random(9) {
                // Mostly parts that fit together.
                let parts = [9, 9, 9, PARTS.len()][random(4)];
                text += PARTS[random(parts)];
            }
            text += ["", ">", "/>", " />"][random(4)];
            let Some(found) = parse(text.as_bytes(), name) else {
                continue;
            };
            if name != "open" && !found.attributes().any(|(key, _)| key == STREAM_PREFIX) {
                continue;
            }
            plain += 1;
            agree(&text, name, &found);
        }
        assert!(plain > 20_000, "{plain}");
    }

    const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";

    fn agree(text: &str, name: &str, found: &PlainRoot<'_>) {
        let mut parser = Parser::new(0);
        assert_eq!(parser.feed(found.bytes), Ok(()), "{text:?}");
        let ends = usize::from(found.is_empty);
        assert_eq!(parser.tokens().len(), 1 + ends, "{text:?}");
        let Token::Start(tag) = &parser.tokens()[0] else {
            panic!("{text:?}");
        };
        assert_eq!(tag.end, found.bytes.len() as u64, "{text:?}");
        let value = |key: &[u8]| found.attributes().find(|(name, _)| *name == key);
        let (prefix, local) = name.split_once(':').unwrap_or(("", name));
        let key = if prefix.is_empty() {
            "xmlns"
        } else {
            "xmlns:stream"
        };
        let namespace = value(key.as_bytes()).map_or(&b""[..], |(_, uri)| uri);
        assert_eq!(parser.name(tag), (namespace, local.as_bytes()), "{text:?}");
        let (declarations, others): (Vec<_>, Vec<_>) = found
            .attributes()
            .partition(|(key, _)| key.starts_with(b"xmlns"));
        let mut told = Vec::new();
        for (prefix, uri) in parser.declarations(tag) {
            told.push((
                if prefix.is_empty() {
                    &b"xmlns"[..]
                } else {
                    STREAM_PREFIX
                },
                uri,
            ));
        }
        assert_eq!(told, declarations, "{text:?}");
        let mut told = Vec::new();
        for ((namespace, name), value) in parser.attributes(tag) {
            let is_lang = namespace == b"http://www.w3.org/XML/1998/namespace" && name == b"lang";
            told.push((if is_lang { &b"xml:lang"[..] } else { name }, value));
        }
        assert_eq!(told, others, "{text:?}");
    }
}
