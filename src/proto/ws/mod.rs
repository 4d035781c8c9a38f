//! WebSocket frames, the server's side of RFC 6455 after the opening handshake.
//!
//! [`frame`] has the frame header, [`mask`] the masking, [`reader`] reads messages from frames
//! (with `message` and `text`), [`deflate`] compresses them, and [`Error`] has the rules that a
//! client can break. This room never answers a frame or closes a connection, and does not know
//! XMPP. RFC 6455 sections 5 (frames), 7.4 (close codes), 8.1 (UTF-8) and 10.4 (limits); RFC
//! 7692 is the only extension.

use std::fmt;

pub mod deflate;
mod event;
pub mod frame;
pub mod mask;
mod message;
pub mod reader;
mod text;

pub use event::Event;
pub use frame::{CloseCode, Opcode};
pub use reader::{Limits, Reader};

/// A rule that the client broke. Each one fails the connection (RFC 6455 7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// RSV1, RSV2 or RSV3 is set although no extension defines it (5.2, RFC 7692 6).
    ReservedBits,
    /// The opcode is reserved: 3 to 7 or 11 to 15 (5.2).
    ReservedOpcode(u8),
    /// A frame is not masked (5.1).
    Unmasked,
    /// A control frame is fragmented (5.5).
    FragmentedControl,
    /// A control frame has more than 125 bytes of payload (5.5).
    LongControl,
    /// The length is not encoded in the fewest bytes (5.2).
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is set (5.2).
    LengthOutOfRange,
    /// A continuation frame does not follow a first fragment (5.4).
    UnexpectedContinuation,
    /// A message begins inside a fragmented one (5.4).
    ExpectedContinuation,
    /// The body of a Close frame is too short for a code of two bytes (5.5.1).
    ShortCloseBody,
    /// The close code is not allowed in a Close frame (7.4).
    InvalidCloseCode(u16),
    /// The close reason is not UTF-8 (5.5.1, 8.1).
    CloseReasonNotUtf8,
    /// A text message is not UTF-8 (5.6, 8.1).
    TextNotUtf8,
    /// A compressed message is not DEFLATE (RFC 7692 7.2.2).
    NotDeflate,
    /// A binary message, which this endpoint does not accept (7.4.1, code 1003).
    BinaryMessage,
    /// A frame is larger than the configured size (10.4); carries its declared size.
    FrameTooBig(u64),
    /// A message is larger than the configured size (10.4); carries the size that it would have
    /// reached.
    MessageTooBig(u64),
    /// A message has more than [`Limits::max_fragments`] (10.4).
    TooManyFragments,
}

impl Error {
    /// Returns the code for the Close frame to the client.
    pub fn close_code(self) -> CloseCode {
        match self {
            Error::ReservedBits
            | Error::ReservedOpcode(_)
            | Error::Unmasked
            | Error::FragmentedControl
            | Error::LongControl
            | Error::LengthNotMinimal
            | Error::LengthOutOfRange
            | Error::UnexpectedContinuation
            | Error::ExpectedContinuation
            | Error::ShortCloseBody
            | Error::InvalidCloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Error::CloseReasonNotUtf8 | Error::TextNotUtf8 | Error::NotDeflate => {
                CloseCode::INVALID_PAYLOAD
            }
            Error::BinaryMessage => CloseCode::UNSUPPORTED_DATA,
            Error::FrameTooBig(_) | Error::MessageTooBig(_) => CloseCode::TOO_BIG,
            Error::TooManyFragments => CloseCode::POLICY_VIOLATION,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::ReservedBits => f.write_str("reserved bit set without an extension"),
            Error::ReservedOpcode(opcode) => write!(f, "reserved opcode {opcode}"),
            Error::Unmasked => f.write_str("frame is not masked"),
            Error::FragmentedControl => f.write_str("control frame is fragmented"),
            Error::LongControl => f.write_str("control frame longer than 125 bytes"),
            Error::LengthNotMinimal => f.write_str("frame length is not encoded minimally"),
            Error::LengthOutOfRange => f.write_str("frame length of 2^63 or more"),
            Error::UnexpectedContinuation => f.write_str("continuation frame without a message"),
            Error::ExpectedContinuation => f.write_str("new message inside a fragmented one"),
            Error::ShortCloseBody => f.write_str("Close frame with a body of one byte"),
            Error::InvalidCloseCode(code) => write!(f, "invalid close code {code}"),
            Error::CloseReasonNotUtf8 => f.write_str("close reason is not UTF-8"),
            Error::TextNotUtf8 => f.write_str("text message is not UTF-8"),
            Error::NotDeflate => f.write_str("compressed message is not DEFLATE"),
            Error::BinaryMessage => f.write_str("binary messages are not accepted"),
            Error::FrameTooBig(len) => write!(f, "frame of {len} bytes is too big"),
            Error::MessageTooBig(len) => write!(f, "message of {len} bytes or more is too big"),
            Error::TooManyFragments => f.write_str("message has too many fragments"),
        }
    }
}

impl std::error::Error for Error {}
