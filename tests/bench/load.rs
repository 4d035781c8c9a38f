//! The load generator: the clients and the server in one event loop.
//!
//! After the first exchange the server echoes every byte. A client knows the length of
//! each answer and only counts bytes; the tests check the content.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::clock::now;
use crate::relay::{Form, Kind, Relay};
use crate::socket::{Files, Socket, Tls};
use crate::wire::{HEADER, OPEN, REQUEST, Wire, masked};

/// The domain of all sessions.
pub const DOMAIN: &str = "example.org";

const LISTENER: Token = Token(usize::MAX - 1);
const TLS_LISTENER: Token = Token(usize::MAX - 2);
/// A relay that is silent for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The number of sessions that are set up at the same time.
const AT_A_TIME: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A client waits for the response to its opening handshake, and then for the stream
    /// header and features.
    Handshake,
    Opening,
    /// A client between stanzas or waiting for answers.
    Ready,
    /// A client that disturbs others; its answers do not matter.
    Noise,
    /// A client that disturbs others, but sends a stanza only for each answer.
    Steady,
    /// The server waits for the stream header and echoes what follows.
    Greeting,
    Echo,
}

struct Conn {
    socket: Socket,
    state: State,
    /// The number of bytes during set-up.
    head: Vec<u8>,
    /// Bytes to be written.
    out: Vec<u8>,
    /// Bytes of an incomplete answer.
    received: usize,
    /// When the stanzas in flight were due.
    sent_at: VecDeque<Instant>,
}

impl Conn {
    fn new(socket: Socket, state: State) -> Conn {
        Conn {
            socket,
            state,
            head: Vec::new(),
            out: Vec::new(),
            received: 0,
            sent_at: VecDeque::new(),
        }
    }

    /// Counts bytes received. Returns the number of answers of this length that are complete.
    fn take_whole(&mut self, received: usize, answer_len: usize) -> usize {
        let total = self.received + received;
        self.received = total % answer_len;
        total / answer_len
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.out.is_empty() {
            let sent = self.write(bytes);
            self.out.extend_from_slice(&bytes[sent..]);
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        let sent = self.write(&out);
        self.out = out;
        self.out.drain(..sent);
    }

    /// Writes until the socket is full. TLS takes one record at a time.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The next read finds the end.
                Err(_) => return bytes.len(),
            }
        }
        sent
    }
}

/// Established sessions through one relay.
pub struct Clients {
    kind: Kind,
    slots: Vec<usize>,
}

/// The loop with all connections.
pub struct Load {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    /// Takes connections with TLS.
    tls_listener: TcpListener,
    tls: Tls,
    conns: Slab<Conn>,
    /// The current protocol to the server.
    kind: Kind,
    /// The stanza of the current run, and the number of sends after each answer.
    wire: Wire,
    go_on: bool,
    answers: u64,
    ready: Vec<usize>,
    latencies_ns: Vec<u64>,
    scratch: Vec<u8>,
    /// Clients that disturb others, and what each sends over and over.
    noise: Vec<(usize, Vec<u8>)>,
}

impl Load {
    pub fn new() -> Load {
        let poll = Poll::new().expect("poll");
        let listen = |token| {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut listener = TcpListener::bind(any).expect("bind");
            poll.registry()
                .register(&mut listener, token, Interest::READABLE)
                .expect("register");
            listener
        };
        Load {
            listener: listen(LISTENER),
            tls_listener: listen(TLS_LISTENER),
            tls: Tls::new(),
            poll,
            events: Events::with_capacity(4096),
            conns: Slab::new(),
            kind: Kind::Tcp,
            wire: Wire::new(Kind::Tcp, 200),
            go_on: false,
            answers: 0,
            ready: Vec::new(),
            latencies_ns: Vec::new(),
            scratch: vec![0; 64 << 10],
            noise: Vec::new(),
        }
    }

    /// The address of the server for relays of this form.
    pub fn server_address(&self, form: Form) -> SocketAddr {
        let listener = match form {
            Form::Plain | Form::Wss => &self.listener,
            Form::Tls => &self.tls_listener,
        };
        listener.local_addr().expect("address")
    }

    pub fn files(&self) -> &Files {
        &self.tls.files
    }

    /// Opens `count` sessions through `relay`.
    pub fn open(&mut self, relay: &Relay, count: usize) -> Clients {
        self.kind = relay.kind;
        self.wire = Wire::new(relay.kind, 200);
        self.go_on = false;
        self.ready.clear();
        let mut started = 0;
        while self.ready.len() < count {
            while started < count && started - self.ready.len() < AT_A_TIME {
                self.connect(relay);
                started += 1;
            }
            self.turn(Some(PATIENCE));
        }
        Clients {
            kind: relay.kind,
            slots: std::mem::take(&mut self.ready),
        }
    }

    fn connect(&mut self, relay: &Relay) {
        let socket = std::net::TcpStream::connect(relay.address).expect("connect");
        socket.set_nonblocking(true).expect("non-blocking");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        let socket = TcpStream::from_std(socket);
        let socket = match relay.form {
            Form::Plain => Socket::Plain(socket),
            Form::Wss | Form::Tls => self.tls.connect(socket),
        };
        let slot = self.add(socket, State::Handshake);
        let conn = &mut self.conns[slot];
        match relay.kind {
            Kind::Xmpp => conn.send(REQUEST),
            Kind::Tcp => {
                conn.state = State::Opening;
                conn.send(&self.wire.request);
            }
        }
    }

    fn add(&mut self, mut socket: Socket, state: State) -> usize {
        let entry = self.conns.vacant_entry();
        let slot = entry.key();
        socket.register(self.poll.registry(), Token(slot));
        entry.insert(Conn::new(socket, state));
        slot
    }

    /// Closes sessions and waits until the relay has closed its side of all.
    pub fn close(&mut self, clients: Clients) {
        self.close_some(clients);
        self.settle_to(0);
    }

    /// Closes sessions.
    pub fn close_some(&mut self, clients: Clients) {
        for slot in clients.slots {
            self.conns.remove(slot);
        }
    }

    /// Waits until at most `left` connections are open.
    pub fn settle_to(&mut self, left: usize) {
        while self.conns.len() > left {
            self.turn(Some(PATIENCE));
        }
    }

    /// Keeps `in_flight` stanzas of `size` bytes in transit per session for a time, then
    /// waits for the rest; returns the number of answers.
    pub fn closed_loop(
        &mut self,
        clients: &Clients,
        size: usize,
        in_flight: usize,
        time: Duration,
    ) -> u64 {
        self.begin(clients, size);
        self.go_on = true;
        let burst = self.wire.request.repeat(in_flight);
        let mut sent = 0;
        for &slot in &clients.slots {
            self.conns[slot].send(&burst);
            sent += in_flight as u64;
        }
        let end = now() + time;
        while now() < end {
            self.turn(Some(PATIENCE));
        }
        self.go_on = false;
        // As many are in flight as at the start.
        let all = self.answers + sent;
        while self.answers < all {
            self.turn(Some(PATIENCE));
        }
        self.answers
    }

    /// Sends one stanza of `size` bytes in each session, in sequence.
    pub fn once_each(&mut self, clients: &Clients, size: usize) {
        self.begin(clients, size);
        for (at, &slot) in clients.slots.iter().enumerate() {
            let request = std::mem::take(&mut self.wire.request);
            self.conns[slot].send(&request);
            self.wire.request = request;
            while self.answers <= at as u64 {
                self.turn(Some(PATIENCE));
            }
        }
    }

    /// Sends stanzas at a fixed rate over all sessions; returns the sorted times from
    /// when each stanza was due to its answer, in nanoseconds.
    pub fn paced(
        &mut self,
        clients: &Clients,
        size: usize,
        per_second: f64,
        time: Duration,
    ) -> Vec<u64> {
        self.begin(clients, size);
        self.latencies_ns.clear();
        let start = now();
        let count = (per_second * time.as_secs_f64()) as u64;
        let mut turns = clients.slots.iter().cycle();
        for n in 0..count {
            let due = start + Duration::from_secs_f64(n as f64 / per_second);
            while now() < due {
                self.turn(None);
                for (slot, bytes) in &self.noise {
                    let conn = &mut self.conns[*slot];
                    if conn.out.is_empty() && !bytes.is_empty() {
                        conn.send(bytes);
                    }
                }
            }
            if let Some(&slot) = turns.next() {
                let conn = &mut self.conns[slot];
                conn.sent_at.push_back(due);
                conn.send(&self.wire.request);
            }
        }
        while self.answers < count {
            self.turn(Some(PATIENCE));
        }
        let mut latencies = std::mem::take(&mut self.latencies_ns);
        latencies.sort_unstable();
        latencies
    }

    /// Makes a session send these bytes over and over while others are paced.
    pub fn make_noise(&mut self, clients: Clients, bytes: Vec<u8>) {
        for slot in clients.slots {
            self.conns[slot].state = State::Noise;
            self.noise.push((slot, bytes.clone()));
        }
    }

    /// Makes sessions keep stanzas in transit while others are paced with the same size.
    pub fn make_steady(&mut self, clients: Clients, size: usize, in_flight: usize) {
        self.begin(&clients, size);
        for slot in clients.slots {
            self.conns[slot].state = State::Steady;
            self.conns[slot].send(&self.wire.request.repeat(in_flight));
            self.noise.push((slot, Vec::new()));
        }
    }

    /// Closes the sessions that disturb others.
    pub fn end_noise(&mut self) {
        for (slot, _) in std::mem::take(&mut self.noise) {
            self.conns.remove(slot);
        }
    }

    fn begin(&mut self, clients: &Clients, size: usize) {
        self.wire = Wire::new(clients.kind, size);
        self.go_on = false;
        self.answers = 0;
    }

    /// Handles events; waits for them for at most this time.
    fn turn(&mut self, patience: Option<Duration>) {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let wait = patience.unwrap_or(Duration::ZERO);
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => panic!("poll: {error}"),
            _ => {}
        }
        let silent = patience.is_some() && events.is_empty();
        assert!(
            !silent,
            "the relay is silent: {} of the answers came",
            self.answers
        );
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept(false),
                TLS_LISTENER => self.accept(true),
                Token(slot) => {
                    if event.is_readable() {
                        self.read(slot, event.is_read_closed());
                    }
                    // A TLS handshake may have held the queue back.
                    if let Some(conn) = self.conns.get_mut(slot)
                        && !conn.out.is_empty()
                    {
                        conn.flush();
                    }
                }
            }
        }
        self.events = events;
    }

    fn accept(&mut self, tls: bool) {
        loop {
            let listener = if tls {
                &self.tls_listener
            } else {
                &self.listener
            };
            let Ok((socket, _)) = listener.accept() else {
                return;
            };
            socket.set_nodelay(true).expect("TCP_NODELAY");
            let socket = match tls {
                true => self.tls.accept(socket),
                false => Socket::Plain(socket),
            };
            let state = match self.kind {
                Kind::Tcp => State::Echo,
                Kind::Xmpp => State::Greeting,
            };
            let slot = self.add(socket, state);
            self.read(slot, false);
        }
    }

    /// Reads what has arrived. `to_end`: the end has been announced.
    fn read(&mut self, slot: usize, to_end: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(conn) = self.conns.get_mut(slot) {
            match conn.socket.read(&mut scratch) {
                Ok(n) if n > 0 => {
                    let short = n < scratch.len() && conn.socket.short_read_is_last();
                    let last = short && !to_end;
                    self.take(slot, &scratch[..n]);
                    if last {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                end => {
                    assert!(
                        matches!(conn.state, State::Echo | State::Greeting),
                        "the relay closed a session: {end:?}"
                    );
                    self.conns.remove(slot);
                }
            }
        }
        self.scratch = scratch;
    }

    fn take(&mut self, slot: usize, bytes: &[u8]) {
        let conn = &mut self.conns[slot];
        match conn.state {
            State::Echo => return conn.send(bytes),
            State::Noise => return,
            State::Steady => {
                let whole = conn.take_whole(bytes.len(), self.wire.answer_len);
                return conn.send(&self.wire.request.repeat(whole));
            }
            State::Ready => {
                let whole = conn.take_whole(bytes.len(), self.wire.answer_len);
                if whole == 0 {
                    return;
                }
                self.answers += whole as u64;
                if !conn.sent_at.is_empty() {
                    let now = now();
                    let sent = conn.sent_at.drain(..whole);
                    let latencies = sent.map(|at| (now - at).as_nanos() as u64);
                    self.latencies_ns.extend(latencies);
                }
                match whole {
                    _ if !self.go_on => return,
                    1 => return conn.send(&self.wire.request),
                    _ => return conn.send(&self.wire.request.repeat(whole)),
                }
            }
            _ => conn.head.extend_from_slice(bytes),
        }
        let has = |text: &[u8]| conn.head.windows(text.len()).any(|window| window == text);
        match (conn.state, self.kind) {
            (State::Handshake, _) if has(b"\r\n\r\n") => {
                conn.state = State::Opening;
                conn.head.clear();
                conn.send(&masked(OPEN));
            }
            (State::Greeting, _) if has(b"streams\">") => {
                conn.state = State::Echo;
                conn.head = Vec::new();
                conn.send(HEADER);
            }
            (State::Opening, Kind::Xmpp) if has(b"</stream:features>") => self.set_ready(slot),
            (State::Opening, Kind::Tcp) if conn.head.len() >= self.wire.answer_len => {
                self.set_ready(slot);
            }
            _ => {}
        }
    }

    fn set_ready(&mut self, slot: usize) {
        let conn = &mut self.conns[slot];
        conn.state = State::Ready;
        conn.head = Vec::new();
        self.ready.push(slot);
    }
}
