//! Connects to one of several addresses with overlapping attempts (RFC 8305).
//!
//! Owns the untried targets and the sockets that are connecting. The next attempt starts
//! when one fails or after a delay (section 5). The first that connects wins, and the
//! others are closed. Targets that failed recently come last, and backups after all targets
//! that did not fail. Each attempt needs a slot of its address. It keeps the slot until it
//! fails, or until its owner has an answer from the server.

use std::collections::VecDeque;
use std::io;

use mio::net::{TcpStream, UnixStream};
use mio::{Registry, Token};

use super::address::Address;
use super::byte_stream::is_exhausted;
use super::dns::locator::Target;
use super::servers::{Caller, Servers};
use super::step::Step;
use super::transport::Transport;
use crate::meter::{Meter, NO_LOCAL_PORT};

/// Maximum number of simultaneous attempts; a further attempt replaces the oldest.
pub const LANES: usize = 3;

/// Time between the starts of two attempts, in milliseconds (RFC 8305, section 8).
const ATTEMPT_DELAY_MS: u64 = 250;
/// An attempt without a result after this time counts as failed, but continues. The kernel
/// repeats a lost SYN after one second.
const OVERDUE_MS: u64 = 1500;
/// Time before the next attempt on a unix socket whose queue is full.
const QUEUE_FULL_MS: u64 = 50;
/// Time before the next attempt when no descriptor was left.
const EXHAUSTED_MS: u64 = 1000;

/// Connects to one of the addresses of a server.
pub(crate) struct Dial {
    caller: Caller,
    waiting: VecDeque<Target>,
    under_way: Vec<Attempt>,
    next_start_ms: u64,
    /// The next target waits for a slot, or for the failure of attempts that take precedence.
    held_back: bool,
    /// More targets may be added.
    expecting: bool,
    failure: Option<(Address, io::Error)>,
}

struct Attempt {
    lane: usize,
    target: Target,
    transport: Transport,
    started_at_ms: u64,
    /// It has been counted as failed.
    overdue: bool,
}

/// The state of a [`Dial`].
pub(crate) enum Progress {
    /// Attempts are in progress, or more targets are expected.
    Pending,
    /// Connected. Events arrive with the token of this lane.
    Connected {
        transport: Transport,
        target: Target,
        lane: usize,
    },
    /// No target is left. Contains the last failure, if any target was tried.
    Failed(Option<String>),
}

impl Dial {
    /// Creates a dial that still expects its targets.
    pub(crate) fn new(caller: Caller) -> Dial {
        Dial {
            caller,
            waiting: VecDeque::new(),
            under_way: Vec::new(),
            next_start_ms: 0,
            held_back: false,
            expecting: true,
            failure: None,
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Adds targets at the end. After a call with `last`, no more follow.
    pub(crate) fn add(&mut self, targets: Vec<Target>, last: bool) {
        self.waiting.extend(targets);
        self.expecting = !last;
    }

    /// Checks all attempts and starts those that are due at `now_ms`, until the meter is spent.
    /// `token` returns the token of a lane.
    pub(crate) fn progress(
        &mut self,
        registry: &Registry,
        token: impl Fn(usize) -> Token,
        servers: &mut Servers,
        meter: &mut Meter,
        now_ms: u64,
    ) -> Progress {
        if let Some(attempt) = self.take_connected(servers, now_ms) {
            return Progress::Connected {
                transport: attempt.transport,
                target: attempt.target,
                lane: attempt.lane,
            };
        }
        for attempt in &mut self.under_way {
            if !attempt.overdue && now_ms >= attempt.started_at_ms + OVERDUE_MS {
                attempt.overdue = true;
                servers.note_unreachable(&attempt.target, &self.caller, now_ms);
            }
        }
        self.held_back = false;
        while now_ms >= self.next_start_ms
            && !meter.is_spent()
            && let Some(target) = self.next_target(servers, now_ms)
        {
            self.start(target, registry, &token, servers, meter, now_ms);
        }
        if !self.under_way.is_empty() || !self.waiting.is_empty() || self.expecting {
            return Progress::Pending;
        }
        Progress::Failed(self.last_failure())
    }

    /// Describes the last attempt that failed, if any.
    pub(crate) fn last_failure(&self) -> Option<String> {
        let (address, error) = self.failure.as_ref()?;
        Some(format!("{address}: {error}"))
    }

    /// Takes the attempt that has connected, if any, and closes the others.
    fn take_connected(&mut self, servers: &mut Servers, now_ms: u64) -> Option<Attempt> {
        let mut at = 0;
        while let Some(attempt) = self.under_way.get(at) {
            match attempt.transport.connected() {
                None => at += 1,
                Some(Ok(())) => {
                    let attempt = self.under_way.swap_remove(at);
                    servers.note_connected(&attempt.target.address);
                    // The others may be tried again if this one turns out to be useless. An
                    // attempt that was overtaken in spite of its head start has failed.
                    for loser in self.under_way.drain(..).rev() {
                        servers.queue.give_back(&self.caller, &loser.target.address);
                        if now_ms >= loser.started_at_ms + ATTEMPT_DELAY_MS {
                            servers.note_unreachable(&loser.target, &self.caller, now_ms);
                        }
                        self.waiting.push_front(loser.target);
                    }
                    self.next_start_ms = now_ms;
                    return Some(attempt);
                }
                Some(Err(error)) => {
                    let attempt = self.under_way.remove(at);
                    self.fail(&attempt.target, error, servers, now_ms);
                }
            }
        }
        None
    }

    /// Takes the target to try next, with a slot, if it may be tried yet.
    fn next_target(&mut self, servers: &mut Servers, now_ms: u64) -> Option<Target> {
        let mut rank = |target: &Target| {
            let domain = &self.caller.domain;
            (
                servers.has_failed(&target.address, domain, now_ms),
                target.backup,
            )
        };
        // `min_by_key` returns the first of several equals.
        let at = (0..self.waiting.len()).min_by_key(|at| rank(&self.waiting[*at]))?;
        let target = &self.waiting[at];
        let goes_before = |attempt: &Attempt| !attempt.overdue && !attempt.target.backup;
        self.held_back = target.backup && self.under_way.iter().any(goes_before);
        if !self.held_back {
            self.held_back = !servers.take_slot(&self.caller, &target.address, now_ms);
        }
        match self.held_back {
            true => None,
            false => self.waiting.remove(at),
        }
    }

    fn start(
        &mut self,
        target: Target,
        registry: &Registry,
        token: &impl Fn(usize) -> Token,
        servers: &mut Servers,
        meter: &mut Meter,
        now_ms: u64,
    ) {
        servers.observer.tell(&Step::Dialled(&target));
        self.next_start_ms = now_ms + ATTEMPT_DELAY_MS;
        let lane = self.free_lane(servers, now_ms);
        match connect(&target.address, registry, token(lane)) {
            Ok(transport) => self.under_way.push(Attempt {
                lane,
                target,
                transport,
                started_at_ms: now_ms,
                overdue: false,
            }),
            // This is not the server's fault.
            Err(error) if is_exhausted(&error) => {
                servers.observer.tell(&Step::NotConnected(&target, &error));
                servers.queue.give_back(&self.caller, &target.address);
                self.failure = Some((target.address.clone(), error));
                self.next_start_ms = now_ms + EXHAUSTED_MS;
                self.waiting.push_front(target);
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::AddrNotAvailable {
                    meter.draw(NO_LOCAL_PORT);
                }
                let is_full = error.kind() == io::ErrorKind::WouldBlock;
                self.fail(&target, error, servers, now_ms);
                if is_full {
                    self.next_start_ms = now_ms + QUEUE_FULL_MS;
                    self.waiting.push_back(target);
                }
            }
        }
    }

    /// The addresses of the attempts in progress.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.under_way.iter().map(|attempt| &attempt.target.address)
    }

    /// Whether there are untried targets.
    pub(crate) fn has_more(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When to call `progress` next, on the same clock.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        let start = (!self.waiting.is_empty() && !self.held_back).then_some(self.next_start_ms);
        let in_time = self.under_way.iter().filter(|attempt| !attempt.overdue);
        let overdue = in_time.map(|attempt| attempt.started_at_ms + OVERDUE_MS);
        overdue.chain(start).min()
    }

    fn fail(&mut self, target: &Target, error: io::Error, servers: &mut Servers, now_ms: u64) {
        servers.observer.tell(&Step::NotConnected(target, &error));
        servers.queue.give_back(&self.caller, &target.address);
        servers.note_unreachable(target, &self.caller, now_ms);
        self.failure = Some((target.address.clone(), error));
        self.next_start_ms = now_ms;
    }

    /// A lane without an attempt. If there is none, ends the oldest attempt.
    fn free_lane(&mut self, servers: &mut Servers, now_ms: u64) -> usize {
        if self.under_way.len() == LANES {
            let oldest = self.under_way.remove(0);
            servers
                .queue
                .give_back(&self.caller, &oldest.target.address);
            servers.note_unreachable(&oldest.target, &self.caller, now_ms);
            return oldest.lane;
        }
        let taken = |lane: &usize| self.under_way.iter().any(|a| a.lane == *lane);
        (0..LANES).find(|lane| !taken(lane)).unwrap_or(0)
    }
}

fn connect(address: &Address, registry: &Registry, token: Token) -> io::Result<Transport> {
    match address {
        Address::Tcp(address) => {
            Transport::register(TcpStream::connect(*address)?, registry, token)
        }
        Address::Unix(path) => Transport::register(UnixStream::connect(path)?, registry, token),
    }
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
