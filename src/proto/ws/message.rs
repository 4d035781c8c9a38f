//! The copied part of a message that is not complete.

use super::text::Text;
use super::{Error, Event};

/// The current message.
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
    /// Appends bytes; `ends` marks the last ones.
    ///
    /// # Errors
    /// The text is not UTF-8.
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

    /// Returns the event for a complete message.
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

    /// Returns the number of bytes so far, and the bytes of memory that they take.
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
