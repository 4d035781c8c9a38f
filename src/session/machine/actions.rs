//! What a session does after an event.

use super::cause::Cause;
use crate::proto::http::Refusal;
use crate::proto::ws::CloseCode;
use crate::proto::xmpp::error::StreamError;

/// The end tag that the server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndTag {
    Ours,
    /// The client's end tag, in the relayed message.
    Clients,
}

/// What to do with the route or connection to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerAction {
    #[default]
    Keep,
    /// Look up the domain.
    LookUp,
    /// Close the connection; the dial continues.
    Disconnect,
    /// Close the connection; look up the target of the redirect.
    Follow,
    /// Send the stream header, then the queue.
    Greet,
    /// Flush the queue, send the end tag of the stream, then close.
    End(EndTag),
    /// Flush the queue, send a stream error and the end tag of the stream, then close.
    Fail(StreamError),
    /// Flush the queue, then close.
    Cut,
    /// Close at once; cancel the look-up and the dial.
    Abort,
}

/// What to do. The order of the fields is the order of the actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Relay the client's message.
    pub relay: bool,
    /// Refuse the request.
    pub refuse: Option<Refusal>,
    /// Send the client our own `<open/>` or stream header.
    pub open: bool,
    /// Send the client a stream error.
    pub error: Option<StreamError>,
    /// End the client's stream (`<close/>`, `</stream:stream>`).
    pub end_stream: bool,
    /// End the client's stream with the address of another endpoint.
    pub elsewhere: bool,
    /// Send a Close frame.
    pub close: Option<(CloseCode, &'static str)>,
    /// Answer the client's Close frame.
    pub echo_close: bool,
    /// Ping the client.
    pub ping: bool,
    pub server: ServerAction,
    /// Why the session ends, now or soon.
    pub cause: Option<Cause>,
}

impl Actions {
    pub fn relay() -> Actions {
        Actions {
            relay: true,
            ..Actions::default()
        }
    }

    pub fn server(server: ServerAction) -> Actions {
        Actions {
            server,
            ..Actions::default()
        }
    }

    pub fn close(self, code: CloseCode, reason: &'static str) -> Actions {
        Actions {
            close: Some((code, reason)),
            ..self
        }
    }

    /// Ends the client's stream, then sends a Close frame.
    pub fn end_stream(self, code: CloseCode) -> Actions {
        Actions {
            end_stream: true,
            ..self.close(code, "")
        }
    }
}
