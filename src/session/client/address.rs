//! Determines the client's address, and whether the client is admitted.
//!
//! A trusted proxy reports the client's address in a PROXY header or in the request. Of the
//! clients over a limit, a few per address stay for a moment to get an HTTP response; if that
//! needed TLS first, none do.

use std::net::SocketAddr;

use crate::config::ForwardedHeader;
use crate::net::peer::Peer;
use crate::proto::http::{Accept, Refusal, forwarded};
use crate::proto::proxy_protocol::{self, Proxied};
use crate::session::admission::{self, ConnectionLimit, CountedAs};
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;
use crate::session::{Session, Tick};

/// How long a client over a limit may take to send its request.
const REQUEST_OF_REFUSED_MS: Tick = 2000;

impl Session {
    /// Reads the PROXY header that a proxy may send first. Returns false while bytes are
    /// missing, or if the header is invalid.
    pub(super) fn take_proxy_header(&mut self, shared: &mut Shared) -> bool {
        match proxy_protocol::parse(self.client.tail.as_slice()) {
            Ok(None) => false,
            Ok(Some(Proxied { consumed, source })) => {
                self.awaits_proxy = false;
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
        let name = self.log.name;
        let log = &shared.log;
        log.warning(format_args!("session {name}: trusted proxy: {error}"));
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
        if !admission::is_trusted_proxy(peer, &self.config) {
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

    /// Counts the client for its address, and notes if that exceeds a limit.
    pub(in crate::session) fn count_address(&mut self, shared: &mut Shared) {
        let Some(ip) = self.log.name.peer.ip() else {
            return;
        };
        match shared.admission.admit(ip, &self.config, shared.now) {
            Ok(()) => self.counted_as = CountedAs::Admitted,
            Err(limit) => self.note_exceeded(limit, shared),
        }
    }

    /// Notes and logs that the client is over a limit.
    pub(in crate::session) fn note_exceeded(
        &mut self,
        limit: ConnectionLimit,
        shared: &mut Shared,
    ) {
        self.exceeded = Some(limit);
        let (peer, now) = (self.log.name.peer, shared.now);
        shared
            .admission
            .report_exceeded(&shared.log, peer, limit, now);
    }

    /// Whether the client is over a limit and only stays to be refused.
    pub fn is_over_limit(&self) -> bool {
        self.exceeded.is_some()
    }

    /// Whether the client may stay. A client over a limit may only stay for a moment, to get
    /// the refusal, and not if that needed TLS first.
    pub fn may_stay(&mut self, shared: &mut Shared) -> bool {
        let Some(limit) = self.exceeded else {
            return true;
        };
        let soon = shared.now + REQUEST_OF_REFUSED_MS;
        self.phase_deadline = self.phase_deadline.min(soon);
        match self.log.name.peer.ip() {
            Some(ip) if limit != ConnectionLimit::Connections => {
                let kept =
                    self.machine.phase() != Phase::Accepting && shared.admission.keep_refused(ip);
                if kept {
                    self.counted_as = CountedAs::Refused;
                }
                kept
            }
            // The reactor counts the others.
            _ => true,
        }
    }

    /// Closes the connection of a client over a limit without a response.
    pub(in crate::session) fn drop_unanswered(&mut self, shared: &mut Shared) {
        shared.metrics.refused.count("unanswered");
        let key = self.exceeded.map_or("", ConnectionLimit::key);
        self.step(Event::Unanswered, key, shared);
    }

    /// Replaces the proxy's address by the client's, and counts the client.
    fn set_address(&mut self, client: SocketAddr, shared: &mut Shared) {
        let name = self.log.name;
        shared
            .log
            .debug(format_args!("session {name}: client {client}"));
        self.log.name.peer = Peer::Ip(client);
        if !self.config.is_trusted(client.ip()) && self.exceeded.is_none() {
            self.count_address(shared);
        }
    }
}
