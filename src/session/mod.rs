//! A session: one browser and its server.
//!
//! Owns both sides and the state `machine`: turns what happens on the sockets into events for
//! the machine, and carries out its actions. `client` is all that concerns the browser,
//! `server` all that concerns its server. `side` is a socket with its queue, and `shared` is
//! what the sessions of a worker share. `session_log` has the log line, `outages` limits the
//! lines about unreachable servers, `deadlines` has the time limits, `back_pressure` and
//! `memory` the limits on memory, `admission` the limits per client address, `tally` counts the
//! session in the metrics, and `step` tells an observer what happens.

pub mod admission;
mod back_pressure;
mod client;
mod deadlines;
pub mod facts;
mod interner;
pub mod ledger;
mod machine;
mod memory;
mod outages;
mod server;
mod session_log;
mod settings;
pub mod shared;
mod side;
#[cfg(test)]
pub(crate) mod simulation;
pub(crate) mod step;
mod tally;

use std::borrow::Cow;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;
use mio::event::Event as Edge;

use crate::log::Level;
use crate::net::byte_stream::ByteStream;
use crate::net::endpoint::Endpoint;
use crate::net::peer::Peer;
use crate::net::transport::Transport;
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::{Opcode, frame};
use admission::{ConnectionLimit, CountedAs};
use back_pressure::BackPressure;
use ledger::Share;
pub(crate) use machine::Phase;
use machine::{Actions, Cause, Event, Machine, ServerAction};
use server::server_side::ServerSide;
use session_log::{Name, SessionLog};
use settings::Settings;
use shared::{BytesRead, READ_SIZE, Shared};
use side::Side;
use step::Step;
use tally::Tally;

/// Milliseconds since the reactor started.
pub type Tick = u64;

/// No deadline.
pub const NEVER: Tick = Tick::MAX;

pub fn ticks(time: Duration) -> Tick {
    Tick::try_from(time.as_millis()).unwrap_or(NEVER / 2)
}

/// Number of tokens of a session: one for the client, then one for each lane of a dial.
pub const TOKENS: usize = 1 + crate::net::dial::LANES;

/// Maximum number of reads on one side in one turn, so that other sessions get theirs.
const READS_PER_TURN: u32 = 2;

/// The result of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is nothing to do before the next edge or deadline.
    Idle,
    /// The budget was used up before the work was done.
    Again,
    /// The session is over: both sides are closed.
    Over,
}

/// One browser and its server.
pub struct Session {
    machine: Machine,
    client: Side,
    server: ServerSide,
    config: Rc<Settings>,
    /// The endpoint that accepted the client.
    endpoint: Rc<Endpoint>,
    /// The unfinished part of what the client sends.
    incoming: Option<Box<client::frames::Incoming>>,
    domain: Option<Rc<str>>,
    log: SessionLog,
    /// The deadline of the phase; while messages are relayed, the time of the next Ping.
    phase_deadline: Tick,
    /// The first of the session's tokens.
    token: u32,
    /// When a message was last passed on, in [`facts::ACTIVE_UNIT_MS`].
    active_at: u32,
    /// The parameters of compression, if it was negotiated.
    deflate: Option<Deflate>,
    back_pressure: BackPressure,
    /// Whether bytes have arrived from the client since the last deadline.
    heard: bool,
    /// Whether the peer is a proxy that may start with a PROXY header.
    awaits_proxy: bool,
    /// How the session is counted for the client's address.
    counted_as: CountedAs,
    /// The limit that the client exceeds; its request will be refused.
    exceeded: Option<ConnectionLimit>,
    /// The session's share of the worker's ledger.
    share: Share,
    /// How the session is counted in the metrics.
    tally: Tally,
}

impl Session {
    /// Creates a session for a client that `endpoint` has just accepted. Events of the client
    /// have `token`, events of the server the next [`TOKENS`] - 1. If the daemon is `full`, the
    /// client will be refused.
    ///
    /// # Errors
    /// The socket cannot be registered.
    pub fn new(
        socket: ByteStream,
        peer: Peer,
        endpoint: &Rc<Endpoint>,
        token: usize,
        full: bool,
        shared: &mut Shared,
    ) -> std::io::Result<Session> {
        let transport = Transport::register(socket, &shared.registry, Token(token))?;
        let mut session = Session::with_transport(transport, peer, endpoint, token, shared);
        if full {
            session.note_exceeded(ConnectionLimit::Connections, shared);
        } else if !session.awaits_proxy {
            session.count_address(shared);
        }
        Ok(session)
    }

    fn with_transport(
        transport: Transport,
        peer: Peer,
        endpoint: &Rc<Endpoint>,
        token: usize,
        shared: &mut Shared,
    ) -> Session {
        let config = Rc::clone(&shared.config);
        Session {
            machine: Machine::new(endpoint.is_tls()),
            client: Side::connected(transport, false, shared.now),
            server: ServerSide::default(),
            phase_deadline: shared.now + ticks(config.handshake_timeout),
            awaits_proxy: admission::is_trusted_proxy(peer, &config),
            config,
            endpoint: Rc::clone(endpoint),
            incoming: None,
            domain: None,
            log: SessionLog::new(shared.number_session(), peer, shared.now),
            token: u32::try_from(token).expect("descriptors are fewer"),
            active_at: 0,
            deflate: None,
            back_pressure: BackPressure::default(),
            heard: true,
            counted_as: CountedAs::default(),
            exceeded: None,
            share: Share::default(),
            tally: Tally::default(),
        }
    }

    /// Notes an edge of the token `token + side`.
    pub fn edge(&mut self, side: usize, edge: &Edge) {
        match side {
            0 => self.client.edge(edge),
            _ => self.server.edge(side - 1, edge),
        }
    }

    /// The first half of a turn: reads on both sides as far as the edges and the budget allow.
    /// The second half, [`Session::write`], must follow. Returns whether there is more to do.
    pub fn read(&mut self, shared: &mut Shared) -> bool {
        shared.meter.refill();
        shared.read = BytesRead::default();
        self.connect(shared);
        let mut scratch = std::mem::take(&mut shared.scratch);
        let mut again = self.read_client(shared, &mut scratch);
        if self.server.has_answer() {
            self.connect(shared);
        }
        again |= self.read_server(shared, &mut scratch);
        shared.scratch = scratch;
        again
    }

    /// The second half of a turn: writes on both sides as far as the edges and the rest of the
    /// budget allow. `again`: there was more to do after the first half.
    pub fn write(&mut self, mut again: bool, shared: &mut Shared) -> Turn {
        again |= self.flush(shared) || self.server.has_answer();
        self.enter_in_ledger(shared);
        debug_assert!(self.held() <= self.most_held(), "{} held", self.held());
        debug_assert_eq!(self.machine.is_connected(), self.server.side.is_connected());
        match again {
            _ if self.machine.is_over() => Turn::Over,
            true => Turn::Again,
            false => Turn::Idle,
        }
    }

    /// Tells the session that the daemon is stopping.
    pub fn drain(&mut self, shared: &mut Shared) {
        let elsewhere = self.config.see_other_uri.is_some();
        self.step(Event::Drain { elsewhere }, "", shared);
    }

    /// Closes the session because the operator wants it. A session that is closing already is
    /// disconnected.
    pub fn dismiss(&mut self, shared: &mut Shared) {
        self.step(Event::Dismissed, "", shared);
    }

    /// Writes the session's log line, and removes the session from all counts.
    pub fn bury(&mut self, shared: &mut Shared) {
        let nothing = Share::default();
        shared.ledger.change(self.token, &mut self.share, nothing);
        shared.servers.queue.leave(self.token as usize);
        self.tally.leave(&mut shared.metrics);
        if let Some(ip) = self.log.name.peer.ip() {
            let counted_as = std::mem::take(&mut self.counted_as);
            shared.admission.leave(ip, counted_as);
        }
        let (domain, dialect) = (self.domain.as_deref(), self.machine.dialect());
        let line = self.log.line(domain, dialect);
        let level = match self.log.is_check() {
            true => Level::Debug,
            false => Level::Info,
        };
        shared.log.line(level, format_args!("{line}"));
    }

    /// Counts the session in its current state. It must be called before the first turn, and
    /// whenever the state has changed.
    pub fn tally(&mut self, shared: &mut Shared) {
        let (domain, metrics) = (self.domain.as_deref(), &mut shared.metrics);
        self.tally
            .update(&self.machine, domain, &self.config, metrics);
    }

    /// Returns the session's name in the log.
    pub fn name(&self) -> Name {
        self.log.name
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine.phase()
    }

    /// Whether all relayed bytes are written; `None` if the session does not relay.
    pub fn is_flushed(&self) -> Option<bool> {
        let flushed = self.client.out.is_empty() && self.server.side.out.is_empty();
        (self.machine.phase() == Phase::Relaying).then_some(flushed)
    }

    /// Writes on both sides. Returns true if reading can resume, or if writing must continue.
    fn flush(&mut self, shared: &mut Shared) -> bool {
        // Include the state when reading stopped: since then the route may have been dropped,
        // with the messages in it.
        let stopped = self.back_pressure;
        let full = stopped.or(self.measure());
        let mut again = self.client.flush(&mut shared.meter, shared.now);
        again |= self.server.side.flush(&mut shared.meter, shared.now);
        let done = self.client.has_ended() && self.client.out.is_empty();
        if done && !self.machine.phase().is_open() {
            self.step(Event::ClientGone, "", shared);
        }
        if self.server.side.is_done() {
            self.step(Event::ServerGone, "", shared);
        }
        let waiting = self.client.is_readable()
            || self.server.side.is_readable()
            || self.server.stream_paused
            || self.has_unfinished_message()
            || !self.client.tail.is_empty();
        let now = self.measure();
        // Bytes that were received earlier come first, and may have to wait.
        let phase = self.machine.phase();
        let broken = (self.client.is_broken() && !(phase.is_open() && now.client_waits))
            || (self.server.side.is_broken() && !(phase.reads_stream() && now.server_waits));
        again || broken || (waiting && now.resumes_from(full))
    }

    /// Passes an event to the state machine and carries out its actions. `detail` is for the
    /// log. Actions never cause events: the work of a phase is done in turns.
    fn step(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let actions = self.decide(event, detail, shared);
        self.carry_out(&actions, shared);
        actions
    }

    /// Does the same for bytes from the client to the server. Returns whether they were
    /// relayed.
    fn pass_on(&mut self, event: Event, bytes: Cow<'_, [u8]>, shared: &mut Shared) -> bool {
        let greeted = self.machine.phase().reads_stream();
        let actions = self.decide(event, "", shared);
        if actions.relay {
            let room = shared.read.from_client.min(READ_SIZE);
            self.server.queue(bytes, greeted, room);
        }
        self.carry_out(&actions, shared);
        actions.relay
    }

    fn decide(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let before = self.machine.phase();
        let actions = self.machine.step(event);
        let after = self.machine.phase();
        if let Some(cause) = actions.cause {
            self.note_cause(before, cause, actions.server, detail, shared);
        }
        if before != after {
            shared.log.debug(format_args!(
                "session {}: {} -> {} ({event:?})",
                self.log.name,
                before.name(),
                after.name(),
            ));
            if before.is_setting_up() {
                self.remember_server(before, event, actions.cause, shared);
            }
            self.enter(before, shared);
        }
        actions
    }

    /// Logs and counts why the session ends.
    fn note_cause(
        &mut self,
        phase: Phase,
        cause: Cause,
        server: ServerAction,
        detail: &str,
        shared: &mut Shared,
    ) {
        if let Some(key) = cause.limit(&self.config) {
            shared.report_limit(self.log.name.peer, key, detail);
        }
        if phase.is_open() {
            let ended = Step::Ended { cause, detail };
            shared.observer.tell(&ended);
            self.log.end(cause, detail, server);
            shared.metrics.count_end(cause.words());
            if let Some(why) = cause.unreachable(phase) {
                self.note_outage(why, detail, shared);
            }
        }
    }

    /// Carries out actions, except relaying a message and answering a Close frame: the callers
    /// have the message and the frame.
    fn carry_out(&mut self, actions: &Actions, shared: &mut Shared) {
        if let Some(refusal) = actions.refuse {
            self.refuse(refusal, shared);
        }
        if actions.error.is_some() || actions.end_stream {
            self.tell_client(actions, shared);
        }
        if actions.elsewhere {
            self.send_elsewhere();
        }
        if let Some((code, reason)) = actions.close {
            frame::write_close(&mut self.client.out, Some(code), reason);
        }
        if actions.ping {
            frame::write_control(&mut self.client.out, Opcode::Ping, b"");
        }
        self.server.carry_out(actions.server, shared);
        if self.server.route.is_some() && !self.machine.needs_route() {
            self.server.abandon_route(shared);
        }
    }

    /// Enters the phase after `before`: sets its deadline, counts it, and finishes or closes
    /// the client's side if necessary.
    fn enter(&mut self, before: Phase, shared: &mut Shared) {
        let phase = self.machine.phase();
        if let Some((total, connect)) = self.log.reach(phase, shared.now) {
            shared.metrics.count_opening(total, connect);
        }
        match phase {
            Phase::Relaying => self.note_recovery(shared),
            Phase::Lingering => {
                self.client.tail.clear();
                self.incoming = None;
                self.client.finish();
            }
            Phase::Gone => {
                self.incoming = None;
                self.client.close();
            }
            _ => {}
        }
        self.arm(before, shared.now);
        self.tally(shared);
    }
}
