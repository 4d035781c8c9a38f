//! `status_listen`: metrics and health by HTTP, from the same loop.
//!
//! Owns its listeners and a few connections, each bounded in its head, its time and what it
//! may send: a client that is slow or sends too much is cut, and no session waits for it.
//! They are no sessions: they do not count towards `max_connections`, and are served while
//! the sessions drain. `pages` has the answers.

mod connection;
mod pages;

use std::io::ErrorKind;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use crate::metrics::Slot;
use connection::Connection;
pub(crate) use pages::View;

/// Tokens of the listeners and connections.
pub(crate) const TOKENS: usize = LISTENERS + CONNECTIONS;
/// Connections at a time; others wait.
const CONNECTIONS: usize = 16;
/// Addresses to listen on.
const LISTENERS: usize = 16;
/// How long accepting rests when no descriptor is left.
const ACCEPT_REST_MS: u64 = 1_000;

/// The status port of a worker. All times are in milliseconds since the worker started.
pub(crate) struct Status {
    first_token: usize,
    listeners: Vec<TcpListener>,
    connections: [Option<Connection>; CONNECTIONS],
    /// Something happened on one of them.
    woken: bool,
    /// Clients may be waiting that no edge will tell of again.
    accept_due: bool,
    /// Accepting rests until then.
    rest_until: u64,
    /// When the log last mentioned a request for another name.
    warned_at: Option<u64>,
    /// The worker's slot in the shared metrics.
    slot: Slot,
}

impl Status {
    /// Serves at `listeners`, whose events come with the tokens from `first_token` on.
    ///
    /// # Errors
    /// There are too many, or the kernel refuses; in words for the operator.
    pub(crate) fn new(
        mut listeners: Vec<TcpListener>,
        registry: &Registry,
        first_token: usize,
        slot: Slot,
    ) -> Result<Status, String> {
        if listeners.len() > LISTENERS {
            return Err(format!("more than {LISTENERS} addresses in status_listen"));
        }
        for (at, listener) in listeners.iter_mut().enumerate() {
            registry
                .register(listener, Token(first_token + at), Interest::READABLE)
                .map_err(|error| format!("cannot poll a listener: {error}"))?;
        }
        Ok(Status {
            first_token,
            listeners,
            connections: Default::default(),
            woken: false,
            accept_due: false,
            rest_until: 0,
            warned_at: None,
            slot,
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

    /// When there is something to do without an edge.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let connections = self.connections.iter().flatten();
        let nearest = connections.map(|connection| connection.deadline).min();
        let has_room = self.connections.iter().any(Option::is_none);
        let accept = (self.accept_due && has_room).then_some(self.rest_until);
        let deadlines = [nearest, accept, self.slot.due()];
        deadlines.into_iter().flatten().min()
    }

    /// Notes a turn of the loop, whose changes are to be published; true if `serve` is
    /// due. To be called before `serve`, or each publication would lead to the next.
    pub(crate) fn note_turn(&mut self, now: u64) -> bool {
        self.slot.note_turn(now);
        self.woken || self.deadline().is_some_and(|at| now >= at)
    }

    /// Publishes the metrics if that is due, and serves all connections that are ready.
    pub(crate) fn serve(&mut self, registry: &Registry, view: &View<'_>) {
        let now = view.now;
        if self.slot.due().is_some_and(|at| now >= at) {
            self.slot.publish(view.metrics, &view.gauges, now);
        }
        self.woken = false;
        let (slot, warned_at) = (&mut self.slot, &mut self.warned_at);
        for entry in &mut self.connections {
            if let Some(connection) = entry
                && (connection.deadline <= now
                    || (connection.ready
                        && connection.turn(|head, out| view.answer(head, slot, warned_at, out))))
            {
                *entry = None;
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
            let token = Token(self.first_token + LISTENERS + at);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut socket, token, interest).is_ok() {
                self.connections[at] = Some(Connection::new(socket, now));
            }
        }
    }

    /// A client that waits at one of the listeners.
    fn accept(&mut self, now: u64) -> Option<TcpStream> {
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

    /// Accepts nobody any more; clients that are connected still get their response.
    pub(crate) fn stop_accepting(&mut self, registry: &Registry) {
        for mut listener in self.listeners.drain(..) {
            // Closing it is not enough if another process has a copy.
            let _ = registry.deregister(&mut listener);
        }
    }

    /// Publishes the metrics for the last time, before the worker ends.
    pub(crate) fn leave(&mut self, view: &View<'_>) {
        self.slot.leave(view.metrics, &view.gauges, view.now);
    }
}
