//! `status_listen`: serves metrics and health checks over HTTP, in the event loop of the
//! worker.
//!
//! Owns the listeners and a few connections, each with limits on its head, its time and its
//! bytes: a client that is slow or sends too much is disconnected, and no session waits for it.
//! These connections do not count towards `max_connections`, and are served while the sessions
//! drain. `pages` has the responses.

mod connection;
mod overview;
mod page;
mod pages;
mod query;
mod sessions;

use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::buf::Buf;
use crate::metrics::Publisher;
use crate::net::byte_stream::ByteStream;
use crate::net::listener::{Accepted, Socket};
use crate::net::peer::Peer;
use crate::proto::http::Head;
use connection::Connection;
pub(crate) use pages::View;
pub(crate) use sessions::Sessions;

/// Number of tokens for the listeners and connections.
pub(crate) const TOKENS: usize = LISTENERS + CONNECTIONS;
/// Maximum number of connections; further clients take the places of idle ones, or wait.
const CONNECTIONS: usize = 16;
/// Maximum number of addresses to listen on.
const LISTENERS: usize = 16;
/// How long accepting pauses when no descriptor is left.
const ACCEPT_REST_MS: u64 = 1_000;

/// The status port of a worker. All times are in milliseconds since the worker started.
pub(crate) struct Status {
    first_token: usize,
    listeners: Vec<Socket>,
    connections: [Option<Connection>; CONNECTIONS],
    /// Whether a connection is ready.
    woken: bool,
    /// Whether clients may be waiting whose edge is already consumed.
    accept_due: bool,
    /// Accepting pauses until this time.
    rest_until: u64,
    /// When the log last mentioned a request for another host.
    warned_at: Option<u64>,
    publisher: Publisher,
}

impl Status {
    /// Serves clients of `listeners`. All events have tokens from `first_token` on.
    ///
    /// # Errors
    /// There are too many listeners, or the kernel refuses one. The text is for the operator.
    pub(crate) fn new(
        listeners: Vec<Socket>,
        registry: &Registry,
        first_token: usize,
        publisher: Publisher,
    ) -> Result<Status, String> {
        if listeners.len() > LISTENERS {
            return Err(format!("more than {LISTENERS} addresses in status_listen"));
        }
        for (at, listener) in listeners.iter().enumerate() {
            listener
                .register(registry, Token(first_token + at))
                .map_err(|error| format!("cannot watch a listening socket: {error}"))?;
        }
        Ok(Status {
            first_token,
            listeners,
            connections: Default::default(),
            woken: false,
            accept_due: false,
            rest_until: 0,
            warned_at: None,
            publisher,
        })
    }

    /// Notes an edge of the token `first_token + at`.
    pub(crate) fn edge(&mut self, at: usize) {
        self.woken = true;
        match at.checked_sub(LISTENERS) {
            None => self.accept_due = true,
            Some(at) => {
                if let Some(Some(connection)) = self.connections.get_mut(at) {
                    connection.ready = true;
                }
            }
        }
    }

    /// Returns when there is something to do without an edge.
    pub(crate) fn deadline(&self) -> Option<u64> {
        if self.woken {
            return Some(0);
        }
        let connections = self.connections.iter().flatten();
        let nearest = connections.map(|connection| connection.deadline).min();
        let place = self.accept_due.then(|| self.next_place()).flatten();
        let accept = place.map(|(since, _)| since.max(self.rest_until));
        let deadlines = [nearest, accept, self.publisher.due()];
        deadlines.into_iter().flatten().min()
    }

    /// Notes a turn of the loop, so that its changes are published. Returns true if `serve` is
    /// due. It must be called before `serve`, or each publication would cause the next.
    pub(crate) fn note_turn(&mut self, now: u64) -> bool {
        self.publisher.note_turn(now);
        self.woken || self.deadline().is_some_and(|at| now >= at)
    }

    /// Publishes the metrics if that is due, and serves all connections that are ready.
    /// Returns the slots of sessions that are to be closed.
    pub(crate) fn serve(
        &mut self,
        registry: &Registry,
        view: &View<'_>,
        sessions: &dyn Sessions,
    ) -> Vec<usize> {
        let now = view.now;
        let mut to_close = Vec::new();
        if self.publisher.due().is_some_and(|at| now >= at) {
            self.publisher.publish(view.metrics, &view.gauges, now);
        }
        self.woken = false;
        let (publisher, warned_at) = (&mut self.publisher, &mut self.warned_at);
        for entry in &mut self.connections {
            let Some(connection) = entry else { continue };
            let is_local = connection.is_local;
            let answer = |head: &Head<'_>, out: &mut Buf| {
                view.answer(head, is_local, publisher, warned_at, out)
            };
            if connection.deadline <= now || (connection.ready && connection.turn(now, answer)) {
                *entry = None;
                continue;
            }
            to_close.extend(connection.work(sessions));
            self.woken |= connection.ready;
        }
        self.accept(registry, now);
        to_close
    }

    /// Accepts at most as many clients as there may be connections.
    fn accept(&mut self, registry: &Registry, now: u64) {
        for _ in 0..CONNECTIONS {
            if !self.accept_due || now < self.rest_until {
                return;
            }
            let Some((_, at)) = self.next_place().filter(|(since, _)| *since <= now) else {
                return;
            };
            let Some((socket, is_local)) = self.accept_one(now) else {
                return;
            };
            let token = Token(self.first_token + LISTENERS + at);
            let interest = Interest::READABLE | Interest::WRITABLE;
            let registered = registry.register(&mut SourceFd(&socket.as_raw_fd()), token, interest);
            if registered.is_ok() {
                self.connections[at] = Some(Connection::new(socket, is_local, now));
            }
        }
    }

    /// Returns the place of the next client, and since when it may have it. If all are taken, it
    /// is that of the client that has been idle longest: otherwise a few clients that send
    /// nothing would keep health checks waiting.
    fn next_place(&self) -> Option<(u64, usize)> {
        let free_since = |entry: &Option<Connection>| match entry {
            Some(connection) => connection.yields_at(),
            None => Some(0),
        };
        let places = self.connections.iter().map(free_since).zip(0..);
        places.filter_map(|(since, at)| Some((since?, at))).min()
    }

    /// Accepts a client from one of the listeners. Also returns whether that is a unix socket.
    fn accept_one(&mut self, now: u64) -> Option<(ByteStream, bool)> {
        for listener in &self.listeners {
            match listener.accept() {
                Accepted::Client(socket, peer) => return Some((socket, peer == Peer::Unix)),
                Accepted::Nobody => {}
                // Try again later.
                Accepted::Left | Accepted::Exhausted(_) => {
                    self.rest_until = now + ACCEPT_REST_MS;
                    return None;
                }
            }
        }
        self.accept_due = false;
        None
    }

    /// Stops accepting clients. Connected clients still get their response.
    pub(crate) fn stop_accepting(&mut self, registry: &Registry) {
        for listener in self.listeners.drain(..) {
            listener.deregister(registry);
        }
    }

    /// Publishes the metrics for the last time, before the worker ends.
    pub(crate) fn leave(&mut self, view: &View<'_>) {
        self.publisher.leave(view.metrics, &view.gauges, view.now);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpStream};

    use super::*;
    use crate::log::Log;
    use crate::metrics::{Gauges, Metrics, SharedMetrics};
    use crate::session::facts::Facts;

    struct Nobody;

    impl Sessions for Nobody {
        fn slots(&self) -> usize {
            0
        }

        fn facts(&self, _: usize) -> Option<Facts<'_>> {
            None
        }
    }

    /// A status port whose clock the test sets.
    struct Port {
        poll: mio::Poll,
        status: Status,
        metrics: Metrics,
        address: SocketAddr,
    }

    impl Port {
        fn open() -> Port {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let address = listener.local_addr().unwrap();
            let listeners = vec![Socket::ours(listener.into(), 0).unwrap()];
            let metrics = Metrics::of_nothing();
            let shared = SharedMetrics::new(1).unwrap();
            let publisher = Publisher::start(shared, 0, &metrics, &Gauges::default());
            let poll = mio::Poll::new().unwrap();
            let status = Status::new(listeners, poll.registry(), 0, publisher).unwrap();
            Port {
                poll,
                status,
                metrics,
                address,
            }
        }

        fn connect(&self, bytes: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).unwrap();
            stream.write_all(bytes).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        }

        /// Serves what is there at the time `now`.
        #[expect(clippy::disallowed_methods, reason = "the time of log lines")]
        fn serve(&mut self, now: u64) {
            let log = Log::new(std::time::Instant::now());
            let view = View {
                now,
                metrics: &self.metrics,
                gauges: Gauges::default(),
                hosts: &[],
                log: &log,
            };
            let mut events = mio::Events::with_capacity(64);
            let moment = std::time::Duration::from_millis(10);
            // An event of a connection comes after the turn that accepted it.
            for _ in 0..3 {
                self.poll.poll(&mut events, Some(moment)).unwrap();
                for event in &events {
                    self.status.edge(event.token().0);
                }
                self.status.serve(self.poll.registry(), &view, &Nobody);
            }
        }
    }

    fn is_open(stream: &mut TcpStream) -> bool {
        let end = stream.read(&mut [0; 1]);
        end.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    #[test]
    fn clients_without_a_request_make_room_for_others() {
        let mut port = Port::open();
        let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| port.connect(b"GET")).collect();
        port.serve(0);
        let mut asking = port.connect(b"GET /healthz HTTP/1.0\r\n\r\n");
        port.serve(49);
        assert!(is_open(&mut asking) && idle.iter_mut().all(is_open));
        // Without it the loop would sleep until a deadline of an idle one.
        assert_eq!(port.status.deadline(), Some(50));
        port.serve(50);
        let mut answer = [0; 12];
        asking.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        let open = idle
            .iter_mut()
            .filter_map(|stream| is_open(stream).then_some(()));
        assert_eq!(open.count(), CONNECTIONS - 1);
    }
}
