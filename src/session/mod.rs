//! One browser and its server: the session.
//!
//! Owns both sides and the state `machine`: turns what the sockets say into its events, and
//! carries its actions out. What comes from the browser: `client` reads it, `request` answers
//! its request, `client_tls` brings TLS about, `client_address` judges who it is, `frames` has
//! its frames, `first_message`, `framed` and `draft` its messages. The way to the server:
//! `route` finds and dials it, `server_tls` makes the connection secure. What comes from
//! there: `server` reads it, `relay` hands it on, `message_writer` in the client's form.
//! `side` is a socket with its queue, `shared` what all sessions of a worker share,
//! `session_log` the log line, `deadlines` the time limits, `back_pressure` and `memory` the
//! bounds, `tally` what the session is counted as.

pub mod admission;
mod back_pressure;
mod client;
mod client_address;
mod client_tls;
mod deadlines;
mod draft;
mod first_message;
mod framed;
mod frames;
mod interner;
pub mod ledger;
mod machine;
mod memory;
mod message_writer;
mod outages;
mod redirect;
mod relay;
mod request;
mod route;
mod server;
mod server_tls;
mod session_log;
mod settings;
pub mod shared;
mod side;
#[cfg(test)]
mod simulation;
mod tally;

use std::rc::Rc;

use mio::Token;
use mio::event::Event as Edge;

use crate::log::Level;
use crate::net::byte_stream::ByteStream;
use crate::net::peer::Peer;
use crate::net::tls_server::Endpoint;
use crate::net::transport::Transport;
use crate::proto::http::Refusal;
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::frame;
use crate::proto::xmpp::server_stream::ServerStream;
use admission::{Excess, Standing};
use back_pressure::BackPressure;
use deadlines::millis;
use ledger::Share;
use machine::{Actions, Cause, EndTag, Event, Machine, Phase, Refuse, ServerAction};
use session_log::{Name, SessionLog};
use settings::Settings;
use shared::Shared;
use side::Side;
use tally::Tally;

/// Milliseconds since the reactor started.
pub type Tick = u64;

/// No deadline.
pub const NEVER: Tick = Tick::MAX;

/// Tokens of one session: the client's, then the lanes of a dial.
pub const TOKENS: usize = 1 + crate::net::dial::LANES;

/// Reads on one side in one turn, so that others get theirs.
const READS_PER_TURN: u32 = 4;

/// What a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to do before the next edge or deadline.
    Idle,
    /// The budget ended before the work did.
    Again,
    /// Both sides are closed.
    Over,
}

/// One browser and its server.
pub struct Session {
    machine: Machine,
    client: Side,
    server: Side,
    config: Rc<Settings>,
    /// Where the client came in.
    endpoint: Rc<Endpoint>,
    /// The unfinished part of what the client sends.
    incoming: Option<Box<frames::Incoming>>,
    /// What the server sends.
    stream: ServerStream,
    /// The way to the server, while the machine needs it.
    route: Option<Box<route::Route>>,
    domain: Option<Rc<str>>,
    /// Root of the draft's stream if it is not `stream:stream`.
    draft_root: Option<Box<str>>,
    log: SessionLog,
    /// The condition of the server's stream error.
    server_error: Option<&'static &'static str>,
    /// When the phase has lasted too long; while messages are relayed, the next Ping.
    phase_deadline: Tick,
    /// First of the session's tokens.
    token: u32,
    /// Lane of the dial that connected.
    lane: u8,
    /// A connection that was being dialled had more to tell than that it stands.
    missed: bool,
    /// How messages are compressed, if that was agreed on.
    deflate: Option<Deflate>,
    back_pressure: BackPressure,
    /// The server's stream has more to hand on without another read.
    stream_paused: bool,
    /// Whether bytes came from the client since the last deadline.
    heard: bool,
    /// SASL mechanisms with channel binding are taken out.
    strip_channel_binding: bool,
    /// The peer is a proxy that may begin with a PROXY header.
    awaits_proxy: bool,
    /// How it is counted for the client's address.
    standing: Standing,
    /// To be refused once its request is there.
    excess: Option<Excess>,
    /// Its share of the worker's ledger.
    share: Share,
    /// What it is counted as.
    tally: Tally,
}

impl Session {
    /// A session for a client just accepted at `endpoint`; its events come with `token`, those
    /// of its server with the next [`TOKENS`] - 1. Where the daemon is `full` it is to
    /// be refused.
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
        let mut session = Session::over(transport, peer, endpoint, token, shared);
        if full {
            session.exceed(Excess::Connections, shared);
        } else if !session.awaits_proxy {
            session.count_address(shared);
        }
        Ok(session)
    }

    fn over(
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
            server: Side::default(),
            phase_deadline: shared.now + millis(config.handshake_timeout),
            awaits_proxy: admission::is_believed(peer, &config),
            config,
            endpoint: Rc::clone(endpoint),
            incoming: None,
            stream: ServerStream::new(),
            route: None,
            domain: None,
            draft_root: None,
            log: SessionLog::new(shared.number_session(), peer, shared.now),
            server_error: None,
            token: u32::try_from(token).expect("descriptors are fewer"),
            lane: 0,
            missed: false,
            deflate: None,
            back_pressure: BackPressure::default(),
            stream_paused: false,
            heard: true,
            strip_channel_binding: false,
            standing: Standing::default(),
            excess: None,
            share: Share::default(),
            tally: Tally::default(),
        }
    }

    /// Notes an edge of the token `token + side`.
    pub fn edge(&mut self, side: usize, edge: &Edge) {
        match side {
            0 => self.client.edge(edge),
            lane if lane - 1 == usize::from(self.lane) && self.server.is_connected() => {
                self.server.edge(edge);
            }
            _ => self.missed |= edge.is_readable() || edge.is_read_closed() || edge.is_error(),
        }
    }

    /// Works off what the edges promised, both ways, and writes on both sides.
    pub fn turn(&mut self, shared: &mut Shared) -> Turn {
        shared.meter.refill();
        shared.taken = (0, 0);
        self.connect(shared);
        let mut scratch = std::mem::take(&mut shared.scratch);
        let mut again = self.take_client(shared, &mut scratch);
        again |= self.take_server(shared, &mut scratch);
        shared.scratch = scratch;
        again |= self.flush(shared);
        self.enter_in_ledger(shared);
        debug_assert!(self.held() <= self.most_held(), "{} held", self.held());
        debug_assert_eq!(self.machine.is_connected(), self.server.is_connected());
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

    /// Writes the session's log line, and takes it out of all counts.
    pub fn bury(&mut self, shared: &mut Shared) {
        shared.ledger.change(&mut self.share, Share::default());
        shared.servers.leave(self.token as usize);
        self.untally(shared);
        if let Some(ip) = self.log.peer().ip() {
            let standing = std::mem::take(&mut self.standing);
            shared.admission.leave(ip, standing);
        }
        let (domain, dialect) = (self.domain.as_deref(), self.machine.dialect());
        let line = self.log.line(domain, dialect);
        let level = match self.log.is_check() {
            true => Level::Debug,
            false => Level::Info,
        };
        shared.log.line(level, format_args!("{line}"));
    }

    /// Its name in the log.
    pub fn name(&self) -> Name {
        self.log.name()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.machine.phase()
    }

    /// Whether all that was relayed has gone out; `None` where nothing is relayed.
    pub fn is_flushed(&self) -> Option<bool> {
        let flushed = self.client.out.is_empty() && self.server.out.is_empty();
        self.machine.phase().is_relaying().then_some(flushed)
    }

    /// Writes on both sides; true if reading can now go on, or if writing must go on.
    fn flush(&mut self, shared: &mut Shared) -> bool {
        // Or when reading stopped: the way to the server may have been given up since
        // then, and with it what waited there.
        let stopped = self.back_pressure;
        let full = stopped.or(self.measure());
        let mut again = self.client.flush(&mut shared.meter, shared.now);
        again |= self.server.flush(&mut shared.meter, shared.now);
        let done = self.client.has_ended() && self.client.out.is_empty();
        if done && !self.machine.phase().is_open() {
            self.step(Event::ClientGone, "", shared);
        }
        if self.server.is_done() {
            self.step(Event::ServerGone, "", shared);
        }
        let waiting = self.client.is_readable()
            || self.server.is_readable()
            || self.stream_paused
            || self.is_judging()
            || !self.client.tail.is_empty();
        let now = self.measure();
        // What was received before comes first, and that may have to wait.
        let phase = self.machine.phase();
        let broken = (self.client.is_broken() && !(phase.is_open() && now.client_waits))
            || (self.server.is_broken() && !(phase.reads_stream() && now.server_waits));
        again || broken || (waiting && now.lets_more_than(full))
    }

    /// Takes an event through the state machine and carries its actions out. `detail` is for
    /// the log. No action causes an event: what a phase has to do by itself, a turn does.
    fn step(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let actions = self.decide(event, detail, shared);
        self.carry_out(&actions, shared);
        actions
    }

    /// The same for something that the client sends to the server; whether it was passed on.
    fn pass_on(&mut self, event: Event, bytes: &[u8], shared: &mut Shared) -> bool {
        let greeted = self.machine.phase().reads_stream();
        let actions = self.decide(event, "", shared);
        if actions.relay {
            match &mut self.route {
                Some(route) if !greeted => route.queue.extend(bytes),
                _ => self.server.out.extend(bytes),
            }
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
        if before.index() != after.index() {
            shared.log.debug(format_args!(
                "session {}: {} -> {} ({event:?})",
                self.log.name(),
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

    /// Logs and counts why the session ends, or ends sooner.
    fn note_cause(
        &mut self,
        phase: Phase,
        cause: Cause,
        server: ServerAction,
        detail: &str,
        shared: &mut Shared,
    ) {
        if let Some(key) = cause.limit(&self.config) {
            let (peer, log) = (self.log.peer(), &shared.log);
            shared.admission.report(log, peer, key, detail, shared.now);
        }
        if phase.is_open() {
            self.log.end(cause, detail, server);
            shared.metrics.count_end(cause.words());
            if let Some(why) = cause.unreachable(phase) {
                self.note_outage(why, detail, shared);
            }
        }
    }

    /// Does what the machine says, except for passing a message on and answering a Close
    /// frame: only who has them can do that.
    fn carry_out(&mut self, actions: &Actions, shared: &mut Shared) {
        match actions.refuse {
            None => {}
            Some(Refuse::Timeout) => self.refuse(Refusal::Timeout, shared),
            Some(Refuse::Unavailable) => {
                let retry_after_secs = 5;
                self.refuse(Refusal::Stopping { retry_after_secs }, shared);
            }
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
            frame::write_ping(&mut self.client.out, b"");
        }
        match actions.server {
            ServerAction::Keep => {}
            ServerAction::LookUp => self.look_up(shared),
            ServerAction::Disconnect => self.server.close(),
            ServerAction::Follow => self.follow(shared),
            ServerAction::Greet => self.greet(shared),
            ServerAction::End(tag) => {
                if tag == EndTag::Ours {
                    self.write_stream_end();
                }
                self.server.finish();
            }
            ServerAction::Cut => self.server.finish(),
            ServerAction::Abort => {
                self.server.close();
                self.stream = ServerStream::new();
                self.stream_paused = false;
            }
        }
        if self.route.is_some() && !self.machine.needs_route() {
            self.abandon_route(shared);
        }
    }

    /// Begins the phase that comes after `before`: its deadline and counts, and the end of
    /// the client's side where that is due.
    fn enter(&mut self, before: Phase, shared: &mut Shared) {
        let phase = self.machine.phase();
        if let Some((total, connect)) = self.log.reach(phase, shared.now) {
            shared.metrics.count_opening(total, connect);
        }
        match phase {
            Phase::Relaying { .. } => self.note_recovery(shared),
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
