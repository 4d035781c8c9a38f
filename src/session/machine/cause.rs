//! The causes for the end of a session: labels for the metric, texts for the log, and the
//! configuration key of an exceeded limit.

use std::fmt;

use super::phase::Phase;
use crate::config::Config;
use crate::proto::ws::{self, CloseCode};
use crate::proto::xmpp::error::StreamError;

/// Who ended a session.
const CLIENT: &str = "client";
const SERVER: &str = "server";
const JABSOCKET: &str = "jabsocket";

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    ClientEnded,
    CloseFrame,
    ClientLost,
    /// The connection ended without a request. Port checks do this.
    NoRequest,
    ServerEnded,
    ServerLost,
    Refused,
    Page,
    TlsFailed,
    Violation(StreamError),
    FrameViolation(ws::Error),
    TooBig(TooBig),
    Unreachable(StreamError),
    ServerViolation,
    /// This phase took too long.
    Late(Phase),
    ClientStalled,
    ClientSilent,
    Drain,
    Elsewhere,
    Memory,
    Operator,
}

/// What is too big.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooBig {
    Frame,
    FirstMessage,
    Message,
}

impl Cause {
    /// One cause for each label.
    const EACH: [Cause; 23] = [
        Cause::ClientEnded,
        Cause::CloseFrame,
        Cause::ClientLost,
        Cause::NoRequest,
        Cause::ServerEnded,
        Cause::ServerLost,
        Cause::Refused,
        Cause::Page,
        Cause::Violation(StreamError::NotWellFormed),
        Cause::FrameViolation(ws::Error::Unmasked),
        Cause::Unreachable(StreamError::HostUnknown),
        Cause::Unreachable(StreamError::RemoteConnectionFailed("")),
        Cause::ServerViolation,
        Cause::Late(Phase::Opening),
        Cause::Late(Phase::AwaitOpen),
        Cause::Late(Phase::Locating),
        Cause::ClientStalled,
        Cause::ClientSilent,
        Cause::Drain,
        Cause::Elsewhere,
        Cause::TlsFailed,
        Cause::Memory,
        Cause::Operator,
    ];

    /// All values of [`Cause::words`].
    pub const WORDS: [(&'static str, &'static str); Cause::EACH.len()] = {
        let mut words = [("", ""); Cause::EACH.len()];
        let mut at = 0;
        while at < words.len() {
            words[at] = Cause::EACH[at].words();
            at += 1;
        }
        words
    };

    /// Returns who ended the session and why, as labels from a fixed set.
    pub const fn words(&self) -> (&'static str, &'static str) {
        match self {
            Cause::ClientEnded => (CLIENT, "stream_closed"),
            Cause::CloseFrame => (CLIENT, "close_frame"),
            Cause::ClientLost => (CLIENT, "connection_lost"),
            Cause::NoRequest => (CLIENT, "no_request"),
            Cause::ServerEnded => (SERVER, "stream_closed"),
            Cause::ServerLost => (SERVER, "connection_lost"),
            Cause::Refused => (JABSOCKET, "refused"),
            Cause::Page => (JABSOCKET, "page"),
            Cause::TlsFailed => (JABSOCKET, "tls_failed"),
            Cause::Violation(StreamError::HostUnknown)
            | Cause::Unreachable(StreamError::HostUnknown) => (JABSOCKET, "host_unknown"),
            Cause::Violation(_) | Cause::TooBig(_) => (JABSOCKET, "xmpp_violation"),
            Cause::FrameViolation(_) => (JABSOCKET, "websocket_violation"),
            Cause::Unreachable(_) => (JABSOCKET, "unreachable"),
            Cause::ServerViolation => (JABSOCKET, "server_violation"),
            Cause::Late(Phase::Accepting | Phase::Opening) => (JABSOCKET, "handshake_timeout"),
            Cause::Late(Phase::AwaitOpen) => (JABSOCKET, "open_timeout"),
            Cause::Late(_) => (JABSOCKET, "connect_timeout"),
            Cause::ClientStalled => (JABSOCKET, "write_timeout"),
            Cause::ClientSilent => (JABSOCKET, "ping_timeout"),
            Cause::Drain => (JABSOCKET, "drain"),
            Cause::Elsewhere => (JABSOCKET, "see_other_uri"),
            Cause::Memory => (JABSOCKET, "max_total_memory"),
            Cause::Operator => (JABSOCKET, "operator"),
        }
    }

    /// Returns the key of the limit that the client exceeded, if it did.
    pub fn limit(&self, config: &Config) -> Option<&'static str> {
        match self {
            Cause::Late(Phase::Accepting | Phase::Opening) => Some("handshake_timeout"),
            Cause::Late(Phase::AwaitOpen) => Some("open_timeout"),
            Cause::ClientStalled => Some("write_timeout"),
            Cause::TooBig(TooBig::Frame) => Some("max_frame_size"),
            Cause::TooBig(TooBig::FirstMessage)
                if config.max_first_message_bytes < config.max_message_bytes =>
            {
                Some("max_first_message_size")
            }
            Cause::TooBig(_) => Some("max_message_size"),
            Cause::Violation(StreamError::TooDeep) => Some("max_depth"),
            Cause::Violation(StreamError::TooManyAttributes) => Some("max_attributes"),
            Cause::FrameViolation(ws::Error::TooManyFragments) => Some("max_fragments"),
            _ => None,
        }
    }

    /// Whether this may have been a port check. Some programs do one every second.
    pub fn is_check(&self) -> bool {
        matches!(self, Cause::NoRequest | Cause::Page)
    }

    /// Returns why the server could not be reached, if the session ended in `phase` for that
    /// reason. The text is empty if the detail has the reason.
    pub fn unreachable(&self, phase: Phase) -> Option<&'static str> {
        if !phase.is_setting_up() {
            return None;
        }
        match self {
            Cause::Unreachable(_) => Some(""),
            Cause::Late(phase) => Some(overdue(*phase)),
            Cause::ServerEnded => Some("it ended the stream"),
            Cause::ServerLost => Some("connection lost before its stream header"),
            Cause::ServerViolation => Some("it violated the protocol"),
            _ => None,
        }
    }
}

/// Returns what did not arrive in time.
fn overdue(phase: Phase) -> &'static str {
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |f: &mut fmt::Formatter<'_>, error: &StreamError, code: CloseCode| {
            let (condition, text) = (error.condition(), error.text());
            write!(f, "{condition} ({text}), Close {}", code.0)
        };
        f.write_str(match self {
            Cause::ClientEnded | Cause::ServerEnded => "stream closed",
            Cause::CloseFrame => "Close frame",
            Cause::ClientLost | Cause::NoRequest | Cause::ServerLost => "connection lost",
            Cause::Refused => "refused",
            Cause::Page => "answered",
            Cause::TlsFailed => "TLS handshake failed",
            Cause::Violation(error) => return told(f, error, CloseCode::NORMAL),
            Cause::TooBig(_) => return told(f, &StreamError::TooBig, CloseCode::TOO_BIG),
            Cause::FrameViolation(error) => return write!(f, "Close {}", error.close_code().0),
            Cause::Unreachable(error) => error.condition(),
            Cause::ServerViolation => "server violated the protocol",
            Cause::Late(phase) => overdue(*phase),
            Cause::ClientStalled => "client does not read",
            Cause::ClientSilent => "client did not answer pings",
            Cause::Drain => "shutting down",
            Cause::Elsewhere => "sent to see_other_uri",
            Cause::Memory => "too much memory held",
            Cause::Operator => "closed by the operator",
        })
    }
}
