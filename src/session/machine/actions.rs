//! What a session does when something has happened.

use super::cause::Cause;
use crate::proto::ws::CloseCode;
use crate::proto::xmpp::error::StreamError;

/// Whose end tag the server gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndTag {
    Ours,
    /// The client's, in the message that is relayed.
    Clients,
}

/// What becomes of the way to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ServerAction {
    #[default]
    Keep,
    /// Look the domain up.
    LookUp,
    /// Close the connection; the dial goes on.
    Disconnect,
    /// Close the connection; look up where the server sent us.
    Follow,
    /// Send what is queued, the stream header first.
    Greet,
    /// Send what is queued, then the end tag of the stream, then close.
    End(EndTag),
    /// Send what is queued, then close.
    Cut,
    /// Close at once; forget look-up and dial.
    Abort,
}

/// An answer to a request when there is no time or place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    /// 408: the request took too long.
    Timeout,
    /// 503: the daemon is stopping.
    Unavailable,
}

/// What to do, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Pass the client's message on.
    pub relay: bool,
    /// Answer the request.
    pub refuse: Option<Refuse>,
    /// Give the client an `<open/>` or stream header of our own.
    pub open: bool,
    /// Tell the client a stream error.
    pub error: Option<StreamError>,
    /// End the client's stream (`<close/>`, `</stream:stream>`).
    pub end_stream: bool,
    /// The same, with the place where the client is to go.
    pub elsewhere: bool,
    /// Send a Close frame.
    pub close: Option<(CloseCode, &'static str)>,
    /// Answer the client's Close frame.
    pub echo_close: bool,
    /// Ping the client.
    pub ping: bool,
    pub server: ServerAction,
    /// The session ends for this cause, or ends sooner.
    pub cause: Option<Cause>,
}

impl Actions {
    pub const NONE: Actions = Actions {
        relay: false,
        refuse: None,
        open: false,
        error: None,
        end_stream: false,
        elsewhere: false,
        close: None,
        echo_close: false,
        ping: false,
        server: ServerAction::Keep,
        cause: None,
    };
    pub const RELAY: Actions = Actions {
        relay: true,
        ..Actions::NONE
    };

    pub fn server(server: ServerAction) -> Actions {
        Actions {
            server,
            ..Actions::NONE
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
