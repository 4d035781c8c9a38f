//! The server's side of a session: the route to the server, its connection and its stream.
//!
//! Carries out the machine's actions that concern only the server.

use std::borrow::Cow;

use mio::event::Event as Edge;

use super::route::Route;
use crate::net::dns::locator::Answer;
use crate::proto::xmpp::escape;
use crate::proto::xmpp::server_stream::ServerStream;
use crate::session::machine::{EndTag, ServerAction};
use crate::session::shared::Shared;
use crate::session::side::Side;

#[derive(Default)]
pub(in crate::session) struct ServerSide {
    pub side: Side,
    /// The route to the server, while the machine needs it.
    pub route: Option<Box<Route>>,
    /// The lane of the dial that connected.
    pub(super) lane: u8,
    /// The name of the root of the draft's stream, if it is not `stream:stream`.
    pub draft_root: Option<Box<str>>,
    /// The reader of the server's stream.
    pub stream: ServerStream,
    /// Whether the stream reader has more units without another read.
    pub stream_paused: bool,
    /// Whether SASL mechanisms with channel binding are removed.
    pub strip_channel_binding: bool,
}

impl ServerSide {
    /// Notes an edge of a lane of the dial.
    pub fn edge(&mut self, lane: usize, edge: &Edge) {
        if self.side.is_connected() && lane == usize::from(self.lane) {
            self.side.edge(edge);
        } else if let Some(route) = &mut self.route {
            route.missed |= edge.is_readable() || edge.is_read_closed() || edge.is_error();
        }
    }

    /// Carries out an action of the machine.
    pub fn carry_out(&mut self, action: ServerAction, shared: &mut Shared) {
        match action {
            ServerAction::Keep => {}
            ServerAction::LookUp => {
                if let Some(route) = &mut self.route {
                    route.look_up(shared);
                }
            }
            ServerAction::Disconnect => self.side.close(),
            ServerAction::Follow => self.follow(shared),
            ServerAction::Greet => {
                if let Some(route) = &mut self.route
                    && route.greet(&mut self.side, shared)
                {
                    self.draft_root = None;
                }
            }
            ServerAction::End(tag) => {
                if tag == EndTag::Ours {
                    self.write_stream_end();
                }
                self.side.finish();
            }
            ServerAction::Fail(error) => {
                shared.text.clear();
                error.write(&mut shared.text);
                self.side.out.extend(&shared.text);
                self.write_stream_end();
                self.side.finish();
            }
            ServerAction::Cut => self.side.finish(),
            ServerAction::Abort => self.disconnect(),
        }
    }

    /// Closes the connection, and drops what the server has sent.
    fn disconnect(&mut self) {
        self.side.close();
        self.stream = ServerStream::default();
        self.stream_paused = false;
    }

    /// Starts again with the target of a redirect.
    fn follow(&mut self, shared: &mut Shared) {
        self.disconnect();
        if let Some(route) = &mut self.route {
            shared.servers.queue.leave(route.caller().session);
            route.follow(shared);
        }
    }

    /// Cancels the look-up and the dial.
    pub fn abandon_route(&mut self, shared: &mut Shared) {
        if let Some(mut route) = self.route.take() {
            shared.servers.queue.leave(route.caller().session);
            route.look_up.cancel(shared);
        }
    }

    /// Queues bytes for the server. Until it is `greeted`, they wait behind the stream header. An
    /// empty queue gets `room`.
    pub fn queue(&mut self, bytes: Cow<'_, [u8]>, greeted: bool, room: usize) {
        match &mut self.route {
            Some(route) if !greeted => route.greeting.queue.append(bytes, 0),
            _ => self.side.out.append(bytes, room),
        }
    }

    /// Queues the end tag of our stream.
    fn write_stream_end(&mut self) {
        let root = self.draft_root.as_deref().unwrap_or("stream:stream");
        let mut tag = b"</".to_vec();
        escape(&mut tag, root.as_bytes());
        tag.push(b'>');
        self.side.out.extend(&tag);
    }

    /// Returns the bytes of messages that wait for a connection.
    pub fn waiting(&self) -> usize {
        let route = self.route.as_ref();
        route.map_or(0, |route| route.greeting.queue.len())
    }

    /// Returns the bytes in the longer one of both queues.
    pub fn queued(&self) -> usize {
        self.waiting().max(self.side.out.len())
    }

    /// Returns the bytes of memory that it holds elsewhere, without parsers.
    pub fn memory(&self) -> usize {
        let route = self.route.as_ref().map_or(0, |route| route.memory());
        let root = self.draft_root.as_ref().map_or(0, |root| root.len());
        self.side.memory() + route + root + self.stream.memory()
    }

    /// Whether the look-up has an answer that is not handled yet.
    pub fn has_answer(&self) -> bool {
        let route = self.route.as_ref();
        route.is_some_and(|route| route.look_up.has_answer())
    }

    /// Takes an answer of the look-up that was known at once.
    pub(super) fn take_answer(&mut self) -> Option<Answer> {
        self.route.as_mut()?.look_up.take_answer()
    }

    /// Whether the TLS handshake is in progress.
    pub(super) fn shakes_hands(&self) -> bool {
        let route = self.route.as_ref();
        route.is_some_and(|route| route.shakes_hands())
    }
}
