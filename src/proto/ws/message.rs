//! The message that a client is sending, as far as it was copied.

use super::text::Text;
use super::{Error, Event};

/// The message under way.
#[derive(Debug, Default)]
pub enum Message {
    #[default]
    None,
    Text(Text),
    Binary(Vec<u8>),
    Compressed {
        text: bool,
        bytes: Vec<u8>,
    },
}

impl Message {
    /// Appends bytes, the last ones if the message `ends`.
    ///
    /// # Errors
    /// Text is not UTF-8.
    pub fn push(&mut self, piece: &[u8], ends: bool) -> Result<(), Error> {
        match self {
            Message::None => {}
            Message::Text(text) => {
                text.push(piece)?;
                if ends && text.is_cut() {
                    return Err(Error::TextNotUtf8);
                }
            }
            Message::Binary(bytes) | Message::Compressed { bytes, .. } => {
                bytes.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    /// The event for a complete message.
    pub fn event(&self) -> Option<Event<'_>> {
        match self {
            Message::None => None,
            Message::Text(text) => Some(Event::Text(&text.valid)),
            Message::Binary(bytes) => Some(Event::Binary(bytes)),
            Message::Compressed { text, bytes } => Some(Event::Compressed {
                text: *text,
                payload: bytes,
            }),
        }
    }

    /// Bytes so far, and bytes of memory for them.
    pub fn size(&self) -> (usize, usize) {
        match self {
            Message::None => (0, 0),
            Message::Text(text) => (text.len(), text.valid.capacity()),
            Message::Binary(bytes) | Message::Compressed { bytes, .. } => {
                (bytes.len(), bytes.capacity())
            }
        }
    }
}
