//! Limits how many connections to each server are being opened, and queues the others.
//!
//! A connection is being opened until the server's stream header arrives. A server can
//! handle only a limited number of these: its listen queue is short, and each TLS handshake
//! costs time. Other sessions wait here, and clients and their domains take turns. Each
//! address has slots of its own, so a server that never answers does not delay connections
//! to other servers. However many sessions may continue at once, they are named one at a time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use super::address::Address;
use super::source::Source;
use super::turns::Turns;

/// Maximum number of slots of an address that are given at once.
const GIVEN_AT_ONCE: usize = 64;

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
    /// The waiting sessions by domain.
    waiters: BTreeSet<(Rc<str>, usize)>,
}

impl Line {
    /// Ends the wait of a session.
    fn forget(&mut self, caller: &Caller) {
        let Caller {
            session,
            source,
            domain,
            ..
        } = caller;
        self.waiting.remove(*source, domain, *session);
        self.waiters.remove(&(Rc::clone(domain), *session));
    }
}

/// Sessions that should choose another address than this one.
struct Wake {
    address: Address,
    /// Only the sessions of this domain.
    domain: Option<Rc<str>>,
    /// Where to continue among the waiters.
    next: (Rc<str>, usize),
}

impl Wake {
    fn new(address: &Address, domain: Option<&Rc<str>>) -> Wake {
        Wake {
            address: address.clone(),
            domain: domain.cloned(),
            next: (domain.cloned().unwrap_or_default(), 0),
        }
    }

    /// Returns the next of the `waiters` to be woken.
    fn next(&mut self, waiters: &BTreeSet<(Rc<str>, usize)>) -> Option<usize> {
        let (domain, session) = waiters.range(&self.next..).next()?;
        if self.domain.as_ref().is_some_and(|own| own != domain) {
            return None;
        }
        self.next = (Rc::clone(domain), session + 1);
        Some(*session)
    }
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
    /// Sessions that have been given a slot.
    ready: VecDeque<usize>,
    /// Addresses that may have free slots for waiting sessions.
    uneven: VecDeque<Address>,
    wakes: VecDeque<Wake>,
}

impl ConnectQueue {
    /// Allows `most` connections to be opened to each address at the same time.
    pub(crate) fn new(most: usize) -> ConnectQueue {
        ConnectQueue {
            most,
            lines: HashMap::new(),
            sessions: HashMap::new(),
            ready: VecDeque::new(),
            uneven: VecDeque::new(),
            wakes: VecDeque::new(),
        }
    }

    pub(crate) fn set_most(&mut self, most: usize) {
        self.most = most;
        self.uneven = self.lines.keys().cloned().collect();
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
        line.waiters.insert((Rc::clone(&caller.domain), session));
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
    pub(crate) fn give_back(&mut self, caller: &Caller, address: &Address) {
        let claims = self.sessions.get_mut(&caller.session);
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
        let is_begun = |wake: &Wake| wake.next.1 > 0;
        let is_same = |wake: &Wake| wake.address == *address && wake.domain.as_ref() == domain;
        if line.is_some_and(|line| !line.waiting.is_empty())
            && !self
                .wakes
                .iter()
                .any(|wake| is_same(wake) && !is_begun(wake))
        {
            self.wakes.push_back(Wake::new(address, domain));
        }
    }

    /// Returns a session that has got a slot or should choose again.
    pub(crate) fn next_ready(&mut self) -> Option<usize> {
        while self.ready.is_empty()
            && let Some(address) = self.uneven.pop_front()
        {
            self.go_on(&address);
        }
        if let Some(session) = self.ready.pop_front() {
            return Some(session);
        }
        while let Some(wake) = self.wakes.front_mut() {
            let line = self.lines.get(&wake.address);
            if let Some(session) = line.and_then(|line| wake.next(&line.waiters)) {
                return Some(session);
            }
            self.wakes.pop_front();
        }
        None
    }

    /// Whether `next_ready` has a session, or must look for one.
    pub(crate) fn is_behind(&self) -> bool {
        !(self.ready.is_empty() && self.uneven.is_empty() && self.wakes.is_empty())
    }

    fn end_turn(&mut self, session: usize) {
        let claims = self.sessions.get_mut(&session);
        match claims.map(|claims| std::mem::take(&mut claims.turn)) {
            Some(Turn::Waiting(address, caller)) => {
                if let Some(line) = self.lines.get_mut(&address) {
                    line.forget(&caller);
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

    /// Gives free slots to the sessions whose turn it is, at most [`GIVEN_AT_ONCE`]. If there
    /// are more slots, `next_ready` continues.
    fn go_on(&mut self, address: &Address) {
        let Some(line) = self.lines.get_mut(address) else {
            return;
        };
        let end = self.most.min(line.taken + GIVEN_AT_ONCE);
        while line.taken < end
            && let Some((_, session)) = line.waiting.next(|_| true)
        {
            let claims = self.sessions.entry(session).or_default();
            let turn = std::mem::replace(&mut claims.turn, Turn::Given(address.clone()));
            if let Turn::Waiting(_, caller) = turn {
                line.forget(&caller);
            }
            line.taken += 1;
            self.ready.push_back(session);
        }
        if line.taken == 0 && line.waiting.is_empty() {
            self.lines.remove(address);
        } else if line.taken < self.most && !line.waiting.is_empty() {
            self.uneven.push_back(address.clone());
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
            queue.give_back(&callers[holder], &at);
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
        queue.give_back(&first, &at);
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

    const MANY: usize = 1000;

    /// A queue with a slot that the session 0 has, and [`MANY`] others that wait for it.
    fn crowded(at: &Address) -> ConnectQueue {
        let mut queue = ConnectQueue::new(1);
        for session in 0..=MANY {
            let domain = ["a", "b"][session % 2];
            assert_eq!(queue.take(&caller(session, 1, domain), at), session == 0);
        }
        queue
    }

    #[test]
    fn a_failure_wakes_each_of_many_once_and_one_at_a_time() {
        let at = address(1);
        let mut queue = crowded(&at);
        queue.wake(&at, None);
        assert!(queue.ready.is_empty() && queue.is_behind());
        let mut woken = Vec::new();
        for _ in 0..MANY / 4 {
            woken.extend(queue.next_ready());
        }
        // Meanwhile the address fails again, twice, some leave and one comes.
        queue.wake(&at, None);
        queue.wake(&at, None);
        for session in [MANY - 1, MANY] {
            queue.leave(session);
        }
        queue.take(&caller(MANY + 1, 1, "b"), &at);
        woken.extend(ready(&mut queue));
        assert!(!queue.is_behind());
        let mut twice: Vec<usize> = (1..=MANY - 2).flat_map(|session| [session; 2]).collect();
        twice.extend([MANY + 1; 2]);
        woken.sort_unstable();
        assert_eq!(woken, twice);
    }

    #[test]
    fn one_domain_is_woken_among_many() {
        let at = address(1);
        let mut queue = crowded(&at);
        queue.wake(&at, Some(&"b".into()));
        assert!(ready(&mut queue).into_iter().eq((1..MANY).step_by(2)));
    }

    #[test]
    fn many_slots_are_given_in_parts() {
        let at = address(1);
        let mut queue = crowded(&at);
        queue.set_most(MANY);
        let mut given = Vec::new();
        while let Some(session) = queue.next_ready() {
            given.push(session);
            assert!(queue.ready.len() < GIVEN_AT_ONCE);
        }
        assert!(!queue.is_behind());
        given.sort_unstable();
        assert!(given.into_iter().eq(1..MANY));
    }
}
