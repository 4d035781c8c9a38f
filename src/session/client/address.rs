//! Determines the client's address.
//!
//! A trusted proxy reports it in a PROXY header or in the request. The client is then counted for
//! that address; see `admission`.

use std::net::SocketAddr;

use crate::config::ForwardedHeader;
use crate::net::peer::Peer;
use crate::proto::http::{Accept, Refusal, forwarded};
use crate::proto::proxy_protocol::{self, Proxied};
use crate::session::Session;
use crate::session::admission::is_trusted_proxy;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;

impl Session {
    /// Reads the PROXY header that a proxy may send first. Returns false while bytes are
    /// missing, or if the header is invalid.
    pub(super) fn take_proxy_header(&mut self, shared: &mut Shared) -> bool {
        match proxy_protocol::parse(self.client.tail.as_slice()) {
            Ok(None) => false,
            Ok(Some(Proxied { consumed, source })) => {
                self.admission.awaits_proxy = false;
                self.client.tail.consume(consumed);
                self.take_proxied_address(source, shared);
                self.machine.phase() == Phase::Opening && !self.client.tail.is_empty()
            }
            Err(error) => {
                self.refuse_proxy_header(&error, shared);
                false
            }
        }
    }

    pub(super) fn refuse_proxy_header(
        &mut self,
        error: &proxy_protocol::Error,
        shared: &mut Shared,
    ) {
        shared.report_violation(self.log.name, format_args!("trusted proxy: {error}"));
        self.refuse(Refusal::Malformed, shared);
        self.step(Event::Refused, &error.to_string(), shared);
    }

    /// Takes the client's address from a PROXY header, if it has one.
    pub(super) fn take_proxied_address(&mut self, source: Option<SocketAddr>, shared: &mut Shared) {
        if let Some(source) = source {
            self.set_address(source, shared);
            if !self.may_stay(shared) {
                self.drop_unanswered(shared);
            }
        }
    }

    /// Takes the client's address from the fields of a valid request, if a trusted proxy sent
    /// it.
    pub(super) fn take_forwarded_address(&mut self, accept: &Accept, shared: &mut Shared) {
        let peer = self.log.name.peer;
        if !is_trusted_proxy(peer, &self.config) {
            return;
        }
        let named = self.config.forwarded_header;
        let list = accept.forwarded_for.as_deref();
        let list = list.filter(|_| named != Some(ForwardedHeader::Forwarded));
        let forwarded = accept.forwarded.as_deref();
        let forwarded = forwarded.filter(|_| named != Some(ForwardedHeader::XForwardedFor));
        let trusted = |address| self.config.is_trusted(address);
        if let Some(client) = forwarded::client(list, forwarded, peer.port(), trusted) {
            self.set_address(client, shared);
        }
    }

    /// Replaces the proxy's address by the client's, and counts the client.
    fn set_address(&mut self, client: SocketAddr, shared: &mut Shared) {
        let name = self.log.name;
        shared
            .log
            .debug(format_args!("session {name}: client {client}"));
        let peer = Peer::Ip(client);
        self.log.name.peer = peer;
        if !self.config.is_trusted(client.ip()) && !self.is_over_limit() {
            self.admission.count(peer, &self.config, shared);
        }
    }
}
