//! Relays the server's stream to the client, and reports it to the machine as events: its
//! elements, its end, the loss of its connection, or a broken rule.

use crate::log::Escaped;
use crate::meter::PARSER;
use crate::metrics::Traffic;
use crate::proto::xmpp::error::{self, Condition, StreamError};
use crate::proto::xmpp::features::{Changes, MAX_FEATURES, StreamLimits};
use crate::proto::xmpp::framing::Element;
use crate::proto::xmpp::server_stream::{self, Flow, Unit};
use crate::proto::xmpp::{Dialect, ns};
use crate::session::Session;
use crate::session::client::message_writer::MessageWriter;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;
use crate::session::step::{Observer, Step};

/// Compressed bytes per unit of the meter.
const COMPRESSED_BYTES: usize = 2;

/// Relays units of the server's stream to the client, and notes their kinds.
struct UnitRelay<'a> {
    writer: MessageWriter<'a>,
    domain: &'a str,
    /// Whether the next stream header is passed to the client; all later ones are.
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
    error: Option<Condition>,
    /// The target of a redirect. The client must not see it, because it would take it for a
    /// WebSocket endpoint.
    see_other: Option<String>,
    end: bool,
    bad_features: bool,
    /// The limits in the last stream features.
    limits: Option<StreamLimits>,
    /// Units of the meter for stream errors that were parsed again.
    parsed: usize,
}

impl UnitRelay<'_> {
    fn take(&mut self, unit: Unit<'_>) -> Flow {
        let sent = match unit {
            Unit::Header { bytes, header } => {
                let is_first = !std::mem::replace(&mut self.found.header, true);
                self.observer.tell(&Step::Header(&header));
                if is_first && !self.passes_header {
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
        let parsed = self.found.parsed + self.writer.parsed;
        match self.writer.out.len() >= self.high_water || parsed > 0 {
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
            found.error = Some(Condition::named(&name));
        }
        found.element = true;
        found.authenticated |= element.is(ns::SASL, "success");
        if element.is(ns::STREAMS, "features") {
            let Some((sent, limits)) = self.writer.features(element) else {
                found.bad_features = true;
                return None;
            };
            found.limits = Some(limits);
            if self.observer.is_some() {
                self.observer.tell(&Step::Features {
                    received: &element.whole(),
                    relayed: self.writer.text,
                });
            }
            return Some(sent);
        }
        Some(self.writer.element(element))
    }
}

impl Session {
    /// Relays each complete unit in `bytes` to the client, until the client's queue is full.
    /// The rest waits in the stream reader.
    pub(super) fn relay_down(&mut self, bytes: &[u8], shared: &mut Shared) {
        self.note_activity(shared);
        let changes = self.feature_changes();
        let mut relay = UnitRelay {
            writer: MessageWriter {
                out: &mut self.client.out,
                codec: &mut shared.codec,
                text: &mut shared.text,
                deflate: self.deflate,
                framed: self.machine.dialect() != Some(Dialect::Draft),
                changes,
                known: &mut shared.known_features,
                compressed: 0,
                // Messages are a little longer than what is in the stream.
                room: bytes.len() + bytes.len() / 8,
                parsed: 0,
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
        let result = self.server.stream.feed(pool, bytes, limit, meter, each);
        let work = relay.writer.parsed + relay.writer.compressed / COMPRESSED_BYTES;
        let found = relay.found;
        self.server.stream_paused = result == Ok(Flow::Pause);
        shared.meter.draw(found.parsed + work);
        if let Some(limits) = found.limits {
            self.tally.note_limits(limits, &mut shared.metrics);
        }
        self.tell_machine(found, result.err(), shared);
    }

    fn tell_machine(
        &mut self,
        found: Found,
        error: Option<server_stream::Error>,
        shared: &mut Shared,
    ) {
        for (event, is_found) in [
            (Event::Greeted, found.header),
            (Event::ServerUnit, found.element),
            (Event::Authenticated, found.authenticated),
        ] {
            if is_found {
                self.step(event, "", shared);
            }
        }
        if let Some(condition) = found.error {
            self.step(Event::ServerErred, condition.name(), shared);
        }
        if let Some(to) = found.see_other {
            let (event, detail) = match &mut self.server.route {
                Some(route) => route.take_see_other(&to, shared),
                // It is too late to follow the redirect.
                None => {
                    shared.observer.tell(&Step::Redirected(&to));
                    (
                        Event::SeeOther { usable: false },
                        "see-other-host".to_owned(),
                    )
                }
            };
            self.step(event, &detail, shared);
            return;
        }
        if found.end {
            self.step(Event::ServerEnded, "", shared);
        }
        if let Some(error) = error {
            self.take_violation(&error.to_string(), error.into(), shared);
        } else if found.bad_features {
            let why = "stream features not well-formed, or over 64 KiB";
            self.take_violation(why, StreamError::BadFormat(why), shared);
        }
    }

    /// Handles a server that broke the rule `why`, and gets `error` for it.
    fn take_violation(&mut self, why: &str, error: StreamError, shared: &mut Shared) {
        // Before that phase, the line about the unreachable server has the reason.
        if self.machine.phase() == Phase::Relaying {
            let domain = Escaped(self.domain.as_deref().unwrap_or_default());
            let what = format_args!("the server of {domain} sent an invalid stream: {why}");
            shared.report_violation(self.log.name, what);
        }
        self.step(Event::ServerViolation(error), why, shared);
    }

    /// Returns the changes to the server's stream features.
    fn feature_changes(&self) -> Changes {
        let config = &self.config;
        // Browsers do not fragment messages, so the limit on frames applies too.
        let max_bytes = config.max_message_bytes.min(config.max_frame_bytes);
        Changes {
            strip_channel_binding: self.server.strip_channel_binding,
            max_bytes: (max_bytes != usize::MAX).then_some(max_bytes as u64),
            idle_seconds: config.ping_interval.map(|time| time.as_secs().max(1)),
            announce_limits: config.announce_limits,
        }
    }
}
