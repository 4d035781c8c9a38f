//! Establishes TLS with the browser.
//!
//! On a TLS port, it first peeks at the bytes of the connection: a PROXY header from a trusted
//! proxy, a ClientHello, or plain HTTP, which gets a refusal. Then it performs the TLS
//! handshake. The number of handshake steps per turn is limited, because each may cost a
//! signature.

use crate::log::Escaped;
use crate::proto::http::Refusal;
use crate::proto::proxy_protocol;
use crate::session::Session;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;
use crate::session::side::Read;

impl Session {
    /// Continues to establish TLS. Returns false if this must wait for the client or for the
    /// next turn.
    pub(super) fn accept_tls(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
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
                    self.log.name,
                    Escaped(self.client.tls_name().unwrap_or("no server name")),
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
        self.machine.phase() == Phase::Accepting
            && self.client.is_tls()
            && self.client.is_readable()
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
        if self.admission.awaits_proxy {
            match proxy_protocol::parse(seen) {
                // The rest of the header causes an edge.
                Ok(None) => return false,
                Ok(Some(header)) => {
                    self.admission.awaits_proxy = false;
                    // The bytes that were peeked at can be read.
                    if header.consumed > 0 {
                        self.client
                            .read(&mut scratch[..header.consumed], &mut shared.meter);
                    }
                    self.take_proxied_address(header.source, shared);
                }
                Err(error) => self.refuse_proxy_header(&error, shared),
            }
            return true;
        }
        // An HTTP method. No TLS record begins with a letter.
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
