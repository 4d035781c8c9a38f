//! What a client sent.

use std::borrow::Cow;

use super::CloseCode;

/// A message or control frame from a client. A message that came in pieces is owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A compressed message, to be inflated by [`super::deflate::Codec`]. The UTF-8 of text is
    /// not yet checked.
    Compressed {
        /// Whether it is a text message.
        text: bool,
        /// The payload as received.
        payload: Cow<'a, [u8]>,
    },
    /// A Ping with its payload.
    Ping(&'a [u8]),
    /// A Pong with its payload.
    Pong(&'a [u8]),
    /// A Close frame. The code is absent if the body is empty.
    Close {
        /// The close code.
        code: Option<CloseCode>,
        /// The reason, often empty.
        reason: &'a str,
    },
}
