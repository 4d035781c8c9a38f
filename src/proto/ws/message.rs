//! The copied part of a message that is not complete.

use super::text::Text;
use super::{Error, Event};

/// Maximum memory reserved for the rest of a frame, in multiples of what has arrived.
const GROWTH: usize = 3;

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
    /// Appends bytes; `ends` marks the last ones. `remaining` bytes of the frame follow.
    ///
    /// # Errors
    /// The text is not UTF-8.
    pub fn push(&mut self, piece: &[u8], remaining: u64, ends: bool) -> Result<(), Error> {
        let (len, capacity) = self.size();
        let room = match capacity.saturating_sub(len) < piece.len() {
            true => piece.len() + remaining.min((GROWTH * (len + piece.len())) as u64) as usize,
            false => 0,
        };
        match self {
            Message::None => {}
            Message::Text(text) => {
                text.valid.reserve(room);
                text.push(piece)?;
                if ends && text.is_cut() {
                    return Err(Error::TextNotUtf8);
                }
            }
            Message::Binary(bytes) | Message::Compressed { bytes, .. } => {
                bytes.reserve(room);
                bytes.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    /// Returns the event for a complete message.
    pub fn into_event(self) -> Option<Event<'static>> {
        match self {
            Message::None => None,
            Message::Text(text) => Some(Event::Text(text.valid.into())),
            Message::Binary(bytes) => Some(Event::Binary(bytes.into())),
            Message::Compressed { text, bytes } => Some(Event::Compressed {
                text,
                payload: bytes.into(),
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
