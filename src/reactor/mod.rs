//! The event loop: poll, signals, resolver, sessions with work, deadlines, accept.
//!
//! Owns the poll, the sessions in their slots, and the only clock. A turn waits for events;
//! each event sets bits in its session and puts it on the run list or on the list of busy
//! sessions, at most once. Then the sessions on the run list and some of the busy ones work within
//! their budgets (`schedule`), expired deadlines are handled, and new clients are accepted. The
//! slots of sessions that have ended are freed only after all events of the turn, so no event can
//! reach a new session in an old slot.

mod accept;
mod drain;
mod ending;
mod generations;
mod heartbeat;
mod latency;
pub mod notices;
mod open_files;
mod random;
mod recent_work;
pub mod reload;
mod run_lists;
#[cfg(test)]
mod scale;
mod schedule;
mod setup;
mod shed;
mod signals;
mod slow;
mod status;
mod timers;
mod token;
mod trial;
mod trim;

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use slab::Slab;

use crate::config::Config;
use crate::log::Log;
use crate::net::dns::locator::Locator;
use crate::net::dns::resolver::Resolver;
use crate::net::endpoint::Endpoint;
use crate::net::listener::Socket;
use crate::net::signals::Signals;
use crate::net::tls_client::Contexts;
use crate::session::shared::Shared;
use crate::session::{Session, Tick, ticks};
use crate::status::Status;
use accept::Acceptor;
use ending::Ending;
use latency::Sampler;
use random::random;
use recent_work::RecentWork;
use run_lists::RunLists;
use schedule::{GROUP, HalfTurn};
pub use setup::{Membership, Setup};
use slow::SlowTurns;
use timers::{Armed, Timers};
use token::Owner;
use trim::Trim;

/// Maximum number of events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Maximum number of sessions that work in one turn, and of deadlines that expire in it: many
/// may be due at once, and each takes microseconds. The others go on in the next turn.
const SESSIONS_PER_TURN: usize = 1024;
/// Number of sessions for which tables reserve memory at the start. Reserved memory costs
/// nothing until it is used; tables that grow would leave their old copies behind.
const ROOM: usize = 1 << 17;

/// A session with its timer and its place on the run list.
struct ScheduledSession {
    session: Session,
    /// Whether it was over a limit from the start.
    refusal: bool,
    armed: Armed,
    /// Whether it is on one of the run lists.
    listed: bool,
    /// Whether it is one of the busy sessions (`schedule`).
    busy: bool,
    recent: RecentWork,
}

/// The event loop of one worker.
pub struct Reactor {
    poll: Poll,
    shared: Shared,
    signals: Signals,
    acceptor: Acceptor,
    /// The status port, if `status_listen` is set.
    status: Option<Status>,
    sampler: Sampler,
    slow_turns: SlowTurns,
    sessions: Slab<ScheduledSession>,
    run_lists: RunLists,
    /// Empty between turns; it keeps its memory.
    group: Vec<HalfTurn>,
    timers: Timers,
    trim: Trim,
    started: Instant,
    setup: Setup,
    start_config: Rc<Config>,
    /// When the next heartbeat is due.
    alive_at: Option<Tick>,
    ending: Ending,
}

#[expect(clippy::disallowed_methods, reason = "here and nowhere else")]
fn now() -> Instant {
    Instant::now()
}

impl Reactor {
    /// Creates a loop that serves `listeners`, one endpoint for each. `tls` is for servers.
    ///
    /// # Errors
    /// A system call or the resolver failed.
    pub fn new(
        config: Rc<Config>,
        tls: Contexts,
        log: Rc<Log>,
        mut listeners: Vec<Socket>,
        endpoints: Vec<Rc<Endpoint>>,
        setup: Setup,
    ) -> Result<Reactor, String> {
        let cannot = |what| move |error: io::Error| format!("cannot {what}: {error}");
        let poll = Poll::new().map_err(cannot("use epoll"))?;
        let registry = poll.registry().try_clone().map_err(cannot("use epoll"))?;
        let signals = Signals::new(&registry, token::SIGNALS).map_err(cannot("receive signals"))?;
        let for_resolver = registry.try_clone().map_err(cannot("use epoll"))?;
        let resolver = Resolver::new(for_resolver, token::RESOLVER, &config.dns_servers)?;
        let locator = Locator::new(resolver, random);
        if listeners.len() > token::MAX_LISTENERS {
            return Err(format!(
                "more than {} addresses to listen on",
                token::MAX_LISTENERS
            ));
        }
        for (at, listener) in listeners.iter_mut().enumerate() {
            let token = Token(token::FIRST_LISTENER + at);
            listener
                .register(&registry, token)
                .map_err(cannot("watch a listening socket"))?;
            listener.set_send_timeout(config.write_timeout);
        }
        let max_sessions = open_files::most_sessions(&config, &log);
        let started = now();
        Ok(Reactor {
            poll,
            setup,
            start_config: Rc::clone(&config),
            alive_at: None,
            shared: Shared::new(config, log, locator, tls, registry),
            signals,
            acceptor: Acceptor::new(listeners, endpoints, max_sessions),
            status: None,
            sampler: Sampler::default(),
            slow_turns: SlowTurns::new(started),
            sessions: Slab::with_capacity(max_sessions.min(ROOM)),
            run_lists: RunLists::default(),
            group: Vec::with_capacity(GROUP),
            timers: Timers::with_capacity(max_sessions.min(ROOM)),
            trim: Trim::default(),
            started,
            ending: Ending::default(),
        })
    }

    /// Runs until a signal ends it and the sessions are drained.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_finished() {
            self.turn(&mut events)?;
        }
        for (_, entry) in &mut self.sessions {
            entry.session.bury(&mut self.shared);
        }
        self.publish_last();
        Ok(())
    }

    fn is_finished(&self) -> bool {
        let is_idle = self.sessions.is_empty() && !self.has_older();
        let is_ending = self.ending.is_retired() || self.ending.is_draining();
        (is_ending && is_idle) || self.ending.is_over(self.shared.now)
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let timeout = self.timeout();
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let woken = self.read_clock();
        let above = self.shared.config.see_other_above;
        self.shared.crowded = above.is_some_and(|above| self.sessions.len() > above);
        let (mut signalled, mut resolved, mut upgraded) = (false, false, false);
        for event in events.iter() {
            match token::owner(event.token()) {
                Owner::Signals => signalled = true,
                Owner::Resolver => resolved = true,
                Owner::Generations => upgraded = true,
                Owner::Listener(_) => self.acceptor.due = true,
                Owner::Status(at) => {
                    if let Some(status) = &mut self.status {
                        status.edge(at);
                    }
                }
                Owner::Session { slot, side } => {
                    self.poke(slot, |session, _| session.edge(side, event));
                }
            }
        }
        if signalled {
            self.take_signals();
        }
        let tick = self.shared.now;
        if signalled || upgraded || self.upgrade_deadline().is_some_and(|at| tick >= at) {
            self.handle_generation_events(woken);
        }
        if resolved || self.shared.locator.is_due(tick) {
            self.shared.locator.resolver.process(tick);
        }
        self.take_answers();
        // Time spent on signals and DNS answers is no session's fault.
        let busy = signalled || resolved;
        self.slow_turns.begin(if busy { now() } else { woken });
        self.run_sessions(woken);
        self.shed();
        self.expire();
        self.drain_those_due();
        if self.ending.drain_due().is_some_and(|at| tick >= at) {
            self.drain("old_sessions_timeout");
        }
        self.accept();
        self.send_heartbeat();
        // Take look-ups that the hosts file answered at once.
        self.take_answers();
        self.trim();
        self.serve_status(woken);
        Ok(())
    }

    /// How long the poll may wait.
    fn timeout(&self) -> Option<Duration> {
        let may_accept = self.acceptor.due && self.may_accept();
        if !self.run_lists.is_empty() || self.is_behind() || may_accept {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.timers.next(),
            self.acceptor.rest_until,
            self.ending.due(),
            self.upgrade_deadline(),
            self.alive_at,
            self.trim.due(),
            self.status.as_ref().and_then(Status::deadline),
            self.shared.locator.due_ms(),
        ];
        let nearest = deadlines.into_iter().flatten().min();
        nearest.map(|at| {
            // Rounded up: waking too early would only cost another turn.
            Duration::from_millis(at.saturating_sub(self.shared.now) + 1)
        })
    }

    /// Whether sessions are due that the turn has left for the next one.
    fn is_behind(&self) -> bool {
        let (shared, now) = (&self.shared, self.shared.now);
        let due = [self.timers.next(), self.ending.schedule.due()];
        let is_due = due.into_iter().flatten().any(|at| at <= now);
        is_due || shared.locator.is_behind(now) || shared.servers.queue.is_behind()
    }

    fn read_clock(&mut self) -> Instant {
        let now = now();
        let age = now.duration_since(self.started).as_millis();
        self.shared.now = Tick::try_from(age).unwrap_or(Tick::MAX);
        self.shared.log.tick(now);
        now
    }

    /// Passes an event to a session and puts the session on the run list, at most once.
    fn poke(&mut self, slot: usize, tell: impl FnOnce(&mut Session, &mut Shared)) {
        if let Some(entry) = self.sessions.get_mut(slot) {
            tell(&mut entry.session, &mut self.shared);
            if !entry.listed {
                entry.listed = true;
                self.run_lists.add(slot, entry.busy);
            }
        }
    }

    /// Does the same for the session with this first token.
    fn poke_session(&mut self, token: usize, tell: impl FnOnce(&mut Session, &mut Shared)) {
        if let Owner::Session { slot, .. } = token::owner(Token(token)) {
            self.poke(slot, tell);
        }
    }

    /// Passes answers to sessions that wait for them, to about [`SESSIONS_PER_TURN`]: one answer
    /// may be for all.
    fn take_answers(&mut self) {
        let now = self.shared.now;
        self.shared.locator.advance_look_ups(SESSIONS_PER_TURN, now);
        while let Some((first_token, answer)) = self.shared.next_answer() {
            self.poke_session(first_token, |session, shared| {
                session.located(answer, shared)
            });
        }
        for _ in 0..SESSIONS_PER_TURN {
            let Some(first_token) = self.shared.servers.queue.next_ready() else {
                break;
            };
            self.poke_session(first_token, |_, _| {});
        }
        while let Some(note) = self.shared.locator.resolver.next_note() {
            self.shared.log.notice(format_args!("{note}"));
        }
    }

    /// Handles expired deadlines, at most [`SESSIONS_PER_TURN`].
    fn expire(&mut self) {
        for _ in 0..SESSIONS_PER_TURN {
            let Some((slot, generation)) = self.timers.pop(self.shared.now) else {
                return;
            };
            let Some(entry) = self.sessions.get_mut(slot) else {
                continue;
            };
            if !entry.armed.take(generation) {
                continue;
            }
            let deadline = entry.session.deadline();
            if deadline <= self.shared.now {
                self.poke(slot, Session::expire);
            } else {
                self.timers.arm(slot, deadline, &mut entry.armed);
            }
        }
    }
}
