//! What the sessions of a worker have learnt about XMPP servers, and do to them together.

use std::rc::Rc;

use super::address::Address;
pub use super::connect_queue::Caller;
use super::connect_queue::ConnectQueue;
use super::dns::locator::Target;
use super::failed_addresses::FailedAddresses;

/// The servers as a worker knows them.
pub struct Servers {
    failed: FailedAddresses,
    queue: ConnectQueue,
    results: Vec<(Rc<str>, bool)>,
}

impl Servers {
    /// Allows `most` connections to each address that have not got a stream header.
    pub fn new(most: usize) -> Servers {
        Servers {
            failed: FailedAddresses::default(),
            queue: ConnectQueue::new(most),
            results: Vec::new(),
        }
    }

    pub(crate) fn set_most_connecting(&mut self, most: usize) {
        self.queue.set_most(most);
    }

    /// The target cannot be connected to.
    pub(super) fn is_unreachable(&mut self, target: &Target, caller: &Caller, now_ms: u64) {
        let address = &target.address;
        if self.failed.fail(address, None, caller.is_listed, now_ms) {
            self.queue.wake(address, None);
        }
        self.note(target, false);
    }

    pub(super) fn is_reachable(&mut self, address: &Address) {
        self.failed.succeed(address, None);
    }

    /// The target gave no stream, or no TLS, for the caller's domain.
    pub(crate) fn is_no_server(&mut self, target: &Target, caller: &Caller, now_ms: u64) {
        let (address, domain) = (&target.address, Some(&caller.domain));
        if self.failed.fail(address, domain, caller.is_listed, now_ms) {
            self.queue.wake(address, domain);
        }
        self.note(target, false);
    }

    /// The target sent a stream header.
    pub(crate) fn has_answered(&mut self, target: &Target, domain: &Rc<str>) {
        self.failed.succeed(&target.address, Some(domain));
        self.note(target, true);
    }

    fn note(&mut self, target: &Target, answered: bool) {
        if let Some(server) = &target.server {
            self.results.push((Rc::clone(server), answered));
        }
    }

    /// What happened at configured servers since the last call: whether each answered.
    pub(crate) fn take_results(&mut self) -> Vec<(Rc<str>, bool)> {
        std::mem::take(&mut self.results)
    }

    /// Whether `address` failed lately for `domain`, and is to be tried last.
    pub(super) fn has_failed(&mut self, address: &Address, domain: &Rc<str>, now_ms: u64) -> bool {
        self.failed.contains(address, domain, now_ms)
    }

    /// Takes a slot for a connection; without one, the session waits.
    pub(super) fn take_slot(&mut self, caller: &Caller, address: &Address, now_ms: u64) -> bool {
        let taken = self.queue.take(caller, address);
        if taken {
            self.failed.try_again(address, &caller.domain, now_ms);
        }
        taken
    }

    pub(super) fn give_back(&mut self, caller: &Caller, address: &Address) {
        self.queue.give_back(caller.session, address);
    }

    /// The session has no connection in the making any more, and wants none.
    pub(crate) fn leave(&mut self, session: usize) {
        self.queue.leave(session);
    }

    /// A session that waited and is to go on with its dial.
    pub fn next_ready(&mut self) -> Option<usize> {
        self.queue.next_ready()
    }
}
