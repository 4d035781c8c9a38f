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
use super::side::Read;
use super::worker::Worker;
use super::{Session, Tick};
use crate::log::Escaped;
use crate::net::peer::Peer;
use crate::proto::http::Refusal;
use crate::proto::proxy;

/// How long a client over a limit may take to send the request that is refused.
const REQUEST_OF_REFUSED_MS: Tick = 2000;

impl Session {
    /// Counts the client for its address, and notes if that exceeds a limit.
    pub(super) fn count_address(&mut self, worker: &mut Worker) {
        let Some(ip) = self.report.peer().ip() else {
            return;
        };
        match worker.admission.admit(ip, &self.config, worker.now) {
            Ok(()) => self.standing = Standing::Admitted,
            Err(excess) => self.exceed(excess, worker),
        }
    }

    /// Notes and logs that the client is over a limit.
    pub(super) fn exceed(&mut self, excess: Excess, worker: &mut Worker) {
        self.excess = Some(excess);
        let (peer, now) = (self.report.peer(), worker.now);
        worker
            .admission
            .report_excess(&worker.log, peer, excess, now);
    }

    /// Whether the session only exists to be refused.
    pub fn is_excess(&self) -> bool {
        self.excess.is_some()
    }

    /// Whether the client may stay. A client over a limit may stay only for a moment, to
    /// get the refusal, and not if TLS would have to come first.
    pub fn may_be_told(&mut self, worker: &mut Worker) -> bool {
        let Some(excess) = self.excess else {
            return true;
        };
        let soon = worker.now + REQUEST_OF_REFUSED_MS;
        self.phase_deadline = self.phase_deadline.min(soon);
        match self.report.peer().ip() {
            Some(ip) if excess != Excess::Connections => {
                let kept = self.phase != Phase::Accepting && worker.admission.keep(ip);
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
    pub(super) fn leave_unanswered(&mut self, worker: &mut Worker) {
        worker.metrics.refused.count("unanswered");
        let key = self.excess.map_or("", Excess::key);
        self.step(Event::Unanswered, key, worker);
    }

    /// Takes the client's address from a trusted proxy.
    pub(super) fn arrives_from(&mut self, client: SocketAddr, worker: &mut Worker) {
        let name = self.report.name();
        worker
            .log
            .debug(format_args!("session {name}: client {client}"));
        self.report.set_peer(Peer::Ip(client));
        if !self.config.is_trusted(client.ip()) && self.excess.is_none() {
            self.count_address(worker);
        }
    }

    /// Goes on towards TLS; false when that has to wait for the client, or for
    /// the next turn.
    pub(super) fn take_tls(&mut self, worker: &mut Worker, scratch: &mut [u8]) -> bool {
        if !self.client.is_readable() {
            return false;
        }
        if !self.client.is_tls() {
            return self.look_at_first_bytes(worker, scratch);
        }
        if worker.tls_budget == 0 {
            return false;
        }
        worker.tls_budget -= 1;
        match self.client.shake_hands(&mut worker.meter) {
            None => false,
            Some(Ok(version)) => {
                worker.metrics.client_tls.count(version);
                worker.log.debug(format_args!(
                    "session {}: {version} with the client, for {}",
                    self.report.name(),
                    Escaped(self.client.tls_name().unwrap_or("no name")),
                ));
                self.step(Event::Encrypted, "", worker);
                true
            }
            Some(Err(error)) => {
                self.fail_tls(&error.to_string(), worker);
                true
            }
        }
    }

    /// Whether a TLS handshake waits for the next turn.
    pub(super) fn awaits_turn(&self) -> bool {
        self.phase == Phase::Accepting && self.client.is_tls() && self.client.is_readable()
    }

    fn look_at_first_bytes(&mut self, worker: &mut Worker, scratch: &mut [u8]) -> bool {
        let seen = match self.client.peek(scratch) {
            Read::Bytes(n) => &scratch[..n],
            Read::Nothing | Read::Later => return false,
            Read::End | Read::Broken => {
                self.step(Event::ClientGone, "", worker);
                return true;
            }
        };
        if self.awaits_proxy {
            match proxy::parse(seen) {
                // More of it comes with an edge.
                Ok(None) => return false,
                Ok(Some(header)) => {
                    self.awaits_proxy = false;
                    // As many bytes as were seen can be read.
                    if header.consumed > 0 {
                        self.client
                            .read(&mut scratch[..header.consumed], &mut worker.meter);
                    }
                    if let Some(source) = header.source {
                        self.arrives_from(source, worker);
                        if !self.may_be_told(worker) {
                            self.leave_unanswered(worker);
                        }
                    }
                }
                Err(error) => self.refuse_proxy_header(&error, worker),
            }
            return true;
        }
        // A method; no TLS record begins with a letter.
        if seen.first().is_some_and(u8::is_ascii_uppercase) {
            let refusal = Refusal::PlainOnTlsPort;
            self.refuse(refusal, worker);
            let detail = format!("{} {refusal}", refusal.status());
            self.step(Event::Refused, &detail, worker);
            return true;
        }
        let started = match self.entrance.connection() {
            Some(Ok(ssl)) => self
                .client
                .start_tls(ssl)
                .map_err(|error| error.to_string()),
            Some(Err(why)) => Err(why),
            None => Err("no certificate".to_owned()),
        };
        if let Err(why) = started {
            self.fail_tls(&why, worker);
        }
        true
    }

    fn fail_tls(&mut self, why: &str, worker: &mut Worker) {
        worker.metrics.client_tls_failed += 1;
        self.step(Event::TlsFailed, why, worker);
    }
}
