//! What the sessions of a worker share about XMPP servers: recent failures, and connection
//! slots.

use std::rc::Rc;
use std::sync::Arc;

use super::address::Address;
pub use super::connect_queue::Caller;
use super::connect_queue::ConnectQueue;
use super::dns::locator::Target;
use super::failed_addresses::FailedAddresses;
use super::step::Observer;

pub struct Servers {
    failed: FailedAddresses,
    /// The connection slots, and the sessions that wait for one.
    pub(crate) queue: ConnectQueue,
    results: Vec<(Arc<str>, bool)>,
    pub(crate) observer: Observer,
}

impl Servers {
    /// Limits the connections to each address that have no stream header yet to `most`.
    pub fn new(most: usize) -> Servers {
        Servers {
            failed: FailedAddresses::default(),
            queue: ConnectQueue::new(most),
            results: Vec::new(),
            observer: Observer::default(),
        }
    }

    /// Records that the target could not be connected to.
    pub(super) fn note_unreachable(&mut self, target: &Target, caller: &Caller, now_ms: u64) {
        let address = &target.address;
        if self.failed.fail(address, None, caller.is_listed, now_ms) {
            self.queue.wake(address, None);
        }
        self.push_result(target, false);
    }

    pub(super) fn note_connected(&mut self, address: &Address) {
        self.failed.succeed(address, None);
    }

    /// Records that the target offered no stream, or no TLS, for the caller's domain.
    pub(crate) fn note_no_stream(&mut self, target: &Target, caller: &Caller, now_ms: u64) {
        let (address, domain) = (&target.address, Some(&caller.domain));
        if self.failed.fail(address, domain, caller.is_listed, now_ms) {
            self.queue.wake(address, domain);
        }
        self.push_result(target, false);
    }

    /// Records that the target sent a stream header.
    pub(crate) fn note_answer(&mut self, target: &Target, domain: &Rc<str>) {
        self.failed.succeed(&target.address, Some(domain));
        self.push_result(target, true);
    }

    fn push_result(&mut self, target: &Target, answered: bool) {
        if let Some(server) = &target.server {
            self.results.push((Arc::clone(server), answered));
        }
    }

    /// Returns what happened at configured servers since the last call, and whether each
    /// answered.
    pub(crate) fn take_results(&mut self) -> Vec<(Arc<str>, bool)> {
        std::mem::take(&mut self.results)
    }

    /// Whether `address` failed recently for `domain` and should be tried last.
    pub(super) fn has_failed(&mut self, address: &Address, domain: &Rc<str>, now_ms: u64) -> bool {
        self.failed.contains(address, domain, now_ms)
    }

    /// Takes a slot for a connection. If none is free, the session waits.
    pub(super) fn take_slot(&mut self, caller: &Caller, address: &Address, now_ms: u64) -> bool {
        let taken = self.queue.take(caller, address);
        if taken {
            self.failed.try_again(address, &caller.domain, now_ms);
        }
        taken
    }
}
