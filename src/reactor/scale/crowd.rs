//! An event loop with many sessions on simulated sockets.
//!
//! The loop and all its tables are the daemon's own; only the sockets of the sessions are
//! simulated. Instead of the poll, the crowd announces edges, at most as many in a turn as the
//! poll would. To let time pass, it moves the start of the loop into the past.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::rc::Rc;
use std::time::Duration;

use mio::Events;

use super::cost::Cost;
use crate::config;
use crate::log::Log;
use crate::net::endpoint::Endpoint;
use crate::net::listener::Socket;
use crate::net::simulated::Wire;
use crate::net::tls_client::Contexts;
use crate::reactor::{EVENTS, ROOM, Reactor, Setup, Timers, now, token};
use crate::session::Session;
use crate::session::simulation::crowd::{HEADER, frame, opening};

/// Nothing but Pings and a drain ends the silence of these sessions. The server has a name: a
/// numeric address would be dialled without the simulation.
pub const CONFIG: &str = "\
domains:
  - name: example.com
    server: localhost:9
    tls: none
handshake_timeout: 500
open_timeout: 500
connect_timeout: 500
close_timeout: 3600
ping_interval: 600
drain_timeout: 60
";
pub const PING_INTERVAL: Duration = Duration::from_secs(600);
/// Longer than the drain spreads its sessions.
pub const DRAIN_SPREAD: Duration = Duration::from_secs(31);

const DRAIN_STEP: Duration = Duration::from_millis(10);
/// Longer than the loop waits before it returns memory.
const A_WHILE: Duration = Duration::from_secs(2);

/// Number of sessions set up at once: their work fits in one turn.
const ACCEPTS: usize = 8;
/// Coprime to the numbers of sessions: events come in no order that the memory likes.
const STRIDE: usize = 7_368_787;

/// The beginning of a stanza, for which a session needs memory.
pub const PART: &[u8] = b"<message><body>";
pub const STANZA: &[u8] =
    b"<message xmlns='jabber:client' to='romeo@example.com'><body>Hello!</body></message>";

pub struct Crowd {
    pub reactor: Reactor,
    events: Events,
    /// The sockets of the session in each slot.
    pub clients: Vec<Wire>,
    pub servers: Vec<Wire>,
    /// The slots of open sessions, in the order of their events.
    open: Vec<usize>,
}

impl Crowd {
    /// Creates the loop and the sockets of this many sessions.
    pub fn new(sessions: usize) -> Crowd {
        Crowd::with_config(sessions, CONFIG)
    }

    /// Does the same with another configuration.
    pub fn with_config(sessions: usize, config: &str) -> Crowd {
        let loaded = config::parse("crowd", config).expect("a good file");
        let endpoints = Endpoint::all(&loaded.config).expect("no certificates");
        let tls = Contexts::new(std::iter::empty()).expect("TLS contexts");
        let log = Rc::new(Log::with_sinks("/nonexistent".as_ref(), None, now()));
        let (config, setup) = (Rc::new(loaded.config), Setup::default());
        let reactor = Reactor::new(config, tls, log, Vec::new(), endpoints, setup);
        let mut reactor = reactor.expect("a loop");
        // As with enough descriptors.
        reactor.acceptor.max_sessions = sessions;
        reactor.sessions = slab::Slab::with_capacity(sessions.min(ROOM));
        reactor.timers = Timers::with_capacity(sessions.min(ROOM));
        let wires = || (0..sessions).map(|_| Wire::new(1 << 16)).collect();
        Crowd {
            reactor,
            events: Events::with_capacity(EVENTS),
            clients: wires(),
            servers: wires(),
            open: (0..sessions).map(|at| at * STRIDE % sessions).collect(),
        }
    }

    /// Opens a status port.
    pub fn open_status(&mut self) {
        let listener = UnixListener::bind_addr(&status_address()).expect("a listener");
        listener.set_nonblocking(true).expect("not blocking");
        let socket = Socket::ours(listener.into(), 0).expect("a socket");
        self.reactor.setup.status.push(socket);
        self.reactor.open_status().expect("a status port");
    }

    /// Runs a turn in which the poll announces what `edges` pokes.
    pub fn turn(&mut self, cost: &mut Cost, edges: impl FnOnce(&mut Reactor)) {
        let (reactor, events) = (&mut self.reactor, &mut self.events);
        cost.turn(|| {
            edges(reactor);
            reactor.turn(events).expect("a turn");
        });
    }

    /// Runs turns until the loop would wait for an event.
    fn turns(&mut self, cost: &mut Cost) {
        while self.reactor.timeout() == Some(Duration::ZERO) {
            self.turn(cost, |_| {});
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        self.reactor.started -= time;
        // So that the next turn does not wait for what is due by now.
        self.reactor.read_clock();
    }

    /// Lets sessions be accepted until there are this many, and brings them to relaying.
    pub fn set_up(&mut self, sessions: usize) -> Cost {
        let mut cost = Cost::default();
        let first = self.reactor.sessions.len();
        for first in (first..sessions).step_by(ACCEPTS) {
            let batch = first..sessions.min(first + ACCEPTS);
            let clients = &self.clients[batch.clone()];
            clients.iter().for_each(|wire| wire.send(&opening()));
            let (reactor, events) = (&mut self.reactor, &mut self.events);
            cost.turn(|| {
                for (at, client) in batch.clone().zip(clients) {
                    accept(reactor, at, client);
                }
                reactor.turn(events).expect("a turn");
            });
            let servers = &self.servers[batch.clone()];
            cost.turn(|| {
                for (at, server) in batch.clone().zip(servers) {
                    reactor.poke(at, |session, shared| session.reach(server, shared));
                }
                reactor.turn(events).expect("a turn");
            });
            for server in servers {
                server.send(HEADER.as_bytes());
                server.send(b"<stream:features/>");
            }
            self.turn(&mut cost, |reactor| {
                for at in batch.clone() {
                    reactor.poke(at, |session, _| session.server_edge(false));
                }
            });
            for at in batch {
                assert!(self.reactor.sessions[at].session.is_flushed() == Some(true));
                assert!(!self.clients[at].take(usize::MAX).is_empty());
                assert!(!self.servers[at].take(usize::MAX).is_empty());
            }
        }
        cost
    }

    /// Runs a turn for each part of the open sessions, in which the poll announces `edges`.
    /// `send` and `receive` are what the peers do before and after it.
    fn events(
        &mut self,
        edges: impl Fn(&mut Session),
        mut send: impl FnMut(&Wire, &Wire),
        mut receive: impl FnMut(&Wire, &Wire),
    ) -> Cost {
        let mut cost = Cost::default();
        let open = std::mem::take(&mut self.open);
        // Each session may cause two events.
        for part in open.chunks(EVENTS / 2) {
            for &at in part {
                send(&self.clients[at], &self.servers[at]);
            }
            self.turn(&mut cost, |reactor| {
                for &at in part {
                    reactor.poke(at, |session, _| edges(session));
                }
            });
            for &at in part {
                receive(&self.clients[at], &self.servers[at]);
            }
        }
        self.open = open;
        cost
    }

    /// Relays one stanza in each direction of each session.
    pub fn relay(&mut self) -> Cost {
        let up = frame(0x81, STANZA);
        let send = |client: &Wire, server: &Wire| {
            client.send(&up);
            server.send(STANZA);
        };
        self.events(bytes_of_both, send, |client, server| {
            assert!(server.take(usize::MAX) == STANZA);
            assert!(client.take(usize::MAX)[2..] == *STANZA);
        })
    }

    /// Lets all Pings become due at once, and the clients answer them.
    pub fn ping(&mut self) -> Cost {
        self.pass(PING_INTERVAL);
        let mut cost = Cost::default();
        self.turn(&mut cost, |_| {});
        self.turns(&mut cost);
        let pong = frame(0x8a, b"");
        let answer = |client: &Wire, _: &Wire| {
            assert!(client.take(usize::MAX) == [0x89, 0]);
            client.send(&pong);
        };
        cost + self.events(|session| session.client_edge(false), answer, |_, _| {})
    }

    /// Lets every second client leave, and its server too.
    pub fn leave(&mut self) -> Cost {
        let staying = self.open.split_off(self.open.len() / 2);
        let cost = self.events(ends_of_both, end_both, |_, _| {});
        self.open = staying;
        cost + self.rest()
    }

    /// Runs turns until the loop would wait, and again after a while.
    fn rest(&mut self) -> Cost {
        let mut cost = Cost::default();
        self.turns(&mut cost);
        self.pass(A_WHILE);
        self.turn(&mut cost, |_| {});
        self.turns(&mut cost);
        assert_eq!(self.reactor.sessions.len(), self.open.len());
        cost
    }

    /// Lets the servers of these slots send `bytes`.
    pub fn serve(&mut self, slots: &[usize], bytes: &[u8]) {
        for part in slots.chunks(EVENTS) {
            part.iter().for_each(|&at| self.servers[at].send(bytes));
            self.turn(&mut Cost::default(), |reactor| {
                for &at in part {
                    reactor.poke(at, |session, _| session.server_edge(false));
                }
            });
        }
    }

    /// Sets `max_total_memory`. The next turn does not wait for an event.
    pub fn limit_memory(&mut self, bytes: usize) {
        let config = format!("{CONFIG}max_total_memory: {bytes}\n");
        let loaded = config::parse("crowd", &config).expect("a good file");
        let tls = Contexts::new(std::iter::empty()).expect("TLS contexts");
        self.reactor.shared.set_config(loaded.config.into(), tls);
        self.reactor.poke(self.open[0], |_, _| {});
    }

    /// Lets one in eight sessions hold memory, and then too many of them. Returns what it costs
    /// to end about half of them, and how many they are.
    pub fn run_short(&mut self) -> (Cost, usize) {
        let holders = self.open.split_off(self.open.len() - self.open.len() / 8);
        self.serve(&holders, PART);
        self.limit_memory(self.reactor.shared.memory().bounded() / 2);
        let mut cost = Cost::default();
        self.turn(&mut cost, |_| {});
        self.turns(&mut cost);
        let is_open = |at: &usize| {
            let entry = self.reactor.sessions.get(*at);
            entry.is_some_and(|entry| entry.session.is_flushed().is_some())
        };
        let (kept, ended): (Vec<_>, Vec<_>) = holders.into_iter().partition(is_open);
        self.limit_memory(1 << 40);
        let staying = std::mem::replace(&mut self.open, ended);
        self.events(ends_of_both, end_both, |_, _| {});
        let count = std::mem::replace(&mut self.open, staying).len();
        self.open.extend(kept);
        self.rest();
        (cost, count)
    }

    /// Requests a page of the status port.
    pub fn get(&mut self, path: &str) -> Cost {
        let mut cost = Cost::default();
        let mut client = UnixStream::connect_addr(&status_address()).expect("a connection");
        client.set_nonblocking(true).expect("not blocking");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).expect("a request");
        let mut page = Vec::new();
        loop {
            self.turn(&mut cost, |_| {});
            match client.read_to_end(&mut page) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => break assert!(done.is_ok(), "{path}"),
            }
        }
        assert!(page.starts_with(b"HTTP/1.1 200 "), "{path}");
        cost
    }

    /// Reads the configuration again.
    pub fn reload(&mut self) -> Cost {
        let path = std::env::temp_dir().join(format!("jabsocket-crowd-{}", std::process::id()));
        std::fs::write(&path, CONFIG).expect("a file");
        self.reactor.setup.path = path.clone();
        let mut cost = Cost::default();
        self.turn(&mut cost, |reactor| reactor.reload());
        let _ = std::fs::remove_file(path);
        assert!(self.reactor.shared.metrics.reloaded.is_some());
        cost
    }

    /// Logs the state, as for SIGUSR1.
    pub fn report(&mut self) -> Cost {
        let mut cost = Cost::default();
        self.turn(&mut cost, |reactor| reactor.log_status());
        cost
    }

    /// Drains all sessions at the daemon's own pace. Clients answer at once.
    pub fn drain(&mut self) -> Cost {
        let close = frame(0x88, &1001_u16.to_be_bytes());
        let mut cost = Cost::default();
        cost.turn(|| self.reactor.drain("crowd"));
        let mut told: Vec<usize> = self.reactor.run_lists.light.iter().copied().collect();
        let mut answered = Vec::new();
        while !self.reactor.sessions.is_empty() {
            self.pass(DRAIN_STEP);
            self.turn(&mut cost, |reactor| {
                for at in answered.drain(..) {
                    reactor.poke(at, |session, _| ends_of_both(session));
                }
            });
            // A session is told in one turn, and flushes in the next.
            told.retain(|&at| {
                let (client, server) = (&self.clients[at], &self.servers[at]);
                let is_closing = client.take(usize::MAX).starts_with(&[0x88]);
                if is_closing {
                    client.send(&close);
                    end_both(client, server);
                    answered.push(at);
                }
                !is_closing && self.reactor.sessions.contains(at)
            });
            told.extend(&self.reactor.run_lists.light);
        }
        self.open.clear();
        cost
    }

    /// Runs turns until the loop would wait. Returns how many clients got bytes in each turn.
    pub fn told(&mut self) -> Vec<usize> {
        let mut cost = Cost::default();
        let mut counts = Vec::new();
        loop {
            self.turn(&mut cost, |_| {});
            let told = self.clients.iter();
            counts.push(
                told.filter(|wire| !wire.take(usize::MAX).is_empty())
                    .count(),
            );
            if self.reactor.timeout() != Some(Duration::ZERO) {
                return counts;
            }
        }
    }
}

fn bytes_of_both(session: &mut Session) {
    session.client_edge(false);
    session.server_edge(false);
}

fn ends_of_both(session: &mut Session) {
    session.client_edge(true);
    session.server_edge(true);
}

fn end_both(client: &Wire, server: &Wire) {
    client.end();
    server.end();
}

fn status_address() -> net::SocketAddr {
    let name = format!("jabsocket-crowd-{}", std::process::id());
    net::SocketAddr::from_abstract_name(name).expect("a name")
}

/// Begins the session of a client with an address of its own, and announces its first bytes.
pub fn accept(reactor: &mut Reactor, at: usize, client: &Wire) {
    let address = SocketAddr::new(Ipv4Addr::from_bits(at as u32).into(), 9);
    let slot = reactor.sessions.vacant_key();
    assert_eq!(slot, at);
    let (endpoint, token) = (
        Rc::clone(&reactor.acceptor.endpoints[0]),
        token::of_session(slot),
    );
    let session = Session::simulated(client, address, &endpoint, token, &mut reactor.shared);
    reactor.schedule(slot, session);
    reactor.poke(slot, |session, _| session.client_edge(false));
}
