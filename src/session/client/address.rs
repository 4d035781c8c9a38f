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
use crate::session::admission::{self, Excess, Standing};
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
                self.take_source(source, shared);
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
    pub(super) fn take_source(&mut self, source: Option<SocketAddr>, shared: &mut Shared) {
        if let Some(source) = source {
            self.arrives_from(source, shared);
            if !self.may_be_told(shared) {
                self.leave_unanswered(shared);
            }
        }
    }

    /// Admits the client of a valid request: takes its address from a trusted proxy, and checks
    /// the limits.
    pub(super) fn admit(&mut self, accept: &Accept, shared: &mut Shared) -> Result<(), Refusal> {
        let peer = self.log.name.peer;
        if admission::is_trusted_proxy(peer, &self.config) {
            let named = self.config.forwarded_header;
            let list = accept.forwarded_for.as_deref();
            let list = list.filter(|_| named != Some(ForwardedHeader::Forwarded));
            let forwarded = accept.forwarded.as_deref();
            let forwarded = forwarded.filter(|_| named != Some(ForwardedHeader::XForwardedFor));
            let trusted = |address| self.config.is_trusted(address);
            if let Some(client) = forwarded::client(list, forwarded, peer.port(), trusted) {
                self.arrives_from(client, shared);
            }
        }
        match self.excess {
            None => Ok(()),
            Some(Excess::Connections) => Err(Refusal::Overloaded),
            Some(_) => Err(Refusal::AddressOverloaded),
        }
    }

    /// Counts the client for its address, and notes if that exceeds a limit.
    pub(in crate::session) fn count_address(&mut self, shared: &mut Shared) {
        let Some(ip) = self.log.name.peer.ip() else {
            return;
        };
        match shared.admission.admit(ip, &self.config, shared.now) {
            Ok(()) => self.standing = Standing::Admitted,
            Err(excess) => self.exceed(excess, shared),
        }
    }

    /// Notes and logs that the client is over a limit.
    pub(in crate::session) fn exceed(&mut self, excess: Excess, shared: &mut Shared) {
        self.excess = Some(excess);
        let (peer, now) = (self.log.name.peer, shared.now);
        shared
            .admission
            .report_excess(&shared.log, peer, excess, now);
    }

    /// Whether the client is over a limit and only stays to be refused.
    pub fn is_excess(&self) -> bool {
        self.excess.is_some()
    }

    /// Whether the client may stay. A client over a limit may only stay for a moment, to get
    /// the refusal, and not if that needed TLS first.
    pub fn may_be_told(&mut self, shared: &mut Shared) -> bool {
        let Some(excess) = self.excess else {
            return true;
        };
        let soon = shared.now + REQUEST_OF_REFUSED_MS;
        self.phase_deadline = self.phase_deadline.min(soon);
        match self.log.name.peer.ip() {
            Some(ip) if excess != Excess::Connections => {
                let kept = self.machine.phase() != Phase::Accepting && shared.admission.keep(ip);
                if kept {
                    self.standing = Standing::Refused;
                }
                kept
            }
            // The reactor counts the others.
            _ => true,
        }
    }

    /// Closes the connection of a client over a limit without a response.
    pub(in crate::session) fn leave_unanswered(&mut self, shared: &mut Shared) {
        shared.metrics.refused.count("unanswered");
        let key = self.excess.map_or("", Excess::key);
        self.step(Event::Unanswered, key, shared);
    }

    /// Takes the client's address from a trusted proxy.
    pub(super) fn arrives_from(&mut self, client: SocketAddr, shared: &mut Shared) {
        let name = self.log.name;
        shared
            .log
            .debug(format_args!("session {name}: client {client}"));
        self.log.name.peer = Peer::Ip(client);
        if !self.config.is_trusted(client.ip()) && self.excess.is_none() {
            self.count_address(shared);
        }
    }
}
