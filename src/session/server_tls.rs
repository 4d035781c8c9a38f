//! Makes a new connection to a server as secure as required.
//!
//! Sends the PROXY header, negotiates STARTTLS and performs the TLS handshake; the client sees
//! none of this. If a connection cannot be made secure, the next address is tried.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::machine::{Event, Phase};
use super::route::{FEATURES_WAIT_MS, Securing};
use super::shared::Shared;
use super::step::Step;
use super::{NEVER, Session};
use crate::config::server_access::{ProxyProtocol, Tls};
use crate::log::{Escaped, Level};
use crate::net::peer::Peer;
use crate::net::tls_client::TlsRequest;
use crate::proto::proxy_protocol;
use crate::proto::xmpp::starttls::{self, STARTTLS};

impl Session {
    /// Starts to make the new connection secure, if required.
    pub(super) fn secure(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let Some(target) = &route.target else {
            return;
        };
        // Only then, because the kernel must be asked.
        if shared.log.enabled(Level::Debug) {
            let own = self.server.own_address();
            shared.log.debug(format_args!(
                "session {}: connected from {} to {} for {}",
                self.log.name(),
                own.map_or("nowhere".to_owned(), |own| own.to_string()),
                target.address,
                Escaped(&route.name),
            ));
        }
        if shared.observer.is_some() {
            let from = self.server.own_address();
            shared.observer.tell(&Step::Connected { target, from });
        }
        let out = &mut self.server.out;
        // A Unix socket has no address for a PROXY header.
        let server = |client: SocketAddr| {
            let nowhere = match client.is_ipv4() {
                true => (Ipv4Addr::UNSPECIFIED, 0).into(),
                false => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            target.address.tcp().unwrap_or(nowhere)
        };
        match (route.proxy_protocol, self.log.peer()) {
            (Some(ProxyProtocol::V1), Peer::Ip(client)) => {
                proxy_protocol::write_v1(out, client, server(client))
            }
            (Some(ProxyProtocol::V2), Peer::Ip(client)) => {
                proxy_protocol::write_v2(out, client, server(client))
            }
            (Some(ProxyProtocol::V1), Peer::Unix) => proxy_protocol::write_v1_unknown(out),
            (Some(ProxyProtocol::V2), Peer::Unix) => proxy_protocol::write_v2_local(out),
            (None, _) => {}
        }
        if target.direct {
            self.start_tls(shared);
        } else if route.tls == Tls::None {
            self.step(Event::Secured, "", shared);
        } else {
            shared.text.clear();
            route.write_header(true, &mut shared.text);
            out.extend(&shared.text);
            route.securing = Securing::Dialogue(Box::default());
        }
    }

    /// Handles bytes that the server sent before TLS.
    pub(super) fn secure_with(&mut self, bytes: &[u8], shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        if std::mem::take(&mut route.silent) {
            route.waits_until = NEVER;
        }
        let plain_text_will_do = route.plain_text_will_do();
        let at_loopback = route.leads_to_loopback();
        let Securing::Dialogue(dialogue) = &mut route.securing else {
            return;
        };
        let (parsers, meter) = (&mut shared.parsers, &mut shared.meter);
        match dialogue.feed(&mut parsers.stream, bytes, meter) {
            Ok(starttls::Progress::Wait) => {
                let waits = dialogue.awaits_features() && route.waits_until == NEVER;
                if waits && plain_text_will_do && at_loopback {
                    route.waits_until = shared.now + FEATURES_WAIT_MS;
                }
            }
            Ok(starttls::Progress::Ask) => {
                shared.observer.tell(&Step::StartTls);
                route.waits_until = NEVER;
                self.server.out.extend(STARTTLS.as_bytes());
            }
            Ok(starttls::Progress::Proceed) => self.start_tls(shared),
            Ok(starttls::Progress::NotOffered) => self.go_plain(shared),
            Ok(starttls::Progress::SeeOther(to)) => self.take_see_other(&to, shared),
            // If plain text is allowed, the client may see the error itself.
            Err(starttls::Error::Ended(_) | starttls::Error::Unexpected)
                if dialogue.awaits_features() && plain_text_will_do =>
            {
                self.go_plain(shared);
            }
            Err(error) => {
                shared.observer.tell(&Step::NoStartTls(&error));
                let why = error.to_string();
                self.insecure(&why, shared);
            }
        }
    }

    /// Whether the TLS handshake is in progress.
    pub(super) fn shakes_hands(&self) -> bool {
        let securing = self.route.as_ref().map(|route| &route.securing);
        self.machine.phase() == Phase::Securing && matches!(securing, Some(Securing::Handshake))
    }

    fn start_tls(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        route.securing = Securing::Handshake;
        if !route.silent {
            route.waits_until = NEVER;
        }
        let wish = TlsRequest {
            domain: &route.name,
            ca_file: route.ca_file.as_deref(),
            verify: route.verify,
            direct: route.target.as_ref().is_some_and(|target| target.direct),
        };
        // The PROXY header must be sent before TLS.
        self.server.flush(&mut shared.meter, shared.now);
        let started = match self.config.tls.connection(&wish) {
            Ok(_) if !self.server.out.is_empty() => Err("no room for the PROXY header".to_owned()),
            Ok(ssl) => self
                .server
                .start_tls(ssl)
                .map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match started {
            Ok(()) => self.shake_hands(shared),
            Err(why) => self.insecure(&why, shared),
        }
    }

    /// Continues the TLS handshake.
    pub(super) fn shake_hands(&mut self, shared: &mut Shared) {
        shared.tls_budget = shared.tls_budget.saturating_sub(1);
        let done = self.server.shake_hands(&mut shared.meter);
        if let (Some(done), Some(ssl)) = (&done, self.server.ssl()) {
            let succeeded = done.is_ok();
            shared.observer.tell(&Step::Handshake { ssl, succeeded });
        }
        match done {
            None => {}
            Some(Ok(version)) => {
                shared.metrics.server_tls.count(version);
                shared.log.debug(format_args!(
                    "session {}: {version} with the server of {}",
                    self.log.name(),
                    Escaped(self.domain.as_deref().unwrap_or_default()),
                ));
                self.step(Event::Secured, "", shared);
            }
            Some(Err(error)) => self.insecure(&error.to_string(), shared),
        }
    }

    /// Continues in plain text, if that is allowed. The bytes that the server has already sent
    /// are the answer to the client's stream header.
    fn go_plain(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        if !route.plain_text_will_do() {
            shared.observer.tell(&Step::TlsNotOffered);
            return self.insecure("the server offers no STARTTLS", shared);
        }
        let Securing::Dialogue(dialogue) = std::mem::replace(&mut route.securing, Securing::No)
        else {
            return;
        };
        route.header_sent = true;
        route.waits_until = NEVER;
        self.step(Event::Secured, "", shared);
        self.relay_down(&dialogue.into_said(), shared);
    }

    /// Handles a server that takes too long: continues in plain text, or with the next server
    /// if this one has sent nothing at all.
    pub(super) fn give_up_waiting(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        route.waits_until = NEVER;
        match route.silent {
            _ if self.machine.phase() != Phase::Securing => {}
            true => self.insecure("no answer in time", shared),
            false => self.go_plain(shared),
        }
    }

    /// Gives up a connection that cannot be made secure, and continues with the next address.
    pub(super) fn insecure(&mut self, why: &str, shared: &mut Shared) {
        let at = self.route.as_ref().and_then(|route| route.target.as_ref());
        let at = at.map_or(String::new(), |target| format!("{}: ", target.address));
        shared.log.debug(format_args!(
            "session {}: the server of {} at {at}{why}",
            self.log.name(),
            Escaped(self.domain.as_deref().unwrap_or_default()),
        ));
        let failure = format!("{at}{why}");
        shared.observer.tell(&Step::Insecure(&failure));
        shared.metrics.server_insecure += 1;
        if let Some(route) = &mut self.route {
            route.securing = Securing::No;
            route.waits_until = NEVER;
            route.failure = Some(failure);
        }
        self.step(Event::Insecure, "", shared);
    }
}
