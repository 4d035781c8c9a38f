//! `status_listen`: metrics and health by HTTP, from the same loop.
//!
//! Owns listeners of its own and a few connections, each bounded in its head,
//! its time and what it may send: a client that is slow or talks too much is
//! cut, and no session waits for any of them. They are no sessions: they do not
//! count towards `max_connections`, and go on while the others drain. One
//! request a connection (RFC 9110, RFC 9112). Refuses requests for the name of another
//! host, because a web page can point its own name at this port (DNS rebinding).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::token::{FIRST_STATUS, STATUS_TOKENS};
use super::{Reactor, now};
use crate::log::Escaped;
use crate::metrics::{SharedMetrics, Slot};
use crate::session::Tick;
use crate::session::shared::Shared;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 16;
/// Addresses to listen on.
const LISTENERS: usize = STATUS_TOKENS - CONNECTIONS;
/// From the accepted connection to its end.
const DEADLINE_MS: Tick = 5_000;
/// How long accepting rests when no descriptor is left.
const ACCEPT_REST_MS: Tick = 1_000;
/// The longest request head, in bytes.
const MAX_HEAD: usize = 4 << 10;
/// The most header lines.
const MAX_LINES: usize = 64;
/// Bytes dropped at most behind the head, so that the answer is read.
const MAX_DROPPED: usize = 64 << 10;

/// Minimum time between log lines about requests for another name, in milliseconds.
const WARNING_PERIOD_MS: Tick = 60_000;

/// What metrics are (Prometheus text format).
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// Listeners and connections of the status.
#[derive(Default)]
pub(super) struct Status {
    listeners: Vec<TcpListener>,
    connections: [Option<Connection>; CONNECTIONS],
    /// Something happened on one of them.
    woken: bool,
    /// Clients may be waiting that no edge will tell of again.
    accept_due: bool,
    /// Accepting rests until then.
    rest_until: Tick,
    /// When the log last mentioned a request for another name.
    warned_at: Option<Tick>,
    /// The slot of this worker in the shared metrics.
    slot: Option<Slot>,
}

/// A connection: its request while `out` is empty, then the answer.
struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    out: Vec<u8>,
    written: usize,
    dropped: usize,
    deadline: Tick,
    ready: bool,
}

/// What a request is answered with.
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: String,
    head_only: bool,
}

impl Status {
    /// Notes an edge of the token `FIRST_STATUS + at`.
    pub fn edge(&mut self, at: usize) {
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

    /// Whether anybody can ask.
    pub fn is_on(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// When there is something to do without an edge.
    pub fn deadline(&self) -> Option<Tick> {
        if self.listeners.is_empty() {
            return None;
        }
        let connections = self.connections.iter().flatten();
        let nearest = connections.map(|connection| connection.deadline).min();
        let has_room = self.connections.iter().any(Option::is_none);
        let accept = (self.accept_due && has_room).then_some(self.rest_until);
        let publish = self.slot.as_ref().and_then(Slot::due);
        let deadlines = [nearest, accept, publish];
        deadlines.into_iter().flatten().min()
    }

    /// Serves all connections that are ready; `answer` gets the Host and the path.
    fn serve(
        &mut self,
        registry: &Registry,
        now: Tick,
        mut answer: impl FnMut(Option<&str>, &str) -> Answer,
    ) {
        self.woken = false;
        for slot in &mut self.connections {
            if let Some(connection) = slot
                && (connection.deadline <= now || (connection.ready && connection.go(&mut answer)))
            {
                *slot = None;
            }
        }
        // A few a turn: as many as there are slots.
        for _ in 0..CONNECTIONS {
            let Some(at) = self.connections.iter().position(Option::is_none) else {
                return;
            };
            if !self.accept_due || now < self.rest_until {
                return;
            }
            let Some(mut socket) = self.accept(now) else {
                return;
            };
            let token = Token(FIRST_STATUS + LISTENERS + at);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut socket, token, interest).is_err() {
                continue;
            }
            self.connections[at] = Some(Connection {
                socket,
                head: Vec::new(),
                out: Vec::new(),
                written: 0,
                dropped: 0,
                deadline: now + DEADLINE_MS,
                // The registration brings an edge for what is there already.
                ready: false,
            });
        }
    }

    /// A client that waits at one of the listeners.
    fn accept(&mut self, now: Tick) -> Option<TcpStream> {
        for listener in &self.listeners {
            match listener.accept() {
                Ok((socket, _)) => return Some(socket),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // One that left, or no descriptor: later.
                Err(_) => {
                    self.rest_until = now + ACCEPT_REST_MS;
                    return None;
                }
            }
        }
        self.accept_due = false;
        None
    }
}

impl Connection {
    /// Reads and writes what can be; true when it is over.
    fn go(&mut self, answer: &mut impl FnMut(Option<&str>, &str) -> Answer) -> bool {
        self.ready = false;
        let alive = self.take(answer).and_then(|()| self.give());
        if alive.is_none() {
            return true;
        }
        // The client's end may have been read already, and raises no other edge.
        self.is_answered() && self.take(answer).is_none()
    }

    /// Reads until there is nothing; `None` when the connection is over.
    fn take(&mut self, answer: &mut impl FnMut(Option<&str>, &str) -> Answer) -> Option<()> {
        let mut piece = [0; 2048];
        loop {
            let bytes = match self.socket.read(&mut piece) {
                // Whoever ended its direction may still read.
                Ok(0) if self.written < self.out.len() => return Some(()),
                Ok(0) => return None,
                Ok(n) => &piece[..n],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            if !self.out.is_empty() {
                self.dropped += bytes.len();
                if self.dropped > MAX_DROPPED {
                    return None;
                }
                continue;
            }
            self.head.extend_from_slice(bytes);
            if let Some(answer) = answer_to(&self.head, answer) {
                self.head = Vec::new();
                self.out = answer.into_bytes();
            }
        }
    }

    fn is_answered(&self) -> bool {
        !self.out.is_empty() && self.written == self.out.len()
    }

    /// Writes until there is no room; `None` when the connection is broken.
    fn give(&mut self) -> Option<()> {
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.written == self.out.len() {
                // It is over once the client's end was read.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
        }
        Some(())
    }
}

impl Answer {
    fn metrics(body: String) -> Answer {
        Answer {
            content_type: METRICS_TYPE,
            body,
            ..Answer::text("200 OK", "")
        }
    }

    fn text(status: &'static str, body: &str) -> Answer {
        Answer {
            status,
            content_type: TEXT_TYPE,
            body: format!("{body}\n"),
            head_only: false,
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        let Answer {
            status,
            content_type,
            body,
            head_only,
        } = self;
        let allow = match status.starts_with("405") {
            true => "Allow: GET, HEAD\r\n",
            false => "",
        };
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
             {allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        if !head_only {
            text += &body;
        }
        text.into_bytes()
    }
}

/// The answer to a request, once its head is complete or cannot become good.
fn answer_to(head: &[u8], answer: &mut impl FnMut(Option<&str>, &str) -> Answer) -> Option<Answer> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut request = httparse::Request::new(&mut lines);
    let verdict = request.parse(head);
    let too_large = || Answer::text("431 Request Header Fields Too Large", "too large");
    Some(match verdict {
        _ if head.len() > MAX_HEAD => too_large(),
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {
            let (method, target) = (request.method?, request.path?);
            let path = target.split('?').next().unwrap_or_default();
            let fields = request.headers.iter();
            let hosts = fields.filter(|field| field.name.eq_ignore_ascii_case("host"));
            let hosts: Vec<_> = hosts.map(|host| str::from_utf8(host.value)).collect();
            let host = match hosts.as_slice() {
                // HTTP/1.0.
                [] if request.version == Some(0) => None,
                [Ok(host)] => Some(*host),
                _ => return Some(Answer::text("400 Bad Request", "one Host is expected")),
            };
            match method {
                "GET" => answer(host, path),
                "HEAD" => Answer {
                    head_only: true,
                    ..answer(host, path)
                },
                _ => Answer::text("405 Method Not Allowed", "only GET and HEAD"),
            }
        }
        Err(httparse::Error::TooManyHeaders) => too_large(),
        Err(_) => Answer::text("400 Bad Request", "not an HTTP/1.1 request"),
    })
}

/// Whether a request with this Host is for us: by address, `localhost` or one of the
/// `names`, with any port.
fn is_ours(host: &str, names: &[String]) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    if let Some(v6) = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut names = names.iter().map(String::as_str).chain(["localhost"]);
    name.parse::<IpAddr>().is_ok() || names.any(|ours| ours.eq_ignore_ascii_case(name))
}

/// Refuses a request for another host, and logs it, because the operator may have
/// forgotten a name.
fn misdirected(host: &str, warned_at: &mut Option<Tick>, worker: &Shared) -> Answer {
    if warned_at.is_none_or(|at| worker.now >= at + WARNING_PERIOD_MS) {
        *warned_at = Some(worker.now);
        worker.log.warning(format_args!(
            "status_listen: refused a request for the host {}; if that is this host, \
             add it to 'status_host'",
            Escaped(host)
        ));
    }
    let why = "unknown host name: use an address, or add the name to the key 'status_host'";
    Answer::text("421 Misdirected Request", why)
}

impl Reactor {
    /// Serves metrics and health at `listeners`, as this `worker` (the first is 0).
    ///
    /// # Errors
    /// There are too many, or the kernel refuses; in words for the operator.
    pub fn serve_status(
        &mut self,
        mut listeners: Vec<TcpListener>,
        worker: usize,
        metrics: SharedMetrics,
    ) -> Result<(), String> {
        if listeners.len() > LISTENERS {
            return Err(format!("more than {LISTENERS} addresses in status_listen"));
        }
        for (at, listener) in listeners.iter_mut().enumerate() {
            let token = Token(FIRST_STATUS + at);
            self.poll
                .registry()
                .register(listener, token, Interest::READABLE)
                .map_err(|error| format!("cannot poll a listener: {error}"))?;
        }
        self.status.listeners = listeners;
        self.shared.metrics.max_sessions = self.max_sessions;
        let gauges = self.shared.gauges();
        let slot = Slot::take(metrics, worker, &self.shared.metrics, &gauges);
        self.status.slot = Some(slot);
        Ok(())
    }

    /// Ends a turn that began at `woken`: serves the clients of the status, publishes the
    /// metrics if that is due, and measures the turn, these included.
    pub(super) fn answer_status(&mut self, woken: Instant) {
        if !self.status.is_on() {
            return;
        }
        // Not after publishing, or each publication would lead to the next.
        if let Some(slot) = &mut self.status.slot {
            slot.note_turn(self.shared.now);
        }
        let due = self.status.deadline();
        if self.status.woken || due.is_some_and(|at| self.shared.now >= at) {
            self.serve_status_clients();
        }
        self.shared.metrics.turns.observe(micros_since(woken));
    }

    fn serve_status_clients(&mut self) {
        let (status, worker) = (&mut self.status, &mut self.shared);
        let draining = self.drain_deadline.is_some();
        worker.metrics.draining = draining;
        worker.metrics.max_sessions = self.max_sessions;
        let Some(mut slot) = status.slot.take() else {
            return;
        };
        let now = worker.now;
        if slot.due().is_some_and(|at| now >= at) {
            slot.publish(&worker.metrics, &worker.gauges(), now);
        }
        let mut warned_at = status.warned_at;
        let names = &worker.config.status_hosts;
        status.serve(&worker.registry, worker.now, |host, path| match path {
            _ if host.is_some_and(|host| !is_ours(host, names)) => {
                misdirected(host.unwrap_or_default(), &mut warned_at, worker)
            }
            "/metrics" => Answer::metrics(slot.sum(&worker.metrics, &worker.gauges(), now)),
            "/metrics/workers" => {
                Answer::metrics(slot.each(&worker.metrics, &worker.gauges(), now))
            }
            "/healthz" => Answer::text("200 OK", "ok"),
            "/readyz" if draining => Answer::text("503 Service Unavailable", "draining"),
            "/readyz" => Answer::text("200 OK", "ready"),
            _ => Answer::text(
                "404 Not Found",
                "/metrics, /metrics/workers, /healthz, /readyz",
            ),
        });
        status.warned_at = warned_at;
        status.slot = Some(slot);
    }

    /// Publishes the metrics for the last time, before this worker ends.
    pub(super) fn leave_status(&mut self) {
        let worker = &self.shared;
        if let Some(slot) = &mut self.status.slot {
            slot.leave(&worker.metrics, &worker.gauges(), worker.now);
        }
    }
}

/// Microseconds since then.
pub(super) fn micros_since(then: Instant) -> u64 {
    u64::try_from(now().duration_since(then).as_micros()).unwrap_or(u64::MAX)
}
