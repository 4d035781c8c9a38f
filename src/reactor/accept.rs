//! Accepts new clients, and gives each a slot.

use std::rc::Rc;

use super::recent_work::RecentWork;
use super::timers::Armed;
use super::{Reactor, ScheduledSession, token};
use crate::net::byte_stream::ByteStream;
use crate::net::endpoint::Endpoint;
use crate::net::listener::{Accepted, Socket};
use crate::net::peer::Peer;
use crate::session::{Session, Tick};

/// Maximum number of clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// Maximum number of simultaneous clients over a limit that get a refusal; others wait or
/// are dropped.
pub(super) const REFUSALS: usize = 64;
/// How long the loop stops accepting when no descriptor is left.
const ACCEPT_REST_MS: Tick = 1000;
/// Minimum time between two log lines about that.
const EXHAUSTED_PAUSE_MS: Tick = 60_000;

/// The listeners, and whether they may accept.
pub(super) struct Acceptor {
    pub listeners: Vec<Socket>,
    /// The endpoint of each listener.
    pub endpoints: Vec<Rc<Endpoint>>,
    pub max_sessions: usize,
    /// Number of sessions that exist only to be refused.
    pub refusals: usize,
    /// Clients may be waiting for which no further edge will come.
    pub due: bool,
    /// When to accept again after running out of descriptors.
    pub rest_until: Option<Tick>,
    /// When running out of descriptors may be logged again.
    next_line: Tick,
}

impl Acceptor {
    /// Creates one for `listeners` with an endpoint each.
    pub fn new(
        listeners: Vec<Socket>,
        endpoints: Vec<Rc<Endpoint>>,
        max_sessions: usize,
    ) -> Acceptor {
        Acceptor {
            listeners,
            endpoints,
            max_sessions,
            refusals: 0,
            due: true,
            rest_until: None,
            next_line: 0,
        }
    }
}

impl Reactor {
    pub(super) fn may_accept(&self) -> bool {
        !self.ending.is_draining()
            && self.acceptor.rest_until.is_none()
            && (!self.is_full() || self.acceptor.refusals < REFUSALS)
    }

    /// Whether there is no room for another session.
    fn is_full(&self) -> bool {
        self.sessions.len() - self.acceptor.refusals >= self.acceptor.max_sessions
    }

    pub(super) fn accept(&mut self) {
        let now = self.shared.now;
        self.acceptor.rest_until = self.acceptor.rest_until.filter(|until| now < *until);
        if !self.acceptor.due || !self.may_accept() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.may_accept() {
                return;
            }
            let mut nobody = true;
            for at in 0..self.acceptor.listeners.len() {
                nobody &= !self.accept_one(at);
            }
            if nobody {
                self.acceptor.due = false;
                return;
            }
        }
    }

    /// Accepts a client from a listener. Returns false if no client is waiting there.
    fn accept_one(&mut self, at: usize) -> bool {
        if !self.may_accept() {
            return true;
        }
        match self.acceptor.listeners[at].accept() {
            Accepted::Nobody => false,
            Accepted::Left => true,
            Accepted::Exhausted(error) => {
                let now = self.shared.now;
                self.acceptor.rest_until = Some(now + ACCEPT_REST_MS);
                if now >= self.acceptor.next_line {
                    self.acceptor.next_line = now + EXHAUSTED_PAUSE_MS;
                    self.shared.log.err(format_args!(
                        "cannot accept with {} sessions open: {error}",
                        self.sessions.len()
                    ));
                }
                true
            }
            Accepted::Client(socket, peer) => {
                let endpoint = Rc::clone(&self.acceptor.endpoints[at]);
                self.begin(socket, peer, &endpoint);
                true
            }
        }
    }

    /// Begins the session of a new client.
    pub(super) fn begin(&mut self, socket: ByteStream, peer: Peer, endpoint: &Rc<Endpoint>) {
        self.shared.metrics.accepted += 1;
        let full = self.is_full();
        let slot = self.sessions.vacant_key();
        let first_token = token::of_session(slot);
        match Session::new(socket, peer, endpoint, first_token, full, &mut self.shared) {
            Ok(session) => self.schedule(slot, session),
            Err(error) => {
                let text = format_args!("session {peer}: cannot watch its socket: {error}");
                self.shared.log.err(text);
            }
        }
    }

    /// Puts a new session in the free `slot`, unless it is over a limit and cannot be told.
    pub(super) fn schedule(&mut self, slot: usize, mut session: Session) {
        let shared = &mut self.shared;
        let refusal = session.is_over_limit();
        if refusal && (self.acceptor.refusals >= REFUSALS || !session.may_stay(shared)) {
            // Dropping the session closes its socket.
            shared.metrics.refused.count("unanswered");
            return;
        }
        session.tally(shared);
        self.acceptor.refusals += usize::from(refusal);
        let taken = self.sessions.insert(ScheduledSession {
            refusal,
            session,
            armed: Armed::NOT,
            listed: true,
            busy: true,
            recent: RecentWork::default(),
        });
        debug_assert_eq!(taken, slot);
        self.run_lists.add(slot, true);
    }
}
