//! Stream headers: `<stream:stream>` (RFC 6120, section 4.7) and `<open/>`
//! (RFC 7395, section 3.3.1), which carry the same attributes.
//!
//! Reads them from a start tag and writes them in either form. Values are stored unescaped, and
//! escaped when written.

use super::{attribute, ns};
use crate::expat::{Parser, PlainRoot, Tag};

/// The attributes of a stream header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The receiving entity.
    pub to: Option<String>,
    /// The initiating entity.
    pub from: Option<String>,
    /// The stream's identifier, given by the server.
    pub id: Option<String>,
    /// XMPP version; absent means 0.9.
    pub version: Option<String>,
    /// Default language of the stream (`xml:lang`).
    pub lang: Option<String>,
    /// Any other attributes that have no prefix.
    pub others: Vec<(String, String)>,
}

/// The namespace of the prefix `xml`.
const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";

impl Header {
    /// Reads the attributes of `tag`, a root. Skips attributes of other namespaces, because
    /// their prefixes could mean anything in the new header.
    pub fn read(parser: &Parser, tag: &Tag) -> Header {
        Header::collect(parser.attributes(tag))
    }

    /// Reads the attributes of a root that needed no parser.
    pub fn of_plain(root: &PlainRoot<'_>) -> Header {
        let attributes = root.attributes().filter_map(|(name, value)| match name {
            b"xml:lang" => Some(((XML, &b"lang"[..]), value)),
            b"xmlns" | b"xmlns:stream" => None,
            _ => Some(((&b""[..], name), value)),
        });
        Header::collect(attributes)
    }

    /// Collects attributes: namespace and local name, and value.
    fn collect<'a>(attributes: impl Iterator<Item = ((&'a [u8], &'a [u8]), &'a [u8])>) -> Header {
        let mut header = Header::default();
        for ((namespace, name), value) in attributes {
            let value = String::from_utf8_lossy(value).into_owned();
            match (namespace, name) {
                (b"", b"to") => header.to = Some(value),
                (b"", b"from") => header.from = Some(value),
                (b"", b"id") => header.id = Some(value),
                (b"", b"version") => header.version = Some(value),
                (XML, b"lang") => header.lang = Some(value),
                (b"", name) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    header.others.push((name, value));
                }
                _ => {}
            }
        }
        header
    }

    /// Returns the bytes of memory that its texts take.
    pub fn memory(&self) -> usize {
        let named = [&self.to, &self.from, &self.id, &self.version, &self.lang];
        let named = named.into_iter().flatten().map(String::capacity);
        let other = |(name, value): &(String, String)| {
            size_of::<(String, String)>() + name.capacity() + value.capacity()
        };
        named.chain(self.others.iter().map(other)).sum()
    }

    /// Whether `version` is 1.0 or later (RFC 6120, section 4.7.5).
    pub fn has_usable_version(&self) -> bool {
        let major = self.version.as_deref().and_then(|v| v.split_once('.'));
        major.is_some_and(|(major, minor)| {
            let minor: Result<u32, _> = minor.parse();
            major.parse().is_ok_and(|m: u32| m >= 1) && minor.is_ok()
        })
    }

    /// Appends the XML declaration and the `<stream:stream>` start tag that a client sends over
    /// TCP. Omits the `id`, which a client must not send (RFC 6120, section 4.7.3).
    pub fn write_stream(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
        self.write_common(None, out);
        for (name, value) in &self.others {
            attribute(out, name.as_bytes(), value.as_bytes());
        }
        attribute(out, b"xmlns", ns::CLIENT.as_bytes());
        attribute(out, b"xmlns:stream", ns::STREAMS.as_bytes());
        out.push(b'>');
    }

    /// Appends the header without `from`, which must not be sent without TLS (RFC 6120, section
    /// 4.7.1), and without other attributes.
    pub fn write_bare_stream(&self, out: &mut Vec<u8>) {
        let bare = Header {
            to: self.to.clone(),
            version: self.version.clone(),
            lang: self.lang.clone(),
            ..Header::default()
        };
        bare.write_stream(out);
    }

    /// Appends `<open/>` in a form that all clients accept: namespace first, no prefix, no
    /// other declaration.
    pub fn write_open(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<open");
        attribute(out, b"xmlns", ns::FRAMING.as_bytes());
        self.write_common(self.id.as_deref(), out);
        out.extend_from_slice(b" />");
    }

    /// Appends the start tag of a server's stream, without an XML declaration.
    pub fn write_server_stream(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<stream:stream");
        attribute(out, b"xmlns", ns::CLIENT.as_bytes());
        attribute(out, b"xmlns:stream", ns::STREAMS.as_bytes());
        self.write_common(self.id.as_deref(), out);
        out.push(b'>');
    }

    fn write_common(&self, id: Option<&str>, out: &mut Vec<u8>) {
        for (name, value) in [
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("id", id),
            ("version", self.version.as_deref()),
            ("xml:lang", self.lang.as_deref()),
        ] {
            if let Some(value) = value {
                attribute(out, name.as_bytes(), value.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expat::Token;

    fn read(tag: &str) -> Header {
        let mut parser = Parser::new(0);
        parser.feed(tag.as_bytes()).unwrap();
        let Token::Start(root) = &parser.tokens()[0] else {
            panic!("no root")
        };
        Header::read(&parser, root)
    }

    #[test]
    fn an_open_becomes_a_stream_header() {
        let header = read(
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to=\"a'b\" version='1.0' \
             xml:lang='de' id='x' from='u@h' odd='1' p:q='2' xmlns:p='urn:p' xmlns:unused='u'/>",
        );
        let mut out = Vec::new();
        header.write_stream(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<?xml version='1.0'?><stream:stream from=\"u@h\" to=\"a&apos;b\" version=\"1.0\" \
             xml:lang=\"de\" odd=\"1\" xmlns=\"jabber:client\" \
             xmlns:stream=\"http://etherx.jabber.org/streams\">"
        );
    }

    #[test]
    fn prefixes_of_an_open_do_not_reach_the_server() {
        let header = read(
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a' xmlns:stream='urn:s' \
             xmlns:p='http://etherx.jabber.org/streams' p:a='1' stream:a='2' p:to='b'/>",
        );
        let mut out = Vec::new();
        header.write_stream(&mut out);
        assert_eq!(Parser::new(0).feed(&out), Ok(()));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<?xml version='1.0'?><stream:stream to=\"a\" xmlns=\"jabber:client\" \
             xmlns:stream=\"http://etherx.jabber.org/streams\">"
        );
    }

    #[test]
    fn clear_text_has_only_what_the_rfc_names() {
        let header = read("<open to='h' version='1.0' xml:lang='de' from='u@h' id='x' odd='1'/>");
        let mut out = Vec::new();
        header.write_bare_stream(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<?xml version='1.0'?><stream:stream to=\"h\" version=\"1.0\" xml:lang=\"de\" \
             xmlns=\"jabber:client\" xmlns:stream=\"http://etherx.jabber.org/streams\">"
        );
    }

    #[test]
    fn a_stream_header_becomes_an_open() {
        let header = read(
            "<stream:stream id='i>d' version='1.0' xml:lang='en' from='localhost' \
             xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client'>",
        );
        let mut out = Vec::new();
        header.write_open(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"localhost\" \
             id=\"i&gt;d\" version=\"1.0\" xml:lang=\"en\" />"
        );
    }

    #[test]
    fn versions_from_1_0_are_usable() {
        let usable = |version: &str| {
            let version = Some(version.to_owned());
            Header {
                version,
                ..Header::default()
            }
            .has_usable_version()
        };
        assert!(usable("1.0") && usable("1.1") && usable("2.0") && usable("10.3"));
        assert!(!usable("0.9") && !usable("") && !usable("1") && !usable("x.y"));
        assert!(!Header::default().has_usable_version());
    }
}
