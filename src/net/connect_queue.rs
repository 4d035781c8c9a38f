//! Limits how many connections to each server are being opened, and queues the others.
//!
//! A connection is being opened until the server's stream header arrives. A server can
//! handle only a limited number of these: its listen queue is short, and each TLS handshake
//! costs time. Other sessions wait here, and clients and their domains take turns. Each
//! address has slots of its own, so a server that never answers does not delay connections
//! to other servers.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::address::Address;
use super::source::Source;
use super::turns::Turns;

/// A session that connects to a server.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The first token of the session.
    pub(crate) session: usize,
    pub(crate) source: Source,
    pub(crate) domain: Rc<str>,
    /// Whether the operator has listed the domain or configured its server.
    pub(crate) is_listed: bool,
}

#[derive(Default)]
struct Line {
    /// Number of connections being opened.
    taken: usize,
    waiting: Turns,
}

/// The slots of a session, and whether it waits for another.
#[derive(Default)]
struct Claims {
    /// The address of each connection that it is opening.
    slots: Vec<Address>,
    turn: Turn,
}

/// Whether a session waits for a slot.
#[derive(Default)]
enum Turn {
    #[default]
    None,
    Waiting(Address, Caller),
    /// It has been given a slot that it has not used yet.
    Given(Address),
}

/// The connections that a worker is opening, and the sessions that wait.
pub(crate) struct ConnectQueue {
    most: usize,
    lines: HashMap<Address, Line>,
    sessions: HashMap<usize, Claims>,
    /// Sessions that should continue.
    ready: VecDeque<usize>,
}

impl ConnectQueue {
    /// Allows `most` connections to be opened to each address at the same time.
    pub(crate) fn new(most: usize) -> ConnectQueue {
        ConnectQueue {
            most,
            lines: HashMap::new(),
            sessions: HashMap::new(),
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most;
        let addresses: Vec<_> = self.lines.keys().cloned().collect();
        for address in addresses {
            self.go_on(&address);
        }
    }

    /// Takes a slot for a connection to `address`. If it returns false, the session waits
    /// for this slot, and for no other.
    pub(crate) fn take(&mut self, caller: &Caller, address: &Address) -> bool {
        let session = caller.session;
        match self.sessions.get(&session).map(|claims| &claims.turn) {
            Some(Turn::Waiting(other, _)) if other == address => return false,
            Some(Turn::Given(other)) if other == address => {
                let claims = self.sessions.entry(session).or_default();
                claims.turn = Turn::None;
                claims.slots.push(address.clone());
                return true;
            }
            _ => self.end_turn(session),
        }
        let claims = self.sessions.entry(session).or_default();
        let line = self.lines.entry(address.clone()).or_default();
        if line.taken < self.most && line.waiting.is_empty() {
            line.taken += 1;
            claims.slots.push(address.clone());
            return true;
        }
        line.waiting.push(caller.source, &caller.domain, session);
        claims.turn = Turn::Waiting(address.clone(), caller.clone());
        false
    }

    /// Returns the address at which a session waits for a slot.
    pub(crate) fn awaited(&self, session: usize) -> Option<&Address> {
        match &self.sessions.get(&session)?.turn {
            Turn::Waiting(address, _) => Some(address),
            _ => None,
        }
    }

    /// Returns one slot of a session.
    pub(crate) fn give_back(&mut self, session: usize, address: &Address) {
        let claims = self.sessions.get_mut(&session);
        let slots = claims.map(|claims| &mut claims.slots);
        if let Some(slots) = slots
            && let Some(at) = slots.iter().position(|slot| slot == address)
        {
            slots.swap_remove(at);
            self.free(address);
        }
    }

    /// Returns all slots of a session and ends its wait.
    pub(crate) fn leave(&mut self, session: usize) {
        self.end_turn(session);
        if let Some(claims) = self.sessions.remove(&session) {
            for address in &claims.slots {
                self.free(address);
            }
        }
    }

    /// Lets sessions that wait for `address` choose again: all of them, or those of one
    /// domain.
    pub(crate) fn wake(&mut self, address: &Address, domain: Option<&Rc<str>>) {
        let line = self.lines.get(address);
        // All sessions are looked at only if some wait: addresses of strangers fail often.
        if line.is_none_or(|line| line.waiting.is_empty()) {
            return;
        }
        let waits = |claims: &Claims| match &claims.turn {
            Turn::Waiting(other, caller) => {
                other == address && domain.is_none_or(|domain| *domain == caller.domain)
            }
            _ => false,
        };
        let woken = self.sessions.iter().filter(|(_, claims)| waits(claims));
        self.ready.extend(woken.map(|(session, _)| *session));
    }

    /// Returns a session that has got a slot or should choose again.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        self.ready.pop_front()
    }

    fn end_turn(&mut self, session: usize) {
        let claims = self.sessions.get_mut(&session);
        match claims.map(|claims| std::mem::take(&mut claims.turn)) {
            Some(Turn::Waiting(address, caller)) => {
                if let Some(line) = self.lines.get_mut(&address) {
                    line.waiting.remove(caller.source, &caller.domain, session);
                }
                self.go_on(&address);
            }
            Some(Turn::Given(address)) => self.free(&address),
            Some(Turn::None) | None => {}
        }
    }

    fn free(&mut self, address: &Address) {
        if let Some(line) = self.lines.get_mut(address) {
            line.taken -= 1;
        }
        self.go_on(address);
    }

    /// Gives free slots to the sessions whose turn it is.
    fn go_on(&mut self, address: &Address) {
        let Some(line) = self.lines.get_mut(address) else {
            return;
        };
        while line.taken < self.most
            && let Some((source, session)) = line.waiting.next(|_| true)
        {
            let claims = self.sessions.entry(session).or_default();
            let turn = std::mem::replace(&mut claims.turn, Turn::Given(address.clone()));
            if let Turn::Waiting(_, caller) = turn {
                line.waiting.remove(source, &caller.domain, session);
            }
            line.taken += 1;
            self.ready.push_back(session);
        }
        if line.taken == 0 && line.waiting.is_empty() {
            self.lines.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Tcp(([192, 0, 2, 1], port).into())
    }

    fn caller(session: usize, source: u32, domain: &str) -> Caller {
        Caller {
            session,
            source: Source::V4(source),
            domain: domain.into(),
            is_listed: true,
        }
    }

    fn ready(queue: &mut ConnectQueue) -> Vec<usize> {
        std::iter::from_fn(|| queue.next_ready()).collect()
    }

    #[test]
    fn sessions_take_turns_by_source_and_domain() {
        let (mut queue, at) = (ConnectQueue::new(1), address(1));
        let callers = [
            caller(0, 1, "a"),
            caller(1, 1, "a"),
            caller(2, 1, "a"),
            caller(3, 1, "b"),
            caller(4, 2, "a"),
        ];
        for caller in &callers {
            assert_eq!(queue.take(caller, &at), caller.session == 0);
        }
        let mut order = Vec::new();
        let mut holder = 0;
        while !queue.lines.is_empty() {
            queue.give_back(holder, &at);
            for session in ready(&mut queue) {
                assert!(queue.take(&callers[session], &at));
                order.push(session);
                holder = session;
            }
        }
        assert_eq!(order, [1, 4, 3, 2]);
        for session in 0..5 {
            queue.leave(session);
        }
        assert!(queue.sessions.is_empty());
    }

    #[test]
    fn a_newcomer_does_not_take_what_was_given() {
        let (mut queue, at) = (ConnectQueue::new(1), address(1));
        let [first, second, third] = [0, 1, 2].map(|session| caller(session, 1, "a"));
        assert!(queue.take(&first, &at));
        assert!(!queue.take(&second, &at));
        queue.give_back(0, &at);
        assert!(!queue.take(&third, &at));
        assert_eq!(ready(&mut queue), [1]);
        // The session ends, or chooses another address, before it uses its slot.
        assert!(queue.take(&second, &address(2)));
        assert_eq!(ready(&mut queue), [2]);
        queue.leave(2);
        queue.leave(1);
        queue.leave(0);
        assert!(queue.lines.is_empty() && queue.sessions.is_empty());
    }

    #[test]
    fn addresses_have_slots_of_their_own() {
        let mut queue = ConnectQueue::new(2);
        for session in 0..10 {
            queue.take(&caller(session, 1, "mute"), &address(1));
        }
        let one = caller(20, 2, "good");
        assert!(queue.take(&one, &address(2)));
        // Two connections of one session need two slots.
        assert!(queue.take(&one, &address(2)));
        assert!(!queue.take(&caller(21, 2, "good"), &address(2)));
        queue.leave(20);
        assert_eq!(ready(&mut queue), [21]);
    }

    #[test]
    fn those_that_wait_for_an_address_that_fails_choose_again() {
        let (mut queue, at) = (ConnectQueue::new(1), address(1));
        for (session, domain) in [(0, "a"), (1, "a"), (2, "b")] {
            queue.take(&caller(session, 1, domain), &at);
        }
        queue.wake(&at, Some(&"b".into()));
        assert_eq!(ready(&mut queue), [2]);
        queue.wake(&at, None);
        let mut woken = ready(&mut queue);
        woken.sort_unstable();
        assert_eq!(woken, [1, 2]);
        assert!(!queue.take(&caller(2, 1, "b"), &at));
    }

    #[test]
    fn a_larger_limit_lets_more_go_on() {
        let (mut queue, at) = (ConnectQueue::new(1), address(1));
        for session in 0..4 {
            queue.take(&caller(session, 1, "a"), &at);
        }
        queue.set_most(3);
        assert_eq!(ready(&mut queue), [1, 2]);
        queue.set_most(1);
        queue.leave(0);
        queue.leave(1);
        assert!(ready(&mut queue).is_empty());
        queue.leave(2);
        assert_eq!(ready(&mut queue), [3]);
    }
}
