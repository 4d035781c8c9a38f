//! What tests of the event loop need of sessions: simulated sockets, and edges of them.

use std::net::SocketAddr;
use std::rc::Rc;

use super::Random;
use super::script::{self, REQUEST};
pub(crate) use super::script::{HEADER, OPEN};
use crate::net::address::Address;
use crate::net::dns::locator::Target;
use crate::net::endpoint::Endpoint;
use crate::net::peer::Peer;
use crate::net::simulated::{ADDRESS, Wire};
use crate::net::transport::Transport;
use crate::session::Session;
use crate::session::machine::Event;
use crate::session::server::route::Route;
use crate::session::shared::Shared;
use crate::session::side::Side;

/// Returns a masked frame of a client.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    script::frame(&mut bytes, first, payload, &mut Random::new(0));
    bytes
}

/// Returns the first bytes of a client: its request, and the opening of its stream.
pub(crate) fn opening() -> Vec<u8> {
    [REQUEST.as_bytes(), &frame(0x81, OPEN.as_bytes())].concat()
}

impl Session {
    /// Creates the session of a simulated client, as [`Session::new`] does.
    pub(crate) fn simulated(
        client: &Wire,
        address: SocketAddr,
        endpoint: &Rc<Endpoint>,
        token: usize,
        shared: &mut Shared,
    ) -> Session {
        let (transport, peer) = (Transport::Simulated(client.clone()), Peer::Ip(address));
        let mut session = Session::with_transport(transport, peer, endpoint, token, shared);
        session.admission.count(peer, &session.config, shared);
        session
    }

    /// Connects a session that is about to dial to a simulated server.
    pub(crate) fn reach(&mut self, server: &Wire, shared: &mut Shared) {
        let route = self.server.route.as_mut().expect("a route");
        route.target = Some(Target {
            address: Address::Tcp(ADDRESS),
            direct: false,
            is_fallback: false,
            backup: false,
            server: None,
        });
        let transport = Transport::Simulated(server.clone());
        self.server.side = Side::connected(transport, true, shared.now);
        self.step(Event::Connected, "", shared);
        self.on_route(shared, Route::secure);
    }

    /// Notes an edge: bytes or the end of the client have arrived.
    pub(crate) fn client_edge(&mut self, ending: bool) {
        self.client.ready(true, false, ending);
    }

    /// Notes the same for the server.
    pub(crate) fn server_edge(&mut self, ending: bool) {
        self.server.side.ready(true, false, ending);
    }
}
