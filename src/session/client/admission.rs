//! Whether a client is admitted, and how it is counted for its address.
//!
//! Of the clients over a limit, a few per address stay for a moment to get an HTTP response; if
//! that needed TLS first, none do.

use crate::config::Config;
use crate::net::peer::Peer;
use crate::session::admission::{ConnectionLimit, CountedAs, is_trusted_proxy};
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;
use crate::session::{Session, Tick};

/// How long a client over a limit may take to send its request.
const REQUEST_OF_REFUSED_MS: Tick = 2000;

pub(in crate::session) struct ClientAdmission {
    /// Whether the peer is a proxy that may start with a PROXY header.
    pub awaits_proxy: bool,
    counted_as: CountedAs,
    exceeded: Option<ConnectionLimit>,
}

impl ClientAdmission {
    pub fn new(peer: Peer, config: &Config) -> ClientAdmission {
        ClientAdmission {
            awaits_proxy: is_trusted_proxy(peer, config),
            counted_as: CountedAs::Uncounted,
            exceeded: None,
        }
    }

    /// Counts the client for its address, and notes if that exceeds a limit.
    pub fn count(&mut self, peer: Peer, config: &Config, shared: &mut Shared) {
        let Some(ip) = peer.ip() else {
            return;
        };
        match shared.admission.admit(ip, config, shared.now) {
            Ok(()) => self.counted_as = CountedAs::Admitted,
            Err(limit) => self.exceed(limit, peer, shared),
        }
    }

    /// Notes and logs that the client is over a limit.
    pub fn exceed(&mut self, limit: ConnectionLimit, peer: Peer, shared: &mut Shared) {
        self.exceeded = Some(limit);
        let (log, now) = (&shared.log, shared.now);
        shared.admission.report_exceeded(log, peer, limit, now);
    }

    /// Returns the limit that the client exceeds; its request will be refused.
    pub fn exceeded(&self) -> Option<ConnectionLimit> {
        self.exceeded
    }

    /// Whether a client over a limit may stay to get the refusal. `needs_tls`: it can only be
    /// told after a TLS handshake.
    pub fn keep_refused(&mut self, peer: Peer, needs_tls: bool, shared: &mut Shared) -> bool {
        match peer.ip() {
            Some(ip) if self.exceeded != Some(ConnectionLimit::Connections) => {
                let kept = !needs_tls && shared.admission.keep_refused(ip);
                if kept {
                    self.counted_as = CountedAs::Refused;
                }
                kept
            }
            // The reactor counts the others.
            _ => true,
        }
    }

    /// Removes the client from the counts of its address.
    pub fn leave(&mut self, peer: Peer, shared: &mut Shared) {
        if let Some(ip) = peer.ip() {
            let counted_as = std::mem::take(&mut self.counted_as);
            shared.admission.leave(ip, counted_as);
        }
    }
}

impl Session {
    /// Whether the client is over a limit and only stays to be refused.
    pub fn is_over_limit(&self) -> bool {
        self.admission.exceeded().is_some()
    }

    /// Whether the client may stay. A client over a limit may only stay for a moment, to get
    /// the refusal, and not if that needed TLS first.
    pub fn may_stay(&mut self, shared: &mut Shared) -> bool {
        if !self.is_over_limit() {
            return true;
        }
        let soon = shared.now + REQUEST_OF_REFUSED_MS;
        self.phase_deadline = self.phase_deadline.min(soon);
        let needs_tls = self.machine.phase() == Phase::Accepting;
        self.admission
            .keep_refused(self.log.name.peer, needs_tls, shared)
    }

    /// Closes the connection of a client over a limit without a response.
    pub(in crate::session) fn drop_unanswered(&mut self, shared: &mut Shared) {
        shared.metrics.refused.count("unanswered");
        let key = self.admission.exceeded().map_or("", ConnectionLimit::key);
        self.step(Event::Unanswered, key, shared);
    }
}
