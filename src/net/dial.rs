//! Connecting to one of several addresses: attempts raced as RFC 8305 says.
//!
//! Owns the targets not tried yet and the sockets under way. The next attempt
//! starts when one fails or after a delay (section 5); the first that connects
//! wins and the others are closed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Registry, Token};

use super::dns::locator::Target;
use super::transport::Transport;

/// Sockets under way at once; the oldest gives way to a further address.
pub const LANES: usize = 3;

/// Time between the starts of two attempts, in milliseconds (RFC 8305,
/// section 8).
const ATTEMPT_DELAY_MS: u64 = 250;

/// Connects under way to the addresses of one server.
#[derive(Default)]
pub struct Dial {
    waiting: VecDeque<Target>,
    under_way: Vec<Attempt>,
    next_start_ms: u64,
    /// Whether more targets may be added.
    expecting: bool,
    failure: Option<(SocketAddr, io::Error)>,
}

struct Attempt {
    lane: usize,
    target: Target,
    transport: Transport,
}

/// How a dial stands.
pub enum Progress {
    /// Sockets are under way, or targets are to come.
    Pending,
    /// This one is connected; its events come with the token of its lane.
    Connected {
        /// The connection.
        transport: Transport,
        /// Where to.
        target: Target,
        /// The lane it was dialled in.
        lane: usize,
    },
    /// No target is left; the last failure in words, if any was tried.
    Failed(Option<String>),
}

impl Dial {
    /// A dial that expects targets.
    pub fn new() -> Dial {
        Dial {
            expecting: true,
            ..Dial::default()
        }
    }

    /// Adds targets behind those that wait; with `last` no more will come.
    pub fn add(&mut self, targets: &[Target], last: bool) {
        self.waiting.extend(targets);
        self.expecting = !last;
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
                    // The others are closed; they may be tried again should this
                    // one be no good after all.
                    for loser in self.under_way.drain(..).rev() {
                        self.waiting.push_front(loser.target);
                    }
                    return Progress::Connected {
                        transport: attempt.transport,
                        target: attempt.target,
                        lane: attempt.lane,
                    };
                }
                Some(Err(error)) => {
                    let attempt = self.under_way.remove(at);
                    self.failed(attempt.target.address, error, now_ms);
                }
            }
        }
        while now_ms >= self.next_start_ms || self.under_way.is_empty() {
            let Some(target) = self.waiting.pop_front() else {
                break;
            };
            self.next_start_ms = now_ms + ATTEMPT_DELAY_MS;
            let lane = self.free_lane();
            let started = TcpStream::connect(target.address)
                .and_then(|socket| Transport::register(socket, registry, token(lane)));
            match started {
                Ok(transport) => self.under_way.push(Attempt {
                    lane,
                    target,
                    transport,
                }),
                Err(error) => self.failed(target.address, error, now_ms),
            }
        }
        if !self.under_way.is_empty() || self.expecting {
            return Progress::Pending;
        }
        let words = |(address, error): &(SocketAddr, io::Error)| format!("{address}: {error}");
        Progress::Failed(self.failure.as_ref().map(words))
    }

    /// The addresses that are being dialled.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.under_way.iter().map(|attempt| attempt.target.address)
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

    fn dial(addresses: &[SocketAddr]) -> Dial {
        let target = |address: &SocketAddr| Target {
            address: *address,
            direct: false,
            by_srv: false,
        };
        let mut dial = Dial::new();
        let targets: Vec<_> = addresses.iter().map(target).collect();
        dial.add(&targets, true);
        dial
    }

    #[test]
    fn a_refused_address_is_followed_by_the_next_at_once() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (open_at, shut_at) = (open.local_addr().unwrap(), shut.local_addr().unwrap());
        drop(shut);
        let mut poll = mio::Poll::new().unwrap();
        match run(&mut dial(&[shut_at, open_at]), &mut poll, 0) {
            Progress::Connected { target, .. } => assert_eq!(target.address, open_at),
            _ => panic!("not connected"),
        }
    }

    #[test]
    fn all_refused_is_a_failure_that_names_the_last() {
        let shut = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = shut.local_addr().unwrap();
        drop(shut);
        let mut poll = mio::Poll::new().unwrap();
        match run(&mut dial(&[address]), &mut poll, 0) {
            Progress::Failed(Some(why)) => assert!(why.starts_with(&address.to_string()), "{why}"),
            _ => panic!("connected to a closed port"),
        }
    }

    #[test]
    fn targets_may_come_later() {
        let open = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poll = mio::Poll::new().unwrap();
        let mut dial = Dial::new();
        let pending = dial.progress(poll.registry(), Token, 0);
        assert!(matches!(pending, Progress::Pending));
        let target = Target {
            address: open.local_addr().unwrap(),
            direct: true,
            by_srv: true,
        };
        dial.add(&[target], true);
        match run(&mut dial, &mut poll, 0) {
            Progress::Connected { target: got, .. } => assert_eq!(got, target),
            _ => panic!("not connected"),
        }
        dial.add(&[], true);
        let over = dial.progress(poll.registry(), Token, 0);
        assert!(matches!(over, Progress::Failed(None)));
    }
}
