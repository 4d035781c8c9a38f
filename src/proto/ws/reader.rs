//! Reads messages and control frames from a client's bytes.
//!
//! Keeps the position in the current frame and the fragments of the current message, and checks
//! UTF-8. A message that is complete in the input is borrowed from it; only unfinished messages
//! are copied. A compressed message is passed on compressed. The reader never answers a frame,
//! and continues after a Close: after an [`Event::Close`] or an error the caller must stop. RFC
//! 6455 5.4 (fragments), 5.5 (control frames), 5.6, 8.1 (UTF-8), 10.4 (limits), RFC 7692 6.2
//! (RSV1).

use super::event::Event;
use super::frame::{CloseCode, Header, MAX_CLIENT_HEADER, Opcode};
use super::message::Message;
use super::text::Text;
use super::{Error, mask};

/// The limits on a client's frames and messages. Control frames have the limit of RFC 6455 5.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum payload of a data frame in bytes; 0 = no limit.
    pub max_frame_size: u64,
    /// Maximum length of a message in bytes; 0 = no limit.
    pub max_message_size: u64,
    /// Maximum number of fragments of a message; 0 = no limit. It bounds the work for empty
    /// fragments, which are within every size limit.
    pub max_fragments: u32,
    /// Whether binary messages are accepted.
    pub binary: bool,
    /// Whether messages may be compressed, because permessage-deflate was negotiated. The
    /// limits above then apply to the compressed sizes; the inflater has its own limit.
    pub deflate: bool,
}

/// Reads a client's frames. Holds no heap memory between two messages.
#[derive(Debug, Default)]
pub struct Reader {
    step: Step,
    message: Message,
    /// Payload of a control frame that arrives in pieces.
    control: Vec<u8>,
    fragments: u32,
    /// Frames whose headers were read since [`Reader::take_count`].
    frames: u32,
    /// Whether the last event borrowed `control`.
    lent: bool,
}

#[derive(Debug)]
enum Step {
    /// Between frames, or inside a header of which these bytes have arrived.
    Header([u8; MAX_CLIENT_HEADER], u8),
    Payload(Payload),
}

impl Default for Step {
    fn default() -> Self {
        Step::Header([0; MAX_CLIENT_HEADER], 0)
    }
}

/// The payload that has not yet arrived.
#[derive(Debug, Clone, Copy)]
struct Payload {
    remaining: u64,
    key: [u8; 4],
    phase: u8,
    opcode: Opcode,
    fin: bool,
    /// Whether some bytes of this payload were copied.
    begun: bool,
}

/// The part of a frame's payload that is in the input, unmasked.
struct Piece<'a> {
    bytes: &'a [u8],
    opcode: Opcode,
    /// Whether this is the whole payload of the frame.
    is_whole: bool,
    is_last: bool,
    ends_message: bool,
}

impl Reader {
    /// Reads frames from the front of `input` and unmasks them in place, until an event is
    /// complete or the input is used up. Returns the number of bytes consumed, and the event;
    /// without an event, all of `input` was consumed. The caller must not pass consumed bytes
    /// again.
    pub fn next<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        self.release();
        let total = input.len();
        let mut rest = input;
        while let Some((piece, after)) = self.take_piece(rest, limits)? {
            rest = after;
            let consumed = total - rest.len();
            let is_control = piece.opcode.is_control();
            if piece.is_whole && is_control {
                let event = control_event(piece.opcode, piece.bytes)?;
                return Ok((consumed, Some(event)));
            }
            if piece.is_whole && piece.ends_message && self.fragments == 1 {
                return Ok((consumed, Some(self.lend(piece.bytes)?)));
            }
            self.keep(&piece)?;
            if piece.is_last && is_control {
                self.lent = true;
                let event = control_event(piece.opcode, &self.control)?;
                return Ok((consumed, Some(event)));
            }
            if piece.ends_message {
                let message = std::mem::take(&mut self.message);
                return Ok((consumed, message.into_event()));
            }
            if !piece.is_last {
                break;
            }
        }
        Ok((total, None))
    }

    /// Unmasks the part of the next frame's payload that is in `input`. Returns it and the
    /// rest, or `None` if the header is not complete.
    #[inline]
    fn take_piece<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
    ) -> Result<Option<(Piece<'a>, &'a mut [u8])>, Error> {
        let mut rest = input;
        let mut payload = match self.step {
            Step::Payload(payload) => payload,
            Step::Header(..) => {
                let Some((header, n)) = self.read_header(rest, limits.deflate)? else {
                    return Ok(None);
                };
                rest = rest.split_at_mut(n).1;
                self.frames = self.frames.saturating_add(1);
                self.admit(&header, limits)?
            }
        };
        let n = usize::try_from(payload.remaining).map_or(rest.len(), |r| r.min(rest.len()));
        let (bytes, rest) = rest.split_at_mut(n);
        mask::unmask(bytes, payload.key, payload.phase.into());
        payload.remaining -= n as u64;
        payload.phase = (usize::from(payload.phase) + n) as u8 & 3;
        let is_last = payload.remaining == 0;
        let piece = Piece {
            bytes,
            opcode: payload.opcode,
            is_whole: is_last && !payload.begun,
            is_last,
            ends_message: is_last && payload.fin && !payload.opcode.is_control(),
        };
        payload.begun |= n > 0;
        self.step = match is_last {
            true => Step::default(),
            false => Step::Payload(payload),
        };
        Ok(Some((piece, rest)))
    }

    /// Returns the event for a message that is complete in one piece.
    #[inline]
    fn lend<'a>(&mut self, bytes: &'a [u8]) -> Result<Event<'a>, Error> {
        match std::mem::take(&mut self.message) {
            Message::Text(_) => match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Event::Text(text.into())),
                Err(_) => Err(Error::TextNotUtf8),
            },
            Message::Compressed { text, .. } => Ok(Event::Compressed {
                text,
                payload: bytes.into(),
            }),
            Message::None | Message::Binary(_) => Ok(Event::Binary(bytes.into())),
        }
    }

    /// Copies a piece of a larger message or control frame.
    fn keep(&mut self, piece: &Piece<'_>) -> Result<(), Error> {
        if piece.opcode.is_control() {
            self.control.extend_from_slice(piece.bytes);
            return Ok(());
        }
        let remaining = match self.step {
            Step::Payload(payload) => payload.remaining,
            Step::Header(..) => 0,
        };
        self.message
            .push(piece.bytes, remaining, piece.ends_message)
    }

    /// Frees the memory that the last event borrowed, once it has been handled.
    /// [`Reader::next`] does the same, but may not be called for long if the client is idle.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.control = Vec::new();
        }
    }

    /// Returns the number of frames whose headers were read since the last call.
    pub fn take_count(&mut self) -> usize {
        std::mem::take(&mut self.frames) as usize
    }

    /// Whether the reader is between two messages and holds no memory.
    pub fn is_idle(&self) -> bool {
        matches!(self.step, Step::Header(_, 0))
            && matches!(self.message, Message::None)
            && self.control.capacity() == 0
    }

    /// Returns the number of bytes of unfinished data.
    pub fn held(&self) -> usize {
        self.message.size().0 + self.control.len()
    }

    /// Returns the bytes of memory that it holds.
    pub fn memory(&self) -> usize {
        self.message.size().1 + self.control.capacity()
    }

    /// Reads a header from the bytes kept and from `input`. Returns the header and how many
    /// bytes of `input` belong to it. Keeps all of `input` while bytes are missing.
    fn read_header(
        &mut self,
        input: &[u8],
        deflate: bool,
    ) -> Result<Option<(Header, usize)>, Error> {
        let Step::Header(bytes, len) = &mut self.step else {
            return Ok(None);
        };
        let old_len = usize::from(*len);
        if old_len == 0
            && let Some(found) = Header::parse(input, deflate)?
        {
            return Ok(Some(found));
        }
        let n = input.len().min(MAX_CLIENT_HEADER - old_len);
        bytes[old_len..old_len + n].copy_from_slice(&input[..n]);
        *len += n as u8;
        let found = Header::parse(&bytes[..old_len + n], deflate)?;
        Ok(found.map(|(header, header_len)| (header, header_len - old_len)))
    }

    /// Checks a header against the current message and the limits.
    fn admit(&mut self, header: &Header, limits: &Limits) -> Result<Payload, Error> {
        let open = !matches!(self.message, Message::None);
        match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
            Opcode::Continuation if !open => return Err(Error::UnexpectedContinuation),
            Opcode::Text | Opcode::Binary if open => return Err(Error::ExpectedContinuation),
            Opcode::Binary if !limits.binary => return Err(Error::BinaryMessage),
            Opcode::Continuation
                if exceeds(
                    u64::from(self.fragments) + 1,
                    u64::from(limits.max_fragments),
                ) =>
            {
                return Err(Error::TooManyFragments);
            }
            opcode => {
                if exceeds(header.payload_len, limits.max_frame_size) {
                    return Err(Error::FrameTooBig(header.payload_len));
                }
                let size = header
                    .payload_len
                    .saturating_add(self.message.size().0 as u64);
                if exceeds(size, limits.max_message_size) {
                    return Err(Error::MessageTooBig(size));
                }
                match opcode {
                    Opcode::Text | Opcode::Binary if header.compressed => {
                        self.message = Message::Compressed {
                            text: opcode == Opcode::Text,
                            bytes: Vec::new(),
                        }
                    }
                    Opcode::Text => self.message = Message::Text(Text::default()),
                    Opcode::Binary => self.message = Message::Binary(Vec::new()),
                    _ => {}
                }
                self.fragments = if open {
                    self.fragments.saturating_add(1)
                } else {
                    1
                };
            }
        }
        Ok(Payload {
            remaining: header.payload_len,
            key: header.key,
            phase: 0,
            opcode: header.opcode,
            fin: header.fin,
            begun: false,
        })
    }
}

fn exceeds(size: u64, limit: u64) -> bool {
    limit != 0 && size > limit
}

fn control_event(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>, Error> {
    match (opcode, payload) {
        (Opcode::Ping, _) => Ok(Event::Ping(payload)),
        (Opcode::Pong, _) => Ok(Event::Pong(payload)),
        (_, []) => Ok(Event::Close {
            code: None,
            reason: "",
        }),
        (_, [_]) => Err(Error::ShortCloseBody),
        (_, &[high, low, ref reason @ ..]) => {
            let code = CloseCode(u16::from_be_bytes([high, low]));
            if !code.is_valid_on_wire() {
                return Err(Error::InvalidCloseCode(code.0));
            }
            let reason = std::str::from_utf8(reason).map_err(|_| Error::CloseReasonNotUtf8)?;
            Ok(Event::Close {
                code: Some(code),
                reason,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    const NO_LIMITS: Limits = Limits {
        max_frame_size: 0,
        max_message_size: 0,
        max_fragments: 0,
        binary: true,
        deflate: false,
    };

    /// Returns a frame masked with zeros, so the payload stays readable.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_reader_is_small() {
        assert!(size_of::<Reader>() <= 96, "{}", size_of::<Reader>());
    }

    #[test]
    fn lends_a_whole_message_out_of_the_input() {
        let mut reader = Reader::default();
        let mut input = frame(0x81, "h\u{e9}llo".as_bytes());
        let here = input.as_ptr_range();
        let (n, event) = reader.next(&mut input, &NO_LIMITS).unwrap();
        let Some(Event::Text(text)) = event else {
            panic!("{event:?}");
        };
        assert_eq!((n, &*text), (12, "h\u{e9}llo"));
        assert!(here.contains(&text.as_ptr()));
        assert!(reader.is_idle());
    }

    #[test]
    fn gives_its_memory_back_after_an_event() {
        let mut reader = Reader::default();
        for (first, payload) in [(0x81, "text"), (0x89, "ping")] {
            let mut input = frame(first, payload.as_bytes());
            let (start, end) = input.split_at_mut(8);
            assert_eq!(reader.next(start, &NO_LIMITS), Ok((8, None)));
            assert_eq!(reader.held(), 2);
            assert!(reader.next(end, &NO_LIMITS).unwrap().1.is_some());
            reader.release();
            assert!(reader.is_idle());
        }
    }

    #[test]
    fn grows_with_the_bytes_and_not_with_the_declared_length() {
        let mut reader = Reader::default();
        let mut input = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(reader.next(&mut input, &NO_LIMITS), Ok((15, None)));
        let Message::Binary(bytes) = &reader.message else {
            panic!("{:?}", reader.message);
        };
        assert!(bytes.capacity() < 1024);
    }

    #[test]
    fn grows_a_few_times_and_to_four_times_the_bytes_at_most() {
        const LEN: usize = 1 << 20;
        let mut reader = Reader::default();
        let header = [0x81, 0xff, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0];
        reader.next(&mut header.clone(), &NO_LIMITS).unwrap();
        let (mut sizes, mut held) = (vec![0], 0);
        for piece in "\u{20ac}".repeat(LEN / 3 + 1).as_bytes()[..LEN - 1].chunks(10_000) {
            assert_eq!(
                reader.next(&mut piece.to_vec(), &NO_LIMITS).unwrap().1,
                None
            );
            held += piece.len();
            assert!(
                reader.memory() <= 4 * held,
                "{} for {held}",
                reader.memory()
            );
            sizes.push(reader.memory());
        }
        sizes.dedup();
        assert!(sizes.len() <= 6, "{sizes:?}");
        let mut last = *b"x";
        let (_, event) = reader.next(&mut last, &NO_LIMITS).unwrap();
        assert!(matches!(event, Some(Event::Text(Cow::Owned(text))) if text.len() == LEN));
    }

    #[test]
    fn decides_on_sizes_and_kinds_from_the_header_alone() {
        let limits = Limits {
            max_frame_size: 6,
            max_message_size: 10,
            max_fragments: 0,
            binary: false,
            deflate: false,
        };
        let header = |first: u8, len: u8| [first, 0x80 | len, 0, 0, 0, 0];
        let mut reader = Reader::default();
        let refused = reader.next(&mut header(0x81, 7), &limits).err();
        assert_eq!(refused, Some(Error::FrameTooBig(7)));
        let refused = Reader::default().next(&mut header(0x82, 1), &limits).err();
        assert_eq!(refused, Some(Error::BinaryMessage));
        let mut reader = Reader::default();
        let mut first = frame(0x01, b"123456");
        assert_eq!(reader.next(&mut first, &limits), Ok((12, None)));
        let refused = reader.next(&mut header(0x80, 5), &limits).err();
        assert_eq!(refused, Some(Error::MessageTooBig(11)));
    }

    #[test]
    fn bounds_the_fragments_of_a_message() {
        let limits = Limits {
            max_fragments: 3,
            ..NO_LIMITS
        };
        let mut reader = Reader::default();
        for first in [0x01, 0x00, 0x00] {
            reader.next(&mut frame(first, b""), &limits).unwrap();
        }
        let refused = reader.next(&mut frame(0x00, b""), &limits).err();
        assert_eq!(refused, Some(Error::TooManyFragments));
    }
}
