//! Domains whose servers were found recently.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// How long a domain counts as known after its server was found, in milliseconds.
const KNOWN_MS: u64 = 600_000;
/// Maximum number of domains. The most recent ones are kept.
const MAX_DOMAINS: usize = 1024;
/// Bytes of an entry without its name.
const ENTRY_BYTES: usize = 128;

/// The domains of a worker whose servers were found recently.
#[derive(Default)]
pub struct KnownDomains {
    worked_at: HashMap<Rc<str>, u64>,
    by_age: BTreeSet<(u64, Rc<str>)>,
    bytes: usize,
}

impl KnownDomains {
    /// Records that a server of the domain was found.
    pub fn insert(&mut self, domain: &Rc<str>, now_ms: u64) {
        self.remove(domain);
        while let Some((at, oldest)) = self.by_age.first().cloned()
            && (self.by_age.len() >= MAX_DOMAINS || at + KNOWN_MS <= now_ms)
        {
            self.remove(&oldest);
        }
        self.bytes += ENTRY_BYTES + domain.len();
        self.worked_at.insert(Rc::clone(domain), now_ms);
        self.by_age.insert((now_ms, Rc::clone(domain)));
    }

    /// Forgets a domain for which the DNS gave no answer.
    pub fn remove(&mut self, domain: &Rc<str>) {
        if let Some(at) = self.worked_at.remove(domain) {
            self.by_age.remove(&(at, Rc::clone(domain)));
            self.bytes -= ENTRY_BYTES + domain.len();
        }
    }

    /// Whether its server was found recently.
    pub fn contains(&self, domain: &str, now_ms: u64) -> bool {
        let at = self.worked_at.get(domain);
        at.is_some_and(|at| now_ms < at + KNOWN_MS)
    }

    /// The memory held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_domains_are_remembered_for_a_while() {
        let name = |at: usize| Rc::<str>::from(format!("a{at}.example"));
        let mut known = KnownDomains::default();
        for at in 0..MAX_DOMAINS + 10 {
            known.insert(&name(at), 5);
            known.insert(&name(0), 6);
        }
        assert_eq!(known.by_age.len(), MAX_DOMAINS);
        assert!(known.contains("a0.example", 7));
        assert!(!known.contains("a1.example", 7));
        assert!(known.contains("a1033.example", KNOWN_MS + 4));
        assert!(!known.contains("a1033.example", KNOWN_MS + 5));
        known.remove(&name(0));
        assert!(!known.contains("a0.example", 7));
        // Old entries are dropped.
        known.insert(&name(1), KNOWN_MS + 6);
        assert_eq!(known.worked_at.len(), 1);
        assert_eq!(known.held_bytes(), ENTRY_BYTES + "a1.example".len());
    }
}
