//! The order in which waiting questions are asked. Sessions that wait for a connection to a
//! server count as questions too.
//!
//! Client addresses take turns, and so do the domains of one address, so an address with
//! many questions delays only itself. The cost of a step does not grow with the number of
//! waiting questions.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::net::source::Source;

/// Maximum number of waiting questions.
const MAX_WAITING: usize = 1000;
/// Maximum number of waiting questions per asker.
const MAX_OF_ASKER: usize = 500;
/// An asker with fewer questions than this has few. Room is reserved for such askers when
/// the general room is full.
const FEW: usize = 8;
/// The room reserved for askers with few questions.
const MAX_OF_FEW: usize = 250;

/// Questions in the order of their turns.
#[derive(Default)]
struct Waiting {
    order: BTreeMap<u64, usize>,
    /// The turn of each question, and the number of its waiters.
    turns: HashMap<usize, (u64, u32)>,
}

/// The waiting questions of one asker.
struct Queue {
    turn: u64,
    /// Domains by turn, each with its questions in order.
    domains: BTreeMap<u64, (Rc<str>, Waiting)>,
    turns: HashMap<Rc<str>, u64>,
    len: usize,
}

/// All waiting questions.
#[derive(Default)]
pub struct Turns {
    queues: HashMap<Source, Queue>,
    askers: BTreeMap<u64, Source>,
    next_turn: u64,
    len: usize,
}

impl Turns {
    /// Whether one more question of an asker may wait.
    pub fn have_room_for(&self, asker: Source) -> bool {
        let own = self.queues.get(&asker).map_or(0, |queue| queue.len);
        let most = match own < FEW {
            true => MAX_WAITING + MAX_OF_FEW,
            false => MAX_WAITING,
        };
        self.len < most && own < MAX_OF_ASKER
    }

    /// Adds a waiter to a question.
    pub fn push(&mut self, asker: Source, domain: &Rc<str>, question: usize) {
        self.next_turn += 1;
        let next = self.next_turn;
        let askers = &mut self.askers;
        let queue = self.queues.entry(asker).or_insert_with(|| {
            askers.insert(next, asker);
            Queue {
                turn: next,
                domains: BTreeMap::new(),
                turns: HashMap::new(),
                len: 0,
            }
        });
        let turn = *queue.turns.entry(Rc::clone(domain)).or_insert(next);
        let domain = || (Rc::clone(domain), Waiting::default());
        let (_, waiting) = queue.domains.entry(turn).or_insert_with(domain);
        let (_, waiters) = waiting.turns.entry(question).or_insert_with(|| {
            waiting.order.insert(next, question);
            queue.len += 1;
            self.len += 1;
            (next, 0)
        });
        *waiters += 1;
    }

    /// Removes a waiter from a question.
    pub fn remove(&mut self, asker: Source, domain: &str, question: usize) {
        self.reduce(asker, domain, question, |waiters| waiters - 1);
    }

    /// Removes all waiters from a question. Looks at all queues.
    pub fn remove_all(&mut self, question: usize) {
        let mut found = Vec::new();
        for (asker, queue) in &self.queues {
            let domains = queue.domains.values();
            let with = domains.filter(|(_, waiting)| waiting.turns.contains_key(&question));
            found.extend(with.map(|(domain, _)| (*asker, Rc::clone(domain))));
        }
        for (asker, domain) in found {
            self.reduce(asker, &domain, question, |_| 0);
        }
    }

    /// Changes the number of waiters of a question.
    fn reduce(
        &mut self,
        asker: Source,
        domain: &str,
        question: usize,
        change: impl FnOnce(u32) -> u32,
    ) {
        let Some(queue) = self.queues.get_mut(&asker) else {
            return;
        };
        let Some(turn) = queue.turns.get(domain).copied() else {
            return;
        };
        let Some((_, waiting)) = queue.domains.get_mut(&turn) else {
            return;
        };
        let Some((own_turn, waiters)) = waiting.turns.get_mut(&question) else {
            return;
        };
        *waiters = change(*waiters);
        if *waiters > 0 {
            return;
        }
        waiting.order.remove(own_turn);
        waiting.turns.remove(&question);
        queue.len -= 1;
        self.len -= 1;
        if waiting.order.is_empty() {
            queue.domains.remove(&turn);
            queue.turns.remove(domain);
        }
        if queue.len == 0 {
            self.askers.remove(&queue.turn);
            self.queues.remove(&asker);
        }
    }

    /// The question whose turn it is among the askers that `may` ask. It keeps waiting; its
    /// asker and domain move to the end of their queues.
    pub fn next(&mut self, may: impl Fn(Source) -> bool) -> Option<(Source, usize)> {
        let turn = self.askers.iter().find(|(_, asker)| may(**asker));
        let (&turn, &asker) = turn?;
        let queue = self.queues.get_mut(&asker)?;
        self.next_turn += 1;
        self.askers.remove(&turn);
        self.askers.insert(self.next_turn, asker);
        queue.turn = self.next_turn;
        let (_, (domain, waiting)) = queue.domains.pop_first()?;
        let question = *waiting.order.first_key_value()?.1;
        queue.turns.insert(Rc::clone(&domain), self.next_turn);
        queue.domains.insert(self.next_turn, (domain, waiting));
        Some((asker, question))
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Source = Source::V4(1);
    const B: Source = Source::V4(2);

    fn domain(at: usize) -> Rc<str> {
        format!("d{at}.example").into()
    }

    /// The order in which the waiting questions are asked.
    fn order(turns: &mut Turns, all: &[(Source, usize, usize)]) -> Vec<usize> {
        let mut order = Vec::new();
        while let Some((_, question)) = turns.next(|_| true) {
            order.push(question);
            for (asker, at, _) in all.iter().filter(|(_, _, other)| *other == question) {
                turns.remove(*asker, &domain(*at), question);
            }
        }
        assert!(turns.queues.is_empty() && turns.askers.is_empty() && turns.len == 0);
        order
    }

    #[test]
    fn askers_take_turns_and_within_one_domains_do() {
        let all = [
            (A, 1, 11),
            (A, 1, 12),
            (A, 1, 13),
            (A, 2, 21),
            (A, 2, 22),
            (B, 3, 31),
            // The question has two waiters.
            (A, 4, 41),
            (B, 4, 41),
        ];
        let mut turns = Turns::default();
        for (asker, at, question) in all {
            turns.push(asker, &domain(at), question);
        }
        assert_eq!(order(&mut turns, &all), [11, 31, 21, 41, 12, 22, 13]);
    }

    #[test]
    fn askers_without_a_free_slot_are_skipped() {
        let mut turns = Turns::default();
        turns.push(A, &domain(1), 1);
        turns.push(B, &domain(2), 2);
        assert_eq!(turns.next(|asker| asker != A), Some((B, 2)));
        assert_eq!(turns.next(|_| false), None);
        assert_eq!(turns.next(|_| true), Some((A, 1)));
    }

    #[test]
    fn a_question_waits_until_its_last_waiter_leaves() {
        let mut turns = Turns::default();
        turns.push(A, &domain(1), 1);
        turns.push(A, &domain(1), 1);
        turns.remove(A, "d1.example", 1);
        assert_eq!(turns.next(|_| true), Some((A, 1)));
        turns.remove(A, "d1.example", 1);
        assert!(turns.is_empty());
        turns.remove(A, "d1.example", 1);
        assert_eq!(turns.next(|_| true), None);
    }

    #[test]
    fn the_number_is_bounded_and_askers_with_few_questions_have_room() {
        let mut turns = Turns::default();
        let mut push = |asker, range: std::ops::Range<usize>| {
            let mut pushed = 0;
            for at in range {
                if turns.have_room_for(asker) {
                    turns.push(asker, &domain(at), at);
                    pushed += 1;
                }
            }
            pushed
        };
        assert_eq!(push(A, 0..10_000), MAX_OF_ASKER);
        assert_eq!(push(B, 10_000..20_000), MAX_OF_ASKER);
        let others = (0..100).map(|at| push(Source::V6(at), 20_000..20_100));
        assert_eq!(others.sum::<usize>(), MAX_OF_FEW);
        assert_eq!(turns.len, MAX_WAITING + MAX_OF_FEW);
    }

    #[test]
    fn a_question_is_removed_whoever_waits() {
        let mut turns = Turns::default();
        for (asker, at) in [(A, 1), (A, 1), (A, 2), (B, 1)] {
            turns.push(asker, &domain(at), 7);
            turns.push(asker, &domain(at), 8);
        }
        turns.remove_all(7);
        turns.remove_all(9);
        assert_eq!(turns.len, 3);
        let asked = (0..3).filter_map(|_| turns.next(|_| true));
        assert!(asked.map(|(_, question)| question).eq([8; 3]));
    }
}
