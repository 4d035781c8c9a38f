//! DNS without waiting: c-ares on the poll.
//!
//! Owns the library's channel, the registration of its sockets, the questions
//! not asked yet and a cache. One question is asked once, however many want to
//! know. The hosts file counts before the DNS for addresses. What answers mean
//! for a domain is the locator's business.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use c_ares::{
    AddrInfoFlags, AddrInfoHints, AddressFamily, Channel, Flags, Options, SRVResults, Socket,
};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Questions asked at once; the others wait their turn.
const MAX_IN_FLIGHT: usize = 64;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 16;
/// Wait for a DNS server before it is asked again; doubled each time.
const TRY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often each DNS server is asked.
const TRIES: u32 = 3;
/// The longest time an answer is kept.
const MAX_CACHED_MS: u64 = 60_000;
/// The time that the lack of a record is kept: c-ares does not tell for how long
/// it holds (RFC 2308, section 5).
const MISSING_CACHED_MS: u64 = 5_000;
/// Answers kept at most.
const MAX_CACHED: usize = 4096;

/// Class IN and type SRV (RFC 1035, RFC 2782).
const IN: u16 = 1;
const SRV: u16 = 33;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// The SRV records of a name.
    Service(String),
    /// The addresses of a name that are of one family: the other may keep its
    /// answer to itself (RFC 8305, section 3).
    Host(String, Family),
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv6.
    V6,
    /// IPv4.
    V4,
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Lower comes first.
    pub priority: u16,
    /// Share within a priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` or nothing means that the service is not there.
    pub host: String,
}

/// What a question brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// SRV records, at least one.
    Services(Vec<Service>),
    /// Addresses, at least one.
    Addresses(Vec<IpAddr>),
}

/// Why a question brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name does not exist, or has no such record.
    NotFound,
    /// The DNS gave no answer: the record may well exist.
    Failed(c_ares::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotFound => f.write_str("no such name in hosts file and DNS"),
            Error::Failed(error) => write!(f, "DNS look-up failed: {error}"),
        }
    }
}

/// An answer to a question.
pub type Answer = (Question, Result<Records, Error>);

/// Records and the seconds that they hold.
type Timed = (Records, u32);

/// What c-ares tells through its callbacks, which must be `Send` though no
/// thread but this one calls them.
#[derive(Default)]
struct Told {
    /// Descriptor, and whether reads and writes on it are of interest.
    sockets: Vec<(Socket, bool, bool)>,
    answers: VecDeque<(Question, Result<Timed, Error>)>,
}

/// What a resolver has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions asked of the DNS.
    pub queries: u64,
    /// Questions that the cache had the answer to.
    pub hits: u64,
    /// Questions without an answer.
    pub failures: u64,
}

/// The asynchronous resolver of a worker.
pub struct Resolver {
    channel: Channel,
    /// A channel that reads the hosts file and asks nobody.
    files: Channel,
    told: Arc<Mutex<Told>>,
    /// Sockets registered, each with its interest.
    open: Vec<(Socket, Interest)>,
    waiting: VecDeque<Question>,
    /// Questions asked or waiting to be.
    pending: std::collections::HashSet<Question>,
    in_flight: usize,
    cache: HashMap<Question, (Result<Records, Error>, u64)>,
    cached: VecDeque<Answer>,
    counts: Counts,
    registry: Registry,
    token: Token,
}

impl Resolver {
    /// A resolver that asks `servers`, or those of /etc/resolv.conf if there are
    /// none; events of its sockets come with `token`.
    ///
    /// # Errors
    /// c-ares does not start, in words for the operator.
    pub fn new(
        registry: Registry,
        token: Token,
        servers: &[SocketAddr],
    ) -> Result<Resolver, String> {
        let told = Arc::new(Mutex::new(Told::default()));
        let sockets = Arc::clone(&told);
        let mut options = Options::new();
        options
            // A name is looked up as it is, never below a search domain.
            .set_flags(Flags::NOSEARCH | Flags::NOALIASES)
            .set_timeout(TRY_TIMEOUT)
            .set_tries(TRIES)
            .set_socket_state_callback(move |socket, read, write| {
                lock(&sockets).sockets.push((socket, read, write));
            });
        // The cache here keeps answers for a minute at most; the library's own
        // would keep them longer.
        #[cfg(cares_query_cache)]
        options.set_query_cache_max_ttl(0);
        let words = |error| format!("the DNS resolver does not start: {error}");
        let mut channel = Channel::with_options(options).map_err(words)?;
        if !servers.is_empty() {
            let servers: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
            channel.set_servers(&servers).map_err(words)?;
        }
        let mut only_files = Options::new();
        only_files.set_lookups("f").map_err(words)?;
        only_files.set_flags(Flags::NOSEARCH | Flags::NOALIASES);
        let files = Channel::with_options(only_files).map_err(words)?;
        Ok(Resolver {
            channel,
            files,
            told,
            open: Vec::new(),
            waiting: VecDeque::new(),
            pending: std::collections::HashSet::new(),
            in_flight: 0,
            cache: HashMap::new(),
            cached: VecDeque::new(),
            counts: Counts::default(),
            registry,
            token,
        })
    }

    /// Asks a question at `now_ms`. Its answer comes once, even if it is asked
    /// again before.
    pub fn ask(&mut self, question: Question, now_ms: u64) {
        // c-ares would ask the DNS for a numeric address, and for the family that
        // the hosts file does not have.
        if let Question::Host(name, family) = &question {
            let known = match name.parse() {
                Ok(address) => vec![address],
                Err(_) => self.hosts_file(name),
            };
            if !known.is_empty() {
                let fits = |address: &IpAddr| address.is_ipv6() == (*family == Family::V6);
                let addresses: Vec<_> = known.into_iter().filter(fits).collect();
                let result = match addresses.is_empty() {
                    true => Err(Error::NotFound),
                    false => Ok(Records::Addresses(addresses)),
                };
                self.cached.push_back((question, result));
                return;
            }
        }
        if let Some((result, until)) = self.cache.get(&question)
            && now_ms < *until
        {
            self.counts.hits += 1;
            self.cached.push_back((question, result.clone()));
            return;
        }
        if self.pending.insert(question.clone()) {
            self.waiting.push_back(question);
            self.go_on();
        }
    }

    /// The addresses that this machine itself has for a name: of the hosts file,
    /// and of `localhost`, which is never asked for (RFC 6761, section 6.3).
    pub fn hosts_file(&mut self, name: &str) -> Vec<IpAddr> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::clone(&found);
        let hints = AddrInfoHints {
            flags: AddrInfoFlags::NOSORT,
            ..AddrInfoHints::default()
        };
        // Without the DNS to ask, the answer is there when the call returns.
        self.files.get_addrinfo(name, None, &hints, move |results| {
            if let Ok((Records::Addresses(addresses), _)) =
                results.map_err(from_library).and_then(addresses)
            {
                *answer.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
            }
        });
        let mut found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
        if found.is_empty() && is_localhost(name) {
            found = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        found
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Works off what arrived on the sockets, and what timed out.
    pub fn process(&mut self) {
        let open = std::mem::take(&mut self.open);
        for &(socket, _) in &open {
            self.channel.process_fd(Some(socket), Some(socket));
        }
        self.channel.process_fd(None, None);
        self.open = open;
        self.register(true);
        self.go_on();
    }

    /// The longest wait before `process` is to be called again.
    pub fn timeout(&self) -> Option<Duration> {
        if self.in_flight == 0 {
            return None;
        }
        self.channel.timeout(None)
    }

    /// The next answer, if there is one.
    pub fn next_answer(&mut self, now_ms: u64) -> Option<Answer> {
        if let Some(answer) = self.cached.pop_front() {
            return Some(answer);
        }
        let (question, result) = lock(&self.told).answers.pop_front()?;
        self.in_flight -= 1;
        self.counts.failures += u64::from(matches!(result, Err(Error::Failed(_))));
        self.pending.remove(&question);
        self.go_on();
        let keep_ms = match &result {
            Ok((_, ttl)) => (u64::from(*ttl) * 1000).min(MAX_CACHED_MS),
            Err(Error::NotFound) => MISSING_CACHED_MS,
            Err(Error::Failed(_)) => 0,
        };
        let result = result.map(|(records, _)| records);
        if keep_ms > 0 {
            self.keep(&question, &result, now_ms, keep_ms);
        }
        Some((question, result))
    }

    fn keep(
        &mut self,
        question: &Question,
        result: &Result<Records, Error>,
        now_ms: u64,
        keep_ms: u64,
    ) {
        if self.cache.len() >= MAX_CACHED {
            self.cache.retain(|_, (_, until)| now_ms < *until);
            if self.cache.len() >= MAX_CACHED {
                self.cache.clear();
            }
        }
        let entry = (result.clone(), now_ms + keep_ms);
        self.cache.insert(question.clone(), entry);
    }

    fn go_on(&mut self) {
        while self.in_flight < MAX_IN_FLIGHT {
            let Some(question) = self.waiting.pop_front() else {
                break;
            };
            self.in_flight += 1;
            self.counts.queries += 1;
            let told = Arc::clone(&self.told);
            match &question {
                Question::Host(name, family) => {
                    let hints = AddrInfoHints {
                        family: Some(match family {
                            Family::V6 => AddressFamily::INET6,
                            Family::V4 => AddressFamily::INET,
                        }),
                        flags: AddrInfoFlags::NOSORT,
                        ..AddrInfoHints::default()
                    };
                    let name = name.clone();
                    self.channel
                        .get_addrinfo(&name, None, &hints, move |result| {
                            let result = result.map_err(from_library).and_then(addresses);
                            lock(&told).answers.push_back((question, result));
                        });
                }
                Question::Service(name) => {
                    let name = name.clone();
                    self.channel.query(&name, IN, SRV, move |result| {
                        let result = result.map_err(from_library).and_then(services);
                        lock(&told).answers.push_back((question, result));
                    });
                }
            }
        }
        self.register(false);
    }

    /// Follows what c-ares said of its sockets. `again` arms those that stayed:
    /// an edge comes only once.
    fn register(&mut self, again: bool) {
        let changes = std::mem::take(&mut lock(&self.told).sockets);
        // c-ares closes a socket before this is known: the kernel has dropped
        // its registration by then, so these calls may fail and need not work.
        for (socket, read, write) in changes {
            self.open.retain(|(open, _)| *open != socket);
            let _ = self.registry.deregister(&mut SourceFd(&socket));
            if !read && !write {
                continue;
            }
            let interest = match write {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            self.open.push((socket, interest));
            let _ = self
                .registry
                .register(&mut SourceFd(&socket), self.token, interest);
        }
        if again {
            for (socket, interest) in &self.open {
                let _ = self
                    .registry
                    .reregister(&mut SourceFd(socket), self.token, *interest);
            }
        }
    }
}

/// Whether a name means this machine wherever it is asked for.
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn addresses(results: c_ares::AddrInfoResults) -> Result<Timed, Error> {
    let mut addresses = Vec::new();
    let mut ttl = u32::MAX;
    for node in results.nodes() {
        if let Some(address) = node.ip_addr()
            && !addresses.contains(&address)
            && addresses.len() < MAX_ADDRESSES
        {
            addresses.push(address);
            ttl = ttl.min(u32::try_from(node.ttl()).unwrap_or(0));
        }
    }
    match addresses.is_empty() {
        true => Err(Error::NotFound),
        false => Ok((Records::Addresses(addresses), ttl)),
    }
}

fn services(answer: &[u8]) -> Result<Timed, Error> {
    let results = SRVResults::parse_from(answer).map_err(from_library)?;
    let services: Vec<_> = results
        .iter()
        .map(|service| Service {
            priority: service.priority(),
            weight: service.weight(),
            port: service.port(),
            host: service.host().to_ascii_lowercase(),
        })
        .collect();
    match services.is_empty() {
        true => Err(Error::NotFound),
        false => Ok((Records::Services(services), least_ttl(answer).unwrap_or(0))),
    }
}

/// The least TTL in the answer section of a DNS message (RFC 1035, section
/// 4.1), which the library's SRV parser does not tell; `None` if there is none.
fn least_ttl(message: &[u8]) -> Option<u32> {
    let word = |at: usize| {
        let bytes = message.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let name_end = |mut at: usize| loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            label => at += 1 + usize::from(label),
        }
    };
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name_end(at)? + 4;
    }
    let mut least = None;
    for _ in 0..answers {
        at = name_end(at)?;
        let ttl = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
        least = Some(least.map_or(ttl, |least: u32| least.min(ttl)));
        at += 10 + usize::from(word(at + 8)?);
    }
    least
}

fn from_library(error: c_ares::Error) -> Error {
    match error {
        c_ares::Error::ENODATA | c_ares::Error::ENOTFOUND | c_ares::Error::EBADNAME => {
            Error::NotFound
        }
        other => Error::Failed(other),
    }
}

fn lock(told: &Mutex<Told>) -> std::sync::MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_ttl_of_an_answer() {
        let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        message.extend(b"\x01a\x00\x00\x21\x00\x01");
        for ttl in [300u32, 70] {
            message.extend(b"\xc0\x0c\x00\x21\x00\x01");
            message.extend(ttl.to_be_bytes());
            message.extend(b"\x00\x03abc");
        }
        assert_eq!(least_ttl(&message), Some(70));
        for cut in 0..message.len() - 4 {
            assert_eq!(least_ttl(&message[..cut]), None, "cut at {cut}");
        }
    }
}
