//! A cache of DNS answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::question::{Error, Question, Records};

/// Maximum size of all entries in bytes. The entry that expires first makes room.
const MAX_BYTES: usize = 1 << 20;
/// Size of an entry without its names and records: its part of both tables, and the
/// overhead of the heap.
const ENTRY_BYTES: usize = 320;

type Kept = Result<Records, Error>;

struct Entry {
    result: Kept,
    until_ms: u64,
    number: u64,
}

/// The answers of a worker.
#[derive(Default)]
pub struct DnsCache {
    entries: HashMap<Arc<Question>, Entry>,
    /// The questions in the order in which their answers expire.
    expiries: BTreeMap<(u64, u64), Arc<Question>>,
    bytes: usize,
    next_number: u64,
}

impl DnsCache {
    /// The answer to a question, if it is cached.
    pub fn find(&self, question: &Question, now_ms: u64) -> Option<&Kept> {
        let entry = self.entries.get(question)?;
        (now_ms < entry.until_ms).then_some(&entry.result)
    }

    /// Keeps an answer for some time.
    pub fn keep(&mut self, question: &Arc<Question>, result: Kept, now_ms: u64, keep_ms: u64) {
        self.sweep(now_ms);
        self.forget(question);
        let bytes = size(question, &result);
        if keep_ms == 0 || bytes > MAX_BYTES {
            return;
        }
        while self.bytes + bytes > MAX_BYTES {
            let Some((_, oldest)) = self.expiries.first_key_value() else {
                break;
            };
            let oldest = Arc::clone(oldest);
            self.forget(&oldest);
        }
        let (until_ms, number) = (now_ms + keep_ms, self.next_number);
        self.next_number += 1;
        self.bytes += bytes;
        self.expiries
            .insert((until_ms, number), Arc::clone(question));
        let entry = Entry {
            result,
            until_ms,
            number,
        };
        self.entries.insert(Arc::clone(question), entry);
    }

    pub fn sweep(&mut self, now_ms: u64) {
        while let Some((&(until_ms, _), question)) = self.expiries.first_key_value()
            && until_ms <= now_ms
        {
            let question = Arc::clone(question);
            self.forget(&question);
        }
    }

    pub fn clear(&mut self) {
        *self = DnsCache::default();
    }

    /// The memory held, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.expiries.remove(&(entry.until_ms, entry.number));
            self.bytes -= size(question, &entry.result);
        }
    }
}

fn size(question: &Question, result: &Kept) -> usize {
    let records = result.as_ref().map_or(0, Records::held_bytes);
    ENTRY_BYTES + question.name().len() + records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::dns::question::Service;

    fn question(at: u64) -> Arc<Question> {
        Arc::new(Question::Service(format!("_s._tcp.a{at}.example")))
    }

    /// An answer of the maximum size.
    fn large() -> Kept {
        let service = Service {
            priority: 1,
            weight: 1,
            port: 1,
            host: "h".repeat(255),
        };
        Ok(Records::Services(vec![service; 16]))
    }

    #[test]
    fn expired_answers_are_removed_before_the_cache_is_full() {
        let mut cache = DnsCache::default();
        for at in 0..100 {
            cache.keep(&question(at), large(), 0, 1000 + at);
        }
        assert!(cache.held_bytes() > 100 * 16 * 255);
        assert!(cache.find(&question(7), 1006).is_some());
        assert!(cache.find(&question(7), 1007).is_none());
        cache.sweep(1098);
        assert_eq!(cache.entries.len(), 1);
        // The next insertion removes expired answers too.
        cache.keep(&question(500), Err(Error::NotFound), 1099, 1);
        assert_eq!(cache.entries.len(), 1);
        cache.sweep(1100);
        assert_eq!((cache.held_bytes(), cache.expiries.len()), (0, 0));
    }

    #[test]
    fn large_answers_do_not_exceed_the_limit() {
        let mut cache = DnsCache::default();
        for at in 0..5000 {
            cache.keep(&question(at), large(), 0, 60_000 + at);
            assert!(cache.held_bytes() <= MAX_BYTES);
        }
        assert!(cache.find(&question(0), 1).is_none());
        assert!(cache.find(&question(4999), 1).is_some());
        assert!(cache.held_bytes() > MAX_BYTES - 8192);
        let sizes = cache
            .entries
            .iter()
            .map(|(q, entry)| size(q, &entry.result));
        assert_eq!(cache.held_bytes(), sizes.sum());
    }

    #[test]
    fn a_new_answer_replaces_the_old_one() {
        let mut cache = DnsCache::default();
        cache.keep(&question(1), large(), 0, 10);
        cache.keep(&question(1), Err(Error::NotFound), 5, 10);
        assert_eq!(cache.find(&question(1), 14), Some(&Err(Error::NotFound)));
        cache.keep(&question(1), large(), 6, 0);
        assert_eq!(cache.find(&question(1), 6), None);
        assert_eq!(cache.held_bytes(), 0);
    }
}
