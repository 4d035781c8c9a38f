//! A question from its first waiter until all waiters have the answer.

use std::collections::{BTreeMap, btree_map};
use std::rc::Rc;
use std::sync::Arc;

use super::question::{Error, Question, Records};
use super::slots::SlotKind;
use crate::net::source::Source;

/// Maximum number of look-ups that get an answer at once. Answers to other questions come in
/// between.
const WAITERS_AT_ONCE: usize = 64;

/// A look-up that waits for an answer.
#[derive(Clone, Debug)]
pub struct Waiter {
    /// The id of the look-up.
    pub id: u64,
    /// The client that caused the look-up.
    pub asker: Source,
    /// The domain of the look-up.
    pub domain: Rc<str>,
}

/// The look-ups that wait for a question, by id, with the kind of the turn of each.
pub(super) type Waiters = BTreeMap<u64, (Waiter, SlotKind)>;

/// A question with waiters.
pub(super) struct Pending {
    pub question: Arc<Question>,
    pub waiters: Waiters,
    /// Set once it has been asked; until then it waits for its turn.
    pub flight: Option<Flight>,
}

/// A question in flight.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    pub ticket: u64,
    pub kind: SlotKind,
    pub asker: Source,
    pub since_ms: u64,
}

/// A question whose answer some waiters do not have yet.
pub(super) struct Answered {
    pub key: usize,
    pub question: Arc<Question>,
    pub result: Result<Records, Error>,
    pub waiters: btree_map::IntoKeys<u64, (Waiter, SlotKind)>,
}

impl Answered {
    /// Returns the answer for the next waiters.
    pub fn next_part(&mut self) -> DnsAnswer {
        DnsAnswer {
            question: Arc::clone(&self.question),
            result: self.result.clone(),
            waiters: self.waiters.by_ref().take(WAITERS_AT_ONCE).collect(),
            key: Some(self.key),
        }
    }
}

/// An answer, and some of the look-ups that wait for it.
pub struct DnsAnswer {
    /// What was asked.
    pub question: Arc<Question>,
    /// Its result.
    pub result: Result<Records, Error>,
    /// The ids of these look-ups.
    pub waiters: Vec<u64>,
    /// The key of the question; `None` if the answer was available at once.
    pub key: Option<usize>,
}
