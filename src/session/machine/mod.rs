//! The state machine of a session: takes an event, returns the actions.
//!
//! It decides what the client and the server are told. It keeps the phase, the state of both
//! streams, and whether a redirect may still be followed. It does no I/O and has no clock,
//! buffers or log. A test explores all states with all events and checks the rules;
//! tests/session_table.txt is the table that it prints. To "cut" is to close the server's
//! connection without the end tag of the stream, so that an XEP-0198 session survives; to "end"
//! is to send the end tag first (RFC 7395, section 3.6).

mod actions;
mod cause;
mod event;
mod phase;
#[cfg(test)]
mod tests;

use crate::proto::http::Refusal;
use crate::proto::ws::{self, CloseCode};
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;
pub(crate) use actions::{Actions, EndTag, ServerAction};
pub(crate) use cause::Cause;
use cause::TooBig;
pub(crate) use event::Event;
pub(crate) use phase::Phase;

/// Maximum number of redirects to follow (RFC 6120, section 4.9.3.19).
const MAX_REDIRECTS: u8 = 2;
/// Number of unanswered pings after which the client counts as lost.
const MISSED_PINGS: u8 = 2;
/// The reason in the Close frame when the server's connection is lost. The C daemon used the
/// same text.
const SERVER_CLOSED: &str = "XMPP server closed";
/// Ends the stream with the server, whose end tag the client has not sent.
const END: ServerAction = ServerAction::End(EndTag::Ours);

/// The stream with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ClientStream {
    /// The client has not yet got an `<open/>` or stream header.
    Unopened,
    Open,
    /// SASL has succeeded: the client must open a new stream.
    AwaitsRestart,
}

/// The stream with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Upstream {
    /// The server does not know about the session.
    None,
    Open,
    /// We have ended the stream; the connection is being flushed.
    Ended,
    /// We have cut the stream; the connection is being flushed.
    Cut,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Machine {
    phase: Phase,
    client: ClientStream,
    upstream: Upstream,
    dialect: Option<Dialect>,
    /// Whether it is too late to follow a redirect: more than stream headers was exchanged with
    /// the server, or too much time has passed.
    exchanged: bool,
    /// The number of redirects followed.
    redirects: u8,
    /// The number of pings that the client has not answered.
    missed_pings: u8,
}

impl Machine {
    pub fn new(tls: bool) -> Machine {
        Machine {
            phase: match tls {
                true => Phase::Accepting,
                false => Phase::Opening,
            },
            client: ClientStream::Unopened,
            upstream: Upstream::None,
            dialect: None,
            exchanged: false,
            redirects: 0,
            missed_pings: 0,
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Whether the client must open a new stream.
    pub fn awaits_restart(&self) -> bool {
        self.client == ClientStream::AwaitsRestart
    }

    /// Whether the server's stream header must be passed to the client. After a redirect the
    /// client may already have one.
    pub fn passes_header(&self) -> bool {
        self.phase != Phase::Greeting || self.client == ClientStream::Unopened
    }

    /// Whether the route is still needed, to reach the server or to follow a redirect.
    pub fn needs_route(&self) -> bool {
        self.phase.is_setting_up() || (self.phase == Phase::Relaying && !self.exchanged)
    }

    /// Whether there is a connection to the server.
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Securing || self.upstream != Upstream::None
    }

    /// Whether both connections are closed.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Gone && !self.is_connected()
    }

    /// Handles an event. An event that does not matter in the current phase changes nothing.
    pub fn step(&mut self, event: Event) -> Actions {
        match self.phase {
            Phase::Accepting | Phase::Opening => self.handshake(event),
            Phase::AwaitOpen => self.await_open(event),
            Phase::Locating | Phase::Connecting | Phase::Securing | Phase::Greeting => {
                self.set_up(event)
            }
            Phase::Relaying => self.relay(event),
            Phase::Closing | Phase::Lingering | Phase::Gone => self.finish(event),
        }
    }

    /// Handles events before the upgrade. On a TLS port nothing can be sent before TLS is
    /// established, except to a client that does not start TLS.
    fn handshake(&mut self, event: Event) -> Actions {
        let tls = self.phase == Phase::Accepting;
        let (phase, cause) = match event {
            Event::Encrypted if tls => return self.enter(Phase::Opening),
            Event::Accepted if !tls => return self.enter(Phase::AwaitOpen),
            Event::Deadline { .. } if tls => (Phase::Gone, Cause::Late(self.phase)),
            Event::Drain { .. } if tls => (Phase::Gone, Cause::Drain),
            Event::Deadline { .. } => (Phase::Lingering, Cause::Late(self.phase)),
            Event::Drain { .. } => (Phase::Lingering, Cause::Drain),
            Event::Refused => (Phase::Lingering, Cause::Refused),
            Event::Served if !tls => (Phase::Lingering, Cause::Page),
            Event::TlsFailed if tls => (Phase::Gone, Cause::TlsFailed),
            Event::Unanswered => (Phase::Gone, Cause::Refused),
            Event::ClientGone => (Phase::Gone, Cause::NoRequest),
            Event::ClientStalled => (Phase::Gone, Cause::ClientStalled),
            Event::Shed { .. } => (Phase::Gone, Cause::Memory),
            Event::Dismissed => (Phase::Gone, Cause::Operator),
            _ => return Actions::default(),
        };
        let refuse = match cause {
            Cause::Late(Phase::Opening) => Some(Refusal::Timeout),
            Cause::Drain if !tls => Some(Refusal::Stopping),
            _ => None,
        };
        Actions {
            refuse,
            ..self.leave(phase, ServerAction::Abort, cause)
        }
    }

    fn await_open(&mut self, event: Event) -> Actions {
        match event {
            Event::Dialect(dialect) => {
                self.dialect = Some(dialect);
                Actions::default()
            }
            // The draft has no way to express this.
            Event::Elsewhere if self.dialect == Some(Dialect::Framed) => Actions {
                elsewhere: true,
                ..self.leave(Phase::Closing, ServerAction::Abort, Cause::Elsewhere)
            }
            .close(CloseCode::NORMAL, ""),
            Event::Opened | Event::Elsewhere if self.dialect.is_some() => {
                self.phase = Phase::Locating;
                Actions::server(ServerAction::LookUp)
            }
            Event::Deadline { .. } => {
                let error = StreamError::ConnectionTimeout;
                self.fail(error, ServerAction::Abort, Cause::Late(self.phase))
            }
            _ => self.upgraded(event),
        }
    }

    /// Handles events from the first message to the server's stream header.
    fn set_up(&mut self, event: Event) -> Actions {
        let failed = StreamError::RemoteConnectionFailed;
        match (event, self.phase) {
            (Event::Unit, _) => {
                self.exchanged = true;
                Actions::relay()
            }
            (Event::EndTag { .. }, _) => self.end_tag(),
            (Event::Located, Phase::Locating) => self.enter(Phase::Connecting),
            (Event::Connected, Phase::Connecting) => self.enter(Phase::Securing),
            (Event::Secured, Phase::Securing) => {
                self.phase = Phase::Greeting;
                self.upstream = Upstream::Open;
                Actions::server(ServerAction::Greet)
            }
            (Event::Insecure, Phase::Securing) => {
                self.phase = Phase::Connecting;
                Actions::server(ServerAction::Disconnect)
            }
            (Event::SeeOther { usable }, Phase::Securing) => self.see_other(usable),
            (Event::Unreachable(error), Phase::Locating | Phase::Connecting) => {
                self.fail(error, ServerAction::Abort, Cause::Unreachable(error))
            }
            (Event::Greeted, Phase::Greeting) => {
                self.client = ClientStream::Open;
                self.enter(Phase::Relaying)
            }
            (
                Event::ServerEnded
                | Event::ServerGone
                | Event::ServerStalled
                | Event::ServerViolation(_),
                Phase::Securing | Phase::Greeting,
            ) => {
                let (server, cause) = match event {
                    Event::ServerEnded => (ServerAction::Abort, Cause::ServerEnded),
                    Event::ServerViolation(error) => {
                        (ServerAction::Fail(error), Cause::ServerViolation)
                    }
                    _ => (ServerAction::Abort, Cause::ServerLost),
                };
                self.fail(failed("the server gave no stream"), server, cause)
            }
            (Event::Deadline { .. }, phase) => {
                let error = failed("the server did not answer in time");
                self.fail(error, ServerAction::Abort, Cause::Late(phase))
            }
            _ => self.upgraded(event),
        }
    }

    fn relay(&mut self, event: Event) -> Actions {
        match event {
            Event::Unit | Event::EndTag { alone: false } if self.awaits_restart() => self
                .violation(StreamError::NotAuthorized(match self.dialect {
                    Some(Dialect::Draft) => "a new stream header must follow the authentication",
                    _ => "a new <open/> must follow the authentication",
                })),
            Event::Unit => {
                self.exchanged = true;
                Actions::relay()
            }
            Event::EndTag { .. } => self.end_tag(),
            Event::Restart { same_domain: true } if self.awaits_restart() => {
                self.client = ClientStream::Open;
                Actions::relay()
            }
            // The server's connection is for one domain.
            Event::Restart { .. } if self.awaits_restart() => {
                let rule = "a restart must name the same domain";
                self.violation(StreamError::NotAuthorized(rule))
            }
            Event::ServerUnit => {
                self.exchanged = true;
                Actions::default()
            }
            Event::Authenticated => {
                self.exchanged = true;
                self.client = ClientStream::AwaitsRestart;
                Actions::default()
            }
            Event::SeeOther { usable } if !self.exchanged => self.see_other(usable),
            // A server that sends a stream error must end its stream (RFC 6120, section 4.9.1.1). If
            // it did not, the session would stay forever.
            Event::ServerEnded | Event::ServerErred => self
                .leave(Phase::Closing, END, Cause::ServerEnded)
                .end_stream(CloseCode::NORMAL),
            // A redirect that comes too late to be followed without the client noticing. The
            // client will reconnect.
            Event::SeeOther { .. } | Event::ServerGone | Event::ServerStalled => self
                .leave(Phase::Closing, ServerAction::Abort, Cause::ServerLost)
                .close(CloseCode::GOING_AWAY, SERVER_CLOSED),
            Event::ServerViolation(its_error) => {
                let error =
                    StreamError::RemoteConnectionFailed("the server sent an invalid stream");
                self.fail(error, ServerAction::Fail(its_error), Cause::ServerViolation)
            }
            Event::Deadline { silent } => self.ping(silent),
            _ => self.upgraded(event),
        }
    }

    /// Handles the events that end a session in the same way in all phases from the upgrade to
    /// the Close frame.
    fn upgraded(&mut self, event: Event) -> Actions {
        match event {
            Event::Ended => self
                .leave(Phase::Closing, END, Cause::ClientEnded)
                .end_stream(CloseCode::NORMAL),
            Event::CloseFrame => Actions {
                echo_close: true,
                ..self.leave(Phase::Lingering, ServerAction::Cut, Cause::CloseFrame)
            },
            Event::ClientGone => self.leave(Phase::Gone, ServerAction::Cut, Cause::ClientLost),
            Event::ClientStalled => {
                self.leave(Phase::Gone, ServerAction::Cut, Cause::ClientStalled)
            }
            Event::Violation(error) => self.violation(error),
            Event::Restart { .. } if self.phase != Phase::AwaitOpen => {
                self.violation(StreamError::BadFormat("the stream is open already"))
            }
            Event::FrameViolation(error) => self.frame_violation(error),
            Event::Drain { elsewhere } => {
                let unopened = self.client == ClientStream::Unopened;
                Actions {
                    elsewhere: elsewhere && unopened && self.dialect != Some(Dialect::Draft),
                    ..self.leave(Phase::Closing, ServerAction::Cut, Cause::Drain)
                }
                .close(CloseCode::GOING_AWAY, "shutting down")
            }
            Event::Dismissed => self
                .leave(Phase::Closing, ServerAction::Cut, Cause::Operator)
                .close(CloseCode::GOING_AWAY, "closed by the operator"),
            Event::Shed { unread: true } => {
                self.leave(Phase::Gone, ServerAction::Abort, Cause::Memory)
            }
            Event::Shed { unread: false } => self
                .tell(
                    StreamError::ResourceConstraint,
                    Phase::Lingering,
                    ServerAction::Abort,
                    Cause::Memory,
                )
                .end_stream(CloseCode::TRY_AGAIN_LATER),
            _ => Actions::default(),
        }
    }

    /// Handles events after the last bytes for the client are queued: only the connections
    /// remain to be closed.
    fn finish(&mut self, event: Event) -> Actions {
        let (closing, gone) = (self.phase == Phase::Closing, self.phase == Phase::Gone);
        match event {
            Event::CloseFrame | Event::FrameViolation(_) if closing => self.enter(Phase::Lingering),
            Event::ClientStalled if !gone => Actions {
                cause: Some(Cause::ClientStalled),
                ..self.enter(Phase::Gone)
            },
            Event::ClientGone | Event::Deadline { .. } if !gone => self.enter(Phase::Gone),
            Event::Shed { .. } | Event::Dismissed => {
                self.phase = Phase::Gone;
                self.abort()
            }
            Event::Deadline { .. } | Event::ServerGone | Event::ServerStalled => self.abort(),
            _ => Actions::default(),
        }
    }

    fn abort(&mut self) -> Actions {
        self.upstream = Upstream::None;
        Actions::server(ServerAction::Abort)
    }

    fn enter(&mut self, phase: Phase) -> Actions {
        self.phase = phase;
        Actions::default()
    }

    /// Ends the session. A server that does not know about it is disconnected at once.
    fn leave(&mut self, phase: Phase, server: ServerAction, cause: Cause) -> Actions {
        let server = match self.upstream {
            Upstream::None if self.phase.is_setting_up() => ServerAction::Abort,
            Upstream::None => ServerAction::Keep,
            _ => server,
        };
        self.upstream = match server {
            ServerAction::End(_) | ServerAction::Fail(_) => Upstream::Ended,
            ServerAction::Cut => Upstream::Cut,
            _ => Upstream::None,
        };
        self.phase = phase;
        Actions {
            server,
            cause: Some(cause),
            ..Actions::default()
        }
    }

    /// Sends the client a stream error, after an `<open/>` if it has none (RFC 7395, section
    /// 3.5), and ends the session.
    fn tell(
        &mut self,
        error: StreamError,
        phase: Phase,
        server: ServerAction,
        cause: Cause,
    ) -> Actions {
        let open = self.client == ClientStream::Unopened;
        if open {
            self.client = ClientStream::Open;
        }
        Actions {
            open,
            error: Some(error),
            ..self.leave(phase, server, cause)
        }
    }

    fn fail(&mut self, error: StreamError, server: ServerAction, cause: Cause) -> Actions {
        self.tell(error, Phase::Closing, server, cause)
            .end_stream(CloseCode::NORMAL)
    }

    fn violation(&mut self, error: StreamError) -> Actions {
        self.fail(error, END, Cause::Violation(error))
    }

    /// Fails the connection (RFC 6455, section 7.1.7). If a message is too big, the client also
    /// gets a stream error, or it would only send the message again.
    fn frame_violation(&mut self, error: ws::Error) -> Actions {
        let too_big = match error {
            ws::Error::FrameTooBig(_) => TooBig::Frame,
            ws::Error::MessageTooBig(_) if self.phase == Phase::AwaitOpen => TooBig::FirstMessage,
            ws::Error::MessageTooBig(_) => TooBig::Message,
            _ => {
                return self
                    .leave(Phase::Lingering, END, Cause::FrameViolation(error))
                    .close(error.close_code(), "");
            }
        };
        let cause = Cause::TooBig(too_big);
        self.tell(StreamError::TooBig, Phase::Lingering, END, cause)
            .end_stream(error.close_code())
    }

    fn end_tag(&mut self) -> Actions {
        let end = ServerAction::End(EndTag::Clients);
        Actions {
            relay: true,
            ..self.leave(Phase::Closing, end, Cause::ClientEnded)
        }
        .end_stream(CloseCode::NORMAL)
    }

    /// Follows a redirect without the client noticing.
    fn see_other(&mut self, usable: bool) -> Actions {
        if !usable || self.redirects == MAX_REDIRECTS {
            let why = "redirects did not lead to a usable server";
            let error = StreamError::RemoteConnectionFailed(why);
            return self.fail(error, ServerAction::Abort, Cause::Unreachable(error));
        }
        self.redirects += 1;
        self.upstream = Upstream::None;
        self.phase = Phase::Locating;
        Actions::server(ServerAction::Follow)
    }

    /// Sends a ping, or ends the session if too many were missed. `silent`: nothing
    /// has arrived from the client since the last one.
    fn ping(&mut self, silent: bool) -> Actions {
        // A server that has sent only its header for so long will hardly redirect its clients.
        self.exchanged = true;
        self.missed_pings = if silent { self.missed_pings + 1 } else { 0 };
        if self.missed_pings >= MISSED_PINGS {
            return self
                .leave(Phase::Closing, ServerAction::Cut, Cause::ClientSilent)
                .close(CloseCode::GOING_AWAY, "no answer to pings");
        }
        Actions {
            ping: true,
            ..Actions::default()
        }
    }
}
