//! Runs c-ares on the poll.
//!
//! Owns the library's channels and the registration of their sockets. Only the given name
//! is ever asked for: `ares_query` ignores search domains, aliases and the hosts file,
//! whatever resolv.conf and the environment say.
//!
//! c-ares cannot cancel one question, only all questions of a channel, so there are a few
//! channels. A channel is emptied as soon as nobody waits for any of its questions. If
//! every channel has questions with waiters and too many without, the channel with the
//! fewest waited-for questions is emptied, and these are asked again.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use c_ares::{Channel, Flags, Options, Socket};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::file_start::first_lines;
use super::question::{Error, Family, Question};
use super::reply::{Timed, records};

/// How long to wait for a DNS server before the question is repeated, there or at the next
/// server. Short, because a packet may be lost. Doubles in each round.
const TRY_TIMEOUT: Duration = Duration::from_millis(400);
/// How often each DNS server is asked.
const TRIES: u32 = 5;
const MAX_CHANNELS: usize = 4;
/// Maximum number of bytes that are read from resolv.conf. If the file is larger, only the
/// servers in this part of it are used.
const MAX_RESOLV_CONF: usize = 64 << 10;
/// Maximum number of dropped questions in one channel.
const MAX_DROPPED: usize = 64;

/// Class IN and the types of records (RFC 1035, RFC 3596, RFC 2782).
const IN: u16 = 1;
const A: u16 = 1;
const AAAA: u16 = 28;
const SRV: u16 = 33;

struct Sent {
    lane: usize,
    /// Number of times that its lane had been emptied when it was asked.
    round: u64,
    ticket: u64,
    question: Arc<Question>,
}

pub(super) type Reply = Result<Timed, Error>;

/// The events that c-ares waits for on a socket; none once it closes the socket.
struct SocketState {
    lane: usize,
    socket: Socket,
    reads: bool,
    writes: bool,
}

/// The reports of c-ares from its callbacks. They must be `Send`, although only this thread
/// calls them.
#[derive(Default)]
struct Reports {
    sockets: Vec<SocketState>,
    replies: VecDeque<(Sent, Reply)>,
}

/// A channel and its questions.
struct Lane {
    channel: Channel,
    open: Vec<(Socket, Interest)>,
    /// Number of questions with waiters.
    live: usize,
    /// Number of questions without.
    dropped: usize,
    /// Number of times that it has been emptied.
    round: u64,
}

impl Lane {
    /// Whether any of its questions is in flight or answered.
    fn is_busy(&self) -> bool {
        self.live + self.dropped > 0
    }
}

/// The channels of a worker.
pub struct Channels {
    lanes: Vec<Lane>,
    /// The lane for new questions.
    current: usize,
    reports: Arc<Mutex<Reports>>,
    /// Questions with waiters: their lane and text, by ticket.
    live: HashMap<u64, (usize, Arc<Question>)>,
    next_ticket: u64,
    servers: Vec<String>,
    /// The file in which c-ares finds its options, and the servers if none are configured.
    resolv_conf: String,
    /// Whether c-ares is told the servers, because it does not find them in the file.
    sets_servers: bool,
    registry: Registry,
    token: Token,
}

impl Channels {
    /// Creates channels that ask `servers`. If `servers` is empty, they ask the servers in
    /// the file `resolv_conf`.
    pub fn new(
        registry: Registry,
        token: Token,
        servers: &[SocketAddr],
        resolv_conf: &Path,
    ) -> Result<Channels, String> {
        let (text, is_cut) = first_lines(resolv_conf, MAX_RESOLV_CONF);
        let mut channels = Channels {
            lanes: Vec::new(),
            current: 0,
            reports: Arc::default(),
            live: HashMap::new(),
            next_ticket: 0,
            sets_servers: is_cut || !servers.is_empty(),
            servers: match servers.is_empty() {
                true => name_servers(&String::from_utf8_lossy(&text)),
                false => servers.iter().map(SocketAddr::to_string).collect(),
            },
            resolv_conf: match is_cut {
                true => "/dev/null".to_owned(),
                false => resolv_conf.to_string_lossy().into_owned(),
            },
            registry,
            token,
        };
        channels.add_lane()?;
        Ok(channels)
    }

    fn open(&self) -> Result<Channel, c_ares::Error> {
        let reports = Arc::clone(&self.reports);
        let lane = self.lanes.len();
        let mut options = Options::new();
        options
            .set_flags(Flags::NOSEARCH | Flags::NOALIASES)
            .set_timeout(TRY_TIMEOUT)
            .set_tries(TRIES)
            .set_socket_state_callback(move |socket, reads, writes| {
                lock(&reports).sockets.push(SocketState {
                    lane,
                    socket,
                    reads,
                    writes,
                });
            });
        options.set_resolvconf_path(&self.resolv_conf)?;
        // The library's own cache could keep answers for more than a minute.
        #[cfg(cares_query_cache)]
        options.set_query_cache_max_ttl(0);
        let mut channel = Channel::with_options(options)?;
        if self.sets_servers && !self.servers.is_empty() {
            channel.set_servers(&self.servers)?;
        }
        Ok(channel)
    }

    fn add_lane(&mut self) -> Result<(), String> {
        let failed = |error| format!("cannot start the DNS resolver: {error}");
        let channel = self.open().map_err(failed)?;
        self.current = self.lanes.len();
        self.lanes.push(Lane {
            channel,
            open: Vec::new(),
            live: 0,
            dropped: 0,
            round: 0,
        });
        Ok(())
    }

    /// The addresses of the DNS servers.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// Sends a question. The answer carries the returned ticket.
    pub fn ask(&mut self, question: &Arc<Question>) -> u64 {
        if self.lanes[self.current].dropped >= MAX_DROPPED {
            self.change_lane();
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.send(ticket, self.current, question);
        self.update_registrations();
        ticket
    }

    fn send(&mut self, ticket: u64, at: usize, question: &Arc<Question>) {
        let lane = &mut self.lanes[at];
        lane.live += 1;
        self.live.insert(ticket, (at, Arc::clone(question)));
        let sent = Sent {
            lane: at,
            round: lane.round,
            ticket,
            question: Arc::clone(question),
        };
        let kind = match **question {
            Question::Service(_) => SRV,
            Question::Host(_, Family::V4) => A,
            Question::Host(_, Family::V6) => AAAA,
        };
        let reports = Arc::clone(&self.reports);
        lane.channel.query(question.name(), IN, kind, move |reply| {
            let reply = reply
                .map_err(Error::from)
                .and_then(|message| records(&sent.question, message));
            lock(&reports).replies.push_back((sent, reply));
        });
    }

    /// Drops a question without waiters.
    pub fn drop_question(&mut self, ticket: u64) {
        if let Some((at, _)) = self.live.remove(&ticket) {
            let lane = &mut self.lanes[at];
            lane.live -= 1;
            lane.dropped += 1;
            if lane.live == 0 {
                self.empty(at);
                self.update_registrations();
            }
        }
    }

    /// Switches to another, empty channel.
    fn change_lane(&mut self) {
        if self.lanes.len() < MAX_CHANNELS && self.add_lane().is_ok() {
            return;
        }
        let fewest = (0..self.lanes.len()).min_by_key(|at| self.lanes[*at].live);
        self.current = fewest.unwrap_or(0);
        self.empty(self.current);
    }

    /// Empties a channel, and asks the questions with waiters again.
    fn empty(&mut self, at: usize) {
        let lane = &mut self.lanes[at];
        lane.round += 1;
        lane.live = 0;
        lane.dropped = 0;
        lane.channel.cancel();
        // These replies only say that the question was cancelled, or the question is asked
        // again.
        let round = lane.round;
        lock(&self.reports)
            .replies
            .retain(|(sent, _)| sent.lane != at || sent.round == round);
        let mut again = Vec::new();
        for (ticket, (lane, question)) in &self.live {
            if *lane == at {
                again.push((*ticket, Arc::clone(question)));
            }
        }
        for (ticket, question) in again {
            self.send(ticket, at, &question);
        }
    }

    /// Returns the next answer: the question, its result, and its ticket if somebody waits
    /// for it.
    pub fn next_reply(&mut self) -> Option<(Arc<Question>, Reply, Option<u64>)> {
        let (sent, reply) = lock(&self.reports).replies.pop_front()?;
        let lane = &mut self.lanes[sent.lane];
        if self.live.remove(&sent.ticket).is_none() {
            lane.dropped -= 1;
            return Some((sent.question, reply, None));
        }
        lane.live -= 1;
        if lane.live == 0 && lane.dropped > 0 {
            self.empty(sent.lane);
            self.update_registrations();
        }
        Some((sent.question, reply, Some(sent.ticket)))
    }

    /// Whether an answer is ready.
    pub fn has_replies(&self) -> bool {
        !lock(&self.reports).replies.is_empty()
    }

    /// Handles what arrived on the sockets, and timeouts.
    pub fn process(&mut self) {
        for lane in &mut self.lanes {
            for (socket, _) in &lane.open {
                lane.channel.process_fd(Some(*socket), Some(*socket));
            }
            lane.channel.process_fd(None, None);
        }
        self.update_registrations();
        self.register_again();
    }

    /// The time within which `process` must be called again.
    pub fn timeout(&self) -> Option<Duration> {
        let busy = self.lanes.iter().filter(|lane| lane.is_busy());
        busy.filter_map(|lane| lane.channel.timeout(None)).min()
    }

    /// Whether any question is in flight or answered.
    pub fn are_busy(&self) -> bool {
        self.lanes.iter().any(Lane::is_busy)
    }

    /// Number of questions in c-ares without waiters.
    pub fn dropped(&self) -> usize {
        self.lanes.iter().map(|lane| lane.dropped).sum()
    }

    /// Updates the registrations as c-ares reported.
    fn update_registrations(&mut self) {
        let changes = std::mem::take(&mut lock(&self.reports).sockets);
        // c-ares may already have closed the socket. The kernel has then removed its
        // registration, so these calls may fail harmlessly.
        for state in changes {
            let Some(lane) = self.lanes.get_mut(state.lane) else {
                continue;
            };
            lane.open.retain(|(open, _)| *open != state.socket);
            let _ = self.registry.deregister(&mut SourceFd(&state.socket));
            if !state.reads && !state.writes {
                continue;
            }
            let interest = match state.writes {
                true => Interest::READABLE | Interest::WRITABLE,
                false => Interest::READABLE,
            };
            lane.open.push((state.socket, interest));
            let mut source = SourceFd(&state.socket);
            let _ = self.registry.register(&mut source, self.token, interest);
        }
    }

    /// Registers all sockets again, because an edge comes only once.
    fn register_again(&mut self) {
        for (socket, interest) in self.lanes.iter().flat_map(|lane| &lane.open) {
            let mut source = SourceFd(socket);
            let _ = self.registry.reregister(&mut source, self.token, *interest);
        }
    }
}

fn name_servers(resolv_conf: &str) -> Vec<String> {
    let lines = resolv_conf.lines();
    let servers = lines.filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.map(|server| server.trim().to_owned()).collect()
}

fn lock(reports: &Mutex<Reports>) -> std::sync::MutexGuard<'_, Reports> {
    reports.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn question(name: &str) -> Arc<Question> {
        Arc::new(Question::Service(name.to_owned()))
    }

    /// The bytes that this thread has read from files.
    fn read_bytes() -> u64 {
        let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn little_is_read_of_a_large_resolv_conf() {
        let name = format!("jabsocket-resolv-conf-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let comment = "# comment\n";
        let text = |size: usize| {
            let comments = comment.repeat(size / comment.len());
            format!("nameserver 127.0.0.1\n{comments}nameserver 127.0.0.2\n")
        };
        let poll = mio::Poll::new().unwrap();
        let size = MAX_RESOLV_CONF;
        for (size, expected) in [
            (size / 2, &["127.0.0.1", "127.0.0.2"][..]),
            (64 * size, &["127.0.0.1"]),
        ] {
            std::fs::write(&path, text(size)).unwrap();
            let registry = poll.registry().try_clone().unwrap();
            let before = read_bytes();
            let channels = Channels::new(registry, Token(0), &[], &path).unwrap();
            let read = read_bytes() - before;
            std::fs::remove_file(&path).unwrap();
            assert_eq!(channels.servers(), expected);
            assert!(read < 8 * size as u64, "{read} bytes read");
        }
    }

    #[test]
    fn dropped_questions_are_bounded_and_the_others_are_answered() {
        const ROUNDS: usize = 5000;
        let poll = mio::Poll::new().unwrap();
        let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
        dns.set_read_timeout(Some(Duration::from_millis(1)))
            .unwrap();
        let servers = [dns.local_addr().unwrap()];
        let registry = poll.registry().try_clone().unwrap();
        let mut channels = Channels::new(registry, Token(0), &servers, Path::new("")).unwrap();
        let mut waiting = Vec::new();
        let mut most = 0;
        for at in 0..ROUNDS {
            // Each channel has a question with a waiter.
            if at % (MAX_DROPPED - 1) == 0 && waiting.len() < 2 * MAX_CHANNELS {
                waiting.push(channels.ask(&question(&format!("live{at}"))));
            }
            let ticket = channels.ask(&question(&format!("dead{at}")));
            channels.drop_question(ticket);
            most = most.max(channels.dropped());
            // The server's queue must not overflow.
            while at % 100 == 0 && dns.recv(&mut [0; 512]).is_ok() {}
        }
        assert!(most >= MAX_DROPPED, "{most}");
        assert!(most <= MAX_CHANNELS * (MAX_DROPPED + 1), "{most}");
        assert!(channels.lanes.len() <= MAX_CHANNELS);
        let sockets: usize = channels.lanes.iter().map(|lane| lane.open.len()).sum();
        assert!(sockets <= MAX_CHANNELS, "{sockets} sockets");
        let mut message = [0; 512];
        for _ in 0..5000 {
            if let Ok((len, from)) = dns.recv_from(&mut message)
                && message[13..].starts_with(b"live")
            {
                // The name does not exist.
                (message[2], message[3]) = (0x81, 0x83);
                dns.send_to(&message[..len], from).unwrap();
            }
            channels.process();
            while let Some((asked, reply, ticket)) = channels.next_reply() {
                assert_eq!(reply, Err(Error::NotFound), "{asked:?}");
                waiting.retain(|other| Some(*other) != ticket);
            }
            if waiting.is_empty() {
                break;
            }
        }
        assert_eq!(waiting, []);
        // No question has a waiter.
        assert_eq!(channels.dropped(), 0);
        assert!(channels.timeout().is_none());
    }
}
