//! One browser and its server: the session.
//!
//! Owns both sides and turns their readiness into events for the phase table
//! (`phase`), then carries out the actions it gives. `client` reads what the
//! browser sends, `request` answers its request, `frames` has its frames, `accept`
//! brings TLS about with it, `route` finds the server, `redirect` follows it
//! elsewhere, `secure` makes the connection secure, `server` reads what it sends,
//! `relay` writes to the browser. `side` is a socket with its queue, `worker` what
//! all sessions share, `names` shared texts, `settings` the configuration, `outages`
//! servers that cannot be reached, `admission` the limits by address, `bounds` what
//! one session may hold, `ledger` what all of them hold, `deadlines` the time limits,
//! `report` the log line at the end, `tally` what the session is counted as.

pub mod admission;
mod client;
mod client_tls;
mod deadlines;
mod flow;
mod frames;
mod interner;
pub mod ledger;
mod outages;
pub mod phase;
mod redirect;
mod relay;
mod report;
mod request;
mod route;
mod server;
mod server_tls;
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
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::frame;
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::server_stream::ServerStream;
use admission::{Excess, Standing};
use deadlines::millis;
use ledger::Share;
use phase::{Actions, Event, Phase, Refuse, Server};
use report::{Name, Report};
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
    config: Rc<Settings>,
    /// Where the client came in.
    endpoint: Rc<Endpoint>,
    phase: Phase,
    client: Side,
    server: Side,
    /// The unfinished part of what the client sends.
    incoming: Option<Box<frames::Incoming>>,
    stream: ServerStream,
    /// The way to the server while it is sought.
    route: Option<Box<route::Route>>,
    domain: Option<Rc<str>>,
    /// Root of the draft's stream if it is not `stream:stream`.
    draft_root: Option<Box<str>>,
    report: Report,
    /// When the phase has lasted too long; in `Relaying`, the next ping.
    phase_deadline: Tick,
    /// First of the session's tokens.
    token: u32,
    /// Lane of the dial that connected.
    lane: u8,
    /// A connection that was being dialled had more to tell than that it stands.
    missed: bool,
    dialect: Option<Dialect>,
    /// How messages are compressed, if that was agreed on.
    deflate: Option<Deflate>,
    missed_pings: u8,
    /// Whether a queue rose above high water and has not come down yet.
    paused: bool,
    /// The same for the client's queue alone.
    client_full: bool,
    /// Whether the server's stream holds units back because of that.
    stream_paused: bool,
    /// Whether bytes came from the client since the last ping.
    heard: bool,
    /// Whether the client has its `<open/>` or stream header.
    opened: bool,
    /// SASL succeeded; the client is to open its stream anew.
    awaits_restart: bool,
    /// The client's own end tag of the draft went to the server.
    end_sent: bool,
    /// The server sent a stream error: the end that follows is no loss.
    server_error: Option<&'static &'static str>,
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
        let proxied = admission::is_believed(peer, &config);
        Session {
            phase_deadline: shared.now + millis(config.handshake_timeout),
            config,
            phase: match endpoint.is_tls() {
                true => Phase::Accepting,
                false => Phase::Opening,
            },
            endpoint: Rc::clone(endpoint),
            client: Side::connected(transport, false, shared.now),
            server: Side::default(),
            incoming: None,
            stream: ServerStream::new(),
            route: None,
            domain: None,
            draft_root: None,
            report: Report::new(shared.number_session(), peer, shared.now),
            token: u32::try_from(token).expect("descriptors are fewer"),
            lane: 0,
            missed: false,
            dialect: None,
            deflate: None,
            missed_pings: 0,
            paused: false,
            client_full: false,
            stream_paused: false,
            heard: true,
            opened: false,
            awaits_restart: false,
            end_sent: false,
            server_error: None,
            strip_channel_binding: false,
            awaits_proxy: proxied,
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
        if self.phase == Phase::Connecting {
            self.dial(shared);
        }
        let mut scratch = std::mem::take(&mut shared.scratch);
        let mut again = self.take_client(shared, &mut scratch);
        again |= self.take_server(shared, &mut scratch);
        shared.scratch = scratch;
        again |= self.flush(shared);
        self.enter_in_ledger(shared);
        debug_assert!(self.held() <= self.most_held(), "{} held", self.held());
        match again {
            _ if self.is_over() => Turn::Over,
            true => Turn::Again,
            false => Turn::Idle,
        }
    }

    /// The daemon is stopping; to be followed by `turn`.
    pub fn drain(&mut self, shared: &mut Shared) {
        let upgraded = self.phase != Phase::Opening && self.phase.is_open();
        if upgraded && !self.opened && self.dialect != Some(Dialect::Draft) {
            self.send_elsewhere();
        }
        self.step(Event::Drain, "", shared);
    }

    /// Writes the session's log line, and takes it out of all counts.
    pub fn bury(&mut self, shared: &mut Shared) {
        shared.ledger.change(&mut self.share, Share::default());
        shared.servers.leave(self.token as usize);
        self.untally(shared);
        if let Some(ip) = self.report.peer().ip() {
            let standing = std::mem::take(&mut self.standing);
            shared.admission.leave(ip, standing);
        }
        let line = self.report.line(self.domain.as_deref(), self.dialect);
        let level = match self.report.is_check() {
            true => Level::Debug,
            false => Level::Info,
        };
        shared.log.line(level, format_args!("{line}"));
    }

    /// Its name in the log.
    pub fn name(&self) -> Name {
        self.report.name()
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether all that was relayed has gone out; `None` where nothing is relayed.
    pub fn is_flushed(&self) -> Option<bool> {
        let flushed = self.client.out.is_empty() && self.server.out.is_empty();
        (self.phase == Phase::Relaying).then_some(flushed)
    }

    fn is_over(&self) -> bool {
        self.phase == Phase::Gone && !self.server.is_connected()
    }

    /// Writes on both sides; true if reading can now go on, or if writing must go on.
    fn flush(&mut self, shared: &mut Shared) -> bool {
        // Or when reading stopped: the way to the server may have been given up since
        // then, and with it what waited there.
        let (stopped, client_stopped) = (self.paused, self.client_full);
        let was_paused = self.is_paused() || stopped;
        let was_full = self.is_client_full() || client_stopped;
        let mut again = self.client.flush(&mut shared.meter, shared.now);
        again |= self.server.flush(&mut shared.meter, shared.now);
        let done = self.client.has_ended() && self.client.out.is_empty();
        if done && !self.phase.is_open() && self.phase != Phase::Gone {
            self.step(Event::ClientGone, "", shared);
        }
        if self.server.is_done() {
            self.server.close();
        }
        let waiting = self.client.is_readable()
            || self.server.is_readable()
            || self.stream_paused
            || self.is_judging()
            || !self.client.tail.is_empty();
        // What was received before comes first, and that may have to wait.
        let client_waits = self.phase.is_open() && self.is_paused();
        let relaying = matches!(self.phase, Phase::Greeting | Phase::Relaying);
        let server_waits = relaying && self.is_client_full();
        let broken = (self.client.is_broken() && !client_waits)
            || (self.server.is_broken() && !server_waits);
        let resumed = was_paused && !self.is_paused();
        let drained = was_full && !self.is_client_full();
        again || broken || ((resumed || drained) && waiting)
    }

    /// Takes an event through the phase table and does what it says. `detail`
    /// is for the log.
    fn step(&mut self, event: Event, detail: &str, shared: &mut Shared) -> Actions {
        let before = self.phase;
        let (after, actions) = before.step(event);
        if let Some(key) = report::limit(before, event, &self.config) {
            let peer = self.report.peer();
            let (admission, log) = (&mut shared.admission, &shared.log);
            admission.report(log, peer, key, detail, shared.now);
        }
        let first = before != after && !self.report.has_relayed();
        self.report
            .step((before, after), event, actions.server, detail, shared.now);
        self.phase = after;
        if before != after {
            shared.log.debug(format_args!(
                "session {}: {before:?} -> {after:?} ({event:?})",
                self.report.name()
            ));
            self.enter(after, shared.now);
            self.tally(shared);
            if before.is_open() && !after.is_open() {
                shared.metrics.count_end(report::cause(before, event));
            }
            if first && let Some((total, connect)) = self.report.opening_ms() {
                shared.metrics.count_opening(total, connect);
            }
            self.note_server(before, event, detail, shared);
        }
        self.carry_out(&actions, shared);
        actions
    }

    /// Does what the phase table says, but for relaying a unit and echoing a
    /// Close frame, which only who has them can do.
    fn carry_out(&mut self, actions: &Actions, shared: &mut Shared) {
        if let Some(refuse) = actions.refuse {
            let refusal = match refuse {
                Refuse::Timeout => crate::proto::http::Refusal::Timeout,
                Refuse::Unavailable => crate::proto::http::Refusal::Stopping {
                    retry_after_secs: 5,
                },
            };
            self.refuse(refusal, shared);
        }
        if actions.error.is_some() || actions.end_stream {
            self.tell_client(actions.error, actions.end_stream, shared);
        }
        if let Some((code, reason)) = actions.close {
            frame::write_close(&mut self.client.out, Some(code), reason);
        }
        if actions.ping {
            frame::write_ping(&mut self.client.out, b"");
        }
        match actions.server {
            Server::Keep => {}
            Server::Secure => self.secure(shared),
            Server::Greet => self.greet(shared),
            Server::LookUp => self.look_up(shared),
            Server::Dial => self.dial(shared),
            Server::End => {
                if !self.end_sent && self.server.is_connected() {
                    self.write_stream_end();
                }
                self.server.finish();
            }
            Server::Cut => self.server.finish(),
            Server::Abort => {
                self.server.close();
                self.abandon_route(shared);
            }
        }
    }

    /// Sets the deadline of a phase just entered, and ends the client's side
    /// where the phase says so.
    fn enter(&mut self, phase: Phase, now: Tick) {
        match phase {
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
        self.arm(now);
    }
}
