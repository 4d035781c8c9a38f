//! Stream errors: their conditions and texts (RFC 6120, section 4.9.3).
//!
//! Writes stream errors for clients, and reads those from servers. A text helps people who
//! debug a client; it never reveals an address or an internal cause.

use super::features::{content, each_child};
use super::framing::Element;
use super::{escape, ns};

/// A stream error condition that jabsocket itself raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// XML that cannot be processed (4.9.3.1).
    BadFormat(&'static str),
    /// The client sent no `<open/>` in time (4.9.3.4).
    ConnectionTimeout,
    /// The domain is not served here (4.9.3.6).
    HostUnknown,
    /// The `to` is missing or is not a domain name (4.9.3.7).
    ImproperAddressing(&'static str),
    /// The stream header is in a wrong namespace (4.9.3.10).
    InvalidNamespace,
    /// Something other than the expected stream header (4.9.3.12).
    NotAuthorized(&'static str),
    /// XML that is not well-formed (4.9.3.13).
    NotWellFormed,
    /// The message or stanza exceeds a limit (4.9.3.14).
    TooBig,
    /// A tag is longer than 64 KiB, or a namespace longer than 256 bytes (4.9.3.14).
    LongTag,
    /// Elements are nested too deep (4.9.3.14).
    TooDeep,
    /// An element has too many attributes (4.9.3.14).
    TooManyAttributes,
    /// The server cannot be reached, or the connection was lost (4.9.3.15).
    RemoteConnectionFailed(&'static str),
    /// There is no memory left for this session (4.9.3.17).
    ResourceConstraint,
    /// A comment, processing instruction, document type or entity (4.9.3.18).
    RestrictedXml,
    /// An encoding other than UTF-8 (4.9.3.22).
    UnsupportedEncoding,
    /// An element that is not allowed here (4.9.3.24).
    UnsupportedStanzaType(&'static str),
    /// The `version` is missing or not a number (4.9.3.25).
    UnsupportedVersion,
}

/// The conditions of stream errors (RFC 6120, section 4.9.3).
const CONDITIONS: [&str; 25] = [
    "undefined-condition",
    "bad-format",
    "bad-namespace-prefix",
    "conflict",
    "connection-timeout",
    "host-gone",
    "host-unknown",
    "improper-addressing",
    "internal-server-error",
    "invalid-from",
    "invalid-namespace",
    "invalid-xml",
    "not-authorized",
    "not-well-formed",
    "policy-violation",
    "remote-connection-failed",
    "reset",
    "resource-constraint",
    "restricted-xml",
    "see-other-host",
    "system-shutdown",
    "unsupported-encoding",
    "unsupported-feature",
    "unsupported-stanza-type",
    "unsupported-version",
];

/// The condition of a server's stream error. A name that RFC 6120 does not have becomes
/// `undefined-condition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition(u8);

impl Condition {
    /// Returns the condition with this name.
    pub fn named(name: &str) -> Condition {
        let known = CONDITIONS.iter().position(|known| *known == name);
        Condition(known.unwrap_or(0) as u8)
    }

    /// Returns the name of the condition element.
    pub fn name(self) -> &'static str {
        CONDITIONS[usize::from(self.0)]
    }
}

/// Returns the name of the condition of a server's stream error, and the host in a
/// `see-other-host`.
pub fn read(error: &Element<'_>) -> (String, Option<String>) {
    let whole = error.whole();
    let (mut condition, mut see_other) = (None, None);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let verdict = each_child(&whole, |parser, tag, end| {
        let (namespace, name) = parser.name(tag);
        if tag.depth != 1 || namespace != ns::STREAM_ERRORS.as_bytes() || name == b"text" {
            return;
        }
        condition.get_or_insert_with(|| text(name));
        if name == b"see-other-host" {
            see_other.get_or_insert_with(|| text(content(&whole, tag, end).trim_ascii()));
        }
    });
    let condition = condition.filter(|_| verdict.is_ok());
    let unknown = || "stream error without condition".to_owned();
    (condition.unwrap_or_else(unknown), see_other)
}

impl StreamError {
    /// Returns the name of the condition element.
    pub fn condition(&self) -> &'static str {
        match self {
            StreamError::BadFormat(_) => "bad-format",
            StreamError::ConnectionTimeout => "connection-timeout",
            StreamError::HostUnknown => "host-unknown",
            StreamError::ImproperAddressing(_) => "improper-addressing",
            StreamError::InvalidNamespace => "invalid-namespace",
            StreamError::NotAuthorized(_) => "not-authorized",
            StreamError::NotWellFormed => "not-well-formed",
            StreamError::TooBig
            | StreamError::LongTag
            | StreamError::TooDeep
            | StreamError::TooManyAttributes => "policy-violation",
            StreamError::RemoteConnectionFailed(_) => "remote-connection-failed",
            StreamError::ResourceConstraint => "resource-constraint",
            StreamError::RestrictedXml => "restricted-xml",
            StreamError::UnsupportedEncoding => "unsupported-encoding",
            StreamError::UnsupportedStanzaType(_) => "unsupported-stanza-type",
            StreamError::UnsupportedVersion => "unsupported-version",
        }
    }

    /// Returns the content of the text element, unescaped.
    pub fn text(&self) -> &'static str {
        match self {
            StreamError::BadFormat(text)
            | StreamError::ImproperAddressing(text)
            | StreamError::NotAuthorized(text)
            | StreamError::RemoteConnectionFailed(text)
            | StreamError::UnsupportedStanzaType(text) => text,
            StreamError::ConnectionTimeout => "no stream was opened in time",
            StreamError::HostUnknown => "this domain is not served here",
            StreamError::InvalidNamespace => "the stream header is in a wrong namespace",
            StreamError::NotWellFormed => "the XML is not well-formed",
            StreamError::TooBig => "the stanza is too big",
            StreamError::LongTag => {
                "a tag is longer than 64 KiB, or a namespace longer than 256 bytes"
            }
            StreamError::TooDeep => "the elements are nested too deep",
            StreamError::TooManyAttributes => "an element has too many attributes",
            StreamError::ResourceConstraint => "too much data is queued here; try again later",
            StreamError::RestrictedXml => {
                "comments, processing instructions, document types and entities are not allowed"
            }
            StreamError::UnsupportedEncoding => "the encoding must be UTF-8",
            StreamError::UnsupportedVersion => "the stream header has no usable version",
        }
    }

    /// Appends the error as one complete element.
    pub fn write(&self, out: &mut Vec<u8>) {
        let put = |out: &mut Vec<u8>, parts: &[&str]| {
            for part in parts {
                out.extend_from_slice(part.as_bytes());
            }
        };
        let condition = self.condition();
        put(out, &["<stream:error xmlns:stream='", ns::STREAMS, "'><"]);
        put(out, &[condition, " xmlns='", ns::STREAM_ERRORS, "'/>"]);
        put(out, &["<text xmlns='", ns::STREAM_ERRORS]);
        put(out, &["' xml:lang='en'>"]);
        escape(out, self.text().as_bytes());
        put(out, &["</text>"]);
        if *self == StreamError::TooBig {
            put(out, &["<stanza-too-big xmlns='urn:xmpp:errors'/>"]);
        }
        put(out, &["</stream:error>"]);
    }
}

impl From<crate::expat::Error> for StreamError {
    fn from(error: crate::expat::Error) -> Self {
        use crate::expat::Error;
        match error {
            Error::Restricted(_) => StreamError::RestrictedXml,
            Error::Encoding => StreamError::UnsupportedEncoding,
            Error::TooDeep => StreamError::TooDeep,
            Error::TooManyAttributes => StreamError::TooManyAttributes,
            Error::LongTag => StreamError::LongTag,
            Error::NotWellFormed(_) => StreamError::NotWellFormed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expat::{Parser, Token};

    /// Characters that a text might contain.
    const TEXT: &str = "<open/> & </text> ]]> 'to' \"x\" &amp; <!-- <?a?>";

    /// Returns the error listed after `error`. A new variant does not compile until it is added
    /// to the list.
    fn next(error: StreamError) -> Option<StreamError> {
        Some(match error {
            StreamError::BadFormat(_) => StreamError::ConnectionTimeout,
            StreamError::ConnectionTimeout => StreamError::HostUnknown,
            StreamError::HostUnknown => StreamError::ImproperAddressing(TEXT),
            StreamError::ImproperAddressing(_) => StreamError::InvalidNamespace,
            StreamError::InvalidNamespace => StreamError::NotAuthorized(TEXT),
            StreamError::NotAuthorized(_) => StreamError::NotWellFormed,
            StreamError::NotWellFormed => StreamError::TooBig,
            StreamError::TooBig => StreamError::LongTag,
            StreamError::LongTag => StreamError::TooDeep,
            StreamError::TooDeep => StreamError::TooManyAttributes,
            StreamError::TooManyAttributes => StreamError::RemoteConnectionFailed(TEXT),
            StreamError::RemoteConnectionFailed(_) => StreamError::ResourceConstraint,
            StreamError::ResourceConstraint => StreamError::RestrictedXml,
            StreamError::RestrictedXml => StreamError::UnsupportedEncoding,
            StreamError::UnsupportedEncoding => StreamError::UnsupportedStanzaType(TEXT),
            StreamError::UnsupportedStanzaType(_) => StreamError::UnsupportedVersion,
            StreamError::UnsupportedVersion => return None,
        })
    }

    fn unescaped(text: &str) -> String {
        let entities = [
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&quot;", "\""),
            ("&apos;", "'"),
            ("&amp;", "&"),
        ];
        entities
            .iter()
            .fold(text.to_owned(), |text, (entity, byte)| {
                text.replace(entity, byte)
            })
    }

    #[test]
    fn every_error_is_one_element_whose_text_is_text() {
        let first = StreamError::BadFormat(TEXT);
        let errors: Vec<_> = std::iter::successors(Some(first), |&error| next(error)).collect();
        assert_eq!(errors.len(), 17);
        for error in errors {
            let mut out = Vec::new();
            error.write(&mut out);
            let shown = String::from_utf8_lossy(&out);
            let mut parser = Parser::new(3);
            assert_eq!(parser.finish(&out), Ok(()), "{shown}");
            let tags: Vec<_> = parser
                .tokens()
                .iter()
                .filter_map(|token| match token {
                    Token::Start(tag) => Some((tag.depth, parser.name(tag))),
                    Token::End { .. } => None,
                })
                .collect();
            let conditions = ns::STREAM_ERRORS.as_bytes();
            let mut expected = vec![
                (0, (ns::STREAMS.as_bytes(), &b"error"[..])),
                (1, (conditions, error.condition().as_bytes())),
                (1, (conditions, b"text")),
            ];
            if error == StreamError::TooBig {
                expected.push((1, (b"urn:xmpp:errors", b"stanza-too-big")));
            }
            assert_eq!(tags, expected, "{shown}");
            let mut text = None;
            each_child(&out, |parser, tag, end| {
                if parser.name(tag).1 == b"text" {
                    text = Some(String::from_utf8_lossy(content(&out, tag, end)));
                }
            })
            .unwrap();
            assert_eq!(unescaped(&text.unwrap()), error.text());
        }
    }
}
