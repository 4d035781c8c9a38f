//! Handles the client's first message, which shows its dialect and names a domain.

use super::Session;
use super::draft::{stream_header, unusual_root};
use super::machine::Event;
use super::shared::Shared;
use super::step::Step;
use crate::config::DomainRule;
use crate::config::server_access::ChannelBinding;
use crate::meter::PARSER;
use crate::proto::xmpp::client_message::{self, First};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::{Dialect, address, framing};

impl Session {
    /// Handles the first message: its dialect and domain.
    pub(super) fn take_first(
        &mut self,
        text: &str,
        shared: &mut Shared,
    ) -> Result<(), StreamError> {
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
                self.plan_route(name, header, None);
            }
            First::Draft { header, tag, rest } => {
                self.step(Event::Dialect(Dialect::Draft), "", shared);
                let name = self.choose_domain(&header, shared)?;
                // White space is sent with the header; anything else is a message of its own.
                let (blank, more) = match rest.trim_ascii().is_empty() {
                    true => (rest, ""),
                    false => ("", rest),
                };
                self.draft_root = unusual_root(tag);
                self.plan_route(name, header, Some(stream_header(tag, blank)));
                follows = more;
            }
        }
        let event = match shared.crowded && self.config.see_other_uri.is_some() {
            true => Event::Elsewhere,
            false => Event::Opened,
        };
        self.step(event, "", shared);
        if !follows.is_empty() {
            self.pass_on(Event::Unit, follows.as_bytes(), shared);
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
        self.strip_channel_binding = channel_binding.strips_for(self.log.origin.as_deref());
        self.domain = Some(shared.names.share(&domain));
        match unlisted {
            true => Err(StreamError::HostUnknown),
            false => Ok(name),
        }
    }

    /// Sends a client without a stream to another endpoint (RFC 7395, section 3.6.1).
    pub(super) fn send_elsewhere(&mut self) {
        if let Some(uri) = self.config.see_other_uri.as_deref() {
            let mut close = Vec::new();
            framing::write_close_elsewhere(uri, &mut close);
            self.write_text(&close);
        }
    }
}
