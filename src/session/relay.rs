//! Relays the server's stream to the client, and sends the client our own errors and stream
//! ends.
//!
//! Reports the server's stream to the machine as events. Writes our own messages in both
//! dialects.

use super::Session;
use super::machine::{Actions, Event};
use super::message_writer::{MessageWriter, fresh_id, write_message};
use super::shared::Shared;
use super::step::{Observer, Step};
use crate::log::Escaped;
use crate::meter::PARSER;
use crate::metrics::Traffic;
use crate::proto::xmpp::error::{self, StreamError};
use crate::proto::xmpp::features::{Changes, MAX_FEATURES};
use crate::proto::xmpp::framing::{self, Element};
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::server_stream::{self, Flow, Unit};
use crate::proto::xmpp::{Dialect, ns};

/// Compressed bytes per unit of the meter.
const COMPRESSED_BYTES: usize = 2;

/// Relays units of the server's stream to the client, and notes their kinds.
struct UnitRelay<'a> {
    writer: MessageWriter<'a>,
    domain: &'a str,
    /// Whether the stream header is passed to the client.
    passes_header: bool,
    /// Length of the client's queue at which relaying pauses.
    high_water: usize,
    traffic: [&'a mut Traffic; 2],
    observer: &'a Observer,
    found: Found,
}

/// What was found in some bytes from the server.
#[derive(Default)]
struct Found {
    header: bool,
    element: bool,
    authenticated: bool,
    error: Option<&'static &'static str>,
    /// The target of a redirect. The client must not see it, because it would take it for a
    /// WebSocket endpoint.
    see_other: Option<String>,
    end: bool,
    bad_features: bool,
    /// Units of the meter for elements that were parsed again.
    parsed: usize,
}

impl UnitRelay<'_> {
    fn take(&mut self, unit: Unit<'_>) -> Flow {
        let sent = match unit {
            Unit::Header { bytes, header } => {
                self.found.header = true;
                self.observer.tell(&Step::Header(&header));
                if !self.passes_header {
                    return Flow::Continue;
                }
                Some(self.writer.header(bytes, header, self.domain))
            }
            Unit::Element(element) => self.take_element(&element),
            // The machine ends the stream in the client's dialect.
            Unit::End { .. } => {
                self.found.end = true;
                None
            }
        };
        let Some(sent) = sent else {
            return Flow::Pause;
        };
        for traffic in &mut self.traffic {
            traffic.count(sent);
        }
        // Pause after the work of a parser, so that it is drawn before the next unit.
        match self.writer.out.len() >= self.high_water || self.found.parsed > 0 {
            true => Flow::Pause,
            false => Flow::Continue,
        }
    }

    /// Relays an element. Returns `None` if the session cannot continue after it.
    fn take_element(&mut self, element: &Element<'_>) -> Option<usize> {
        let found = &mut self.found;
        if element.is(ns::STREAMS, "error") {
            let mut name = String::new();
            if element.bytes.len() <= MAX_FEATURES {
                found.parsed += PARSER + element.bytes.len();
                (name, found.see_other) = error::read(element);
            }
            if found.see_other.is_some() {
                return None;
            }
            found.error = Some(error::condition(&name));
        }
        found.element = true;
        found.authenticated |= element.is(ns::SASL, "success");
        if element.is(ns::STREAMS, "features") {
            found.parsed += PARSER + element.bytes.len();
            let sent = self.writer.features(element);
            found.bad_features = sent.is_none();
            if sent.is_some() && self.observer.is_some() {
                self.observer.tell(&Step::Features {
                    received: &element.whole(),
                    relayed: self.writer.text,
                });
            }
            return sent;
        }
        Some(self.writer.element(element))
    }
}

impl Session {
    /// Relays each complete unit in `bytes` to the client, until the client's queue is full.
    /// The rest waits in the stream reader.
    pub(super) fn relay_down(&mut self, bytes: &[u8], shared: &mut Shared) {
        let changes = self.feature_changes();
        let mut relay = UnitRelay {
            writer: MessageWriter {
                out: &mut self.client.out,
                codec: &mut shared.codec,
                text: &mut shared.text,
                deflate: self.deflate,
                framed: self.machine.dialect() != Some(Dialect::Draft),
                changes,
                compressed: 0,
            },
            domain: self.domain.as_deref().unwrap_or_default(),
            passes_header: self.machine.passes_header(),
            high_water: self.config.max_queue_bytes,
            traffic: [&mut self.log.down, &mut shared.metrics.down],
            observer: &shared.observer,
            found: Found::default(),
        };
        let (pool, meter) = (&mut shared.parsers.stream, &mut shared.meter);
        let limit = self.config.max_stanza_bytes;
        let each = |unit: Unit<'_>| relay.take(unit);
        let result = self.stream.feed(pool, bytes, limit, meter, each);
        let compressing = relay.writer.compressed / COMPRESSED_BYTES;
        let found = relay.found;
        self.stream_paused = result == Ok(Flow::Pause);
        shared.meter.draw(found.parsed + compressing);
        self.tell_machine(found, result.err(), shared);
    }

    fn tell_machine(
        &mut self,
        found: Found,
        error: Option<server_stream::Error>,
        shared: &mut Shared,
    ) {
        self.server_error = found.error.or(self.server_error);
        for (event, is_found) in [
            (Event::Greeted, found.header),
            (Event::ServerUnit, found.element),
            (Event::Authenticated, found.authenticated),
            (Event::ServerErred, found.error.is_some()),
        ] {
            if is_found {
                self.step(event, "", shared);
            }
        }
        if let Some(to) = found.see_other {
            return self.take_see_other(&to, shared);
        }
        if found.end {
            self.step(Event::ServerEnded, self.server_error_name(), shared);
        }
        let broken = match error {
            Some(error) => error.to_string(),
            None if found.bad_features => {
                "stream features not well-formed, or over 64 KiB".to_owned()
            }
            None => return,
        };
        // Before that phase, the line about the unreachable server has the reason.
        if self.machine.phase().is_relaying() {
            shared.log.warning(format_args!(
                "session {}: the server of {} sent an invalid stream: {broken}",
                self.log.name(),
                Escaped(self.domain.as_deref().unwrap_or_default()),
            ));
        }
        self.step(Event::ServerViolation, &broken, shared);
    }

    /// Returns the changes to the server's stream features.
    fn feature_changes(&self) -> Changes {
        let config = &self.config;
        // Browsers do not fragment messages, so the limit on frames applies too.
        let max_bytes = config.max_message_bytes.min(config.max_frame_bytes);
        Changes {
            strip_channel_binding: self.strip_channel_binding,
            max_bytes: (max_bytes != usize::MAX).then_some(max_bytes as u64),
            idle_seconds: config.ping_interval.map(|time| time.as_secs().max(1)),
            announce_limits: config.announce_limits,
        }
    }

    /// Sends the client a stream error, the end of its stream, or both (RFC 7395, sections 3.5
    /// and 3.6).
    pub(super) fn tell_client(&mut self, actions: &Actions, shared: &mut Shared) {
        let &Actions {
            error, end_stream, ..
        } = actions;
        let header = actions.open.then(|| self.own_header(error));
        let text = &mut shared.text;
        let out = &mut self.client.out;
        text.clear();
        match self.machine.dialect() {
            None | Some(Dialect::Framed) => {
                if let Some(header) = header {
                    header.write_open(text);
                    write_message(out, &[text]);
                }
                if let Some(error) = error {
                    text.clear();
                    error.write(text);
                    write_message(out, &[text]);
                }
                if end_stream {
                    write_message(out, &[framing::CLOSE.as_bytes()]);
                }
            }
            // In the draft, an error with our own header is one message.
            Some(Dialect::Draft) => {
                if let Some(header) = &header {
                    header.write_server_stream(text);
                }
                if let Some(error) = error {
                    error.write(text);
                }
                if header.is_none() && !text.is_empty() {
                    write_message(out, &[text]);
                    text.clear();
                }
                if end_stream {
                    write_message(out, &[text, framing::STREAM_END.as_bytes()]);
                }
            }
        }
    }

    /// Queues a text message for the client.
    pub(super) fn write_text(&mut self, text: &[u8]) {
        write_message(&mut self.client.out, &[text]);
    }

    /// Returns our own stream header, for an answer that no server gave. Its `from` is empty if
    /// we do not serve the domain (RFC 6120, section 4.9.1.3).
    fn own_header(&self, error: Option<StreamError>) -> Header {
        let ours = !matches!(
            error,
            Some(StreamError::HostUnknown | StreamError::ImproperAddressing(_))
        );
        let domain = self.domain.as_deref().filter(|_| ours);
        Header {
            from: Some(domain.unwrap_or_default().to_owned()),
            id: Some(fresh_id()),
            version: Some("1.0".to_owned()),
            lang: Some("en".to_owned()),
            ..Header::default()
        }
    }
}
