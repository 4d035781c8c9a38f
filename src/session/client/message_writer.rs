//! Writes messages in the client's dialect.
//!
//! In RFC 7395, each message is one complete element (section 3.3.3). In the draft, it is the
//! server's own bytes. Messages are compressed if that was negotiated and helps.

use crate::buf::Buf;
use crate::meter::PARSER;
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::deflate::Codec;
use crate::proto::ws::frame::MAX_SERVER_HEADER;
use crate::proto::ws::{Opcode, frame};
use crate::proto::xmpp::features::{Changes, MAX_FEATURES, StreamLimits};
use crate::proto::xmpp::framing::Element;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::known_features::KnownFeatures;

/// Shorter messages are not compressed: they would shrink by at most half, and fit in one
/// packet anyway.
const MIN_COMPRESSED: usize = 1024;
/// Longer messages are not compressed, because compression would take more than the budget of a
/// turn.
const MAX_COMPRESSED: usize = 256 << 10;

/// Writes messages to a client's queue.
pub(in crate::session) struct MessageWriter<'a> {
    pub out: &'a mut Buf,
    pub codec: &'a mut Codec,
    /// A buffer to compose small texts.
    pub text: &'a mut Vec<u8>,
    pub deflate: Option<Deflate>,
    /// Whether the client speaks RFC 7395.
    pub framed: bool,
    /// The changes to stream features.
    pub changes: Changes,
    pub known: &'a mut KnownFeatures,
    /// Number of bytes that were compressed.
    pub compressed: usize,
    /// Number of bytes that an empty queue gets room for.
    pub room: usize,
    /// Units of the meter for features that were parsed again.
    pub parsed: usize,
}

impl MessageWriter<'_> {
    /// Queues the server's stream header, or an `<open/>` for it. Returns its length in bytes.
    pub fn header(&mut self, bytes: &[u8], header: Header, domain: &str) -> usize {
        self.text.clear();
        match self.framed {
            true => answer(header, domain).write_open(self.text),
            false => self.text.extend_from_slice(bytes),
        }
        self.write(&[], &[])
    }

    /// Queues an element. Returns its length in bytes.
    pub fn element(&mut self, element: &Element<'_>) -> usize {
        self.text.clear();
        if self.framed {
            element.inherited(self.text);
        }
        let (head, tail) = element.bytes.split_at(element.name_end());
        self.write(head, tail)
    }

    /// Queues stream features with the changes for the client. Returns their length in bytes and
    /// the limits in them, or `None` if they are not well-formed or too long.
    pub fn features(&mut self, element: &Element<'_>) -> Option<(usize, StreamLimits)> {
        if element.bytes.len() > MAX_FEATURES {
            return None;
        }
        self.text.clear();
        let (changes, framed) = (self.changes, self.framed);
        let written = self.known.write(changes, element, framed, self.text);
        if !matches!(written, Ok((_, false))) {
            self.parsed += PARSER + element.bytes.len();
        }
        let (limits, _) = written.ok()?;
        Some((self.write(&[], &[]), limits))
    }

    /// Queues one message, `text` between `head` and `tail`, compressed if that was negotiated
    /// and helps. Returns its uncompressed length in bytes.
    fn write(&mut self, head: &[u8], tail: &[u8]) -> usize {
        let parts = [head, self.text, tail];
        let len = parts.iter().map(|part| part.len()).sum();
        self.out.expect(self.room.max(len + MAX_SERVER_HEADER));
        let pays = (MIN_COMPRESSED..=MAX_COMPRESSED).contains(&len);
        let Some(deflate) = self.deflate.filter(|_| pays) else {
            write_message(self.out, &parts);
            return len;
        };
        self.compressed += len;
        match self.codec.compress(&parts, deflate.window_bits) {
            Some(payload) => frame::write_compressed(self.out, Opcode::Text, payload),
            None => write_message(self.out, &parts),
        }
        len
    }
}

/// Returns the `<open/>` that the client gets for the server's stream header.
fn answer(header: Header, domain: &str) -> Header {
    Header {
        from: header.from.or_else(|| Some(domain.to_owned())),
        to: header.to,
        id: header
            .id
            .filter(|id| !id.is_empty())
            .or_else(|| Some(fresh_id())),
        version: header.version,
        lang: header.lang.or_else(|| Some("en".to_owned())),
        others: Vec::new(),
    }
}

/// Returns an unpredictable identifier (RFC 6120, section 4.7.3).
pub(super) fn fresh_id() -> String {
    let mut bytes = [0; 16];
    // If there is no randomness, the identifier is predictable but still valid.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Queues one text message made of `parts`.
pub(super) fn write_message(out: &mut Buf, parts: &[&[u8]]) {
    let len = parts.iter().map(|part| part.len()).sum();
    frame::write_header(out, Opcode::Text, len);
    for part in parts {
        out.extend(part);
    }
}
