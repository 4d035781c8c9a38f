//! What is known of a session when it ends: one log line.
//!
//! Owns the counters of its traffic, when it reached which phase, and the cause of its
//! end. Never holds a stanza or a credential.

use std::fmt;
use std::num::NonZeroU32;
use std::rc::Rc;

use super::Tick;
use super::machine::{Cause, Phase, ServerAction};
use crate::log::Escaped;
use crate::metrics::Traffic;
use crate::net::peer::Peer;
use crate::proto::xmpp::Dialect;

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

/// The log line of a session, as far as it is known.
#[derive(Debug)]
pub(crate) struct SessionLog {
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
    cause: Cause,
    detail: String,
    server: ServerAction,
}

impl SessionLog {
    pub fn new(number: u32, peer: Peer, now: Tick) -> SessionLog {
        SessionLog {
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

    /// Notes that a phase was reached. Returns how long it took until the server answered,
    /// if it did so for the first time: from the connection and from the first message, in
    /// milliseconds.
    pub fn reach(&mut self, phase: Phase, now: Tick) -> Option<(u64, u64)> {
        let age = u32::try_from(now - self.accepted_at).unwrap_or(u32::MAX);
        let age = NonZeroU32::new(age.saturating_add(1));
        let reached = match phase {
            Phase::AwaitOpen => &mut self.handshake_ms,
            Phase::Locating => &mut self.open_ms,
            Phase::Relaying { .. } => &mut self.relaying_ms,
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

    /// Notes why the session ends, and what becomes of the server's stream.
    pub fn end(&mut self, cause: Cause, detail: &str, server: ServerAction) {
        self.end.get_or_insert(Box::new(End {
            cause,
            detail: detail.to_owned(),
            server,
        }));
    }

    /// Whether the client may only have checked the port.
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

/// A [`SessionLog`] as one line of text.
pub(crate) struct Line<'a> {
    log: &'a SessionLog,
    domain: Option<&'a str>,
    dialect: Option<Dialect>,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let log = self.log;
        write!(f, "session {}", log.name())?;
        for (name, text) in [("origin", log.origin.as_deref()), ("domain", self.domain)] {
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
                    ServerAction::End(_) => ", server's stream ended",
                    ServerAction::Cut => ", server's stream cut",
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
