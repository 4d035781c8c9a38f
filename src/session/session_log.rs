//! The log line that is written when a session ends.
//!
//! Keeps the counters of the session's traffic, when it reached its phases, and why it ended.
//! Never has a stanza or a credential.

use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use super::Tick;
use super::machine::{Cause, Phase, ServerAction};
use crate::log::{Escaped, start_of};
use crate::metrics::Traffic;
use crate::net::peer::Peer;
use crate::proto::xmpp::Dialect;

/// Maximum length of a text that a peer chose, in bytes.
const MAX_TEXT: usize = 128;

/// 1 plus the milliseconds since the client was accepted.
type Age = Option<NonZeroU32>;

/// The name of a session in the log: its number and client.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub(super) number: u32,
    /// The client, as far as it is known.
    pub(super) peer: Peer,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.peer)
    }
}

/// The data for the log line of a session.
#[derive(Debug)]
pub(crate) struct SessionLog {
    pub name: Name,
    pub accepted_at: Tick,
    handshake_ms: Age,
    open_ms: Age,
    relaying_ms: Age,
    /// The Origin header.
    pub origin: Option<Rc<str>>,
    /// Messages from the client to the server.
    pub up: Traffic,
    /// Messages from the server to the client.
    pub down: Traffic,
    end: Option<Box<End>>,
}

/// How a session ended.
#[derive(Debug)]
struct End {
    cause: Cause,
    detail: String,
    server: ServerAction,
}

impl SessionLog {
    pub fn new(number: u32, peer: Peer, now: Tick) -> SessionLog {
        SessionLog {
            name: Name { number, peer },
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

    /// Notes that a phase was reached. When the server first answers, returns how long that
    /// took in milliseconds: since the connection, and since the first message.
    pub fn reach(&mut self, phase: Phase, now: Tick) -> Option<(u64, u64)> {
        let age = u32::try_from(now - self.accepted_at).unwrap_or(u32::MAX);
        let age = NonZeroU32::new(age.saturating_add(1));
        let reached = match phase {
            Phase::AwaitOpen => &mut self.handshake_ms,
            Phase::Locating => &mut self.open_ms,
            Phase::Relaying => &mut self.relaying_ms,
            _ => return None,
        };
        if reached.is_some() {
            return None;
        }
        *reached = age;
        let ms = |age: NonZeroU32| u64::from(age.get());
        let relaying = ms(self.relaying_ms?);
        Some((relaying - 1, relaying - self.open_ms.map_or(1, ms)))
    }

    /// Notes why the session ends, and whether the server's stream is ended or cut.
    pub fn end(&mut self, cause: Cause, detail: &str, server: ServerAction) {
        self.end.get_or_insert(Box::new(End {
            cause,
            detail: detail.to_owned(),
            server,
        }));
    }

    /// Whether this may have been a port check.
    pub fn is_check(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.cause.is_check())
    }

    pub fn line<'a>(&'a self, domain: Option<&'a str>, dialect: Option<Dialect>) -> Line<'a> {
        Line {
            log: self,
            domain,
            dialect,
        }
    }
}

/// Writes a [`SessionLog`] as one line of text.
pub(crate) struct Line<'a> {
    log: &'a SessionLog,
    domain: Option<&'a str>,
    dialect: Option<Dialect>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log;
        write!(f, "session {}", log.name)?;
        for (name, text) in [("origin", log.origin.as_deref()), ("domain", self.domain)] {
            match text {
                // A space would start the next field.
                Some(text) => {
                    let text = start_of(text, MAX_TEXT).replace(' ', "\\x20");
                    write!(f, " {name}={}", Escaped(&text))?;
                }
                None => write!(f, " {name}=-")?,
            }
        }
        write!(f, " dialect={}", self.dialect.map_or("-", Dialect::name))?;
        for (name, ms) in [
            ("handshake", log.handshake_ms),
            ("open", log.open_ms),
            ("relaying", log.relaying_ms),
        ] {
            match ms {
                Some(ms) => write!(f, " {name}={}ms", ms.get() - 1)?,
                None => write!(f, " {name}=-")?,
            }
        }
        for (name, traffic) in [("up", log.up), ("down", log.down)] {
            write!(f, " {name}={}B/{}", traffic.bytes, traffic.messages)?;
        }
        match &log.end {
            Some(end) => {
                let (by, _) = end.cause.words();
                write!(f, " ended by {by}: {}", end.cause)?;
                if !end.detail.is_empty() {
                    write!(f, ": {}", end.detail)?;
                }
                f.write_str(match end.server {
                    ServerAction::End(_) | ServerAction::Fail(_) => ", server's stream ended",
                    ServerAction::Cut => ", server's stream cut",
                    _ => "",
                })
            }
            None => f.write_str(" ended"),
        }
    }
}
