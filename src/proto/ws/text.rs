//! Checks the text of a message as it arrives (RFC 6455 8.1).
//!
//! Holds the characters so far, and the first bytes of a character that is not complete.

use super::Error;

/// The text so far.
#[derive(Debug, Default)]
pub struct Text {
    /// The complete characters.
    pub valid: String,
    tail: [u8; 4],
    tail_len: u8,
}

impl Text {
    /// Appends and checks bytes.
    ///
    /// # Errors
    /// The text is not UTF-8, whatever follows.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while self.tail_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            self.tail[usize::from(self.tail_len)] = byte;
            self.tail_len += 1;
            match std::str::from_utf8(&self.tail[..usize::from(self.tail_len)]) {
                Ok(character) => {
                    self.valid.push_str(character);
                    self.tail_len = 0;
                }
                Err(e) if e.error_len().is_some() => return Err(Error::TextNotUtf8),
                Err(_) => {}
            }
        }
        let valid = match std::str::from_utf8(bytes) {
            Ok(valid) => valid,
            Err(e) if e.error_len().is_some() => return Err(Error::TextNotUtf8),
            Err(e) => {
                let (valid, tail) = bytes.split_at(e.valid_up_to());
                self.tail[..tail.len()].copy_from_slice(tail);
                self.tail_len = tail.len() as u8;
                std::str::from_utf8(valid).map_err(|_| Error::TextNotUtf8)?
            }
        };
        self.valid.push_str(valid);
        Ok(())
    }

    /// Returns the number of bytes so far.
    pub fn len(&self) -> usize {
        self.valid.len() + usize::from(self.tail_len)
    }

    /// Whether the text ends with an incomplete character.
    pub fn is_cut(&self) -> bool {
        self.tail_len > 0
    }
}
