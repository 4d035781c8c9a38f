//! From a fresh connection to one that is as secure as it is to be.
//!
//! Owns the PROXY header, the dialogue that ends in TLS and the TLS handshake,
//! none of which the client sees. A connection that cannot be made secure gives
//! way to the next address.

use super::phase::{Event, Phase};
use super::route::{PATIENCE_MS, Securing};
use super::worker::Worker;
use super::{NEVER, Session};
use crate::config::access::{ProxyProtocol, Tls};
use crate::log::Escaped;
use crate::net::peer::Peer;
use crate::net::tls::Wish;
use crate::proto::proxy;
use crate::proto::xmpp::starttls::{self, STARTTLS};

impl Session {
    /// Makes the fresh connection secure, if it is to be.
    pub(super) fn secure(&mut self, worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        let Some(target) = route.target else {
            return;
        };
        worker.log.debug(format_args!(
            "session {}: connected from {} to {} for {}",
            self.report.name(),
            self.server.own_address(),
            target.address,
            Escaped(&route.name),
        ));
        let (out, server) = (&mut self.server.out, target.address);
        match (route.proxy_protocol, self.report.peer()) {
            (Some(ProxyProtocol::V1), Peer::Ip(client)) => proxy::write_v1(out, client, server),
            (Some(ProxyProtocol::V2), Peer::Ip(client)) => proxy::write_v2(out, client, server),
            (Some(ProxyProtocol::V1), Peer::Unix) => proxy::write_v1_unknown(out),
            (Some(ProxyProtocol::V2), Peer::Unix) => proxy::write_v2_local(out),
            (None, _) => {}
        }
        if target.direct {
            self.start_tls(worker);
        } else if route.tls == Tls::None {
            self.step(Event::Secured, "", worker);
        } else {
            worker.text.clear();
            route.write_header(true, &mut worker.text);
            out.extend(&worker.text);
            route.securing = Securing::Dialogue(Box::default());
        }
    }

    /// Takes bytes that the server sent before TLS.
    pub(super) fn secure_with(&mut self, bytes: &[u8], worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        let plain_text_will_do = route.plain_text_will_do();
        let at_loopback = route.leads_to_loopback();
        let Securing::Dialogue(dialogue) = &mut route.securing else {
            return;
        };
        let (parsers, meter) = (&mut worker.parsers, &mut worker.meter);
        match dialogue.feed(&mut parsers.stream, bytes, meter) {
            Ok(starttls::Progress::Wait) => {
                let waits = dialogue.awaits_features() && route.patience == NEVER;
                if waits && plain_text_will_do && at_loopback {
                    route.patience = worker.now + PATIENCE_MS;
                }
            }
            Ok(starttls::Progress::Ask) => {
                route.patience = NEVER;
                self.server.out.extend(STARTTLS.as_bytes());
            }
            Ok(starttls::Progress::Proceed) => self.start_tls(worker),
            Ok(starttls::Progress::NotOffered) => self.go_plain(worker),
            Ok(starttls::Progress::SeeOther(to)) => self.redirect(&to, worker),
            // Where plain text will do, the client may as well be told.
            Err(starttls::Error::Ended(_) | starttls::Error::Unexpected)
                if dialogue.awaits_features() && plain_text_will_do =>
            {
                self.go_plain(worker);
            }
            Err(error) => {
                let why = error.to_string();
                self.insecure(&why, worker);
            }
        }
    }

    /// Whether the TLS handshake is under way.
    pub(super) fn shakes_hands(&self) -> bool {
        let securing = self.route.as_ref().map(|route| &route.securing);
        self.phase == Phase::Securing && matches!(securing, Some(Securing::Handshake))
    }

    fn start_tls(&mut self, worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        route.securing = Securing::Handshake;
        route.patience = NEVER;
        let wish = Wish {
            domain: &route.name,
            ca_file: route.ca_file.as_deref(),
            verify: route.verify,
            direct: route.target.is_some_and(|target| target.direct),
        };
        // A PROXY header goes before TLS.
        self.server.flush(&mut worker.meter, worker.now);
        let started = match self.config.tls.connection(&wish) {
            Ok(_) if !self.server.out.is_empty() => Err("no room for the PROXY header".to_owned()),
            Ok(ssl) => self
                .server
                .start_tls(ssl)
                .map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match started {
            Ok(()) => self.shake_hands(worker),
            Err(why) => self.insecure(&why, worker),
        }
    }

    /// Goes on with the TLS handshake.
    pub(super) fn shake_hands(&mut self, worker: &mut Worker) {
        worker.tls_budget = worker.tls_budget.saturating_sub(1);
        match self.server.shake_hands(&mut worker.meter) {
            None => {}
            Some(Ok(version)) => {
                worker.metrics.tls.count(version);
                worker.log.debug(format_args!(
                    "session {}: {version} with the server of {}",
                    self.report.name(),
                    Escaped(self.domain.as_deref().unwrap_or_default()),
                ));
                self.step(Event::Secured, "", worker);
            }
            Some(Err(error)) => self.insecure(&error.to_string(), worker),
        }
    }

    /// Goes on in plain text, where that will do: what the server has said
    /// already is the answer to the client's stream header.
    fn go_plain(&mut self, worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        if !route.plain_text_will_do() {
            return self.insecure("the server offers no STARTTLS", worker);
        }
        let Securing::Dialogue(dialogue) = std::mem::replace(&mut route.securing, Securing::No)
        else {
            return;
        };
        route.header_sent = true;
        route.patience = NEVER;
        self.step(Event::Secured, "", worker);
        self.relay_down(&dialogue.into_said(), worker);
    }

    /// Does what was put off for a server that kept us waiting.
    pub(super) fn lose_patience(&mut self, worker: &mut Worker) {
        if let Some(route) = &mut self.route {
            route.patience = NEVER;
        }
        if self.phase == Phase::Securing {
            self.go_plain(worker);
        }
    }

    /// The connection cannot be made secure: on to the next address.
    pub(super) fn insecure(&mut self, why: &str, worker: &mut Worker) {
        let at = self.route.as_ref().and_then(|route| route.target);
        let at = at.map_or(String::new(), |target| format!("{}: ", target.address));
        worker.log.debug(format_args!(
            "session {}: the server of {} at {at}{why}",
            self.report.name(),
            Escaped(self.domain.as_deref().unwrap_or_default()),
        ));
        worker.metrics.insecure += 1;
        self.server.close();
        if let Some(route) = &mut self.route {
            route.securing = Securing::No;
            route.patience = NEVER;
            route.failure = Some(format!("{at}{why}"));
        }
        self.step(Event::Insecure, "", worker);
    }
}
