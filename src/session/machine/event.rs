//! The events of a session.

use crate::proto::ws;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;

/// An event of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// TLS with the client is established.
    Encrypted,
    TlsFailed,
    /// The request was accepted.
    Accepted,
    /// The request was refused, with a response.
    Refused,
    /// The request was for a page, which was sent.
    Served,
    /// The client is over a limit and gets no response.
    Unanswered,
    /// The client's first message showed its dialect.
    Dialect(Dialect),
    /// The first message opened a stream to a domain that is served.
    Opened,
    /// The first message opened a stream to a domain that is served, but clients should use
    /// another endpoint.
    Elsewhere,
    /// The client sent a message for the server.
    Unit,
    /// The client sent another stream header.
    Restart {
        same_domain: bool,
    },
    /// The client's message has the end tag of its stream. `alone`: it has nothing else.
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
    /// The client broke a rule of RFC 6455, or sent a message that is too big.
    FrameViolation(ws::Error),
    /// The client has not read its output for too long.
    ClientStalled,
    /// Addresses of the server are known.
    Located,
    /// The server is connected.
    Connected,
    /// The connection to the server is as secure as required.
    Secured,
    /// The connection to the server cannot be made secure, or was lost before it was.
    Insecure,
    /// The server cannot be reached.
    Unreachable(StreamError),
    /// The server redirects its clients. `usable`: the session can connect to the target.
    SeeOther {
        usable: bool,
    },
    /// The server's stream header arrived.
    Greeted,
    /// The server sent some elements for the client.
    ServerUnit,
    /// One of the elements was a SASL success.
    Authenticated,
    /// One of the elements was a stream error.
    ServerErred,
    /// The server ended its stream.
    ServerEnded,
    /// The connection to the server was lost.
    ServerGone,
    /// The server has not read its output for too long.
    ServerStalled,
    /// The server broke a rule of XMPP. It gets this stream error.
    ServerViolation(StreamError),
    /// The deadline of the phase has passed. `silent`: nothing has arrived from the client
    /// since the previous deadline, although it was read.
    Deadline {
        silent: bool,
    },
    /// The daemon is stopping. `elsewhere`: clients can be sent to another endpoint.
    Drain {
        elsewhere: bool,
    },
    /// The operator closes the session.
    Dismissed,
    /// The session must end to free memory. `unread`: the client has not read its output, so it
    /// cannot be told.
    Shed {
        unread: bool,
    },
}
