//! The limits on a document, and the reasons to refuse one.

use std::fmt;

/// The limits on a document, other than its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum nesting of elements; the root is at level 1.
    pub depth: u32,
    /// Maximum number of attributes of an element, including namespace declarations.
    pub attributes: u32,
    /// Maximum number of namespace declarations of an element.
    pub namespaces: u32,
}

impl Limits {
    /// Far above what XMPP software uses.
    pub const DEFAULT: Limits = Limits {
        depth: 512,
        attributes: 256,
        namespaces: 64,
    };
}

/// Why a parser stopped. The parser cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The document has a document type, comment, processing instruction or entity reference
    /// (RFC 6120, section 11.1).
    Restricted(&'static str),
    /// The XML declaration names an encoding other than UTF-8 (section 11.6).
    Encoding,
    /// Elements are nested deeper than [`Limits::depth`].
    TooDeep,
    /// An element has more attributes than [`Limits::attributes`], or more
    /// declarations than [`Limits::namespaces`].
    TooManyAttributes,
    /// A tag is longer than [`super::MAX_TAG`], or a namespace longer than 256 bytes.
    LongTag,
    /// The document is not well-formed (section 11.3); the text is Expat's.
    NotWellFormed(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Restricted(what) => write!(f, "restricted XML: {what}"),
            Error::Encoding => f.write_str("XML declaration: encoding is not UTF-8"),
            Error::TooDeep => f.write_str("XML nested deeper than max_depth"),
            Error::TooManyAttributes => {
                f.write_str("an XML element with more than max_attributes or max_namespaces")
            }
            Error::LongTag => f.write_str("an XML tag over 64 KiB, or a namespace over 256 bytes"),
            Error::NotWellFormed(why) => write!(f, "XML not well-formed: {why}"),
        }
    }
}
