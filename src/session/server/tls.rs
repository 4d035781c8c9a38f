//! Makes a new connection to a server as secure as required.
//!
//! Sends the PROXY header, negotiates STARTTLS and performs the TLS handshake; the client sees
//! none of this. If a connection cannot be made secure, the next address is tried.

use super::route::{Outcome, Route, Securing};
use crate::config::server_access::Tls;
use crate::log::{Escaped, Level};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::framing::STREAM_END;
use crate::proto::xmpp::starttls::{self, STARTTLS};
use crate::session::machine::Event;
use crate::session::shared::Shared;
use crate::session::side::Side;
use crate::session::step::Step;

impl Route {
    /// Starts to make the new connection secure, if required.
    pub fn secure(&mut self, server: &mut Side, shared: &mut Shared) -> Outcome {
        let target = self.target.as_ref()?;
        // Only then, because the kernel must be asked.
        if shared.log.enabled(Level::Debug) {
            let own = server.own_address();
            shared.log.debug(format_args!(
                "session {}: connected from {} to {} for {}",
                self.session,
                own.map_or("an unnamed socket".to_owned(), |own| own.to_string()),
                target.address,
                Escaped(&self.name),
            ));
        }
        if shared.observer.is_some() {
            let from = server.own_address();
            shared.observer.tell(&Step::Connected { target, from });
        }
        let (from, to) = (self.session.peer.address(), target.address.tcp());
        self.rules.write_proxy_header(from, to, &mut server.out);
        if target.direct {
            return self.start_tls(server, shared);
        }
        if self.rules.tls == Tls::None {
            return Some((Event::Secured, String::new()));
        }
        let bare = self.wants_bare_header();
        self.greeting
            .send_header(bare, &mut shared.text, &mut server.out);
        self.securing = Securing::Dialogue(Box::default());
        None
    }

    /// Handles bytes that the server sent before TLS.
    pub(super) fn take_bytes(
        &mut self,
        bytes: &[u8],
        server: &mut Side,
        shared: &mut Shared,
    ) -> Outcome {
        self.wait.note_bytes();
        let plain_text_will_do = self.plain_text_will_do();
        let target = self.target.as_ref();
        let is_local = target.is_some_and(|target| target.address.is_local());
        let Securing::Dialogue(dialogue) = &mut self.securing else {
            return None;
        };
        let (parsers, meter) = (&mut shared.parsers, &mut shared.meter);
        match dialogue.feed(&mut parsers.stream, bytes, meter) {
            Ok(starttls::Progress::Wait) => {
                if dialogue.awaits_features() && plain_text_will_do && is_local {
                    self.wait.expect_features(shared.now);
                }
                None
            }
            Ok(starttls::Progress::Ask) => {
                shared.observer.tell(&Step::StartTls { is_offered: true });
                self.wait.stop();
                server.out.extend(STARTTLS.as_bytes());
                None
            }
            Ok(starttls::Progress::Proceed) => self.start_tls(server, shared),
            Ok(starttls::Progress::NotOffered) if !plain_text_will_do && dialogue.insist() => {
                shared.observer.tell(&Step::StartTls { is_offered: false });
                self.wait.expect_answer(shared.now);
                server.out.extend(STARTTLS.as_bytes());
                None
            }
            Ok(starttls::Progress::NotOffered) => self.go_plain(shared),
            Ok(starttls::Progress::SeeOther(to)) => Some(self.take_see_other(&to, shared)),
            // If plain text is allowed, the client may see the error itself.
            Err(starttls::Error::Ended(_) | starttls::Error::Unexpected)
                if dialogue.awaits_features() && plain_text_will_do =>
            {
                self.go_plain(shared)
            }
            Err(
                starttls::Error::Refused | starttls::Error::Ended(_) | starttls::Error::Unexpected,
            ) if dialogue.insists() => self.go_plain(shared),
            Err(error) => {
                shared.observer.tell(&Step::NoStartTls(&error));
                if let starttls::Error::Stream(rule) = error {
                    send_error(rule.into(), server, shared);
                }
                self.insecure(&error.to_string(), shared)
            }
        }
    }

    /// Whether the TLS handshake is in progress.
    pub(super) fn shakes_hands(&self) -> bool {
        matches!(self.securing, Securing::Handshake)
    }

    fn start_tls(&mut self, server: &mut Side, shared: &mut Shared) -> Outcome {
        self.securing = Securing::Handshake;
        if !self.wait.is_silent() {
            self.wait.stop();
        }
        let request = self.rules.tls_request(&self.name, self.target.as_ref());
        // The PROXY header must be sent before TLS.
        server.flush(&mut shared.meter, shared.now);
        let started = match self.settings.tls.connection(&request) {
            Ok(_) if !server.out.is_empty() => Err("no room for the PROXY header".to_owned()),
            Ok(ssl) => server.start_tls(ssl).map_err(|error| error.to_string()),
            Err(why) => Err(why),
        };
        match started {
            Ok(()) => self.shake_hands(server, shared),
            Err(why) => self.insecure(&why, shared),
        }
    }

    /// Continues the TLS handshake.
    pub(super) fn shake_hands(&mut self, server: &mut Side, shared: &mut Shared) -> Outcome {
        shared.tls_budget = shared.tls_budget.saturating_sub(1);
        let done = server.shake_hands(&mut shared.meter)?;
        if let Some(ssl) = server.ssl() {
            let succeeded = done.is_ok();
            shared.observer.tell(&Step::Handshake { ssl, succeeded });
        }
        match done {
            Ok(version) => {
                shared.metrics.server_tls.count(version);
                shared.log.debug(format_args!(
                    "session {}: {version} with the server of {}",
                    self.session,
                    Escaped(&self.domain),
                ));
                Some((Event::Secured, String::new()))
            }
            Err(error) => self.insecure(&error.to_string(), shared),
        }
    }

    /// Continues in plain text, if that is allowed. The bytes that the server has already sent
    /// are the answer to the client's stream header.
    fn go_plain(&mut self, shared: &mut Shared) -> Outcome {
        if !self.plain_text_will_do() {
            shared.observer.tell(&Step::TlsNotOffered);
            return self.insecure("the server offers no STARTTLS", shared);
        }
        let Securing::Dialogue(dialogue) = std::mem::replace(&mut self.securing, Securing::No)
        else {
            return None;
        };
        self.wait.stop();
        self.greeting.note_answer(dialogue.into_received());
        Some((Event::Secured, String::new()))
    }

    /// Handles the loss of the connection before TLS.
    pub(super) fn lose(&mut self, shared: &mut Shared) -> Outcome {
        match &self.securing {
            Securing::Dialogue(dialogue) if dialogue.insists() => self.go_plain(shared),
            _ => self.insecure("the connection was lost before TLS", shared),
        }
    }

    /// Handles a server that takes too long: continues in plain text, or with the next server
    /// if this one has sent nothing at all.
    pub(super) fn give_up_waiting(&mut self, shared: &mut Shared) -> Outcome {
        match self.wait.is_silent() {
            true => self.insecure("no answer in time", shared),
            false => self.go_plain(shared),
        }
    }

    /// Gives up a connection that cannot be made secure, and continues with the next address.
    pub(super) fn insecure(&mut self, why: &str, shared: &mut Shared) -> Outcome {
        let at = self.target.as_ref();
        let at = at.map_or(String::new(), |target| format!("{}: ", target.address));
        shared.log.debug(format_args!(
            "session {}: the server of {} at {at}{why}",
            self.session,
            Escaped(&self.domain),
        ));
        let failure = format!("{at}{why}");
        shared.observer.tell(&Step::Insecure(&failure));
        shared.metrics.server_insecure += 1;
        self.securing = Securing::No;
        self.wait.stop();
        self.failure = Some(failure);
        Some((Event::Insecure, String::new()))
    }
}

/// Tells a server which rule it broke. What it does not take at once is dropped.
fn send_error(error: StreamError, server: &mut Side, shared: &mut Shared) {
    shared.text.clear();
    error.write(&mut shared.text);
    shared.text.extend_from_slice(STREAM_END.as_bytes());
    server.out.extend(&shared.text);
    server.flush(&mut shared.meter, shared.now);
}
