//! WebSocket frames, the server's side of RFC 6455 after the opening handshake.
//!
//! Owns the frame header ([`frame`]), the masking key ([`mask`]), the way from
//! frames to messages ([`reader`], its `message` and `text`), compression ([`deflate`]) and the rules a
//! client can break ([`Error`]). It never opens or closes a connection, never
//! decides to answer and knows no XMPP. RFC 6455 sections 5 (frames), 7.4 (close
//! codes), 8.1 (UTF-8) and 10.4 (limits); RFC 7692 is the only extension.

use std::fmt;

pub mod deflate;
pub mod frame;
pub mod mask;
mod message;
pub mod reader;
mod text;

pub use frame::{CloseCode, Opcode};
pub use reader::{Event, Limits, Reader};

/// A rule broken by the client; each one fails the connection (RFC 6455 7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// RSV1, RSV2 and RSV3 are 0 where no extension defines them (5.2, RFC 7692 6).
    ReservedBits,
    /// The opcodes 3 to 7 and 11 to 15 are reserved (5.2).
    ReservedOpcode(u8),
    /// A client masks every frame (5.1).
    Unmasked,
    /// A control frame is not fragmented (5.5).
    FragmentedControl,
    /// A control frame has 125 bytes of payload at most (5.5).
    LongControl,
    /// The length takes the fewest bytes that can hold it (5.2).
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length is 0 (5.2).
    LengthOutOfRange,
    /// A continuation frame follows a message's first fragment (5.4).
    UnexpectedContinuation,
    /// Messages are not interleaved (5.4).
    ExpectedContinuation,
    /// The body of a Close frame begins with two bytes of code (5.5.1).
    ShortCloseBody,
    /// The close code is one that may be sent (7.4).
    InvalidCloseCode(u16),
    /// The close reason is UTF-8 (5.5.1, 8.1).
    CloseReasonNotUtf8,
    /// A text message is UTF-8 (5.6, 8.1).
    TextNotUtf8,
    /// A compressed message is DEFLATE (RFC 7692 7.2.2).
    NotDeflate,
    /// Binary messages are not taken by this endpoint (7.4.1, code 1003).
    BinaryMessage,
    /// A frame keeps to the configured size; carries the declared one (10.4).
    FrameTooBig(u64),
    /// A message keeps to the configured size; carries the size it would have
    /// reached (10.4).
    MessageTooBig(u64),
    /// A message has [`Limits::max_fragments`] at most (10.4).
    TooManyFragments,
}

impl Error {
    /// The code of the Close frame that tells the client.
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
            Error::ShortCloseBody => f.write_str("close frame with a body of one byte"),
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
