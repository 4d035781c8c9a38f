//! Resolves names without blocking.
//!
//! Owns the open questions and the waiters of each. Combines the order of waiting
//! questions, the limit on questions in flight, the cache, and the hosts file, which takes
//! precedence over the DNS for addresses. A question with several waiters is asked once,
//! and it is dropped when nobody waits for it any more. The locator interprets the answers.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::{Registry, Token};

use super::cache::DnsCache;
use super::channels::{Channels, Reply};
use super::file_watch::FileWatch;
use super::hosts::Hosts;
use super::known_domains::KnownDomains;
use super::pending::{Answered, Flight, Pending, Waiters};
pub use super::pending::{DnsAnswer, Waiter};
use super::question::{Error, Family, Question, Records};
use super::slots::{SlotKind, Slots};
use crate::net::source::Source;
use crate::net::turns::Turns;

/// Maximum time for which an answer is cached.
const MAX_CACHED_MS: u64 = 60_000;
/// How long the absence of a record is cached. c-ares does not report the TTL for that (RFC
/// 2308, section 5).
const MISSING_CACHED_MS: u64 = 5_000;
/// Size of a question without its name, here and in c-ares while it is in flight.
const QUESTION_BYTES: usize = 1024;
const WAITER_BYTES: usize = 192;

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Questions sent to the DNS.
    pub queries: u64,
    /// Questions that the cache answered.
    pub hits: u64,
    /// Questions that the DNS did not answer.
    pub failures: u64,
}

/// The resolver of a worker.
pub struct Resolver {
    channels: Channels,
    /// The file with the DNS servers; `None` if the configuration names servers.
    resolv_conf: Option<FileWatch>,
    hosts: Hosts,
    cache: DnsCache,
    known: KnownDomains,
    pending: BTreeMap<usize, Pending>,
    /// The key of the next question. No key is used twice.
    next_key: usize,
    keys: HashMap<Arc<Question>, usize>,
    answered: VecDeque<Answered>,
    /// Questions by ticket.
    in_flight: HashMap<u64, usize>,
    /// Questions that wait for their turn, by [`SlotKind`].
    turns: [Turns; 2],
    slots: Slots,
    at_once: VecDeque<DnsAnswer>,
    counts: Counts,
    /// Bytes of questions and waiters.
    bytes: usize,
    /// When c-ares needs to run again.
    due_ms: Option<u64>,
    notes: VecDeque<String>,
    registry: Registry,
    token: Token,
}

impl Resolver {
    /// Creates a resolver whose sockets are polled with `token`. Without `servers` it asks
    /// the servers in resolv.conf, and follows changes to that file.
    ///
    /// # Errors
    /// c-ares cannot be started.
    pub fn new(
        registry: Registry,
        token: Token,
        servers: &[SocketAddr],
    ) -> Result<Resolver, String> {
        let files = ["/etc/hosts", "/etc/resolv.conf"].map(PathBuf::from);
        Resolver::with_files(registry, token, servers, files)
    }

    /// Does what [`Resolver::new`] does, with other paths for the hosts file and
    /// resolv.conf.
    pub fn with_files(
        registry: Registry,
        token: Token,
        servers: &[SocketAddr],
        [hosts, resolv_conf]: [PathBuf; 2],
    ) -> Result<Resolver, String> {
        let watch = FileWatch::new(resolv_conf);
        let failed = |error| format!("cannot use epoll: {error}");
        let for_channels = registry.try_clone().map_err(failed)?;
        let channels = Channels::new(for_channels, token, servers, watch.path())?;
        Ok(Resolver {
            channels,
            resolv_conf: servers.is_empty().then_some(watch),
            hosts: Hosts::new(hosts),
            cache: DnsCache::default(),
            known: KnownDomains::default(),
            pending: BTreeMap::new(),
            next_key: 0,
            keys: HashMap::new(),
            answered: VecDeque::new(),
            in_flight: HashMap::new(),
            turns: Default::default(),
            slots: Slots::default(),
            at_once: VecDeque::new(),
            counts: Counts::default(),
            bytes: 0,
            due_ms: None,
            notes: VecDeque::new(),
            registry,
            token,
        })
    }

    /// Asks a question at `now_ms`. Each waiter gets the answer once, even if it asks
    /// repeatedly. The returned key identifies the question until then; `None` if the
    /// answer is available at once.
    pub fn ask(&mut self, waiter: &Waiter, question: Question, now_ms: u64) -> Option<usize> {
        if let Some(result) = self.answer_at_once(&question, now_ms) {
            self.queue_answer(waiter, question, result);
            return None;
        }
        let known = self.keys.get(&question).copied();
        let key = known.unwrap_or(self.next_key);
        let pending = self.pending.get(&key);
        if pending.is_some_and(|pending| pending.waiters.contains_key(&waiter.id)) {
            return Some(key);
        }
        let kind = match self.known.contains(&waiter.domain, now_ms) {
            true => SlotKind::Known,
            false => SlotKind::General,
        };
        if pending.is_none_or(|pending| pending.flight.is_none()) {
            let turns = &mut self.turns[kind as usize];
            if !turns.have_room_for(waiter.asker) {
                self.queue_answer(waiter, question, Err(Error::TooMany));
                return None;
            }
            turns.push(waiter.asker, &waiter.domain, key);
        }
        if known.is_none() {
            self.next_key += 1;
            self.bytes += QUESTION_BYTES + question.name().len();
        }
        let pending = self.pending.entry(key).or_insert_with(|| {
            let question = Arc::new(question);
            self.keys.insert(Arc::clone(&question), key);
            Pending {
                question,
                waiters: Waiters::new(),
                flight: None,
            }
        });
        self.bytes += WAITER_BYTES;
        pending.waiters.insert(waiter.id, (waiter.clone(), kind));
        self.send_due(now_ms);
        Some(key)
    }

    fn queue_answer(
        &mut self,
        waiter: &Waiter,
        question: Question,
        result: Result<Records, Error>,
    ) {
        self.at_once.push_back(DnsAnswer {
            question: Arc::new(question),
            result,
            waiters: vec![waiter.id],
            key: None,
        });
    }

    /// The answer, if it is known without the DNS.
    fn answer_at_once(
        &mut self,
        question: &Question,
        now_ms: u64,
    ) -> Option<Result<Records, Error>> {
        // The DNS has no such names (RFC 7686).
        if question.name().ends_with(".onion") {
            return Some(Err(Error::NotFound));
        }
        if let Question::Host(name, family) = question {
            let known = match name.parse() {
                Ok(address) => vec![address],
                Err(_) => self.hosts_file(name, now_ms),
            };
            if !known.is_empty() {
                let fits = |address: &IpAddr| address.is_ipv6() == (*family == Family::V6);
                let addresses: Vec<_> = known.into_iter().filter(fits).collect();
                return Some(match addresses.is_empty() {
                    true => Err(Error::NotFound),
                    false => Ok(Records::Addresses(addresses)),
                });
            }
        }
        let kept = self.cache.find(question, now_ms).cloned();
        self.counts.hits += u64::from(kept.is_some());
        kept
    }

    /// The addresses of a name in the hosts file.
    pub(crate) fn hosts_file(&mut self, name: &str, now_ms: u64) -> Vec<IpAddr> {
        self.hosts.refresh(now_ms);
        self.hosts.find(name)
    }

    /// Ends a look-up's wait for a question. A question without other waiters is dropped.
    pub fn forget(&mut self, id: u64, key: usize) {
        let Some(pending) = self.pending.get_mut(&key) else {
            return;
        };
        let Some((waiter, kind)) = pending.waiters.remove(&id) else {
            return;
        };
        self.bytes -= WAITER_BYTES;
        if pending.flight.is_none() {
            self.turns[kind as usize].remove(waiter.asker, &waiter.domain, key);
        }
        if pending.waiters.is_empty()
            && let Some(Pending { flight, .. }) = self.remove(key)
            && let Some(flight) = flight
        {
            self.channels.drop_question(flight.ticket);
        }
    }

    fn remove(&mut self, key: usize) -> Option<Pending> {
        let pending = self.pending.remove(&key)?;
        self.bytes -= QUESTION_BYTES + pending.question.name().len();
        self.keys.remove(&pending.question);
        if let Some(flight) = &pending.flight {
            self.in_flight.remove(&flight.ticket);
            self.slots.give_back(flight.kind, flight.asker);
        }
        Some(pending)
    }

    /// When a question was sent to the DNS; `None` while it waits for its turn.
    pub(crate) fn asked_at(&self, key: usize) -> Option<u64> {
        let flight = self.pending.get(&key)?.flight?;
        Some(flight.since_ms)
    }

    /// Records that a server of a domain was found.
    pub(crate) fn note_found(&mut self, domain: &Rc<str>, now_ms: u64) {
        self.known.insert(domain, now_ms);
    }

    /// Records that the DNS did not answer for a domain.
    pub(crate) fn note_failed(&mut self, domain: &Rc<str>) {
        self.known.remove(domain);
    }

    /// Switches to the servers of another resolver, and repeats the questions in flight
    /// there.
    pub(crate) fn switch_to(&mut self, other: Resolver, now_ms: u64) {
        self.resolv_conf = other.resolv_conf;
        self.hosts = other.hosts;
        self.repeat_through(other.channels, now_ms);
    }

    fn repeat_through(&mut self, channels: Channels, now_ms: u64) {
        self.channels = channels;
        self.cache.clear();
        self.in_flight.clear();
        for (key, pending) in &mut self.pending {
            if let Some(flight) = &mut pending.flight {
                flight.ticket = self.channels.ask(&pending.question);
                flight.since_ms = now_ms;
                self.in_flight.insert(flight.ticket, *key);
            }
        }
        self.set_due(now_ms);
    }

    /// Reads resolv.conf again if it has changed.
    fn follow_resolv_conf(&mut self, now_ms: u64) {
        let Some(watch) = &mut self.resolv_conf else {
            return;
        };
        if !watch.has_changed(now_ms) || !watch.exists() {
            return;
        }
        let path = watch.path().to_owned();
        let registry = self.registry.try_clone().map_err(|error| error.to_string());
        let channels =
            registry.and_then(|registry| Channels::new(registry, self.token, &[], &path));
        let note = match channels {
            Ok(channels) => {
                self.repeat_through(channels, now_ms);
                format!("{} has changed and was read again", path.display())
            }
            Err(why) => format!(
                "{} has changed, but cannot be used: {why}; keeping the old one",
                path.display()
            ),
        };
        self.notes.push_back(note);
    }

    /// The addresses of the DNS servers.
    pub(crate) fn servers(&self) -> &[String] {
        self.channels.servers()
    }

    /// The totals so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// The memory that questions, waiters and cached answers hold, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes
            + self.cache.held_bytes()
            + self.known.held_bytes()
            + self.channels.dropped() * QUESTION_BYTES
    }

    /// Drops the cached answers.
    pub(crate) fn drop_cache(&mut self) {
        self.cache.clear();
        self.known = KnownDomains::default();
    }

    /// Returns a new note for the operator, if any.
    pub fn next_note(&mut self) -> Option<String> {
        self.notes.pop_front().or_else(|| self.hosts.take_note())
    }

    /// Handles what arrived on the sockets, and timeouts.
    pub fn process(&mut self, now_ms: u64) {
        self.follow_resolv_conf(now_ms);
        self.channels.process();
        self.set_due(now_ms);
    }

    /// When `process` must be called again.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms.filter(|_| self.channels.are_busy())
    }

    fn set_due(&mut self, now_ms: u64) {
        let wait = match self.channels.has_replies() {
            true => Some(Duration::ZERO),
            false => self.channels.timeout(),
        };
        self.due_ms = wait.map(|wait| now_ms + u64::try_from(wait.as_millis()).unwrap_or(0));
    }

    /// Whether [`Resolver::next_answer`] has an answer.
    pub fn has_answers(&self) -> bool {
        !self.at_once.is_empty() || !self.answered.is_empty()
    }

    /// The next answer, if there is one, for some of its waiters.
    pub fn next_answer(&mut self, now_ms: u64) -> Option<DnsAnswer> {
        if let Some(answer) = self.at_once.pop_front() {
            return Some(answer);
        }
        while let Some((question, reply, ticket)) = self.channels.next_reply() {
            self.take_reply(question, reply, ticket, now_ms);
        }
        let Some(mut answered) = self.answered.pop_front() else {
            // Only after all finished look-ups were removed: one may have waited for a turn.
            self.send_due(now_ms);
            return None;
        };
        let answer = answered.next_part();
        self.bytes -= WAITER_BYTES * answer.waiters.len();
        if answered.waiters.len() > 0 {
            self.answered.push_back(answered);
        }
        Some(answer)
    }

    /// Keeps a reply for those that will ask, and for those that wait.
    fn take_reply(
        &mut self,
        question: Arc<Question>,
        reply: Reply,
        ticket: Option<u64>,
        now_ms: u64,
    ) {
        let keep_ms = match &reply {
            Ok((_, ttl)) => (u64::from(*ttl) * 1000).min(MAX_CACHED_MS),
            Err(Error::NotFound) => MISSING_CACHED_MS,
            Err(_) => 0,
        };
        let result = reply.map(|(records, _)| records);
        // Cached even without a waiter, because it may be asked again.
        if keep_ms > 0 {
            self.cache.keep(&question, result.clone(), now_ms, keep_ms);
        }
        let key = ticket.and_then(|ticket| self.in_flight.get(&ticket).copied());
        if let Some(key) = key
            && let Some(Pending { waiters, .. }) = self.remove(key)
        {
            self.counts.failures += u64::from(matches!(result, Err(Error::Failed(_))));
            self.answered.push_back(Answered {
                key,
                question,
                result,
                waiters: waiters.into_keys(),
            });
        }
    }

    /// Sends the questions whose turn it is, as far as the slots allow.
    pub fn send_due(&mut self, now_ms: u64) {
        let mut asked = false;
        while let Some((key, kind, asker)) = self.next_turn() {
            if !asked {
                self.follow_resolv_conf(now_ms);
            }
            asked = true;
            for turns in &mut self.turns {
                turns.remove_all(key);
            }
            let Some(pending) = self.pending.get_mut(&key) else {
                continue;
            };
            self.slots.take(kind, asker);
            self.counts.queries += 1;
            let ticket = self.channels.ask(&pending.question);
            self.in_flight.insert(ticket, key);
            pending.flight = Some(Flight {
                ticket,
                kind,
                asker,
                since_ms: now_ms,
            });
        }
        if asked {
            self.set_due(now_ms);
        }
    }

    /// The question whose turn it is, and the kind of its slot. A known domain may use
    /// either kind.
    fn next_turn(&mut self) -> Option<(usize, SlotKind, Source)> {
        for (queue, kind) in [
            (SlotKind::Known, SlotKind::Known),
            (SlotKind::Known, SlotKind::General),
            (SlotKind::General, SlotKind::General),
        ] {
            let turns = &mut self.turns[queue as usize];
            if turns.is_empty() || !self.slots.has_free(kind) {
                continue;
            }
            let may = |asker| self.slots.has_free_for(kind, asker);
            if let Some((asker, key)) = turns.next(may) {
                return Some((key, kind, asker));
            }
        }
        None
    }
}
