//! From an accepted connection to TLS with the browser.
//!
//! Owns the handling of clients over a limit: a few of each address stay for a moment to
//! get an HTTP response, and none if TLS would have to come first. Owns the look at the
//! first bytes of a TLS port, which leaves them where they are: a PROXY header of a
//! trusted proxy, a ClientHello, or plain HTTP, which gets an answer of its own. Then the TLS handshake, so many in a turn: each
//! costs a signature.

use std::net::SocketAddr;

use super::admission::{Excess, Standing};
use super::phase::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{Session, Tick};
use crate::log::Escaped;
use crate::net::peer::Peer;
use crate::proto::http::Refusal;
use crate::proto::proxy_protocol;

/// How long a client over a limit may take to send the request that is refused.
const REQUEST_OF_REFUSED_MS: Tick = 2000;

impl Session {
    /// Counts the client for its address, and notes if that exceeds a limit.
    pub(super) fn count_address(&mut self, shared: &mut Shared) {
        let Some(ip) = self.report.peer().ip() else {
            return;
        };
        match shared.admission.admit(ip, &self.config, shared.now) {
            Ok(()) => self.standing = Standing::Admitted,
            Err(excess) => self.exceed(excess, shared),
        }
    }

    /// Notes and logs that the client is over a limit.
    pub(super) fn exceed(&mut self, excess: Excess, shared: &mut Shared) {
        self.excess = Some(excess);
        let (peer, now) = (self.report.peer(), shared.now);
        shared
            .admission
            .report_excess(&shared.log, peer, excess, now);
    }

    /// Whether the session only exists to be refused.
    pub fn is_excess(&self) -> bool {
        self.excess.is_some()
    }

    /// Whether the client may stay. A client over a limit may stay only for a moment, to
    /// get the refusal, and not if TLS would have to come first.
    pub fn may_be_told(&mut self, shared: &mut Shared) -> bool {
        let Some(excess) = self.excess else {
            return true;
        };
        let soon = shared.now + REQUEST_OF_REFUSED_MS;
        self.phase_deadline = self.phase_deadline.min(soon);
        match self.report.peer().ip() {
            Some(ip) if excess != Excess::Connections => {
                let kept = self.phase != Phase::Accepting && shared.admission.keep(ip);
                if kept {
                    self.standing = Standing::Refused;
                }
                kept
            }
            // The reactor counts these.
            _ => true,
        }
    }

    /// Closes the connection of a client over a limit without a response.
    pub(super) fn leave_unanswered(&mut self, shared: &mut Shared) {
        shared.metrics.refused.count("unanswered");
        let key = self.excess.map_or("", Excess::key);
        self.step(Event::Unanswered, key, shared);
    }

    /// Takes the client's address from a trusted proxy.
    pub(super) fn arrives_from(&mut self, client: SocketAddr, shared: &mut Shared) {
        let name = self.report.name();
        shared
            .log
            .debug(format_args!("session {name}: client {client}"));
        self.report.set_peer(Peer::Ip(client));
        if !self.config.is_trusted(client.ip()) && self.excess.is_none() {
            self.count_address(shared);
        }
    }

    /// Goes on towards TLS; false when that has to wait for the client, or for
    /// the next turn.
    pub(super) fn take_tls(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        if !self.client.is_readable() {
            return false;
        }
        if !self.client.is_tls() {
            return self.look_at_first_bytes(shared, scratch);
        }
        if shared.tls_budget == 0 {
            return false;
        }
        shared.tls_budget -= 1;
        match self.client.shake_hands(&mut shared.meter) {
            None => false,
            Some(Ok(version)) => {
                shared.metrics.client_tls.count(version);
                shared.log.debug(format_args!(
                    "session {}: {version} with the client, for {}",
                    self.report.name(),
                    Escaped(self.client.tls_name().unwrap_or("no name")),
                ));
                self.step(Event::Encrypted, "", shared);
                true
            }
            Some(Err(error)) => {
                self.fail_tls(&error.to_string(), shared);
                true
            }
        }
    }

    /// Whether a TLS handshake waits for the next turn.
    pub(super) fn awaits_turn(&self) -> bool {
        self.phase == Phase::Accepting && self.client.is_tls() && self.client.is_readable()
    }

    fn look_at_first_bytes(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let seen = match self.client.peek(scratch) {
            Read::Bytes(n) => &scratch[..n],
            Read::Nothing | Read::Later => return false,
            Read::End | Read::Broken => {
                self.step(Event::ClientGone, "", shared);
                return true;
            }
        };
        if self.awaits_proxy {
            match proxy_protocol::parse(seen) {
                // More of it comes with an edge.
                Ok(None) => return false,
                Ok(Some(header)) => {
                    self.awaits_proxy = false;
                    // As many bytes as were seen can be read.
                    if header.consumed > 0 {
                        self.client
                            .read(&mut scratch[..header.consumed], &mut shared.meter);
                    }
                    if let Some(source) = header.source {
                        self.arrives_from(source, shared);
                        if !self.may_be_told(shared) {
                            self.leave_unanswered(shared);
                        }
                    }
                }
                Err(error) => self.refuse_proxy_header(&error, shared),
            }
            return true;
        }
        // A method; no TLS record begins with a letter.
        if seen.first().is_some_and(u8::is_ascii_uppercase) {
            let refusal = Refusal::PlainOnTlsPort;
            self.refuse(refusal, shared);
            let detail = format!("{} {refusal}", refusal.status());
            self.step(Event::Refused, &detail, shared);
            return true;
        }
        let started = match self.endpoint.connection() {
            Some(Ok(ssl)) => self
                .client
                .start_tls(ssl)
                .map_err(|error| error.to_string()),
            Some(Err(why)) => Err(why),
            None => Err("no certificate".to_owned()),
        };
        if let Err(why) = started {
            self.fail_tls(&why, shared);
        }
        true
    }

    fn fail_tls(&mut self, why: &str, shared: &mut Shared) {
        shared.metrics.client_tls_failed += 1;
        self.step(Event::TlsFailed, why, shared);
    }
}
