//! The list of sessions and the search for one, in slices: a worker may have very many
//! sessions, and each slice is a part of a turn of the loop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::page::Page;
use super::query::{Query, Sort};
use crate::buf::Buf;
use crate::json;
use crate::proto::xmpp::Dialect;
use crate::session::facts::Facts;

/// Maximum number of sessions to look at in a slice.
const SESSIONS_PER_SLICE: usize = 500;
/// Maximum number of slots to look at in a slice. Most may be free.
const SLOTS_PER_SLICE: usize = 50_000;
/// Maximum number of bytes that wait for the client.
const MAX_WAITING: usize = 64 << 10;
/// Maximum length of a text that a peer chose, in characters.
const MAX_TEXT: usize = 256;

/// The sessions of a worker.
pub(crate) trait Sessions {
    /// All slots are below this number.
    fn slots(&self) -> usize;
    fn facts(&self, slot: usize) -> Option<Facts<'_>>;
}

/// What is left to do for a request.
pub(super) enum Job {
    List(Listing),
    /// Find the session with this number, from this slot on.
    Close(u32, usize),
}

/// The result of a slice.
pub(super) enum Slice {
    Unfinished,
    /// The response is complete. If there is a slot, the session in it is to be closed.
    Finished(Option<usize>),
}

impl Job {
    /// Does a part of the work.
    pub fn slice(&mut self, sessions: &dyn Sessions, out: &mut Buf) -> Slice {
        match self {
            Job::List(listing) => listing.slice(sessions, out),
            Job::Close(number, next) => {
                let found = scan(sessions, next, |slot, facts| {
                    (facts.number == *number).then_some(slot)
                });
                let page = match found {
                    Some(_) => Page::text(200, &format!("closing session {number}")),
                    None if *next < sessions.slots() => return Slice::Unfinished,
                    None => Page::text(404, &format!("there is no session {number}")),
                };
                page.write(false, out);
                Slice::Finished(found)
            }
        }
    }
}

/// Looks at the sessions from the slot `next` on until `look` returns something or the slice
/// is over. Moves `next` past the last slot.
fn scan<T>(
    sessions: &dyn Sessions,
    next: &mut usize,
    mut look: impl FnMut(usize, &Facts<'_>) -> Option<T>,
) -> Option<T> {
    let end = sessions.slots().min(next.saturating_add(SLOTS_PER_SLICE));
    let mut seen = 0;
    while *next < end && seen < SESSIONS_PER_SLICE {
        let slot = *next;
        *next += 1;
        if let Some(facts) = sessions.facts(slot) {
            seen += 1;
            if let Some(found) = look(slot, &facts) {
                return Some(found);
            }
        }
    }
    None
}

/// A session of a sorted list: its key, number and slot. Of equal keys the older session is
/// first.
type Found = (u64, Reverse<u32>, usize);

/// A list that is being written.
pub(super) struct Listing {
    query: Query,
    next: usize,
    /// The first sessions in the order of the list, the last of them on top.
    found: BinaryHeap<Reverse<Found>>,
    /// The same sessions, in reverse order, once all slots have been looked at.
    sorted: Option<Vec<Found>>,
    written: usize,
}

impl Listing {
    pub fn new(query: Query) -> Listing {
        Listing {
            query,
            next: 0,
            found: BinaryHeap::new(),
            sorted: None,
            written: 0,
        }
    }

    fn slice(&mut self, sessions: &dyn Sessions, out: &mut Buf) -> Slice {
        let is_over = match self.query.sort {
            None => self.list(sessions, out),
            Some(_) if self.sorted.is_some() => self.write_sorted(sessions, out),
            Some(sort) => {
                self.collect(sort, sessions);
                false
            }
        };
        match is_over {
            true => Slice::Finished(None),
            false => Slice::Unfinished,
        }
    }

    /// Writes sessions in the order of their slots. Returns whether all are written.
    fn list(&mut self, sessions: &dyn Sessions, out: &mut Buf) -> bool {
        let (query, written) = (&self.query, &mut self.written);
        let limit = query.limit.unwrap_or(usize::MAX);
        let stopped = scan(sessions, &mut self.next, |_, facts| {
            if query.selects(facts) && *written < limit {
                write_line(facts, out);
                *written += 1;
            }
            (*written >= limit || out.len() >= MAX_WAITING).then_some(())
        });
        *written >= limit || (stopped.is_none() && self.next >= sessions.slots())
    }

    /// Looks for the sessions that come first.
    fn collect(&mut self, sort: Sort, sessions: &dyn Sessions) {
        let (query, found) = (&self.query, &mut self.found);
        let limit = query.sorted_limit();
        scan(sessions, &mut self.next, |slot, facts| {
            if query.selects(facts) {
                found.push(Reverse((sort.key(facts), Reverse(facts.number), slot)));
                if found.len() > limit {
                    found.pop();
                }
            }
            None::<()>
        });
        if self.next >= sessions.slots() {
            let found = std::mem::take(&mut self.found).into_sorted_vec();
            // The heap is in reverse, so its sorted order begins with the largest key.
            let found = found.into_iter().map(|Reverse(found)| found);
            self.sorted = Some(found.rev().collect());
        }
    }

    /// Writes sessions that were found. Returns whether all are written. A session that has
    /// ended meanwhile is left out.
    fn write_sorted(&mut self, sessions: &dyn Sessions, out: &mut Buf) -> bool {
        let sorted = self.sorted.get_or_insert_default();
        for _ in 0..SESSIONS_PER_SLICE {
            if out.len() >= MAX_WAITING {
                return false;
            }
            let Some((_, Reverse(number), slot)) = sorted.pop() else {
                return true;
            };
            let facts = sessions.facts(slot);
            if let Some(facts) = facts.filter(|facts| facts.number == number) {
                write_line(&facts, out);
            }
        }
        false
    }
}

/// Appends a session as one line of JSON.
fn write_line(facts: &Facts<'_>, out: &mut Buf) {
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let line = format!(
        "{{\"number\":{},\"address\":\"{}\",\"origin\":{},\"domain\":{},\"dialect\":{},\
         \"phase\":\"{}\",\"age\":{:.1},\"idle\":{:.1},\"up\":{},\"down\":{},\"queued\":{}}}\n",
        facts.number,
        facts.peer,
        json(facts.origin),
        json(facts.domain),
        json(facts.dialect.map(Dialect::name)),
        facts.phase,
        seconds(facts.age_ms),
        seconds(facts.idle_ms),
        facts.up_bytes,
        facts.down_bytes,
        facts.queued_bytes,
    );
    out.extend(line.as_bytes());
}

/// Returns a text for JSON, or `null`.
fn json(text: Option<&str>) -> String {
    let quoted = text.map(|text| json::quoted(text.chars().take(MAX_TEXT)));
    quoted.unwrap_or_else(|| "null".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::peer::Peer;

    /// Sessions in every third slot; each has queued the square of its number modulo 1009.
    struct Many(usize);

    impl Sessions for Many {
        fn slots(&self) -> usize {
            3 * self.0
        }

        fn facts(&self, slot: usize) -> Option<Facts<'_>> {
            let number = (slot / 3) as u32;
            (slot.is_multiple_of(3)).then_some(Facts {
                number,
                peer: Peer::Unix,
                origin: Some("https://\"\u{e4}\u{1f339}\n"),
                domain: None,
                dialect: Some(Dialect::Framed),
                phase: "relaying",
                age_ms: 1_250,
                idle_ms: 0,
                up_bytes: 1,
                down_bytes: 2,
                queued_bytes: (number as usize * number as usize) % 1009,
            })
        }
    }

    /// Returns the lines of a list and the number of slices that it took.
    fn list(query: &str, sessions: &Many) -> (Vec<String>, usize) {
        let mut job = Job::List(Listing::new(Query::parse(query).unwrap()));
        let mut lines = Vec::new();
        for slices in 1.. {
            let mut out = Buf::new();
            let slice = job.slice(sessions, &mut out);
            assert!(out.len() < MAX_WAITING + 1_000, "{}", out.len());
            let text = String::from_utf8(out.as_slice().to_vec()).unwrap();
            lines.extend(text.lines().map(str::to_owned));
            if !matches!(slice, Slice::Unfinished) {
                return (lines, slices);
            }
        }
        unreachable!()
    }

    #[test]
    fn a_line_is_json_in_ascii() {
        let (lines, _) = list("limit=1", &Many(2));
        let expected = "{\"number\":0,\"address\":\"unix:\",\"origin\":\"https://\\\"\\u00e4\\ud83c\\udf39\\u000a\",\
            \"domain\":null,\"dialect\":\"rfc7395\",\"phase\":\"relaying\",\"age\":1.2,\"idle\":0.0,\
            \"up\":1,\"down\":2,\"queued\":0}";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn long_lists_are_complete_and_take_many_slices() {
        let sessions = Many(10_000);
        let (lines, slices) = list("", &sessions);
        assert_eq!(lines.len(), 10_000);
        assert!(slices >= 10_000 / SESSIONS_PER_SLICE, "{slices}");
        let (lines, slices) = list("sort=queued&limit=30", &sessions);
        assert!(slices >= 10_000 / SESSIONS_PER_SLICE, "{slices}");
        let mut all: Vec<usize> = (0..10_000usize).map(|n| n * n % 1009).collect();
        all.sort_unstable_by_key(|queued| Reverse(*queued));
        let expected: Vec<String> = all[..30]
            .iter()
            .map(|n| format!("\"queued\":{n}}}"))
            .collect();
        assert_eq!(lines.len(), 30);
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.ends_with(&expected), "{line}: {expected}");
        }
        assert_eq!(list("limit=0", &sessions).0.len(), 0);
        assert_eq!(list("sort=number&limit=0", &sessions).0.len(), 0);
        assert_eq!(list("domain=example.org", &sessions).0.len(), 0);
    }

    #[test]
    fn the_search_for_a_session_is_in_slices_too() {
        let sessions = Many(10_000);
        for (number, expected) in [(9_999, Some(29_997)), (0, Some(0)), (10_000, None)] {
            let (mut job, mut slices) = (Job::Close(number, 0), 1);
            let found = loop {
                match job.slice(&sessions, &mut Buf::new()) {
                    Slice::Unfinished => slices += 1,
                    Slice::Finished(found) => break found,
                }
            };
            assert_eq!(found, expected);
            assert!(
                number == 0 || slices >= 10_000 / SESSIONS_PER_SLICE,
                "{slices}"
            );
        }
    }
}
