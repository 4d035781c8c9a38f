//! From an accepted connection to TLS with the browser.
//!
//! Owns the look at the first bytes of a TLS port, which leaves them where they
//! are: a PROXY header of a trusted proxy, a ClientHello, or plain HTTP, which
//! gets an answer of its own. Then the TLS handshake, so many in a turn: each
//! costs a signature.

use super::Session;
use super::phase::{Event, Phase};
use super::side::Read;
use super::worker::Worker;
use crate::log::Escaped;
use crate::proto::http::Refusal;
use crate::proto::proxy;

impl Session {
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
        match self.client.shake_hands() {
            None => {
                self.client.await_edge();
                false
            }
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
    pub(super) fn awaits_tls_budget(&self, worker: &Worker) -> bool {
        self.phase == Phase::Accepting
            && self.client.is_tls()
            && self.client.is_readable()
            && worker.tls_budget == 0
    }

    fn look_at_first_bytes(&mut self, worker: &mut Worker, scratch: &mut [u8]) -> bool {
        let seen = match self.client.peek(scratch) {
            Read::Bytes(n) => &scratch[..n],
            Read::Nothing => return false,
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
                        self.client.read(&mut scratch[..header.consumed]);
                    }
                    if let Some(source) = header.source {
                        self.arrives_from(source, worker);
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
