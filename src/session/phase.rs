//! The phases of a session, as a pure function: event in, phase and actions out.
//!
//! Owns every decision about who is told what and what becomes of the other
//! side. No I/O, no clock, no bytes: `step` is tested cell by cell. "Cut"
//! closes the server's connection without the end tag of the stream, so that an
//! XEP-0198 session survives; "end" sends it first (RFC 7395, section 3.6).

use crate::proto::ws::CloseCode;
use crate::proto::xmpp::error::StreamError;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// On a TLS port: before the end of the TLS handshake.
    Accepting,
    /// Reading the opening handshake.
    Opening,
    /// Upgraded; waiting for the first message.
    AwaitOpen,
    /// Looking the domain up.
    Locating,
    /// Dialling the server.
    Connecting,
    /// Connected; making the connection secure.
    Securing,
    /// Secure, our stream header sent; waiting for the server's.
    Greeting,
    /// Passing messages on, both ways.
    Relaying,
    /// Close frame sent; waiting for the client's.
    Closing,
    /// Nothing more to say: flush, end our direction, drop what comes.
    Lingering,
    /// The client's socket is closed; the server's may still be flushed.
    Gone,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// TLS stands with the client.
    Encrypted,
    /// The TLS handshake with the client failed.
    TlsFailed,
    /// The opening handshake was accepted.
    Accepted,
    /// The opening handshake was refused, and answered so.
    Refused,
    /// No handshake was asked for, but a page; it was answered.
    Served,
    /// The first message opened a stream to a domain that is served.
    Opened,
    /// The first message opened a stream, but the client is sent elsewhere; it was
    /// told so.
    Elsewhere,
    /// The client sent a message for the server.
    Unit,
    /// The client ended its stream (`<close/>`, `</stream:stream>`).
    Ended,
    /// The client sent a Close frame.
    CloseFrame,
    /// The client's connection ended without a Close frame.
    ClientGone,
    /// The client broke a rule of XMPP, to be answered with this.
    Violation(StreamError, CloseCode),
    /// The client broke a rule of RFC 6455: fail the connection.
    FrameViolation(CloseCode),
    /// The client did not take its output for too long.
    ClientStalled,
    /// The client answered no ping.
    ClientSilent,
    /// Addresses of the server are known.
    Located,
    /// A connection to the server stands.
    Connected,
    /// It is as secure as it is to be.
    Secured,
    /// It cannot be made secure, or was lost before.
    Insecure,
    /// The server sends its clients elsewhere.
    Redirected,
    /// The server cannot be reached.
    Unreachable(StreamError),
    /// The server's stream header arrived.
    Greeted,
    /// The server sent an element for the client.
    ServerUnit,
    /// The server ended its stream.
    ServerEnded,
    /// The server's connection ended without the end of its stream, or took
    /// nothing for too long.
    ServerGone,
    /// The server broke a rule of XMPP.
    ServerViolation,
    /// The phase's deadline passed.
    Deadline,
    /// The client is over a limit, and is closed without a response.
    Unanswered,
    /// The daemon is told to stop.
    Drain,
    /// The session is given up, so that the others have memory.
    Shed,
    /// The same for a client that has not taken what is queued: it cannot be told.
    ShedUnread,
}

/// What becomes of the connection to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// Stays as it is.
    #[default]
    Keep,
    /// Look the domain up.
    LookUp,
    /// Dial the addresses found, or those that are left.
    Dial,
    /// Make the connection secure.
    Secure,
    /// Send what is queued for it, beginning with the stream header.
    Greet,
    /// Send what is queued, then the end tag of the stream, then close.
    End,
    /// Send what is queued, then close.
    Cut,
    /// Close at once; forget look-ups and dials.
    Abort,
}

/// An answer to the request when there is no time or place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// 408: the request took too long.
    Timeout,
    /// 503: the daemon is stopping.
    Unavailable,
}

/// What to do, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Pass the unit on.
    pub relay: bool,
    /// Answer the opening handshake.
    pub refuse: Option<Refuse>,
    /// Tell the client a stream error (behind an `<open/>` if it had none).
    pub error: Option<StreamError>,
    /// End the client's stream (`<close/>`, `</stream:stream>`).
    pub end_stream: bool,
    /// Send a Close frame.
    pub close: Option<(CloseCode, &'static str)>,
    /// Answer the client's Close frame.
    pub echo_close: bool,
    /// Ping the client.
    pub ping: bool,
    /// What becomes of the server's side.
    pub server: Server,
}

impl Actions {
    const NONE: Actions = Actions {
        relay: false,
        refuse: None,
        error: None,
        end_stream: false,
        close: None,
        echo_close: false,
        ping: false,
        server: Server::Keep,
    };

    fn relay() -> Actions {
        Actions {
            relay: true,
            ..Actions::NONE
        }
    }

    fn server(server: Server) -> Actions {
        Actions {
            server,
            ..Actions::NONE
        }
    }

    fn close(code: CloseCode, reason: &'static str) -> Actions {
        Actions {
            close: Some((code, reason)),
            ..Actions::NONE
        }
    }

    fn orderly(code: CloseCode) -> Actions {
        Actions {
            end_stream: true,
            close: Some((code, "")),
            ..Actions::NONE
        }
    }

    fn error(error: StreamError, code: CloseCode) -> Actions {
        Actions {
            error: Some(error),
            ..Actions::orderly(code)
        }
    }

    fn shed() -> Actions {
        let error = StreamError::ResourceConstraint;
        Actions::error(error, CloseCode::TRY_AGAIN_LATER).and(Server::Abort)
    }

    fn and(self, server: Server) -> Actions {
        Actions { server, ..self }
    }
}

/// The reason in the Close frame when the server's connection is lost, as the
/// C daemon gave it.
const SERVER_CLOSED: &str = "XMPP server closed";

impl Phase {
    /// The phase after `event`, and what to do. An event that a phase has no
    /// use for changes nothing.
    pub fn step(self, event: Event) -> (Phase, Actions) {
        match self {
            Phase::Accepting => self.accepting(event),
            Phase::Opening => self.opening(event),
            Phase::AwaitOpen
            | Phase::Locating
            | Phase::Connecting
            | Phase::Securing
            | Phase::Greeting => self.setting_up(event),
            Phase::Relaying => self.relaying(event),
            Phase::Closing => match event {
                Event::CloseFrame | Event::FrameViolation(_) => (Phase::Lingering, Actions::NONE),
                Event::ClientGone
                | Event::ClientStalled
                | Event::ShedUnread
                | Event::Deadline
                | Event::Shed => (Phase::Gone, Actions::NONE),
                _ => (self, Actions::NONE),
            },
            Phase::Lingering => match event {
                Event::ClientGone
                | Event::ClientStalled
                | Event::ShedUnread
                | Event::Deadline
                | Event::Shed => (Phase::Gone, Actions::NONE),
                _ => (self, Actions::NONE),
            },
            Phase::Gone => match event {
                Event::Deadline => (self, Actions::server(Server::Abort)),
                _ => (self, Actions::NONE),
            },
        }
    }

    /// Whether the client may still send messages.
    pub fn is_open(self) -> bool {
        self < Phase::Closing
    }

    /// Nothing can be told before TLS, but to those who do not begin it.
    fn accepting(self, event: Event) -> (Phase, Actions) {
        match event {
            Event::Encrypted => (Phase::Opening, Actions::NONE),
            Event::Refused => (Phase::Lingering, Actions::NONE),
            Event::TlsFailed
            | Event::Unanswered
            | Event::Deadline
            | Event::Drain
            | Event::ClientGone
            | Event::ClientStalled
            | Event::Shed => (Phase::Gone, Actions::NONE),
            _ => (self, Actions::NONE),
        }
    }

    fn opening(self, event: Event) -> (Phase, Actions) {
        let refuse = |refuse| Actions {
            refuse: Some(refuse),
            ..Actions::NONE
        };
        match event {
            Event::Accepted => (Phase::AwaitOpen, Actions::NONE),
            Event::Refused | Event::Served => (Phase::Lingering, Actions::NONE),
            Event::Deadline => (Phase::Lingering, refuse(Refuse::Timeout)),
            Event::Drain => (Phase::Lingering, refuse(Refuse::Unavailable)),
            Event::Unanswered
            | Event::ClientGone
            | Event::ClientStalled
            | Event::ShedUnread
            | Event::Shed => (Phase::Gone, Actions::NONE),
            _ => (self, Actions::NONE),
        }
    }

    /// From the upgrade to the server's stream header.
    fn setting_up(self, event: Event) -> (Phase, Actions) {
        // The server knows of the session only once it was greeted.
        let greeted = self == Phase::Greeting;
        let end = if greeted { Server::End } else { Server::Abort };
        let cut = if greeted { Server::Cut } else { Server::Abort };
        match event {
            Event::Opened if self == Phase::AwaitOpen => {
                (Phase::Locating, Actions::server(Server::LookUp))
            }
            Event::Located if self == Phase::Locating => {
                (Phase::Connecting, Actions::server(Server::Dial))
            }
            Event::Connected if self == Phase::Connecting => {
                (Phase::Securing, Actions::server(Server::Secure))
            }
            Event::Secured if self == Phase::Securing => {
                (Phase::Greeting, Actions::server(Server::Greet))
            }
            Event::Insecure if self == Phase::Securing => {
                (Phase::Connecting, Actions::server(Server::Dial))
            }
            Event::Redirected if self == Phase::Securing => {
                (Phase::Locating, Actions::server(Server::LookUp))
            }
            Event::Greeted if greeted => (Phase::Relaying, Actions::relay()),
            Event::Elsewhere if self == Phase::AwaitOpen => {
                (Phase::Closing, Actions::close(CloseCode::NORMAL, ""))
            }
            Event::Unit if self != Phase::AwaitOpen => (self, Actions::relay()),
            Event::Ended => (Phase::Closing, Actions::orderly(CloseCode::NORMAL).and(end)),
            Event::CloseFrame => {
                let echo = Actions {
                    echo_close: true,
                    ..Actions::NONE
                };
                (Phase::Lingering, echo.and(cut))
            }
            Event::ClientGone | Event::ClientStalled | Event::ShedUnread => {
                (Phase::Gone, Actions::server(cut))
            }
            Event::Violation(error, code) => (Phase::Closing, Actions::error(error, code).and(end)),
            Event::FrameViolation(code) => (Phase::Lingering, Actions::close(code, "").and(end)),
            Event::Unreachable(error) => (
                Phase::Closing,
                Actions::error(error, CloseCode::NORMAL).and(Server::Abort),
            ),
            Event::ServerEnded | Event::ServerGone | Event::ServerViolation => {
                let error = StreamError::RemoteConnectionFailed("the server gave no stream");
                let actions = Actions::error(error, CloseCode::NORMAL);
                (Phase::Closing, actions.and(Server::Abort))
            }
            Event::Deadline => {
                let error = match self {
                    Phase::AwaitOpen => StreamError::ConnectionTimeout,
                    _ => StreamError::RemoteConnectionFailed("the server did not answer in time"),
                };
                let actions = Actions::error(error, CloseCode::NORMAL);
                (Phase::Closing, actions.and(Server::Abort))
            }
            Event::Drain => {
                let actions = Actions::close(CloseCode::GOING_AWAY, "shutting down");
                (Phase::Closing, actions.and(cut))
            }
            Event::Shed => (Phase::Lingering, Actions::shed()),
            _ => (self, Actions::NONE),
        }
    }

    fn relaying(self, event: Event) -> (Phase, Actions) {
        match event {
            Event::Unit | Event::ServerUnit | Event::Greeted => (self, Actions::relay()),
            Event::Redirected => (Phase::Locating, Actions::server(Server::LookUp)),
            // Sent elsewhere, in vain.
            Event::Unreachable(error) => (
                Phase::Closing,
                Actions::error(error, CloseCode::NORMAL).and(Server::Abort),
            ),
            Event::Ended => (
                Phase::Closing,
                Actions::orderly(CloseCode::NORMAL).and(Server::End),
            ),
            Event::CloseFrame => {
                let echo = Actions {
                    echo_close: true,
                    ..Actions::NONE
                };
                (Phase::Lingering, echo.and(Server::Cut))
            }
            Event::ClientGone | Event::ClientStalled | Event::ShedUnread => {
                (Phase::Gone, Actions::server(Server::Cut))
            }
            Event::Violation(error, code) => {
                (Phase::Closing, Actions::error(error, code).and(Server::End))
            }
            Event::FrameViolation(code) => {
                (Phase::Lingering, Actions::close(code, "").and(Server::End))
            }
            Event::ClientSilent => (
                Phase::Closing,
                Actions::close(CloseCode::GOING_AWAY, "no answer to pings").and(Server::Cut),
            ),
            Event::ServerEnded => (
                Phase::Closing,
                Actions::orderly(CloseCode::NORMAL).and(Server::End),
            ),
            Event::ServerGone => (
                Phase::Closing,
                Actions::close(CloseCode::GOING_AWAY, SERVER_CLOSED).and(Server::Abort),
            ),
            Event::ServerViolation => {
                let error = StreamError::RemoteConnectionFailed("the server broke its stream");
                let actions = Actions::error(error, CloseCode::NORMAL);
                (Phase::Closing, actions.and(Server::End))
            }
            Event::Deadline => {
                let ping = Actions {
                    ping: true,
                    ..Actions::NONE
                };
                (self, ping)
            }
            Event::Drain => (
                Phase::Closing,
                Actions::close(CloseCode::GOING_AWAY, "shutting down").and(Server::Cut),
            ),
            Event::Shed => (Phase::Lingering, Actions::shed()),
            _ => (self, Actions::NONE),
        }
    }
}
