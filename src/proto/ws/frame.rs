//! Frame headers, control frames to send, and close codes.
//!
//! Reads the headers of a client's frames, and writes the frames of a server, which are
//! unmasked and never fragmented. Checks each header by itself; the reader checks the order of
//! frames. Never touches a client's payload. RFC 6455 5.2, 5.5, 7.4.

use super::Error;
use crate::buf::Buf;

/// Maximum payload of a control frame in bytes (5.5).
const MAX_CONTROL_PAYLOAD: usize = 125;

/// Maximum length of a close reason in bytes: the payload of a control frame without the code.
const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - 2;

/// Maximum length of a client's frame header: 2 bytes, length, masking key.
pub const MAX_CLIENT_HEADER: usize = 14;

/// Maximum length of a server's frame header: 2 bytes and the length.
pub const MAX_SERVER_HEADER: usize = 10;

/// The bit in a header's first byte that marks the last fragment of a message (5.2).
const FIN: u8 = 0x80;
/// The bit that marks a compressed message (RFC 7692 6).
const RSV1: u8 = 0x40;

/// The kinds of frames (5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation = 0,
    /// A text message, or its first fragment.
    Text = 1,
    /// A binary message, or its first fragment.
    Binary = 2,
    /// A part of the closing handshake.
    Close = 8,
    /// Asks for a Pong.
    Ping = 9,
    /// Answers a Ping.
    Pong = 10,
}

impl Opcode {
    fn parse(bits: u8) -> Result<Opcode, Error> {
        Ok(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return Err(Error::ReservedOpcode(bits)),
        })
    }

    /// Whether frames of this kind are control frames (5.5).
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// The header of a frame sent by a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the message's last fragment.
    pub fin: bool,
    /// Whether it begins a compressed message: RSV1 (RFC 7692 6).
    pub compressed: bool,
    /// The kind of the frame.
    pub opcode: Opcode,
    /// The masking key.
    pub key: [u8; 4],
    /// Length of the payload in bytes.
    pub payload_len: u64,
}

impl Header {
    /// Reads a header from the front of `input`. Returns the header and its length in bytes, or
    /// `None` while bytes are missing. Reports a broken rule as soon as the bytes show it. With
    /// `deflate`, messages may be compressed.
    pub fn parse(input: &[u8], deflate: bool) -> Result<Option<(Header, usize)>, Error> {
        let &[first, second, ref rest @ ..] = input else {
            return Ok(None);
        };
        let compressed = first & RSV1 != 0;
        if first & 0x70 & !RSV1 != 0 || (compressed && !deflate) {
            return Err(Error::ReservedBits);
        }
        let fin = first & FIN != 0;
        let opcode = Opcode::parse(first & 0x0f)?;
        // RFC 7692 6.1: only the first fragment of a data message has the bit.
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Error::ReservedBits);
        }
        if second & 0x80 == 0 {
            return Err(Error::Unmasked);
        }
        let short_len = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(Error::FragmentedControl);
            }
            if usize::from(short_len) > MAX_CONTROL_PAYLOAD {
                return Err(Error::LongControl);
            }
        }
        let Some((payload_len, rest)) = payload_len(short_len, rest)? else {
            return Ok(None);
        };
        let Some((key, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let header = Header {
            fin,
            compressed,
            opcode,
            key: *key,
            payload_len,
        };
        Ok(Some((header, input.len() - rest.len())))
    }
}

/// Reads the payload length, which starts with `short_len`. Returns it and the rest, or `None`
/// while bytes are missing.
fn payload_len(short_len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Error> {
    let (len, shorter, rest) = match short_len {
        126 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), 125, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), u64::from(u16::MAX), rest),
            None => return Ok(None),
        },
        _ => return Ok(Some((u64::from(short_len), rest))),
    };
    if len >> 63 != 0 {
        return Err(Error::LengthOutOfRange);
    }
    match len > shorter {
        true => Ok(Some((len, rest))),
        false => Err(Error::LengthNotMinimal),
    }
}

/// Appends the header of an unfragmented server frame.
pub fn write_header(out: &mut Buf, opcode: Opcode, payload_len: usize) {
    write_head(out, FIN | opcode as u8, payload_len);
}

/// Appends a message in one frame, with a payload that is already compressed (RFC 7692 6.1).
pub fn write_compressed(out: &mut Buf, opcode: Opcode, payload: &[u8]) {
    write_head(out, FIN | RSV1 | opcode as u8, payload.len());
    out.extend(payload);
}

fn write_head(out: &mut Buf, first: u8, payload_len: usize) {
    match payload_len {
        0..126 => out.extend(&[first, payload_len as u8]),
        126..=0xffff => {
            let [high, low] = (payload_len as u16).to_be_bytes();
            out.extend(&[first, 126, high, low]);
        }
        _ => {
            out.extend(&[first, 127]);
            out.extend(&(payload_len as u64).to_be_bytes());
        }
    }
}

/// Appends a control frame.
///
/// # Panics
/// If `payload` is longer than 125 bytes; the payload of a received Ping never is.
pub fn write_control(out: &mut Buf, opcode: Opcode, payload: &[u8]) {
    assert!(payload.len() <= MAX_CONTROL_PAYLOAD, "long control frame");
    write_header(out, opcode, payload.len());
    out.extend(payload);
}

/// Appends a Close frame. Without a code, the body is empty and `reason` is not sent. A reason
/// longer than 123 bytes is truncated between two characters.
pub fn write_close(out: &mut Buf, code: Option<CloseCode>, reason: &str) {
    let Some(CloseCode(code)) = code else {
        return write_control(out, Opcode::Close, &[]);
    };
    let mut end = reason.len().min(MAX_CLOSE_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    write_header(out, Opcode::Close, 2 + end);
    out.extend(&code.to_be_bytes());
    out.extend(&reason.as_bytes()[..end]);
}

/// Why a connection is closed (7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: CloseCode = CloseCode(1000);
    /// The endpoint goes away.
    pub const GOING_AWAY: CloseCode = CloseCode(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL_ERROR: CloseCode = CloseCode(1002);
    /// The peer sent a kind of message that is not accepted.
    pub const UNSUPPORTED_DATA: CloseCode = CloseCode(1003);
    /// The peer sent a message that does not fit its kind.
    pub const INVALID_PAYLOAD: CloseCode = CloseCode(1007);
    /// The peer broke a rule that has no code of its own.
    pub const POLICY_VIOLATION: CloseCode = CloseCode(1008);
    /// The peer sent a message that is too big.
    pub const TOO_BIG: CloseCode = CloseCode(1009);
    /// The server is overloaded (IANA registry of close codes).
    pub const TRY_AGAIN_LATER: CloseCode = CloseCode(1013);

    /// Whether a received Close frame may have this code: the codes that RFC 6455 7.4.1 allows,
    /// 1012 to 1014 of the IANA registry, and 3000 to 4999 (7.4.2). The RFC says nothing about
    /// 5000 and above; they are accepted, because some clients send them.
    pub fn is_valid_on_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Buf)) -> Vec<u8> {
        let mut out = Buf::new();
        write(&mut out);
        out.take()
    }

    #[test]
    fn lengths_take_the_fewest_bytes() {
        let header = |len| written(|out| write_header(out, Opcode::Text, len));
        assert_eq!(header(0), [0x81, 0]);
        assert_eq!(header(125), [0x81, 125]);
        assert_eq!(header(126), [0x81, 126, 0, 126]);
        assert_eq!(header(65535), [0x81, 126, 0xff, 0xff]);
        assert_eq!(header(65536), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn writes_control_frames() {
        assert_eq!(
            written(|o| write_control(o, Opcode::Ping, b"k")),
            [0x89, 1, b'k']
        );
        assert_eq!(written(|o| write_control(o, Opcode::Pong, b"")), [0x8a, 0]);
        assert_eq!(written(|o| write_close(o, None, "unsent")), [0x88, 0]);
        let close = written(|o| write_close(o, Some(CloseCode::NORMAL), "ok"));
        assert_eq!(close, [0x88, 4, 3, 0xe8, b'o', b'k']);
    }

    #[test]
    fn cuts_a_reason_between_characters() {
        let reason = format!("x{}", "\u{20ac}".repeat(50));
        let close = written(|o| write_close(o, Some(CloseCode::NORMAL), &reason));
        assert_eq!(close[1], 2 + 121);
        assert_eq!(std::str::from_utf8(&close[4..]), Ok(&reason[..121]));
    }

    #[test]
    fn reads_the_three_lengths() {
        let parse =
            |input: &[u8]| Header::parse(input, false).map(|h| h.map(|(h, n)| (h.payload_len, n)));
        assert_eq!(parse(&[0x81, 0xfd, 1, 2, 3, 4, 9]), Ok(Some((125, 6))));
        assert_eq!(parse(&[0x81, 0xfe, 0, 126, 1, 2, 3, 4]), Ok(Some((126, 8))));
        let long = [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4];
        assert_eq!(parse(&long), Ok(Some((65536, 14))));
        for n in 0..long.len() {
            assert_eq!(parse(&long[..n]), Ok(None), "{n} bytes");
        }
    }

    #[test]
    fn compressed_messages_are_marked_where_that_was_agreed_on() {
        let parse = |first| Header::parse(&[first, 0x80, 1, 2, 3, 4], true);
        for (first, compressed) in [(0xc1, true), (0x42, true), (0x81, false), (0x00, false)] {
            let header = parse(first).unwrap().unwrap().0;
            assert_eq!(header.compressed, compressed, "{first:#x}");
        }
        for first in [0xc0, 0xc8, 0xc9, 0xca, 0xe1, 0xd1, 0xb1] {
            assert_eq!(parse(first), Err(Error::ReservedBits), "{first:#x}");
        }
        let marked = Header::parse(&[0xc1, 0x80, 1, 2, 3, 4], false);
        assert_eq!(marked, Err(Error::ReservedBits));
        let compressed = written(|o| write_compressed(o, Opcode::Binary, b"x"));
        assert_eq!(compressed, [0xc2, 1, b'x']);
    }

    #[test]
    fn close_codes_of_the_wire() {
        let valid = |code| CloseCode(code).is_valid_on_wire();
        for code in [1000, 1003, 1007, 1014, 3000, 4999, 5000, 16706, 65535] {
            assert!(valid(code), "{code}");
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999] {
            assert!(!valid(code), "{code}");
        }
    }
}
