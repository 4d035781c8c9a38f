//! Names to addresses without waiting: c-ares on the poll.
//!
//! Owns the library's channel, the registration of its sockets and the look-ups
//! not asked yet. The hosts file counts before the DNS. Answers carry the id of
//! their look-up; nobody needs to be there any more when one comes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use c_ares::{AddrInfoFlags, AddrInfoHints, Channel, Flags, Options, Socket};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

/// Look-ups asked at once; the others wait their turn.
const MAX_IN_FLIGHT: usize = 64;
/// Addresses taken of one answer.
const MAX_ADDRESSES: usize = 16;
/// Wait for a DNS server before it is asked again; doubled each time.
const TRY_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often each DNS server is asked.
const TRIES: u32 = 3;

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The name does not exist, or has no address.
    NotFound,
    /// The DNS gave no answer: the name may well exist.
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

/// An answer and the id of its look-up.
pub struct Answer {
    /// The id that the look-up was given.
    pub id: u64,
    /// Addresses, at least one.
    pub addresses: Result<Vec<IpAddr>, Error>,
}

/// What c-ares tells through its callbacks, which must be `Send` though no
/// thread but this one calls them.
#[derive(Default)]
struct Told {
    /// Descriptor, and whether reads and writes on it are of interest.
    sockets: Vec<(Socket, bool, bool)>,
    answers: VecDeque<Answer>,
}

/// The asynchronous resolver of a worker.
pub struct Resolver {
    channel: Channel,
    told: Arc<Mutex<Told>>,
    /// Sockets registered, each with its interest.
    open: Vec<(Socket, Interest)>,
    waiting: VecDeque<(u64, String)>,
    in_flight: usize,
    registry: Registry,
    token: Token,
}

impl Resolver {
    /// A resolver as /etc/resolv.conf and the hosts file have it; events of its
    /// sockets come with `token`.
    ///
    /// # Errors
    /// c-ares does not start, in words for the operator.
    pub fn new(registry: Registry, token: Token) -> Result<Resolver, String> {
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
        let channel = Channel::with_options(options)
            .map_err(|error| format!("the DNS resolver does not start: {error}"))?;
        Ok(Resolver {
            channel,
            told,
            open: Vec::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            registry,
            token,
        })
    }

    /// Asks for the addresses of `name`; the answer comes with `id`.
    pub fn look_up(&mut self, id: u64, name: &str) {
        self.waiting.push_back((id, name.to_owned()));
        self.ask();
    }

    /// Forgets a look-up that has not been asked yet; the answer of one that
    /// has still comes.
    pub fn forget(&mut self, id: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != id);
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
        self.ask();
    }

    /// The longest wait before `process` is to be called again.
    pub fn timeout(&self) -> Option<Duration> {
        if self.in_flight == 0 {
            return None;
        }
        self.channel.timeout(None)
    }

    /// The next answer, if there is one.
    pub fn next_answer(&mut self) -> Option<Answer> {
        let answer = lock(&self.told).answers.pop_front()?;
        self.in_flight -= 1;
        self.ask();
        Some(answer)
    }

    fn ask(&mut self) {
        while self.in_flight < MAX_IN_FLIGHT {
            let Some((id, name)) = self.waiting.pop_front() else {
                break;
            };
            self.in_flight += 1;
            let told = Arc::clone(&self.told);
            let hints = AddrInfoHints {
                flags: AddrInfoFlags::NOSORT,
                ..AddrInfoHints::default()
            };
            self.channel
                .get_addrinfo(&name, None, &hints, move |result| {
                    let addresses = result.map_err(from_library).and_then(|results| {
                        let mut addresses = Vec::new();
                        for address in results.nodes().filter_map(|node| node.ip_addr()) {
                            if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
                                addresses.push(address);
                            }
                        }
                        match addresses.is_empty() {
                            true => Err(Error::NotFound),
                            false => Ok(addresses),
                        }
                    });
                    lock(&told).answers.push_back(Answer { id, addresses });
                });
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
