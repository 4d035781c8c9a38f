//! Serves one client and nobody else, for a trial.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::Events;

use super::{EVENTS, Reactor, ticks};
use crate::net::byte_stream::ByteStream;
use crate::net::endpoint::Endpoint;
use crate::net::peer::Peer;
use crate::session::step::Observer;

impl Reactor {
    /// Serves this client until its session closes, and tells `observer` each step. The
    /// session is drained after `limit`.
    pub(crate) fn serve_one(
        &mut self,
        client: impl Into<ByteStream>,
        endpoint: &Rc<Endpoint>,
        limit: Duration,
        observer: Observer,
    ) -> io::Result<()> {
        self.read_clock();
        self.shared.observe(observer);
        self.begin(client.into(), Peer::Unix, endpoint);
        self.ending.retired_until = Some(self.shared.now + ticks(limit));
        let mut events = Events::with_capacity(EVENTS);
        let is_open = |reactor: &Reactor| {
            let mut slots = reactor.sessions.iter();
            slots.any(|(_, slot)| slot.session.phase().is_open())
        };
        while is_open(self) && !self.is_finished() {
            self.turn(&mut events)?;
        }
        Ok(())
    }
}
