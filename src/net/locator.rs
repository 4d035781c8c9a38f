//! Where a domain's server is: SRV records, their order, their addresses.
//!
//! Owns the steps from a domain to addresses: both services asked together
//! (XEP-0368), mixed and ordered by priority and weight (RFC 2782), targets
//! looked up side by side, the domain itself only where there is no record at
//! all (RFC 6120, section 3.2). What comes first is given out first; slow
//! answers are not waited for once there is something to dial.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::order::{by_lot, interleaved};
use super::resolver::{
    Counts, Error as DnsError, Family, Question, Records, Resolver, Service, is_localhost,
};

/// Targets of SRV records that are looked up.
const MAX_TARGETS: usize = 8;
/// How long something slower that should come first is waited for.
const HOLD_MS: u64 = 200;
/// Port of XMPP servers for clients (RFC 6120, section 14.7).
pub const PORT: u16 = 5222;

/// What is sought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The server of a domain.
    Domain {
        /// The domain, as A-labels.
        name: String,
        /// Whether servers that speak STARTTLS or plain text will do.
        clear: bool,
        /// Whether servers that speak TLS from the first byte will do.
        direct: bool,
    },
    /// One host, at a port.
    Host {
        /// Its name.
        name: String,
        /// The port.
        port: u16,
        /// Whether it speaks TLS from the first byte.
        direct: bool,
    },
}

/// A place to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether TLS is spoken from the first byte.
    pub direct: bool,
    /// Whether host and port were chosen by an SRV record or a configuration,
    /// and are not just the domain at its standard port.
    pub by_srv: bool,
}

/// Why there is no place to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The domain does not exist, or offers no such service.
    NotFound,
    /// The SRV records say that there is no such service.
    NotOffered,
    /// The host that a record or the configuration names has no address.
    HostNotFound,
    /// The DNS gave no answer.
    Failed(DnsError),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotFound | Error::HostNotFound => DnsError::NotFound.fmt(f),
            Error::NotOffered => f.write_str("its SRV record says '.': no such service"),
            Error::Failed(error) => error.fmt(f),
        }
    }
}

/// Something found out about a look-up.
#[derive(Debug)]
pub struct Answer {
    /// The id that the look-up was given.
    pub id: u64,
    /// Places, in the order to dial; or that there are none.
    pub targets: Result<Vec<Target>, Error>,
    /// Whether no more comes.
    pub last: bool,
}

/// Both services of a domain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clear,
    Direct,
}

/// A target on its way to addresses.
struct Place {
    host: String,
    port: u16,
    direct: bool,
    by_srv: bool,
    /// Addresses not given out yet, by family; `None` while they are asked for.
    found: [Option<Vec<IpAddr>>; 2],
}

/// Both families, in the order of [`Place::found`].
const FAMILIES: [Family; 2] = [Family::V6, Family::V4];

/// The answer to an SRV question; `None` while it is out.
type ServiceAnswer = Option<Result<Vec<Service>, DnsError>>;

/// A look-up under way.
struct LookUp {
    domain: String,
    /// Answers to the SRV questions.
    services: [(Kind, ServiceAnswer); 2],
    /// Targets in order, once the services are known.
    places: Option<Vec<Place>>,
    /// When what has come is not held back any longer.
    hold_until: Option<u64>,
    failure: Option<Error>,
    found: bool,
    /// The domain itself has addresses without the DNS: the DNS is not waited
    /// for long, nor are they lost when the DNS fails.
    in_hosts_file: bool,
}

/// The look-ups of a worker.
pub struct Locator {
    resolver: Resolver,
    look_ups: HashMap<u64, LookUp>,
    waiters: HashMap<Question, Vec<u64>>,
    ready: VecDeque<Answer>,
    random: fn(u32) -> u32,
}

impl Locator {
    /// A locator that asks `resolver`; `random` gives a number from 0 to its
    /// argument.
    pub fn new(resolver: Resolver, random: fn(u32) -> u32) -> Locator {
        Locator {
            resolver,
            look_ups: HashMap::new(),
            waiters: HashMap::new(),
            ready: VecDeque::new(),
            random,
        }
    }

    /// Begins a look-up; its answers come with `id`.
    pub fn look_up(&mut self, id: u64, wanted: &Wanted, now_ms: u64) {
        let mut look_up = LookUp {
            domain: String::new(),
            services: [(Kind::Clear, None), (Kind::Direct, None)],
            places: None,
            hold_until: None,
            failure: None,
            found: false,
            in_hosts_file: false,
        };
        match wanted {
            Wanted::Host { name, port, direct } => {
                look_up.places = Some(vec![Place::new(name.clone(), *port, *direct, true)]);
                self.ask_host(id, name, now_ms);
            }
            Wanted::Domain {
                name,
                clear,
                direct,
            } => {
                look_up.domain.clone_from(name);
                look_up.in_hosts_file = *clear && !self.resolver.hosts_file(name).is_empty();
                if look_up.in_hosts_file {
                    look_up.hold_until = Some(now_ms + HOLD_MS);
                }
                for (kind, answer) in &mut look_up.services {
                    let wanted = match kind {
                        Kind::Clear => *clear,
                        Kind::Direct => *direct,
                    };
                    if !wanted {
                        *answer = Some(Ok(Vec::new()));
                    } else if is_localhost(name) {
                        *answer = Some(Err(DnsError::NotFound));
                    } else {
                        self.ask(id, question(*kind, name), now_ms);
                    }
                }
            }
        }
        match look_up.places.is_none() && look_up.services_known(false).is_some() {
            // Nothing had to be asked.
            true => self.advance(id, look_up, now_ms),
            false => {
                self.look_ups.insert(id, look_up);
            }
        }
    }

    /// Forgets a look-up.
    pub fn forget(&mut self, id: u64) {
        self.look_ups.remove(&id);
    }

    /// Asks another resolver from now on, also what is not answered yet.
    pub fn replace_resolver(&mut self, resolver: Resolver, now_ms: u64) {
        self.resolver = resolver;
        for question in self.waiters.keys() {
            self.resolver.ask(question.clone(), now_ms);
        }
    }

    /// What the resolver has done so far.
    pub fn counts(&self) -> Counts {
        self.resolver.counts()
    }

    /// Works off what arrived, and what timed out.
    pub fn process(&mut self) {
        self.resolver.process();
    }

    /// Whether `process` is due.
    pub fn is_due(&self) -> bool {
        self.resolver.timeout().is_some_and(|wait| wait.is_zero())
    }

    /// The longest wait before `process` and `next_answer` are to be called.
    pub fn timeout(&self, now_ms: u64) -> Option<Duration> {
        let holds = self.look_ups.values().filter_map(|l| l.hold_until);
        let hold = holds.min().map(|until| {
            // Rounded up, or the loop would spin through the last millisecond.
            Duration::from_millis(until.saturating_sub(now_ms) + 1)
        });
        hold.into_iter().chain(self.resolver.timeout()).min()
    }

    /// The next thing found out, if there is one.
    pub fn next_answer(&mut self, now_ms: u64) -> Option<Answer> {
        self.take_answers(now_ms);
        let overdue = |look_up: &LookUp| look_up.hold_until.is_some_and(|until| now_ms >= until);
        let due: Vec<u64> = self
            .look_ups
            .iter()
            .filter(|(_, look_up)| overdue(look_up))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            if let Some(look_up) = self.look_ups.remove(&id) {
                self.advance(id, look_up, now_ms);
            }
        }
        // What they asked may be known already.
        self.take_answers(now_ms);
        self.ready.pop_front()
    }

    fn take_answers(&mut self, now_ms: u64) {
        while let Some((question, result)) = self.resolver.next_answer(now_ms) {
            for id in self.waiters.remove(&question).unwrap_or_default() {
                if let Some(mut look_up) = self.look_ups.remove(&id) {
                    look_up.take(&question, &result);
                    self.advance(id, look_up, now_ms);
                }
            }
        }
    }

    fn ask(&mut self, id: u64, question: Question, now_ms: u64) {
        self.waiters.entry(question.clone()).or_default().push(id);
        self.resolver.ask(question, now_ms);
    }

    fn ask_host(&mut self, id: u64, name: &str, now_ms: u64) {
        for family in FAMILIES {
            self.ask(id, Question::Host(name.to_owned(), family), now_ms);
        }
    }

    /// Takes a look-up as far as what is known allows.
    fn advance(&mut self, id: u64, mut look_up: LookUp, now_ms: u64) {
        let overdue = look_up.hold_until.is_some_and(|until| now_ms >= until);
        if look_up.places.is_none() {
            match look_up.services_known(overdue) {
                None => {
                    look_up.hold(now_ms);
                    self.look_ups.insert(id, look_up);
                    return;
                }
                Some(Err(error)) => {
                    self.answer(id, Err(error), true);
                    return;
                }
                Some(Ok(mixed)) => {
                    look_up.hold_until = None;
                    let mut hosts = Vec::new();
                    let mut places = Vec::new();
                    if mixed.is_empty() {
                        let place = Place::new(look_up.domain.clone(), PORT, false, false);
                        places.push(place);
                    }
                    let ordered = by_lot(mixed, self.random);
                    for (service, kind) in ordered.into_iter().take(MAX_TARGETS) {
                        let direct = kind == Kind::Direct;
                        places.push(Place::new(service.host, service.port, direct, true));
                    }
                    for place in &places {
                        if !hosts.contains(&place.host) {
                            hosts.push(place.host.clone());
                        }
                    }
                    look_up.places = Some(places);
                    for host in hosts {
                        self.ask_host(id, &host, now_ms);
                    }
                    self.look_ups.insert(id, look_up);
                    return;
                }
            }
        }
        let (targets, complete) = look_up.give(overdue);
        look_up.found |= !targets.is_empty();
        if complete && !look_up.found {
            let places = look_up.places.iter().flatten();
            let unknown = match places.into_iter().any(|place| place.by_srv) {
                true => Error::HostNotFound,
                false => Error::NotFound,
            };
            let failure = look_up.failure.unwrap_or(unknown);
            self.answer(id, Err(failure), true);
            return;
        }
        if !targets.is_empty() || complete {
            self.answer(id, Ok(targets), complete);
        }
        if !complete {
            look_up.hold(now_ms);
            self.look_ups.insert(id, look_up);
        }
    }

    fn answer(&mut self, id: u64, targets: Result<Vec<Target>, Error>, last: bool) {
        self.ready.push_back(Answer { id, targets, last });
    }
}

impl Place {
    fn new(host: String, port: u16, direct: bool, by_srv: bool) -> Place {
        Place {
            host,
            port,
            direct,
            by_srv,
            found: [None, None],
        }
    }
}

impl LookUp {
    fn take(&mut self, asked: &Question, result: &Result<Records, DnsError>) {
        match (asked, result) {
            (Question::Host(name, family), result) => {
                let addresses = match result {
                    Ok(Records::Addresses(addresses)) => addresses.clone(),
                    Ok(Records::Services(_)) => Vec::new(),
                    Err(error) => {
                        // A failure is more than a name that does not exist.
                        if let DnsError::Failed(_) = error {
                            self.failure = Some(Error::Failed(*error));
                        }
                        Vec::new()
                    }
                };
                let places = self.places.iter_mut().flatten();
                for place in places.filter(|place| place.host == *name) {
                    place.found[*family as usize] = Some(addresses.clone());
                }
            }
            (Question::Service(_), result) => {
                let answer = match result {
                    Ok(Records::Services(services)) => Ok(services.clone()),
                    Ok(Records::Addresses(_)) => Ok(Vec::new()),
                    Err(error) => Err(*error),
                };
                for (kind, slot) in &mut self.services {
                    if slot.is_none() && *asked == question(*kind, &self.domain) {
                        *slot = Some(answer.clone());
                    }
                }
            }
        }
    }

    fn hold(&mut self, now_ms: u64) {
        let something = match &self.places {
            None => self.in_hosts_file || self.services.iter().any(|(_, answer)| usable(answer)),
            Some(places) => places
                .iter()
                .any(|p| p.found.iter().flatten().any(|f| !f.is_empty())),
        };
        self.hold_until = match something {
            true => Some(self.hold_until.unwrap_or(now_ms + HOLD_MS)),
            false => None,
        };
    }

    /// The records of both services, once enough is known; empty when there is
    /// none at all and the domain's own addresses count.
    fn services_known(&self, overdue: bool) -> Option<Result<Vec<(Service, Kind)>, Error>> {
        let any_usable = self.services.iter().any(|(_, answer)| usable(answer));
        let all_there = self.services.iter().all(|(_, answer)| answer.is_some());
        let enough = all_there || (overdue && (any_usable || self.in_hosts_file));
        if !enough {
            return None;
        }
        let mut mixed = Vec::new();
        let (mut declined, mut failed, mut unasked) = (false, None, 0);
        for (kind, answer) in &self.services {
            match answer {
                Some(Ok(services)) if services.is_empty() => {
                    unasked += usize::from(*kind == Kind::Clear);
                }
                Some(Ok(services)) => {
                    let there = services.iter().filter(|service| is_there(service));
                    let there: Vec<_> = there.map(|service| (service.clone(), *kind)).collect();
                    declined |= there.is_empty();
                    mixed.extend(there);
                }
                Some(Err(DnsError::NotFound)) | None => {}
                Some(Err(error)) => failed = Some(*error),
            }
        }
        Some(match failed {
            _ if !mixed.is_empty() => Ok(mixed),
            _ if declined => Err(Error::NotOffered),
            Some(error) if !self.in_hosts_file => Err(Error::Failed(error)),
            // There is no standard port for direct TLS.
            _ if unasked > 0 => Err(Error::NotFound),
            _ => Ok(mixed),
        })
    }

    /// Targets to give out now, and whether all are.
    fn give(&mut self, overdue: bool) -> (Vec<Target>, bool) {
        let mut targets = Vec::new();
        let mut complete = true;
        for place in self.places.iter_mut().flatten() {
            let known = place.found.iter().all(Option::is_some);
            complete &= known;
            if !known && !overdue {
                break;
            }
            let found = place.found.iter_mut().flatten();
            let found: Vec<_> = found.flat_map(std::mem::take).collect();
            targets.extend(interleaved(&found).map(|ip| Target {
                address: SocketAddr::new(ip, place.port),
                direct: place.direct,
                by_srv: place.by_srv,
            }));
        }
        (targets, complete)
    }
}

fn question(kind: Kind, domain: &str) -> Question {
    Question::Service(match kind {
        Kind::Clear => format!("_xmpp-client._tcp.{domain}"),
        Kind::Direct => format!("_xmpps-client._tcp.{domain}"),
    })
}

fn usable(answer: &ServiceAnswer) -> bool {
    matches!(answer, Some(Ok(services)) if services.iter().any(is_there))
}

fn is_there(service: &Service) -> bool {
    !matches!(service.host.as_str(), "" | ".")
}

#[cfg(test)]
#[path = "locator_tests.rs"]
mod tests;
