//! Reads what the client sends, and judges its messages. `request` handles the opening
//! handshake, `frames` the frames.
//!
//! Owns the path from the client's socket to the server's queue. In RFC 7395
//! nothing passes that was not judged to be one complete element; the draft's
//! messages behind the stream header pass as they are.

use super::phase::{Event, Phase};
use super::shared::Shared;
use super::side::Read;
use super::{READS_PER_TURN, Session};
use crate::config::DomainRule;
use crate::config::server_access::ChannelBinding;
use crate::expat::{Judgement, MAX_TAG};
use crate::meter::PARSER;
use crate::proto::ws::CloseCode;
use crate::proto::xmpp::address;
use crate::proto::xmpp::client_message::{self, First, Message};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::features::{COMPRESS_FAILURE, STARTTLS_FAILURE};
use crate::proto::xmpp::framing;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::{Dialect, escape, is_space};

impl Session {
    /// Reads from the client while there is something and the queues have room;
    /// true when the turn's budget ended it.
    pub(super) fn take_client(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> bool {
        let mut reads = 0;
        while self.phase != Phase::Gone {
            if self.phase == Phase::Accepting {
                if self.take_tls(shared, scratch) {
                    continue;
                }
                return self.awaits_turn();
            }
            if self.phase.is_open() && self.is_paused() {
                return false;
            }
            if shared.meter.is_spent() {
                return true;
            }
            if self.is_judging() {
                self.judge_on(shared);
                continue;
            }
            if !self.client.tail.is_empty() && self.phase != Phase::Opening {
                let mut tail = self.client.tail.take();
                self.take_frames(&mut tail, shared);
                continue;
            }
            if !self.client.is_readable() {
                return false;
            }
            if reads == READS_PER_TURN {
                return true;
            }
            match self.client.read(scratch, &mut shared.meter) {
                Read::Bytes(n) => {
                    reads += 1;
                    self.heard = true;
                    shared.taken.0 += n;
                    self.take_client_bytes(&mut scratch[..n], shared);
                }
                Read::Later => {}
                Read::Nothing => return false,
                // What is queued for a client that only ended its direction is
                // flushed before it counts as gone.
                Read::End if !self.phase.is_open() => return false,
                Read::End | Read::Broken => {
                    self.step(Event::ClientGone, "", shared);
                }
            }
        }
        false
    }

    fn take_client_bytes(&mut self, bytes: &mut [u8], shared: &mut Shared) {
        match self.phase {
            Phase::Opening => self.take_request(bytes, shared),
            Phase::Lingering | Phase::Gone => {
                if !self.client.drop_bytes(bytes.len()) {
                    self.step(Event::ClientGone, "", shared);
                }
            }
            _ => self.take_frames(bytes, shared),
        }
    }

    /// Takes a message, part of which may have been judged already. Returns what remains
    /// to be judged in another turn.
    pub(super) fn take_message(
        &mut self,
        text: &str,
        mut begun: Option<Judgement>,
        shared: &mut Shared,
    ) -> Option<Judgement> {
        let verdict = match (self.phase, self.dialect) {
            (Phase::AwaitOpen, _) => self.take_first(text, shared),
            (_, Some(Dialect::Draft)) => self.take_draft(text, shared),
            _ => self.take_element(text, &mut begun, shared),
        };
        if let Err(error) = verdict {
            let code = match error {
                StreamError::TooBig => CloseCode::TOO_BIG,
                _ => CloseCode::NORMAL,
            };
            self.step(Event::Violation(error, code), "", shared);
            return None;
        }
        begun
    }

    /// The first message: which dialect, which domain.
    fn take_first(&mut self, text: &str, shared: &mut Shared) -> Result<(), StreamError> {
        shared.meter.draw(PARSER + text.len());
        let first = client_message::first(&shared.parsers, text).map_err(|(dialect, error)| {
            self.dialect = Some(dialect);
            error
        })?;
        match first {
            First::Close => {
                self.dialect = Some(Dialect::Framed);
                self.step(Event::Ended, "", shared);
                return Ok(());
            }
            First::Framed(header) => {
                self.dialect = Some(Dialect::Framed);
                let name = self.choose_domain(&header, shared)?;
                if !header.has_usable_version() {
                    return Err(StreamError::UnsupportedVersion);
                }
                if shared.crowded && self.send_elsewhere() {
                    self.step(Event::Elsewhere, "", shared);
                    return Ok(());
                }
                self.plan_route(name, header, None);
            }
            First::Draft { header, tag, rest } => {
                self.dialect = Some(Dialect::Draft);
                let name = self.choose_domain(&header, shared)?;
                // Anything but white space must follow a header.
                let (blank, more) = match rest.trim_ascii().is_empty() {
                    true => (rest, ""),
                    false => ("", rest),
                };
                let mut bytes = Vec::new();
                self.write_draft_header(&mut bytes, tag, blank);
                self.plan_route(name, header, Some(bytes));
                if let Some(route) = &mut self.route {
                    route.queue.extend(more.as_bytes());
                }
            }
        }
        self.step(Event::Opened, "", shared);
        Ok(())
    }

    /// Takes the `to` of a stream header, if the domain is served: its A-labels.
    fn choose_domain(
        &mut self,
        header: &Header,
        shared: &mut Shared,
    ) -> Result<String, StreamError> {
        let improper = |error: address::Error| StreamError::ImproperAddressing(error.text());
        let domain = address::domain(header.to.as_deref()).map_err(improper)?;
        let name = address::to_ascii(&domain).map_err(improper)?;
        let rule = self.config.domain(&domain);
        let unlisted = matches!(rule, DomainRule::Unlisted);
        let channel_binding = match rule {
            DomainRule::Listed(entry) => entry.access.channel_binding,
            DomainRule::Any | DomainRule::Unlisted => ChannelBinding::default(),
        };
        self.strip_channel_binding = channel_binding.strips_for(self.report.origin.as_deref());
        self.domain = Some(shared.names.share(&domain));
        match unlisted {
            true => Err(StreamError::HostUnknown),
            false => Ok(name),
        }
    }

    /// Tells a client that has no stream yet to come elsewhere (RFC 7395, section
    /// 3.6.1); false if nowhere is configured.
    pub(super) fn send_elsewhere(&mut self) -> bool {
        let Some(uri) = self.config.see_other_uri.as_deref() else {
            return false;
        };
        let mut close = Vec::new();
        framing::write_close_elsewhere(uri, &mut close);
        self.write_text(&[&close]);
        true
    }

    fn send_header(&mut self, header: &Header, shared: &mut Shared) {
        shared.text.clear();
        header.write_stream(&mut shared.text);
        self.server.out.extend(&shared.text);
    }

    fn write_draft_header(&mut self, out: &mut Vec<u8>, tag: &str, rest: &str) {
        let name = tag[1..].split([' ', '\t', '\r', '\n']).next();
        self.draft_root = name
            .filter(|name| *name != "stream:stream")
            .map(|name| name.into());
        for part in ["<?xml version='1.0'?>", tag, ">", rest] {
            out.extend_from_slice(part.as_bytes());
        }
    }

    /// A message of RFC 7395 behind the first.
    fn take_element(
        &mut self,
        text: &str,
        begun: &mut Option<Judgement>,
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
                self.write_text(&[STARTTLS_FAILURE.as_bytes()]);
                self.step(Event::Ended, "STARTTLS asked for", shared);
            }
            Message::Compress => self.write_text(&[COMPRESS_FAILURE.as_bytes()]),
            Message::Open(header) => {
                if !self.awaits_restart {
                    return Err(StreamError::BadFormat("the stream is open already"));
                }
                self.check_restart(&header)?;
                self.awaits_restart = false;
                self.send_header(&header, shared);
            }
            Message::Element(_) if self.awaits_restart => {
                let rule = "a new <open/> must follow the authentication";
                return Err(StreamError::NotAuthorized(rule));
            }
            Message::Element(element) => self.relay_up(element, shared),
        }
        Ok(())
    }

    /// A message of the draft behind the first.
    fn take_draft(&mut self, text: &str, shared: &mut Shared) -> Result<(), StreamError> {
        if self.awaits_restart && !client_message::is_draft_end(text) {
            return self.take_draft_restart(text, shared);
        }
        match client_message::after_compress(&mut shared.parsers, text, &mut shared.meter)? {
            None => self.relay_up(text, shared),
            Some(rest) => {
                self.write_text(&[COMPRESS_FAILURE.as_bytes()]);
                if !rest.is_empty() {
                    self.relay_up(rest, shared);
                }
            }
        }
        if client_message::ends_draft(text) {
            self.end_sent = true;
            self.step(Event::Ended, "", shared);
        }
        Ok(())
    }

    /// A message of the draft after the authentication: it must be a complete header,
    /// because a part of one could name another domain.
    fn take_draft_restart(&mut self, text: &str, shared: &mut Shared) -> Result<(), StreamError> {
        if text.bytes().all(is_space) {
            return Ok(());
        }
        shared.meter.draw(PARSER + text.len().min(2 * MAX_TAG));
        let Ok(First::Draft { header, tag, rest }) = client_message::first(&shared.parsers, text)
        else {
            let rule = "a new stream header must follow the authentication";
            return Err(StreamError::NotAuthorized(rule));
        };
        self.check_restart(&header)?;
        self.awaits_restart = false;
        shared.text.clear();
        self.write_draft_header(&mut shared.text, tag, rest);
        self.server.out.extend(&shared.text);
        Ok(())
    }

    /// The connection was made for one domain; a restart cannot change it.
    fn check_restart(&self, header: &Header) -> Result<(), StreamError> {
        match address::domain(header.to.as_deref()) {
            Ok(domain) if Some(&*domain) == self.domain.as_deref() => Ok(()),
            _ => Err(StreamError::NotAuthorized(
                "a restart must name the same domain",
            )),
        }
    }

    fn relay_up(&mut self, text: &str, shared: &mut Shared) {
        if self.step(Event::Unit, "", shared).relay {
            self.report.up.count(text.len());
            shared.metrics.up.count(text.len());
            if self.phase == Phase::Relaying {
                // No other server can take over any more.
                self.route = None;
            } else if let Some(route) = &mut self.route {
                route.queue.extend(text.as_bytes());
            }
            if self.phase >= Phase::Greeting {
                self.server.out.extend(text.as_bytes());
            }
        }
    }

    /// Queues the end tag of our stream to the server.
    pub(super) fn write_stream_end(&mut self) {
        let root = self.draft_root.as_deref().unwrap_or("stream:stream");
        let mut tag = b"</".to_vec();
        escape(&mut tag, root.as_bytes());
        tag.push(b'>');
        self.server.out.extend(&tag);
    }
}
