//! Limits the log lines about domains whose server cannot be reached.
//!
//! Keeps for each domain when the first session failed, when the log last mentioned the domain,
//! and how many sessions have failed since. Clients choose the domains, so the number of
//! domains and lines is bounded. Never writes the log.

use std::collections::HashMap;
use std::rc::Rc;

use super::Tick;
use super::line_limit::LineLimit;

/// Minimum time between two lines about a domain.
const PAUSE_MS: Tick = 60_000;
/// Maximum number of domains at a time; others are not logged.
const MAX_DOMAINS: usize = 1024;

/// A domain whose server cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When the first session failed.
    pub since: Tick,
    /// Number of sessions that failed.
    pub sessions: u64,
    next_line: Tick,
    /// The part of `sessions` that the log has mentioned.
    told: u64,
}

/// The domains whose servers cannot be reached from this worker.
#[derive(Debug, Default)]
pub struct Outages {
    domains: HashMap<Rc<str>, Outage>,
    /// The lines about domains that failed for the first time.
    lines: LineLimit,
}

impl Outages {
    /// Counts a session that could not reach the server of `domain`. If a line should be
    /// logged, returns how many other sessions have failed since the last line.
    pub fn fail(&mut self, domain: &Rc<str>, now: Tick) -> Option<u64> {
        if !self.domains.contains_key(domain) && !self.has_room(now) {
            return None;
        }
        let outage = self.domains.entry(Rc::clone(domain)).or_insert(Outage {
            since: now,
            sessions: 0,
            next_line: now,
            told: 0,
        });
        outage.sessions += 1;
        if now < outage.next_line {
            return None;
        }
        outage.next_line = now + PAUSE_MS;
        let others = outage.sessions - outage.told - 1;
        outage.told = outage.sessions;
        Some(others)
    }

    /// Forgets `domain`, whose server has answered, and returns its outage.
    pub fn recover(&mut self, domain: &str) -> Option<Outage> {
        if self.domains.is_empty() {
            return None;
        }
        self.domains.remove(domain)
    }

    /// Whether another domain may be added and logged. Removes domains without recent sessions
    /// if there is no room.
    fn has_room(&mut self, now: Tick) -> bool {
        if self.domains.len() >= MAX_DOMAINS {
            self.domains.retain(|_, outage| now < outage.next_line);
        }
        self.domains.len() < MAX_DOMAINS && self.lines.admits(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::line_limit::LINES_PER_SECOND;

    #[test]
    fn a_domain_has_one_line_in_a_minute() {
        let mut outages = Outages::default();
        let (a, b): (Rc<str>, Rc<str>) = ("a".into(), "b".into());
        assert_eq!(outages.fail(&a, 5), Some(0));
        assert_eq!(outages.fail(&a, 6), None);
        assert_eq!(outages.fail(&b, 7), Some(0));
        assert_eq!(outages.fail(&a, 60_004), None);
        assert_eq!(outages.fail(&a, 60_005), Some(2));
        let outage = outages.recover("a").unwrap();
        assert_eq!((outage.since, outage.sessions), (5, 4));
        assert_eq!(outages.recover("a"), None);
        assert_eq!(outages.fail(&a, 60_006), Some(0));
    }

    #[test]
    fn the_number_of_domains_is_bounded() {
        let mut outages = Outages::default();
        let mut lines = 0;
        for n in 0..10_000u64 {
            // All of them fail within half a second.
            let domain: Rc<str> = n.to_string().into();
            lines += u32::from(outages.fail(&domain, n / 20).is_some());
        }
        assert_eq!(lines, LINES_PER_SECOND);
        for n in 0..100_000u64 {
            let domain: Rc<str> = n.to_string().into();
            outages.fail(&domain, 1000 + 100 * n);
            assert!(outages.domains.len() <= MAX_DOMAINS);
        }
    }
}
