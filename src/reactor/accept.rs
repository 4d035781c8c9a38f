//! Accepts new clients, and gives each a slot.

use std::rc::Rc;

use super::recent_work::RecentWork;
use super::timers::Armed;
use super::{REFUSALS, Reactor, ScheduledSession, token};
use crate::net::byte_stream::ByteStream;
use crate::net::endpoint::Endpoint;
use crate::net::listener::Accepted;
use crate::net::peer::Peer;
use crate::session::{Session, Tick};

/// Maximum number of clients accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;
/// How long the loop stops accepting when no descriptor is left.
const ACCEPT_REST_MS: Tick = 1000;

impl Reactor {
    pub(super) fn may_accept(&self) -> bool {
        self.drain_deadline.is_none()
            && self.accept_rest.is_none()
            && (!self.is_full() || self.refusals < REFUSALS)
    }

    /// Whether there is no room for another session.
    fn is_full(&self) -> bool {
        self.sessions.len() - self.refusals >= self.max_sessions
    }

    pub(super) fn accept(&mut self) {
        if self
            .accept_rest
            .is_some_and(|until| self.shared.now >= until)
        {
            self.accept_rest = None;
        }
        if !self.accept_due || !self.may_accept() {
            return;
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.may_accept() {
                return;
            }
            let mut nobody = true;
            for at in 0..self.listeners.len() {
                nobody &= !self.accept_one(at);
            }
            if nobody {
                self.accept_due = false;
                return;
            }
        }
    }

    /// Accepts a client from a listener. Returns false if no client is waiting there.
    fn accept_one(&mut self, at: usize) -> bool {
        if !self.may_accept() {
            return true;
        }
        match self.listeners[at].accept() {
            Accepted::Nobody => false,
            Accepted::Left => true,
            Accepted::Exhausted(error) => {
                self.accept_rest = Some(self.shared.now + ACCEPT_REST_MS);
                if !std::mem::replace(&mut self.exhausted, true) {
                    self.shared.log.err(format_args!(
                        "cannot accept with {} sessions open: {error}",
                        self.sessions.len()
                    ));
                }
                true
            }
            Accepted::Client(socket, peer) => {
                self.exhausted = false;
                let endpoint = Rc::clone(&self.endpoints[at]);
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
        if refusal && (self.refusals >= REFUSALS || !session.may_stay(shared)) {
            // Dropping the session closes its socket.
            shared.metrics.refused.count("unanswered");
            return;
        }
        session.tally(shared);
        self.refusals += usize::from(refusal);
        let taken = self.sessions.insert(ScheduledSession {
            refusal,
            session,
            armed: Armed::NOT,
            listed: true,
            busy: true,
            recent: RecentWork::default(),
        });
        debug_assert_eq!(taken, slot);
        self.busy_list.push_back(slot);
    }
}
