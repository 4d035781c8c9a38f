//! Server addresses that failed recently and are tried last.
//!
//! If an address refuses or ignores connects, it has failed for every domain. If it has no
//! TLS or sends no stream header, it has failed only for the domain in question: the
//! domain's owner chooses its addresses, and must not be able to keep other domains from
//! using theirs. The time grows with each failure. Afterwards a single session tries the
//! address again. Memory is bounded, and domains of strangers leave room for those of the
//! operator.

use std::collections::HashMap;
use std::rc::Rc;

use super::address::Address;

/// How long an address is tried last after its first failure, in milliseconds. Doubles with
/// each further failure.
const FIRST_MS: u64 = 1_000;
const LONGEST_MS: u64 = 60_000;
/// How long a failure is remembered afterwards.
const KEPT_MS: u64 = 60_000;
/// Maximum number of failures for domains that are not listed. Listed domains may add as
/// many again.
const MAX_FAILURES: usize = 2048;
/// Minimum time between two removals of old failures.
const SWEEP_EVERY_MS: u64 = 1_000;

/// An address, with the domain if it has failed only for that domain.
type Key = (Address, Option<Rc<str>>);

struct Failure {
    /// The address is tried last until then.
    until_ms: u64,
    time_ms: u64,
    /// One session is trying the address again.
    probing: bool,
}

/// The addresses of a worker that failed recently.
#[derive(Default)]
pub(crate) struct FailedAddresses {
    failures: HashMap<Key, Failure>,
    next_sweep_ms: u64,
}

impl FailedAddresses {
    /// Records a failure. Further failures in the same period change nothing. Returns
    /// whether the address is now tried last because of this failure.
    pub(crate) fn fail(
        &mut self,
        address: &Address,
        domain: Option<&Rc<str>>,
        is_listed: bool,
        now_ms: u64,
    ) -> bool {
        self.sweep(now_ms);
        let key = (address.clone(), domain.cloned());
        if let Some(failure) = self.failures.get_mut(&key) {
            if now_ms < failure.until_ms && !failure.probing {
                return false;
            }
            failure.time_ms = (failure.time_ms * 2).min(LONGEST_MS);
            failure.until_ms = now_ms + failure.time_ms;
            failure.probing = false;
            return true;
        }
        let most = if is_listed {
            2 * MAX_FAILURES
        } else {
            MAX_FAILURES
        };
        if self.failures.len() >= most {
            return false;
        }
        let failure = Failure {
            until_ms: now_ms + FIRST_MS,
            time_ms: FIRST_MS,
            probing: false,
        };
        self.failures.insert(key, failure);
        true
    }

    /// Forgets a failure of the address; with a domain, the failure for that domain only.
    pub(crate) fn succeed(&mut self, address: &Address, domain: Option<&Rc<str>>) {
        if !self.failures.is_empty() {
            self.failures.remove(&(address.clone(), domain.cloned()));
        }
    }

    /// Whether the address should be tried last for the domain.
    pub(crate) fn contains(&mut self, address: &Address, domain: &Rc<str>, now_ms: u64) -> bool {
        self.sweep(now_ms);
        if self.failures.is_empty() {
            return false;
        }
        keys(address, domain).into_iter().any(|key| {
            let failure = self.failures.get(&key);
            failure.is_some_and(|failure| now_ms < failure.until_ms)
        })
    }

    /// Records that a session tries the address. If its time is over, other sessions wait
    /// for the result.
    pub(crate) fn try_again(&mut self, address: &Address, domain: &Rc<str>, now_ms: u64) {
        if self.failures.is_empty() {
            return;
        }
        for key in keys(address, domain) {
            if let Some(failure) = self.failures.get_mut(&key)
                && now_ms >= failure.until_ms
            {
                failure.until_ms = now_ms + failure.time_ms;
                failure.probing = true;
            }
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        if now_ms >= self.next_sweep_ms && !self.failures.is_empty() {
            self.next_sweep_ms = now_ms + SWEEP_EVERY_MS;
            self.failures
                .retain(|_, failure| now_ms < failure.until_ms + KEPT_MS);
        }
    }
}

fn keys(address: &Address, domain: &Rc<str>) -> [Key; 2] {
    [
        (address.clone(), None),
        (address.clone(), Some(Rc::clone(domain))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::Tcp(([192, 0, 2, 1], port).into())
    }

    #[test]
    fn the_time_doubles_to_a_minute_and_one_session_tries_again() {
        let (mut failed, at, d) = (FailedAddresses::default(), address(1), Rc::from("d"));
        let mut now = 0;
        for time in [1, 2, 4, 8, 16, 32, 60, 60] {
            failed.try_again(&at, &d, now);
            assert!(failed.fail(&at, None, true, now));
            // Sessions that started before the failure.
            assert!(!failed.fail(&at, None, true, now + 900));
            now += time * 1000;
            assert!(failed.contains(&at, &d, now - 1), "{time}");
            assert!(!failed.contains(&at, &d, now), "{time}");
            failed.try_again(&at, &d, now);
            assert!(failed.contains(&at, &d, now), "tried by all");
        }
        failed.succeed(&at, None);
        assert!(!failed.contains(&at, &d, now));
        assert!(failed.fail(&at, None, true, now));
        assert!(!failed.contains(&at, &d, now + 1000));
    }

    #[test]
    fn a_domain_does_not_turn_others_away() {
        let mut failed = FailedAddresses::default();
        let (bad, good) = (Rc::from("bad"), Rc::from("good"));
        failed.fail(&address(1), Some(&bad), false, 0);
        assert!(failed.contains(&address(1), &bad, 5));
        assert!(!failed.contains(&address(1), &good, 5));
        assert!(!failed.contains(&address(2), &bad, 5));
        failed.succeed(&address(1), None);
        assert!(failed.contains(&address(1), &bad, 5));
        failed.succeed(&address(1), Some(&bad));
        assert!(!failed.contains(&address(1), &bad, 5));
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let mut failed = FailedAddresses::default();
        for n in 0..10_000u32 {
            let domain: Rc<str> = n.to_string().into();
            let took = failed.fail(&address(1), Some(&domain), false, 0);
            assert_eq!(took, (n as usize) < MAX_FAILURES);
        }
        assert!(failed.fail(&address(2), None, true, 0), "no room is kept");
        let end = FIRST_MS + KEPT_MS;
        assert!(!failed.contains(&address(3), &Rc::from("d"), end - 1));
        assert_eq!(failed.failures.len(), MAX_FAILURES + 1);
        failed.contains(&address(3), &Rc::from("d"), end + SWEEP_EVERY_MS);
        assert!(failed.failures.is_empty());
    }
}
