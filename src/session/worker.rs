//! What the sessions of one worker share: configuration, log, parsers, resolver
//! and scratch memory, so that an idle session needs none of its own.

use std::collections::HashMap;
use std::rc::Rc;

use mio::Registry;

use super::Tick;
use crate::config::Config;
use crate::log::Log;
use crate::net::resolver::{Answer, Resolver};
use crate::proto::xmpp::Parsers;

/// Bytes read from a socket at once.
pub const READ_SIZE: usize = 16 << 10;

/// The shared parts of a worker.
pub struct Worker {
    /// Configuration for new sessions; a session keeps the one it began with.
    pub config: Rc<Config>,
    /// The log.
    pub log: Rc<Log>,
    /// XML parsers.
    pub parsers: Parsers,
    /// The DNS.
    pub resolver: Resolver,
    /// Where sockets are registered.
    pub registry: Registry,
    /// The time of this turn of the loop.
    pub now: Tick,
    /// Where bytes are read to; its owner for the time of a turn puts it back.
    pub(super) scratch: Vec<u8>,
    /// Where small texts are put together.
    pub(super) text: Vec<u8>,
    /// The id of the next look-up.
    pub(super) next_query: u64,
    /// Who asked: the first token of the session, by look-up.
    queries: HashMap<u64, usize>,
}

impl Worker {
    /// The parts of a worker at the start of its loop.
    pub fn new(config: Rc<Config>, log: Rc<Log>, resolver: Resolver, registry: Registry) -> Worker {
        Worker {
            config,
            log,
            parsers: Parsers::new(),
            resolver,
            registry,
            now: 0,
            scratch: vec![0; READ_SIZE],
            text: Vec::new(),
            next_query: 0,
            queries: HashMap::new(),
        }
    }

    /// Asks for the addresses of `name` for the session with this token.
    pub(super) fn look_up(&mut self, token: usize, query: u64, name: &str) {
        self.queries.insert(query, token);
        self.resolver.look_up(query, name);
    }

    /// The session that asked is no longer there for the answer.
    pub(super) fn forget_look_up(&mut self, query: u64) {
        self.queries.remove(&query);
        self.resolver.forget(query);
    }

    /// The next answer of the resolver that somebody waits for, and the first
    /// token of the session that does.
    pub fn next_answer(&mut self) -> Option<(usize, Answer)> {
        loop {
            let answer = self.resolver.next_answer()?;
            if let Some(token) = self.queries.remove(&answer.id) {
                return Some((token, answer));
            }
        }
    }
}
