//! Finds a domain's server: SRV records, their order, their addresses.
//!
//! Owns the steps from a domain to addresses. Both services are asked for at once
//! (XEP-0368), and their records are merged and ordered by priority and weight (RFC 2782).
//! The targets are looked up in parallel. The domain itself is used only if there are no
//! records at all, or no answer (RFC 6120, section 3.2). Targets are returned as soon as
//! possible in this order; once there is a target to connect to, slow answers are not
//! waited for. The cost of a turn does not grow with the number of waiting look-ups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::hosts::is_localhost;
use super::look_up::{
    Asked, HOLD_MS, LookUp, Mixed, Patience, ServerHost, ServiceKind, service_question,
};
use super::question::{Error as DnsError, Family, Question};
use super::resolver::{DnsAnswer, Resolver, Waiter};
pub use super::target::{Error, PORT, Target};
use crate::config::{Host, Server, ServerAddress};
use crate::net::source::Source;
use crate::net::step::{Observer, Step};

/// How long to wait for SRV answers before asking for the domain itself too: one packet and
/// its repetition.
const ASIDE_MS: u64 = 500;
/// How long to wait for SRV answers before their absence counts as no record, if the domain
/// itself has addresses: three packets, and less than the 2 s after which clients give up.
const SILENCE_MS: u64 = 1500;

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The server of a domain.
    Domain {
        /// The domain, as A-labels.
        name: String,
        /// Whether servers with STARTTLS or plain text are acceptable.
        clear: bool,
        /// Whether servers with TLS from the first byte are acceptable.
        direct: bool,
    },
    /// Servers that the configuration or another server names.
    Servers {
        /// The servers.
        servers: Arc<[Server]>,
        /// Whether they expect TLS from the first byte.
        direct: bool,
    },
}

/// A result of a look-up, which may have several.
#[derive(Debug)]
pub struct Answer {
    /// The id of the look-up.
    pub id: u64,
    /// Targets in the order in which to try them, or why there are none.
    pub targets: Result<Vec<Target>, Error>,
    /// Whether this is the last result.
    pub last: bool,
}

/// Both address families, in the order of `ServerHost::found`.
const FAMILIES: [Family; 2] = [Family::V6, Family::V4];

/// The look-ups of a worker.
pub struct Locator {
    /// Answers the questions of look-ups.
    pub resolver: Resolver,
    look_ups: BTreeMap<u64, LookUp>,
    /// When to check look-ups again, with their ids.
    due: BTreeSet<(u64, u64)>,
    ready: VecDeque<Answer>,
    random: fn(u32) -> u32,
    /// Number of times that a look-up was checked.
    visits: u64,
    /// Bytes of the look-ups.
    bytes: usize,
    pub(crate) observer: Observer,
}

impl Locator {
    /// Creates a locator that asks `resolver`. `random` returns a number from 0 to its
    /// argument.
    pub fn new(resolver: Resolver, random: fn(u32) -> u32) -> Locator {
        Locator {
            resolver,
            look_ups: BTreeMap::new(),
            due: BTreeSet::new(),
            ready: VecDeque::new(),
            random,
            visits: 0,
            bytes: 0,
            observer: Observer::default(),
        }
    }

    /// Starts a look-up for `asker`. Its answers carry `id`.
    pub fn look_up(&mut self, id: u64, wanted: &Wanted, asker: Source, now_ms: u64) {
        let domain = match wanted {
            Wanted::Domain { name, .. } => name.as_str().into(),
            Wanted::Servers { servers, .. } => names(servers).into(),
        };
        let waiter = Waiter { id, asker, domain };
        let mut look_up = LookUp::new(waiter);
        match wanted {
            Wanted::Servers { servers, direct } => {
                look_up.plan_configured(servers, *direct, self.random);
                self.ask_hosts(&mut look_up, now_ms);
            }
            Wanted::Domain {
                name,
                clear,
                direct,
            } => self.ask_services(&mut look_up, name, [*clear, *direct], now_ms),
        }
        self.advance(look_up, now_ms);
    }

    /// Asks for those services of a domain that are wanted, and looks it up in the hosts file.
    fn ask_services(
        &mut self,
        look_up: &mut LookUp,
        domain: &str,
        [clear, direct]: [bool; 2],
        now_ms: u64,
    ) {
        let local = is_localhost(domain);
        look_up.may_fall_back = clear && !local;
        let addresses = self.resolver.hosts_file(domain, now_ms);
        self.observer.tell(&Step::HostsFile(domain, &addresses));
        look_up.in_hosts_file = clear && !addresses.is_empty();
        if look_up.in_hosts_file {
            look_up.hold_until = Some(now_ms + HOLD_MS);
        }
        for at in 0..look_up.services.len() {
            let (kind, answer) = &mut look_up.services[at];
            let wanted = match kind {
                ServiceKind::Clear => clear,
                ServiceKind::Direct => direct,
            };
            if !wanted {
                *answer = Some(Ok(Vec::new()));
            } else if local {
                *answer = Some(Err(DnsError::NotFound));
            } else {
                let question = service_question(*kind, domain);
                self.ask(look_up, question, now_ms);
            }
        }
    }

    /// Drops a look-up, and the questions that only this look-up waited for.
    pub fn forget(&mut self, id: u64) {
        if let Some(look_up) = self.take(id) {
            self.drop_questions(look_up);
        }
    }

    fn drop_questions(&mut self, look_up: LookUp) {
        for asked in look_up.asked {
            self.resolver.forget(look_up.waiter.id, asked.key);
        }
    }

    /// Switches to another resolver, also for questions without an answer.
    pub fn replace_resolver(&mut self, resolver: Resolver, now_ms: u64) {
        self.resolver.switch_to(resolver, now_ms);
    }

    /// The memory that look-ups, questions and answers hold, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.bytes + self.resolver.held_bytes()
    }

    /// How often look-ups were checked since the start.
    pub fn visits(&self) -> u64 {
        self.visits
    }

    /// Whether `process` is due.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.resolver.due_ms().is_some_and(|due| due <= now_ms)
    }

    /// When `process` and `advance_look_ups` must be called, at the latest.
    pub fn due_ms(&self) -> Option<u64> {
        let look_up = self.due.first().map(|(due, _)| *due);
        look_up.into_iter().chain(self.resolver.due_ms()).min()
    }

    /// Returns the last result of a look-up that has just been started, if it has one already.
    pub(crate) fn take_answer(&mut self, id: u64) -> Option<Answer> {
        let newest = self.ready.back();
        let is_it = newest.is_some_and(|answer| answer.id == id && answer.last);
        is_it.then(|| self.ready.pop_back()).flatten()
    }

    /// Returns the next result, if there is one.
    pub fn next_answer(&mut self) -> Option<Answer> {
        self.ready.pop_front()
    }

    /// Gives answers from the DNS to look-ups, and checks the look-ups that are due: about
    /// `most` of them. The others get theirs in the next call.
    pub fn advance_look_ups(&mut self, most: usize, now_ms: u64) {
        let mut count = 0;
        while count < most {
            match self.advance_some(now_ms) {
                0 => return,
                some => count += some,
            }
        }
        self.resolver.send_due(now_ms);
    }

    /// Whether [`Locator::advance_look_ups`] has something to do.
    pub fn is_behind(&self, now_ms: u64) -> bool {
        let is_due = self.due.first().is_some_and(|(due, _)| *due <= now_ms);
        is_due || self.resolver.has_answers()
    }

    /// Does this for some look-ups. Returns how many.
    fn advance_some(&mut self, now_ms: u64) -> usize {
        if let Some(answer) = self.resolver.next_answer(now_ms) {
            return self.take_answer_of_dns(answer, now_ms);
        }
        match self.due.first() {
            Some(&(due, id)) if due <= now_ms => {
                if let Some(look_up) = self.take(id) {
                    self.advance(look_up, now_ms);
                }
                1
            }
            _ => 0,
        }
    }

    fn take_answer_of_dns(&mut self, answer: DnsAnswer, now_ms: u64) -> usize {
        let DnsAnswer {
            question,
            result,
            waiters,
            key,
        } = answer;
        self.observer.tell(&Step::Answered {
            question: &question,
            result: &result,
            local: key.is_none(),
        });
        let count = waiters.len();
        for id in waiters {
            if let Some(mut look_up) = self.take(id) {
                look_up.asked.retain(|asked| Some(asked.key) != key);
                look_up.take_answer(&question, &result);
                self.advance(look_up, now_ms);
            }
        }
        count
    }

    fn take(&mut self, id: u64) -> Option<LookUp> {
        let look_up = self.look_ups.remove(&id)?;
        self.visits += 1;
        self.bytes -= look_up.held_bytes();
        if let Some(due) = look_up.due {
            self.due.remove(&(due, id));
        }
        Some(look_up)
    }

    /// Stores a look-up until an answer arrives, its hold ends, or the time `check`.
    fn put(&mut self, mut look_up: LookUp, check: Option<u64>) {
        look_up.due = look_up.hold_until.into_iter().chain(check).min();
        let id = look_up.waiter.id;
        if let Some(due) = look_up.due {
            self.due.insert((due, id));
        }
        self.bytes += look_up.held_bytes();
        self.look_ups.insert(id, look_up);
    }

    fn ask(&mut self, look_up: &mut LookUp, question: Question, now_ms: u64) {
        let is_service = matches!(question, Question::Service(_));
        if let Some(key) = self.resolver.ask(&look_up.waiter, question, now_ms)
            && look_up.asked.iter().all(|asked| asked.key != key)
        {
            look_up.asked.push(Asked { key, is_service });
        }
    }

    /// Asks for all addresses that are not known.
    fn ask_hosts(&mut self, look_up: &mut LookUp, now_ms: u64) {
        let mut questions = Vec::new();
        for host in look_up.hosts.iter().flatten().chain(&look_up.fallback) {
            for family in FAMILIES {
                let question = Question::Host(host.name.clone(), family);
                if host.found[family as usize].is_none() && !questions.contains(&question) {
                    questions.push(question);
                }
            }
        }
        for question in questions {
            self.ask(look_up, question, now_ms);
        }
    }

    /// Advances a look-up as far as the known answers allow.
    fn advance(&mut self, mut look_up: LookUp, now_ms: u64) {
        let mut overdue = look_up.hold_until.is_some_and(|until| now_ms >= until);
        if look_up.hosts.is_none() {
            let silence = self.silence_until(&look_up);
            let over = silence.is_some_and(|until| now_ms >= until) && look_up.can_fall_back();
            let patience = match over {
                true => Patience::Over,
                false if overdue => Patience::UntilUsable,
                false => Patience::All,
            };
            match look_up.services_known(patience) {
                None => return self.wait_for_services(look_up, now_ms),
                Some(Err(error)) => return self.end(look_up, Err(error)),
                Some(Ok(mixed)) => self.plan(&mut look_up, mixed, now_ms),
            }
            // So far no target has waited for an address, unless the SRV questions had no
            // answer.
            overdue = over;
            look_up.hold_until = None;
        }
        let (targets, complete) = look_up.give(overdue);
        if !targets.is_empty() && !look_up.found {
            look_up.found = true;
            if !look_up.waiter.domain.is_empty() {
                self.resolver.note_found(&look_up.waiter.domain, now_ms);
            }
        }
        if complete {
            let result = match look_up.found {
                true => Ok(targets),
                false => Err(look_up.why_not_found()),
            };
            return self.end(look_up, result);
        }
        if !targets.is_empty() {
            self.answer(look_up.waiter.id, Ok(targets), false);
        }
        look_up.hold(now_ms);
        self.put(look_up, None);
    }

    /// Chooses the targets and asks for their addresses. Other questions are dropped.
    fn plan(&mut self, look_up: &mut LookUp, mixed: Mixed, now_ms: u64) {
        let old = std::mem::take(&mut look_up.asked);
        look_up.plan(mixed, self.random);
        self.ask_hosts(look_up, now_ms);
        for asked in old {
            if look_up.asked.iter().all(|other| other.key != asked.key) {
                self.resolver.forget(look_up.waiter.id, asked.key);
            }
        }
    }

    /// When open SRV questions count as unanswered. `None` while one of them waits for its
    /// turn, or if the domain's own addresses must not be used.
    fn silence_until(&self, look_up: &LookUp) -> Option<u64> {
        if !look_up.may_fall_back {
            return None;
        }
        let services = look_up.asked.iter().filter(|asked| asked.is_service);
        let asked_at = services.map(|asked| self.resolver.asked_at(asked.key));
        let last = asked_at.collect::<Option<Vec<_>>>()?.into_iter().max();
        last.map(|last| last + SILENCE_MS)
    }

    /// Waits for the SRV answers. If they take long, also asks for the domain itself.
    fn wait_for_services(&mut self, mut look_up: LookUp, now_ms: u64) {
        look_up.hold(now_ms);
        let check = match self.silence_until(&look_up) {
            _ if look_up.hold_until.is_some() || !look_up.may_fall_back => None,
            // An SRV question waits for its turn.
            None => Some(now_ms + ASIDE_MS),
            Some(until) if look_up.fallback.is_none() => {
                let aside = until - (SILENCE_MS - ASIDE_MS);
                let wait = now_ms < aside;
                if !wait {
                    look_up.fallback = Some(ServerHost::fallback(&look_up.waiter.domain));
                    self.ask_hosts(&mut look_up, now_ms);
                }
                wait.then_some(aside)
            }
            // Without addresses, wait for those of the domain itself.
            Some(until) => look_up.can_fall_back().then_some(until),
        };
        self.put(look_up, check);
    }

    fn end(&mut self, look_up: LookUp, result: Result<Vec<Target>, Error>) {
        if let Err(Error::Failed(_)) = result {
            self.resolver.note_failed(&look_up.waiter.domain);
        }
        self.answer(look_up.waiter.id, result, true);
        self.drop_questions(look_up);
    }

    fn answer(&mut self, id: u64, targets: Result<Vec<Target>, Error>, last: bool) {
        self.ready.push_back(Answer { id, targets, last });
    }
}

/// Returns the names of servers, which must be looked up; empty if there are none.
fn names(servers: &[Server]) -> String {
    let name = |server: &Server| match &server.address {
        ServerAddress::Tcp {
            host: Host::Name(name),
            ..
        } => Some(name.clone()),
        _ => None,
    };
    let names: Vec<_> = servers.iter().filter_map(name).collect();
    names.join(", ")
}
