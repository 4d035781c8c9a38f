//! Messages for the client, in its form.
//!
//! Owns the form of what the server sends: in RFC 7395 one stand-alone element a message
//! (section 3.3.3), in the draft the server's own bytes; compressed where that was agreed on
//! and pays.

use crate::buf::Buf;
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::deflate::Codec;
use crate::proto::ws::{Opcode, frame};
use crate::proto::xmpp::features::{Changes, MAX_FEATURES};
use crate::proto::xmpp::framing::Element;
use crate::proto::xmpp::header::Header;

/// Messages below this are not compressed: they would shrink by half at the most,
/// and fit into one packet as they are.
const MIN_COMPRESSED: usize = 1024;
/// Messages above this are not compressed: it would take more than a turn, at once.
const MAX_COMPRESSED: usize = 256 << 10;

/// Writes messages to a client's queue.
pub(super) struct MessageWriter<'a> {
    pub out: &'a mut Buf,
    pub codec: &'a mut Codec,
    /// Where small texts are put together.
    pub text: &'a mut Vec<u8>,
    pub deflate: Option<Deflate>,
    /// The client speaks RFC 7395.
    pub framed: bool,
    /// How stream features are changed for the client.
    pub changes: Changes,
    /// Bytes that were compressed.
    pub compressed: usize,
}

impl MessageWriter<'_> {
    /// Queues the server's stream header, or an `<open/>` for it; its length in bytes.
    pub fn header(&mut self, bytes: &[u8], header: Header, domain: &str) -> usize {
        self.text.clear();
        match self.framed {
            true => answer(header, domain).write_open(self.text),
            false => self.text.extend_from_slice(bytes),
        }
        self.write(&[], &[])
    }

    /// Queues an element; its length in bytes.
    pub fn element(&mut self, element: &Element<'_>) -> usize {
        self.text.clear();
        if self.framed {
            element.inherited(self.text);
        }
        let (head, tail) = element.bytes.split_at(element.name_end());
        self.write(head, tail)
    }

    /// Queues stream features as the client is to see them; their length in bytes, or `None`
    /// if they are not well-formed, or too long for that.
    pub fn features(&mut self, element: &Element<'_>) -> Option<usize> {
        if element.bytes.len() > MAX_FEATURES {
            return None;
        }
        self.text.clear();
        let changed = self.changes.write(element, self.framed, self.text);
        changed.ok()?;
        Some(self.write(&[], &[]))
    }

    /// Queues one message, `text` between `head` and `tail`, compressed where that was agreed
    /// on and pays; its length in bytes before that.
    fn write(&mut self, head: &[u8], tail: &[u8]) -> usize {
        let parts = [head, self.text, tail];
        let len = parts.iter().map(|part| part.len()).sum();
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

/// The `<open/>` that the client gets for the server's stream header.
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

/// An identifier that nobody can guess (RFC 6120, section 4.7.3).
pub(super) fn fresh_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is still there, though not a secret.
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
