//! One simulated session: draws random events and runs them.

use super::Random;
use super::script::{HEADER, Heard, Script, frame};
use crate::net::endpoint::Endpoint;
use crate::net::simulated::{ADDRESS, Wire};
use crate::net::transport::Transport;
use crate::proto::http::extensions::Deflate;
use crate::proto::xmpp::Dialect;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;
use crate::session::{Session, Tick, Turn, ticks};

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Both peers stay to the end.
    Stays,
    /// The client sends `<close/>` or its end tag.
    ClientEnds,
    /// The client only sends a Close frame.
    ClientCloses,
    /// The client's connection ends.
    ClientLeaves,
    /// The server sends its end tag.
    ServerEnds,
    /// The server's connection ends.
    ServerLeaves,
    /// Anything happens at any time: resets, a stop of the daemon, hours of silence.
    Breaks,
}

impl Fate {
    pub const ALL: [Fate; 7] = [
        Fate::Stays,
        Fate::ClientEnds,
        Fate::ClientCloses,
        Fate::ClientLeaves,
        Fate::ServerEnds,
        Fate::ServerLeaves,
        Fate::Breaks,
    ];

    pub fn is_the_clients(self) -> bool {
        matches!(
            self,
            Fate::ClientEnds | Fate::ClientCloses | Fate::ClientLeaves
        )
    }
}

/// One of the simulated peers.
struct Peer {
    wire: Wire,
    to_send: Vec<u8>,
    sent: usize,
    /// Whether the peer has ended its direction or reset the connection.
    ended: bool,
}

impl Peer {
    fn new(to_send: Vec<u8>, random: &mut Random) -> Peer {
        Peer {
            wire: Wire::new(500 + random.length(200_000)),
            to_send,
            sent: 0,
            ended: false,
        }
    }

    /// Sends up to `n` bytes. Returns whether this causes an edge.
    fn send(&mut self, n: usize) -> bool {
        let n = n.min(self.to_send.len() - self.sent);
        if self.ended || n == 0 {
            return false;
        }
        self.wire.send(&self.to_send[self.sent..self.sent + n]);
        self.sent += n;
        true
    }

    fn has_sent_all(&self) -> bool {
        self.sent == self.to_send.len()
    }
}

/// A simulated session.
pub struct Run<'a> {
    pub fate: Fate,
    random: Random,
    pub(super) shared: &'a mut Shared,
    pub(super) session: Session,
    pub(super) script: Script,
    client: Peer,
    server: Peer,
    pub(super) heard: Heard,
    /// The bytes that the server got.
    pub(super) got: Vec<u8>,
    /// Whether the peer that ends the session has done so.
    ended: bool,
    answered_close: bool,
    /// Bytes that both peers have read.
    taken: usize,
    started_at: Tick,
    /// Whether the session is on the run list.
    listed: bool,
    over: bool,
}

impl<'a> Run<'a> {
    pub fn new(seed: u64, shared: &'a mut Shared) -> Run<'a> {
        let mut random = Random::new(seed);
        let fate = Fate::ALL[random.below(Fate::ALL.len())];
        let script = Script::new(&mut random);
        Run::with(script, fate, random, shared)
    }

    /// Creates a session whose server reads only its stream header, and runs it until the queue
    /// to the server is full.
    pub fn with_stalled_server(shared: &'a mut Shared) -> Run<'a> {
        let mut random = Random::new(0);
        let script = Script::heavy(&mut random);
        let mut run = Run::with(script, Fate::Breaks, random, shared);
        for _ in 0..6 {
            run.client_sends(usize::MAX);
            run.turns();
            run.connect();
        }
        run.server_takes(400);
        run.server_sends(HEADER.len() + 100);
        run.turns();
        assert!(run.session.phase() == Phase::Relaying);
        let is_full = run.session.back_pressure.client_waits;
        assert!(is_full, "the queue is not full");
        run
    }

    /// Creates a session of RFC 7395 that has played its script, then negotiated compression
    /// and got `frames` from its client.
    pub fn with_frames(frames: &[u8], shared: &'a mut Shared) -> Run<'a> {
        let mut random = Random::new(0);
        let mut script = Script::new(&mut random);
        while script.dialect != Dialect::Framed {
            script = Script::new(&mut random);
        }
        let mut run = Run::with(script, Fate::Stays, random, shared);
        run.settle();
        assert!(run.session.phase() == Phase::Relaying);
        run.session.deflate = Some(Deflate { window_bits: None });
        run.client.to_send.extend(frames);
        run.client_sends(usize::MAX);
        run
    }

    /// Sends `bytes` from the server after its script.
    pub fn server_says(&mut self, bytes: &[u8]) {
        self.server.to_send.extend(bytes);
        self.server_sends(usize::MAX);
    }

    /// Lets both peers read all bytes. Returns the number of bytes read so far.
    pub fn peers_take(&mut self) -> usize {
        self.client_takes(usize::MAX);
        self.server_takes(usize::MAX);
        self.taken
    }

    /// Runs one turn. Returns the units drawn in it, and whether there is more to do.
    pub fn metered_turn(&mut self) -> (usize, bool) {
        let again = self.turn();
        (self.shared.meter.drawn(), again)
    }

    fn with(script: Script, fate: Fate, mut random: Random, shared: &'a mut Shared) -> Run<'a> {
        let client = Peer::new(script.client.clone(), &mut random);
        let server = Peer::new(script.server.clone(), &mut random);
        let transport = Transport::Simulated(client.wire.clone());
        let endpoints = Endpoint::all(&shared.config).expect("no certificates");
        let session = Session::with_transport(
            transport,
            crate::net::peer::Peer::Ip(ADDRESS),
            &endpoints[0],
            16,
            shared,
        );
        Run {
            fate,
            random,
            started_at: shared.now,
            shared,
            session,
            script,
            client,
            server,
            heard: Heard::default(),
            got: Vec::new(),
            ended: false,
            answered_close: false,
            taken: 0,
            listed: true,
            over: false,
        }
    }

    /// Resets the client's connection, so that the next write fails.
    pub fn reset_client(&mut self) {
        self.client.wire.reset();
        self.client_edge(true, true, true);
        self.server_sends(usize::MAX);
        self.turns();
        assert!(self.session.client.is_broken() && self.session.back_pressure.client_waits);
    }

    fn drain(&mut self) {
        self.session.drain(self.shared);
        self.listed = true;
    }

    /// Drains the session, and lets a long time pass.
    pub fn drain_for_long(&mut self) {
        self.drain();
        self.turns();
        self.pass(200_000);
    }

    /// Returns the bytes of payload that reached both peers.
    pub fn delivered(&self) -> usize {
        self.got.len() + self.heard.texts.iter().map(Vec::len).sum::<usize>()
    }

    /// Runs the session to its end and checks it.
    pub fn play(&mut self) {
        for _ in 0..50 + self.random.length(1500) {
            self.draw();
        }
        self.settle();
        self.check_order();
        self.check_outcome();
        self.bring_to_an_end();
        self.check_order();
    }

    /// Draws one random event.
    fn draw(&mut self) {
        let n = self.random.length(40_000);
        match self.random.below(100) {
            0..25 => self.client_sends(n),
            25..50 => self.server_sends(n),
            50..60 => self.client_takes(n),
            60..70 => self.server_takes(n),
            70..95 => {
                self.turn();
            }
            95..98 => self.end(),
            // All delays together are less than half of the time for a ping.
            98 => self.pass(self.random.clone().below(20) as Tick),
            _ if self.fate == Fate::Breaks && self.random.once_in(3) => self.break_something(),
            _ => self.connect(),
        }
    }

    /// Puts the session on the run list after an edge.
    fn client_edge(&mut self, readable: bool, writable: bool, ending: bool) {
        self.session.client.ready(readable, writable, ending);
        self.listed = true;
    }

    fn server_edge(&mut self, readable: bool, writable: bool, ending: bool) {
        if self.is_connected() {
            self.session.server.side.ready(readable, writable, ending);
            self.listed = true;
        }
    }

    pub(super) fn client_sends(&mut self, n: usize) {
        if self.client.send(n) {
            self.client_edge(true, false, false);
        }
    }

    fn is_connected(&self) -> bool {
        self.session.server.side.is_connected()
    }

    fn server_sends(&mut self, n: usize) {
        // The server sends nothing before it has our stream header.
        if self.is_connected() && !self.got.is_empty() && self.server.send(n) {
            self.server_edge(true, false, false);
        }
    }

    fn client_takes(&mut self, n: usize) {
        let bytes = self.client.wire.take(n);
        self.taken += bytes.len();
        let pings = self.heard.pings;
        self.heard.take(&bytes);
        for _ in pings..self.heard.pings {
            self.answer(0x8a, &[]);
        }
        if let Some(code) = self.heard.close
            && !std::mem::replace(&mut self.answered_close, true)
        {
            self.answer(0x88, &code.to_be_bytes());
        }
        if self.client.wire.has_room_again() {
            self.client_edge(false, true, false);
        }
    }

    /// Sends an answer of the client after the rest of its script.
    fn answer(&mut self, first: u8, payload: &[u8]) {
        if !self.ended || !self.fate.is_the_clients() {
            frame(&mut self.client.to_send, first, payload, &mut self.random);
        }
    }

    fn server_takes(&mut self, n: usize) {
        let bytes = self.server.wire.take(n);
        self.taken += bytes.len();
        self.got.extend(bytes);
        if self.server.wire.has_room_again() {
            self.server_edge(false, true, false);
        }
    }

    /// Does what the reactor does with a session on the run list. Returns whether it stays
    /// there.
    pub(super) fn turn(&mut self) -> bool {
        if self.over || !self.listed {
            return false;
        }
        let again = self.session.read(self.shared);
        let turn = self.session.write(again, self.shared);
        let (held, most) = (self.session.held(), self.session.most_held());
        assert!(held <= most, "{held} bytes held");
        // Without a deadline, a client that reads nothing more would never be given up.
        let full =
            self.session.phase() == Phase::Relaying && self.session.back_pressure.server_waits;
        assert!(!full || self.session.is_stuck(&self.session.client));
        self.over = turn == Turn::Over;
        self.listed = turn == Turn::Again;
        self.listed
    }

    /// Runs turns until there is nothing to do without a peer.
    fn turns(&mut self) {
        for _ in 0..10_000 {
            if !self.turn() {
                return;
            }
        }
        let (phase, line) = (self.session.phase(), self.session.log.line(None, None));
        panic!(
            "turns without an end in {phase:?} ({:?}): {line}",
            self.fate
        );
    }

    /// Takes bytes without the edge that says so.
    pub fn server_takes_unannounced(&mut self, n: usize) {
        assert_eq!(self.server.wire.take(n).len(), n);
    }

    /// Lets the time pass after which a stalled server is given up. Returns whether it is not.
    pub fn passes_write_timeout(&mut self) -> bool {
        let timeout = ticks(self.session.config.write_timeout);
        let until = self.session.server.side.progress_at() + timeout;
        while self.shared.now < until {
            let next = self.session.deadline().min(until);
            self.pass(next - self.shared.now);
        }
        self.session.phase() == Phase::Relaying
    }

    /// Lets time pass, and expires deadlines as the reactor does.
    fn pass(&mut self, time: Tick) {
        self.shared.now += time;
        if !self.over && self.session.deadline() <= self.shared.now {
            self.session.expire(self.shared);
            self.listed = true;
            self.turns();
            let deadline = self.session.deadline();
            let (phase, now) = (self.session.phase(), self.shared.now);
            assert!(
                self.over || deadline > now,
                "due since {} in {phase:?}",
                now - deadline
            );
        }
    }

    /// Lets the look-up and the dial succeed, when the session needs them.
    fn connect(&mut self) {
        let now = self.shared.now;
        self.shared.locator.advance_look_ups(usize::MAX, now);
        while self.shared.next_answer().is_some() {}
        if self.session.phase() == Phase::Locating {
            self.session.step(Event::Located, "", self.shared);
            self.listed = true;
        } else if self.session.phase() == Phase::Connecting {
            self.session.reach(&self.server.wire, self.shared);
            self.listed = true;
        }
    }

    /// Does the last thing that a peer does after its script.
    fn end(&mut self) {
        let relaying = self.session.phase() == Phase::Relaying;
        let peer = match self.fate.is_the_clients() {
            true => &self.client,
            false => &self.server,
        };
        if self.ended || !relaying || !peer.has_sent_all() {
            return;
        }
        self.ended = true;
        match self.fate {
            Fate::Stays | Fate::Breaks => self.ended = false,
            Fate::ClientEnds => {
                let end = self.script.client_end(&mut self.random);
                self.client.to_send.extend(end);
                // Browsers close at the same time, or wait for the answer.
                if self.random.once_in(2) {
                    self.answered_close = true;
                    let close = 1000_u16.to_be_bytes();
                    frame(&mut self.client.to_send, 0x88, &close, &mut self.random);
                }
            }
            Fate::ClientCloses => {
                self.answered_close = true;
                let close = 1001_u16.to_be_bytes();
                frame(&mut self.client.to_send, 0x88, &close, &mut self.random);
            }
            Fate::ServerEnds => self.server.to_send.extend(b"</stream:stream>"),
            Fate::ClientLeaves => {
                self.client.ended = true;
                self.client.wire.end();
                self.client_edge(true, false, true);
            }
            Fate::ServerLeaves => {
                self.server.ended = true;
                self.server.wire.end();
                self.server_edge(true, false, true);
            }
        }
    }

    fn break_something(&mut self) {
        match self.random.below(6) {
            0 => self.drain(),
            1 => self.pass(self.random.clone().below(300_000) as Tick),
            2 | 3 => {
                self.client.ended = true;
                match self.random.once_in(2) {
                    true => self.client.wire.reset(),
                    false => self.client.wire.end(),
                }
                self.client_edge(true, true, true);
            }
            _ => {
                self.server.ended = true;
                match self.random.once_in(2) {
                    true => self.server.wire.reset(),
                    false => self.server.wire.end(),
                }
                self.server_edge(true, true, true);
            }
        }
    }

    /// Lets both peers send and read the rest, until nothing changes any more.
    fn settle(&mut self) {
        let mut still = 0;
        while still < 6 {
            let before = self.taken;
            self.connect();
            self.end();
            self.client_sends(usize::MAX);
            self.server_sends(usize::MAX);
            self.turns();
            self.client_takes(usize::MAX);
            self.server_takes(usize::MAX);
            still = if self.taken == before { still + 1 } else { 0 };
        }
    }

    /// Checks that a session with silent peers ends within a few minutes.
    pub fn bring_to_an_end(&mut self) {
        for _ in 0..60 {
            self.turns();
            if self.over {
                break;
            }
            self.pass(10_000);
        }
        let (phase, begun) = (self.session.phase(), self.started_at);
        assert!(self.over, "in {phase:?} for ever (begun at {begun})");
        assert!(self.client.wire.is_finished() && self.server.wire.is_finished());
    }
}
