//! Stream features that must not reach a WebSocket client.
//!
//! Owns their removal: STARTTLS (RFC 7395, section 3.9) and compression
//! (XEP-0138), both of which would turn the text stream into binary. The rest
//! of the element keeps its bytes.

use super::ns;
use crate::expat::{Error, Names, Parser, Token};

/// Features removed, by namespace and name.
const REMOVED: [(&str, &[u8]); 2] = [
    (ns::TLS, b"starttls"),
    (ns::COMPRESS_FEATURE, b"compression"),
];

/// The byte ranges of `features` to leave out, in order. `features` is a
/// complete element with all namespaces it uses declared.
///
/// # Errors
/// The element is not well-formed by itself.
pub fn removed(features: &[u8]) -> Result<Vec<std::ops::Range<usize>>, Error> {
    let mut parser = Parser::new(Names::Resolved, 1);
    parser.finish(features)?;
    let mut ranges = Vec::new();
    let mut start = None;
    for token in parser.tokens() {
        match token {
            Token::Start(tag) if tag.depth == 1 => {
                let (namespace, local) = parser.resolved_name(tag);
                let listed =
                    |(space, name): &(&str, &[u8])| namespace == space.as_bytes() && local == *name;
                start = REMOVED.iter().any(listed).then_some(tag.start as usize);
            }
            Token::End { depth: 1, end } => {
                ranges.extend(start.take().map(|start| start..*end as usize));
            }
            _ => {}
        }
    }
    Ok(ranges)
}

/// What a server says to `<starttls/>` that it does not offer (RFC 6120,
/// section 5.4.2.2).
pub const STARTTLS_FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// What a server says to `<compress/>` that it does not offer (XEP-0138).
pub const COMPRESS_FAILURE: &str =
    "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>";
