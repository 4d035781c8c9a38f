//! Connecting to one of several addresses: attempts raced as RFC 8305 says.
//!
//! Owns the addresses not tried yet and the sockets under way. The next attempt
//! starts when one fails or after a delay (section 5); the first that connects
//! wins and the others are closed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Registry, Token};

use super::transport::Transport;

/// Sockets under way at once; the oldest gives way to a further address.
pub const LANES: usize = 3;

/// Time between the starts of two attempts, in milliseconds (RFC 8305,
/// section 8).
const ATTEMPT_DELAY_MS: u64 = 250;

/// Connects under way to the addresses of one server.
pub struct Dial {
    waiting: VecDeque<SocketAddr>,
    under_way: Vec<Attempt>,
    next_start_ms: u64,
    failure: Option<(SocketAddr, io::Error)>,
}

struct Attempt {
    lane: usize,
    address: SocketAddr,
    transport: Transport,
}

/// How a dial stands.
pub enum Progress {
    /// Sockets are under way.
    Pending,
    /// This one is connected; its events come with the token of its lane.
    Connected {
        /// The connection.
        transport: Transport,
        /// Where to.
        address: SocketAddr,
        /// The lane it was dialled in.
        lane: usize,
    },
    /// No address is left; the last failure in words.
    Failed(String),
}

impl Dial {
    /// A dial of `addresses`, to be tried with the families taking turns
    /// (RFC 8305, section 4), IPv6 first.
    pub fn new(addresses: &[SocketAddr]) -> Dial {
        let mut waiting = VecDeque::with_capacity(addresses.len());
        let mut v6 = addresses.iter().filter(|address| address.is_ipv6());
        let mut v4 = addresses.iter().filter(|address| address.is_ipv4());
        loop {
            let pair = (v6.next(), v4.next());
            if pair == (None, None) {
                break;
            }
            waiting.extend(pair.0.into_iter().chain(pair.1));
        }
        Dial {
            waiting,
            under_way: Vec::new(),
            next_start_ms: 0,
            failure: None,
        }
    }

    /// Looks how the sockets stand and starts what is due at `now_ms`. `token`
    /// gives the token of a lane.
    pub fn progress(
        &mut self,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
        now_ms: u64,
    ) -> Progress {
        let mut at = 0;
        while let Some(attempt) = self.under_way.get(at) {
            match attempt.transport.connected() {
                None => at += 1,
                Some(Ok(())) => {
                    let attempt = self.under_way.swap_remove(at);
                    return Progress::Connected {
                        transport: attempt.transport,
                        address: attempt.address,
                        lane: attempt.lane,
                    };
                }
                Some(Err(error)) => {
                    let attempt = self.under_way.remove(at);
                    self.failed(attempt.address, error, now_ms);
                }
            }
        }
        while now_ms >= self.next_start_ms || self.under_way.is_empty() {
            let Some(address) = self.waiting.pop_front() else {
                break;
            };
            self.next_start_ms = now_ms + ATTEMPT_DELAY_MS;
            let lane = self.free_lane();
            let started = TcpStream::connect(address)
                .and_then(|socket| Transport::register(socket, registry, token(lane)));
            match started {
                Ok(transport) => self.under_way.push(Attempt {
                    lane,
                    address,
                    transport,
                }),
                Err(error) => self.failed(address, error, now_ms),
            }
        }
        match &self.failure {
            _ if !self.under_way.is_empty() => Progress::Pending,
            Some((address, error)) => Progress::Failed(format!("{address}: {error}")),
            None => Progress::Failed("no address".to_owned()),
        }
    }

    /// When the next attempt is due, in the milliseconds of `progress`.
    pub fn next_start_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next_start_ms)
    }

    fn failed(&mut self, address: SocketAddr, error: io::Error, now_ms: u64) {
        self.failure = Some((address, error));
        self.next_start_ms = now_ms;
    }

    /// A lane without a socket, made free if need be.
    fn free_lane(&mut self) -> usize {
        if self.under_way.len() == LANES {
            return self.under_way.remove(0).lane;
        }
        let taken = |lane: &usize| self.under_way.iter().any(|a| a.lane == *lane);
        (0..LANES).find(|lane| !taken(lane)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dial: &mut Dial, poll: &mut mio::Poll, mut now_ms: u64) -> Progress {
        let mut events = mio::Events::with_capacity(8);
        for _ in 0..100 {
            match dial.progress(poll.registry(), Token, now_ms) {
                Progress::Pending => {}
                done => return done,
            }
            poll.poll(&mut events, Some(std::time::Duration::from_millis(50)))
                .unwrap();
            now_ms += 50;
        }
        Progress::Pending
    }

    #[test]
    fn a_refused_address_is_followed_by_the_next_at_once() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (open_at, shut_at) = (open.local_addr().unwrap(), shut.local_addr().unwrap());
        drop(shut);
        let mut poll = mio::Poll::new().unwrap();
        let mut dial = Dial::new(&[shut_at, open_at]);
        match run(&mut dial, &mut poll, 0) {
            Progress::Connected { address, .. } => assert_eq!(address, open_at),
            _ => panic!("not connected"),
        }
    }

    #[test]
    fn all_refused_is_a_failure_that_names_the_last() {
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = shut.local_addr().unwrap();
        drop(shut);
        let mut poll = mio::Poll::new().unwrap();
        match run(&mut Dial::new(&[address]), &mut poll, 0) {
            Progress::Failed(why) => assert!(why.starts_with(&address.to_string()), "{why}"),
            _ => panic!("connected to a closed port"),
        }
    }

    #[test]
    fn families_take_turns() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let all = ["1.1.1.1:1", "2.2.2.2:1", "[::1]:1", "3.3.3.3:1"].map(address);
        let dial = Dial::new(&all);
        let order: Vec<_> = dial.waiting.iter().map(|a| a.to_string()).collect();
        assert_eq!(order, ["[::1]:1", "1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]);
    }
}
