//! A session: one browser and its server.
//!
//! The event loop calls [`Session::read`] and [`Session::write`] in each turn,
//! [`Session::expire`] when the [`Session::deadline`] has passed, and [`Session::located`] with
//! the answer to a look-up. What happens on the sockets becomes an event for the state `machine`;
//! `events` carries out what the machine decides. `client` is all that concerns the browser,
//! `server` all that concerns its server. `side` is a socket with its queues, and `shared` is
//! what the sessions of a worker share.
//!
//! `deadlines` has the time limits, `back_pressure`, `memory` and `ledger` the limits on memory,
//! and `admission` the limits per client address. `session_log` has the log line, `outages`
//! limits the lines about unreachable servers and `line_limit` those about bad peers, `tally`
//! counts the session in the metrics, `facts` describes it to an operator, and `step` tells an
//! observer what happens.

pub mod admission;
mod back_pressure;
mod client;
mod deadlines;
mod events;
pub mod facts;
mod interner;
pub mod ledger;
mod line_limit;
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
use admission::ConnectionLimit;
use back_pressure::BackPressure;
use client::admission::ClientAdmission;
use client::incoming::Incoming;
use ledger::Share;
pub(crate) use machine::Phase;
use machine::{Event, Machine};
use server::server_side::ServerSide;
use session_log::{Name, SessionLog};
use settings::Settings;
use shared::{BytesRead, Shared};
use side::Side;
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
    incoming: Incoming,
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
    admission: ClientAdmission,
    /// The session's share of the worker's ledger.
    share: Share,
    /// How the session is counted in the metrics.
    tally: Tally,
}

/// Most of the memory of an idle session. (In debug builds mio needs more.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Session>() <= 368);

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
            let limit = ConnectionLimit::Connections;
            session.admission.exceed(limit, peer, shared);
        } else if !session.admission.awaits_proxy {
            session.admission.count(peer, &session.config, shared);
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
            admission: ClientAdmission::new(peer, &config),
            config,
            endpoint: Rc::clone(endpoint),
            incoming: Incoming::default(),
            domain: None,
            log: SessionLog::new(shared.number_session(), peer, shared.now),
            token: u32::try_from(token).expect("descriptors are fewer"),
            active_at: 0,
            deflate: None,
            back_pressure: BackPressure::default(),
            heard: true,
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
        self.admission.leave(self.log.name.peer, shared);
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
            || self.incoming.has_message()
            || !self.client.tail.is_empty();
        let now = self.measure();
        // Bytes that were received earlier come first, and may have to wait.
        let phase = self.machine.phase();
        let broken = (self.client.is_broken() && !(phase.is_open() && now.client_waits))
            || (self.server.side.is_broken() && !(phase.reads_stream() && now.server_waits));
        again || broken || (waiting && now.resumes_from(full))
    }
}
