//! What can happen to a session.

use crate::proto::ws;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// TLS stands with the client.
    Encrypted,
    TlsFailed,
    /// The request was accepted.
    Accepted,
    /// The request was refused, and answered so.
    Refused,
    /// The request was for a page; it was answered.
    Served,
    /// The client is over a limit, and is closed without a response.
    Unanswered,
    /// The client's first message showed its dialect.
    Dialect(Dialect),
    /// The first message opened a stream to a domain that is served.
    Opened,
    /// The same, but clients are to go elsewhere.
    Elsewhere,
    /// The client sent a message for the server.
    Unit,
    /// The client sent a stream header behind the first.
    Restart {
        same_domain: bool,
    },
    /// The client's message has the end tag of its stream, and perhaps nothing else.
    EndTag {
        alone: bool,
    },
    /// The client sent `<close/>`.
    Ended,
    /// The client sent a Close frame.
    CloseFrame,
    /// The client's connection ended without a Close frame.
    ClientGone,
    /// The client broke a rule of XMPP.
    Violation(StreamError),
    /// The client broke a rule of RFC 6455, or sent too much at once.
    FrameViolation(ws::Error),
    /// The client did not take its output for too long.
    ClientStalled,
    /// Addresses of the server are known.
    Located,
    /// A connection to the server stands.
    Connected,
    /// It is as secure as it is to be.
    Secured,
    /// It cannot be made secure, or was lost before.
    Insecure,
    /// The server cannot be reached.
    Unreachable(StreamError),
    /// The server sends its clients elsewhere, perhaps to a usable place.
    SeeOther {
        usable: bool,
    },
    /// The server's stream header arrived.
    Greeted,
    /// The server sent elements for the client.
    ServerUnit,
    /// A SASL success was among them.
    Authenticated,
    /// A stream error was among them.
    ServerErred,
    /// The server ended its stream.
    ServerEnded,
    /// The server's connection ended, or is of no more use.
    ServerGone,
    /// The server did not take its output for too long.
    ServerStalled,
    /// The server broke a rule of XMPP.
    ServerViolation,
    /// The phase's deadline passed. `silent`: nothing was heard from the client since the
    /// last one, although it was read.
    Deadline {
        silent: bool,
    },
    /// The daemon is told to stop. `elsewhere`: clients can be told another place.
    Drain {
        elsewhere: bool,
    },
    /// The session is given up, so that the others have memory. `unread`: the client has not
    /// taken what is queued, so it cannot be told.
    Shed {
        unread: bool,
    },
}
