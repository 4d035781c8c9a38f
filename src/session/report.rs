//! What is known of a session when it ends: one log line.
//!
//! Owns the counters and the reason of the end. Never holds a stanza or a
//! credential.

use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use super::Tick;
use super::phase::{Event, Phase, Server};
use crate::config::Config;
use crate::log::Escaped;
use crate::metrics::{Cause, Traffic};
use crate::net::peer::Peer;
use crate::proto::ws::CloseCode;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;

/// Longest peer-chosen text in the line, in bytes.
const MAX_TEXT: usize = 128;

/// Milliseconds since the client was accepted, and one more.
type Age = Option<NonZeroU32>;

/// The name of a session in the log: its number and its client.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    number: u32,
    peer: Peer,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.peer)
    }
}

/// The story of a session.
#[derive(Debug)]
pub struct Report {
    number: u32,
    peer: Peer,
    accepted_at: Tick,
    handshake_ms: Age,
    open_ms: Age,
    relaying_ms: Age,
    /// The Origin header.
    pub origin: Option<Rc<str>>,
    /// From the client to the server.
    pub up: Traffic,
    /// From the server to the client.
    pub down: Traffic,
    end: Option<Box<End>>,
}

/// How a session ended.
#[derive(Debug)]
struct End {
    by: &'static str,
    why: String,
    /// Whether it may have been a port check, which may come every second.
    is_check: bool,
    /// What became of the server's side.
    server: Server,
}

impl Report {
    /// Begins with the accepted connection of `peer`.
    pub fn new(number: u32, peer: Peer, now: Tick) -> Report {
        Report {
            number,
            peer,
            accepted_at: now,
            handshake_ms: None,
            open_ms: None,
            relaying_ms: None,
            origin: None,
            up: Traffic::default(),
            down: Traffic::default(),
            end: None,
        }
    }

    /// The client, as far as it is known.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// The name of the session in the log.
    pub fn name(&self) -> Name {
        Name {
            number: self.number,
            peer: self.peer,
        }
    }

    /// A proxy told the client's address.
    pub fn set_peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// Whether the server has answered.
    pub fn has_relayed(&self) -> bool {
        self.relaying_ms.is_some()
    }

    /// How long it took until the server answered, if it has: from the
    /// connection and from the first message, in milliseconds.
    pub fn opening_ms(&self) -> Option<(u64, u64)> {
        let age = |ms: NonZeroU32| u64::from(ms.get());
        let relaying = age(self.relaying_ms?);
        Some((relaying - 1, relaying - self.open_ms.map_or(1, age)))
    }

    /// Notes when a phase was reached first, and by what a session ended.
    pub fn step(
        &mut self,
        (from, to): (Phase, Phase),
        event: Event,
        server: Server,
        detail: &str,
        now: Tick,
    ) {
        let age = u32::try_from(now - self.accepted_at).unwrap_or(u32::MAX);
        let age = NonZeroU32::new(age.saturating_add(1));
        match to {
            Phase::AwaitOpen => self.handshake_ms = self.handshake_ms.or(age),
            Phase::Locating => self.open_ms = self.open_ms.or(age),
            Phase::Relaying => self.relaying_ms = self.relaying_ms.or(age),
            _ => {}
        }
        if from.is_open() && !to.is_open() {
            let (by, why) = describe(from, event);
            let separator = if why.is_empty() || detail.is_empty() {
                ""
            } else {
                ": "
            };
            let why = format!("{why}{separator}{detail}");
            let is_check = CHECKS.contains(&cause(from, event));
            self.end.get_or_insert(Box::new(End {
                by,
                why,
                is_check,
                server,
            }));
        }
    }

    /// Whether the client may only have checked the port.
    pub fn is_check(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_check)
    }

    /// The line for the log.
    pub fn line<'a>(&'a self, domain: Option<&'a str>, dialect: Option<Dialect>) -> Line<'a> {
        Line {
            report: self,
            domain,
            dialect,
        }
    }
}

/// The key of the limit that a client passed by this event, if it is one.
pub fn limit(phase: Phase, event: Event, config: &Config) -> Option<&'static str> {
    match (phase, event) {
        (Phase::Accepting | Phase::Opening, Event::Deadline) => Some("handshake_timeout"),
        (Phase::AwaitOpen, Event::Deadline) => Some("open_timeout"),
        (_, Event::ClientStalled) => Some("write_timeout"),
        (phase, _) if !phase.is_open() => None,
        (Phase::AwaitOpen, Event::Violation(StreamError::TooBig, _))
            if config.max_first_message_bytes < config.max_message_bytes =>
        {
            Some("max_first_message_size")
        }
        (_, Event::Violation(StreamError::TooBig, _)) => Some("max_message_size"),
        (_, Event::Violation(StreamError::TooDeep, _)) => Some("max_depth"),
        (_, Event::Violation(StreamError::TooManyAttributes, _)) => Some("max_attributes"),
        (_, Event::FrameViolation(CloseCode::POLICY_VIOLATION)) => Some("max_fragments"),
        _ => None,
    }
}

/// All that [`cause`] can say.
pub const CAUSES: &[Cause] = &[
    ("client", "stream_closed"),
    ("client", "close_frame"),
    ("client", "connection_lost"),
    ("client", "no_request"),
    ("server", "stream_closed"),
    ("server", "connection_lost"),
    ("jabsocket", "refused"),
    ("jabsocket", "page"),
    ("jabsocket", "xmpp_violation"),
    ("jabsocket", "websocket_violation"),
    ("jabsocket", "host_unknown"),
    ("jabsocket", "unreachable"),
    ("jabsocket", "server_violation"),
    ("jabsocket", "handshake_timeout"),
    ("jabsocket", "open_timeout"),
    ("jabsocket", "connect_timeout"),
    ("jabsocket", "write_timeout"),
    ("jabsocket", "ping_timeout"),
    ("jabsocket", "drain"),
    ("jabsocket", "see_other_uri"),
    ("jabsocket", "tls_failed"),
    ("jabsocket", "max_total_memory"),
    ("jabsocket", "other"),
];

/// Causes of sessions that may only be port checks.
const CHECKS: [Cause; 2] = [("client", "no_request"), ("jabsocket", "page")];

/// Who ended a session and why, in words of a fixed set.
pub fn cause(phase: Phase, event: Event) -> Cause {
    match event {
        Event::Ended => ("client", "stream_closed"),
        Event::CloseFrame => ("client", "close_frame"),
        // As those come who only look whether the port is open.
        Event::ClientGone if matches!(phase, Phase::Accepting | Phase::Opening) => {
            ("client", "no_request")
        }
        Event::ClientGone => ("client", "connection_lost"),
        Event::ServerEnded => ("server", "stream_closed"),
        Event::ServerGone => ("server", "connection_lost"),
        Event::Refused | Event::Unanswered => ("jabsocket", "refused"),
        Event::Served => ("jabsocket", "page"),
        Event::Violation(StreamError::HostUnknown, _)
        | Event::Unreachable(StreamError::HostUnknown) => ("jabsocket", "host_unknown"),
        Event::Violation(..) => ("jabsocket", "xmpp_violation"),
        Event::FrameViolation(_) => ("jabsocket", "websocket_violation"),
        Event::Unreachable(_) => ("jabsocket", "unreachable"),
        Event::ServerViolation => ("jabsocket", "server_violation"),
        Event::ClientStalled => ("jabsocket", "write_timeout"),
        Event::ClientSilent => ("jabsocket", "ping_timeout"),
        Event::Drain => ("jabsocket", "drain"),
        Event::Elsewhere => ("jabsocket", "see_other_uri"),
        Event::TlsFailed => ("jabsocket", "tls_failed"),
        Event::Shed | Event::ShedUnread => ("jabsocket", "max_total_memory"),
        Event::Deadline => match phase {
            Phase::Accepting | Phase::Opening => ("jabsocket", "handshake_timeout"),
            Phase::AwaitOpen => ("jabsocket", "open_timeout"),
            _ => ("jabsocket", "connect_timeout"),
        },
        _ => ("jabsocket", "other"),
    }
}

/// What did not come in time.
pub fn overdue(phase: Phase) -> &'static str {
    match phase {
        Phase::Accepting => "no TLS handshake in time",
        Phase::Opening => "no complete request in time",
        Phase::AwaitOpen => "no <open/> in time",
        Phase::Locating => "no answer from the DNS in time",
        Phase::Connecting => "no connection to the server in time",
        Phase::Securing => "no TLS with the server in time",
        _ => "no stream header from the server in time",
    }
}

/// Who ended a session, and why.
fn describe(phase: Phase, event: Event) -> (&'static str, String) {
    let text = |text: &str| text.to_owned();
    match event {
        Event::TlsFailed => ("jabsocket", text("TLS handshake failed")),
        Event::Refused | Event::Unanswered => ("jabsocket", text("refused")),
        Event::Served => ("jabsocket", text("answered")),
        Event::Elsewhere => ("jabsocket", text("sent to see_other_uri")),
        Event::Ended => ("client", text("stream closed")),
        Event::CloseFrame => ("client", text("Close frame")),
        Event::ClientGone => ("client", text("connection lost")),
        Event::Violation(error, code) => (
            "jabsocket",
            format!("{} ({}), Close {}", error.condition(), error.text(), code.0),
        ),
        Event::FrameViolation(code) => ("jabsocket", format!("Close {}", code.0)),
        Event::ClientStalled => ("jabsocket", text("client does not read")),
        Event::ClientSilent => ("jabsocket", text("client answers no ping")),
        Event::Unreachable(error) => ("jabsocket", text(error.condition())),
        Event::ServerEnded => ("server", text("stream closed")),
        Event::ServerGone => ("server", text("connection lost")),
        Event::ServerViolation => ("jabsocket", text("server broke a rule")),
        Event::Drain => ("jabsocket", text("shutting down")),
        Event::Shed | Event::ShedUnread => ("jabsocket", text("too much memory held")),
        Event::Deadline => ("jabsocket", text(overdue(phase))),
        _ => ("jabsocket", String::new()),
    }
}

/// A [`Report`] as one line of text.
pub struct Line<'a> {
    report: &'a Report,
    domain: Option<&'a str>,
    dialect: Option<Dialect>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report;
        write!(f, "session {}", report.name())?;
        for (name, text) in [
            ("origin", report.origin.as_deref()),
            ("domain", self.domain),
        ] {
            match text {
                // A space would begin the next field.
                Some(text) => {
                    let text = shortened(text).replace(' ', "\\x20");
                    write!(f, " {name}={}", Escaped(&text))?;
                }
                None => write!(f, " {name}=-")?,
            }
        }
        write!(f, " dialect={}", self.dialect.map_or("-", Dialect::name))?;
        for (name, ms) in [
            ("handshake", report.handshake_ms),
            ("open", report.open_ms),
            ("relaying", report.relaying_ms),
        ] {
            match ms {
                Some(ms) => write!(f, " {name}={}ms", ms.get() - 1)?,
                None => write!(f, " {name}=-")?,
            }
        }
        for (name, traffic) in [("up", report.up), ("down", report.down)] {
            write!(f, " {name}={}B/{}", traffic.bytes, traffic.messages)?;
        }
        match &report.end {
            Some(end) => {
                write!(f, " ended by {}: {}", end.by, end.why)?;
                f.write_str(match end.server {
                    Server::End => ", server's stream ended",
                    Server::Cut => ", server's stream cut",
                    _ => "",
                })
            }
            None => f.write_str(" ended"),
        }
    }
}

/// `text` cut to what a log line has room for.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
