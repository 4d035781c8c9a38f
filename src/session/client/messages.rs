//! Handles the client's messages.
//!
//! The first message shows the dialect and names a domain. In RFC 7395, each later message must
//! be one complete element before it is relayed. In the draft, later messages are relayed
//! unchanged, except for the stream header after authentication.

use std::borrow::Cow;

use crate::config::DomainRule;
use crate::config::server_access::ChannelBinding;
use crate::expat::{MAX_TAG, UnitCheck};
use crate::meter::PARSER;
use crate::proto::xmpp::client_message::{self, First, Message};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::features::{COMPRESS_FAILURE, STARTTLS_FAILURE};
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::{Dialect, address, is_space};
use crate::session::Session;
use crate::session::machine::{Event, Phase};
use crate::session::server::greeting::Greeting;
use crate::session::server::route::Route;
use crate::session::shared::Shared;
use crate::session::step::Step;

impl Session {
    /// Handles a message, part of which may already be checked. Returns what remains to be
    /// checked in another turn. May take the message out of `text`.
    pub(super) fn take_message(
        &mut self,
        text: &mut Cow<'_, str>,
        mut begun: Option<UnitCheck>,
        shared: &mut Shared,
    ) -> Option<UnitCheck> {
        let verdict = match (self.machine.phase(), self.machine.dialect()) {
            (Phase::AwaitOpen, _) => self.take_first(text, shared),
            (_, Some(Dialect::Draft)) => self.take_draft(text, shared),
            _ => self.take_element(text, &mut begun, shared),
        };
        if let Err(error) = verdict {
            self.step(Event::Violation(error), "", shared);
            return None;
        }
        begun
    }

    /// Handles the first message: its dialect and domain.
    fn take_first(&mut self, text: &str, shared: &mut Shared) -> Result<(), StreamError> {
        shared.meter.draw(PARSER + text.len());
        let first = client_message::first(&shared.parsers, text).map_err(|(dialect, error)| {
            self.step(Event::Dialect(dialect), "", shared);
            error
        })?;
        let mut follows = "";
        match first {
            First::Close => {
                self.step(Event::Dialect(Dialect::Framed), "", shared);
                self.step(Event::Ended, "", shared);
                return Ok(());
            }
            First::Framed(header) => {
                self.step(Event::Dialect(Dialect::Framed), "", shared);
                let name = self.choose_domain(&header, shared)?;
                if !header.has_usable_version() {
                    return Err(StreamError::UnsupportedVersion);
                }
                let route = Route::new(self, name, Greeting::new(header, None));
                self.server.route = Some(Box::new(route));
            }
            First::Draft { header, tag, rest } => {
                self.step(Event::Dialect(Dialect::Draft), "", shared);
                let name = self.choose_domain(&header, shared)?;
                // White space is sent with the header; anything else is a message of its own.
                let (blank, more) = match rest.trim_ascii().is_empty() {
                    true => (rest, ""),
                    false => ("", rest),
                };
                self.server.draft_root = unusual_root(tag);
                let own = Some(stream_header(tag, blank));
                let route = Route::new(self, name, Greeting::new(header, own));
                self.server.route = Some(Box::new(route));
                follows = more;
            }
        }
        let event = match shared.crowded && self.config.see_other_uri.is_some() {
            true => Event::Elsewhere,
            false => Event::Opened,
        };
        self.step(event, "", shared);
        if !follows.is_empty() {
            let event = match client_message::ends_draft(follows) {
                true => Event::EndTag { alone: false },
                false => Event::Unit,
            };
            self.pass_on(event, follows.as_bytes().into(), shared);
        }
        Ok(())
    }

    /// Returns the A-labels of the domain in a stream header, if the domain is served.
    fn choose_domain(
        &mut self,
        header: &Header,
        shared: &mut Shared,
    ) -> Result<String, StreamError> {
        let improper = |error: address::Error| StreamError::ImproperAddressing(error.text());
        let domain = address::domain(header.to.as_deref()).map_err(improper)?;
        let name = address::to_ascii(&domain).map_err(improper)?;
        let rule = self.config.domain(&domain);
        shared.observer.tell(&Step::Domain(&domain, rule));
        let unlisted = matches!(rule, DomainRule::Unlisted);
        let channel_binding = match rule {
            DomainRule::Listed(entry) => entry.access.channel_binding,
            DomainRule::Any | DomainRule::Unlisted => ChannelBinding::default(),
        };
        self.server.strip_channel_binding = channel_binding.strips_for(self.log.origin.as_deref());
        self.domain = Some(shared.names.share(&domain));
        match unlisted {
            true => Err(StreamError::HostUnknown),
            false => Ok(name),
        }
    }

    fn take_element(
        &mut self,
        text: &mut Cow<'_, str>,
        begun: &mut Option<UnitCheck>,
        shared: &mut Shared,
    ) -> Result<(), StreamError> {
        let (parsers, meter) = (&mut shared.parsers, &mut shared.meter);
        let Some(message) = client_message::read(parsers, text, begun, meter)? else {
            return Ok(());
        };
        match message {
            Message::Blank => {}
            Message::Close => {
                self.step(Event::Ended, "", shared);
            }
            Message::StartTls => {
                self.write_text(STARTTLS_FAILURE.as_bytes());
                self.step(Event::Ended, "client requested STARTTLS", shared);
            }
            Message::Compress => self.write_text(COMPRESS_FAILURE.as_bytes()),
            Message::Open(header) => {
                let mut stream = Vec::new();
                header.write_stream(&mut stream);
                self.pass_on(self.restart(&header), stream.into(), shared);
            }
            Message::Element(element) => {
                let element = match element.len() == text.len() {
                    true => std::mem::take(text),
                    false => element.into(),
                };
                self.relay_up(Event::Unit, element, shared);
            }
        }
        Ok(())
    }

    fn restart(&self, header: &Header) -> Event {
        let domain = address::domain(header.to.as_deref()).ok();
        Event::Restart {
            same_domain: domain.is_some() && domain.as_deref() == self.domain.as_deref(),
        }
    }

    /// Relays a message to the server, and counts it.
    fn relay_up(&mut self, event: Event, text: Cow<'_, str>, shared: &mut Shared) {
        let len = text.len();
        let bytes = match text {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        };
        if self.pass_on(event, bytes, shared) {
            self.note_activity(shared);
            self.log.up.count(len);
            shared.metrics.up.count(len);
        }
    }

    fn take_draft(&mut self, text: &str, shared: &mut Shared) -> Result<(), StreamError> {
        let alone = client_message::is_draft_end(text);
        if self.machine.awaits_restart() && !alone {
            self.take_restart(text, shared);
            return Ok(());
        }
        let rest = client_message::after_compress(&mut shared.parsers, text, &mut shared.meter)?;
        if rest.is_some() {
            self.write_text(COMPRESS_FAILURE.as_bytes());
        }
        let event = match client_message::ends_draft(text) {
            true => Event::EndTag { alone },
            false => Event::Unit,
        };
        let text = rest.unwrap_or(text);
        if !text.is_empty() {
            self.relay_up(event, text.into(), shared);
        }
        Ok(())
    }

    /// Handles the first message after authentication. It must be a complete stream header,
    /// because the rest of an incomplete one could name another domain.
    fn take_restart(&mut self, text: &str, shared: &mut Shared) {
        if text.bytes().all(is_space) {
            return;
        }
        shared.meter.draw(PARSER + text.len().min(2 * MAX_TAG));
        match client_message::first(&shared.parsers, text) {
            Ok(First::Draft { header, tag, rest }) => {
                let stream = stream_header(tag, rest);
                if self.pass_on(self.restart(&header), stream.into(), shared) {
                    self.server.draft_root = unusual_root(tag);
                }
            }
            _ => {
                self.step(Event::Unit, "", shared);
            }
        }
    }
}

/// Returns the client's stream header with the rest of the message.
fn stream_header(tag: &str, rest: &str) -> Vec<u8> {
    ["<?xml version='1.0'?>", tag, ">", rest]
        .concat()
        .into_bytes()
}

/// Returns the name of the root in this tag, if it is not `stream:stream`.
fn unusual_root(tag: &str) -> Option<Box<str>> {
    let name = tag[1..].split([' ', '\t', '\r', '\n']).next();
    name.filter(|name| *name != "stream:stream").map(Into::into)
}
