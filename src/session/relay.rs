//! What goes to the client: units of the server's stream, stream errors, ends.
//!
//! Owns their form in both dialects: RFC 7395 (one stand-alone element a
//! message, section 3.3.3) and the draft (the server's own bytes).

use super::Session;
use super::phase::{Event, Phase};
use super::shared::Shared;
use crate::buf::Buf;
use crate::log::Escaped;
use crate::meter::PARSER;
use crate::proto::http::extensions::Deflate;
use crate::proto::ws::deflate::Codec;
use crate::proto::ws::{Opcode, frame};
use crate::proto::xmpp::error::{self, StreamError};
use crate::proto::xmpp::features::MAX_FEATURES;
use crate::proto::xmpp::framing::{self, Element};
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::server_stream::{Flow, Unit};
use crate::proto::xmpp::{Dialect, features, ns, starttls};

/// Messages below this are not compressed: they would shrink by half at the most,
/// and fit into one packet as they are.
const MIN_COMPRESSED: usize = 1024;

/// What a run over the server's bytes met.
#[derive(Default)]
struct Met {
    header: bool,
    /// The server sends its clients elsewhere, which no client is told: where to
    /// would be another WebSocket to it.
    see_other: Option<String>,
    element: bool,
    end: bool,
    bad_features: bool,
    /// Units of work for elements that were parsed again.
    parsed: usize,
}

impl Session {
    /// Takes bytes of the server: frames each complete unit for the client
    /// until the client's queue is full; the rest waits in the stream reader.
    pub(super) fn relay_down(&mut self, bytes: &[u8], shared: &mut Shared) {
        // A server may send its clients elsewhere as long as nothing but the
        // headers was exchanged. The next server's header is not news then.
        let may_redirect = self.may_redirect();
        let answered = self.opened && self.phase == Phase::Greeting;
        let framed = self.dialect != Some(Dialect::Draft);
        let domain = self.domain.as_deref().unwrap_or_default();
        let limit = self.config.max_stanza_bytes;
        let high_water = self.config.max_queue_bytes;
        let mut met = Met::default();
        let (text, out, down) = (
            &mut shared.text,
            &mut self.client.out,
            &mut self.report.down,
        );
        let all_down = &mut shared.metrics.down;
        let mut packing = Packing {
            deflate: self.deflate,
            codec: &mut shared.codec,
        };
        let (awaits_restart, server_error) = (&mut self.awaits_restart, &mut self.server_error);
        let strip_channel_binding = self.strip_channel_binding;

        let (pool, meter) = (&mut shared.parsers.stream, &mut shared.meter);
        let result = self.stream.feed(pool, bytes, limit, meter, |unit| {
            let sent = match unit {
                Unit::Header { bytes, header } => {
                    text.clear();
                    match framed {
                        true => answer(header, domain).write_open(text),
                        false => text.extend_from_slice(bytes),
                    }
                    met.header = true;
                    if answered {
                        return Flow::Continue;
                    }
                    packing.write_message(out, &[text])
                }
                Unit::Element(element) => {
                    if element.is(ns::STREAMS, "error") {
                        let mut name = String::new();
                        if element.bytes.len() <= MAX_FEATURES {
                            met.parsed += 2 * (PARSER + element.bytes.len());
                            met.see_other = starttls::see_other_host(&element);
                            name = starttls::condition(&element);
                        }
                        *server_error = Some(error::condition(&name));
                        if met.see_other.is_some() {
                            return Flow::Pause;
                        }
                    }
                    met.element = true;
                    *awaits_restart |= element.is(ns::SASL, "success");
                    if element.is(ns::STREAMS, "features") {
                        met.parsed += PARSER + element.bytes.len();
                        match write_features(&element, (framed, strip_channel_binding), text) {
                            Some(()) => packing.write_message(out, &[text]),
                            None => {
                                met.bad_features = true;
                                return Flow::Pause;
                            }
                        }
                    } else {
                        text.clear();
                        if framed {
                            element.inherited(text);
                        }
                        let (head, tail) = element.bytes.split_at(element.name_end());
                        packing.write_message(out, &[head, text, tail])
                    }
                }
                // The phase table answers in the client's own dialect.
                Unit::End { .. } => {
                    met.end = true;
                    return Flow::Pause;
                }
            };
            down.count(sent);
            all_down.count(sent);
            // The work of a parser is drawn before the next unit.
            match out.len() >= high_water || met.parsed > 0 {
                true => Flow::Pause,
                false => Flow::Continue,
            }
        });
        self.stream_paused = result == Ok(Flow::Pause);
        shared.meter.draw(met.parsed);

        if met.header {
            self.opened = true;
            self.step(Event::Greeted, "", shared);
            if !may_redirect {
                self.route = None;
            }
        }
        if met.element {
            self.route = None;
            self.step(Event::ServerUnit, "", shared);
        }
        if let Some(to) = met.see_other {
            match may_redirect && self.route.is_some() {
                true => self.redirect(&to, shared),
                // Too late to be followed unseen: the client comes again.
                false => {
                    self.step(Event::ServerGone, "see-other-host", shared);
                }
            }
            return;
        }
        if met.end {
            self.step(Event::ServerEnded, self.server_error_name(), shared);
        }
        let broken = match result {
            Err(error) => Some(error.to_string()),
            Ok(_) => met
                .bad_features
                .then(|| "stream features not well-formed, or over 64 KiB".to_owned()),
        };
        if let Some(why) = broken {
            // Before that, the line about the unreachable server has it.
            if self.phase == Phase::Relaying {
                shared.log.warning(format_args!(
                    "session {}: the server of {} broke its stream: {why}",
                    self.report.name(),
                    Escaped(self.domain.as_deref().unwrap_or_default()),
                ));
            }
            self.step(Event::ServerViolation, &why, shared);
        }
    }

    /// The condition of the server's stream error; empty if there was none.
    pub(super) fn server_error_name(&self) -> &'static str {
        self.server_error.copied().unwrap_or_default()
    }

    /// Tells the client a stream error, the end of its stream, or both (RFC
    /// 7395, sections 3.5 and 3.6).
    pub(super) fn tell_client(
        &mut self,
        error: Option<StreamError>,
        end: bool,
        shared: &mut Shared,
    ) {
        let opening = error.is_some() && !self.opened;
        let header = opening.then(|| self.own_header(error));
        self.opened |= opening;
        let text = &mut shared.text;
        let out = &mut self.client.out;
        text.clear();
        match self.dialect {
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
                if end {
                    write_message(out, &[framing::CLOSE.as_bytes()]);
                }
            }
            // An error while opening is one message in the draft.
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
                if end {
                    write_message(out, &[text, framing::STREAM_END.as_bytes()]);
                }
            }
        }
    }

    /// Queues a text message for the client.
    pub(super) fn write_text(&mut self, parts: &[&[u8]]) {
        write_message(&mut self.client.out, parts);
    }

    /// The stream header of an answer that no server gave. Its `from` is empty
    /// where the domain is none of ours (RFC 6120, section 4.9.1.3).
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

/// The `<open/>` that the client gets for the server's stream header.
fn answer(header: Header, domain: &str) -> Header {
    Header {
        from: header.from.or_else(|| Some(domain.to_owned())),
        to: header.to,
        id: header
            .id
            .filter(|id| !id.is_empty())
            .or_else(|| Some(fresh_id())),
        version: header.version,
        lang: header.lang.or_else(|| Some("en".to_owned())),
        others: Vec::new(),
    }
}

/// An identifier that nobody can guess (RFC 6120, section 4.7.3).
fn fresh_id() -> String {
    let mut bytes = [0; 16];
    // Without randomness the id is still there, though not a secret.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Queues one text message made of `parts`; its length in bytes.
fn write_message(out: &mut Buf, parts: &[&[u8]]) -> usize {
    let len = parts.iter().map(|part| part.len()).sum();
    frame::write_header(out, Opcode::Text, len);
    for part in parts {
        out.extend(part);
    }
    len
}

/// How messages go to a client.
struct Packing<'a> {
    deflate: Option<Deflate>,
    codec: &'a mut Codec,
}

impl Packing<'_> {
    /// Queues one text message made of `parts`, compressed where that was agreed
    /// on and pays; its length in bytes before that.
    fn write_message(&mut self, out: &mut Buf, parts: &[&[u8]]) -> usize {
        let Some(deflate) = self.deflate else {
            return write_message(out, parts);
        };
        let len = parts.iter().map(|part| part.len()).sum();
        let worth = len >= MIN_COMPRESSED;
        let codec = worth.then_some(&mut *self.codec);
        match codec.and_then(|codec| codec.compress(parts, deflate.window_bits)) {
            Some(payload) => {
                frame::write_compressed(out, Opcode::Text, payload);
                len
            }
            None => write_message(out, parts),
        }
    }
}

/// Puts stream features together without those that have no place on a
/// WebSocket; `None` if they are not well-formed, or too long for that.
fn write_features(
    element: &Element<'_>,
    (framed, strip_channel_binding): (bool, bool),
    text: &mut Vec<u8>,
) -> Option<()> {
    if element.bytes.len() > MAX_FEATURES {
        return None;
    }
    let (head, tail) = element.bytes.split_at(element.name_end());
    text.clear();
    text.extend_from_slice(head);
    element.inherited(text);
    let inherited = head.len()..text.len();
    text.extend_from_slice(tail);
    for range in features::removed(text, strip_channel_binding)
        .ok()?
        .into_iter()
        .rev()
    {
        text.drain(range);
    }
    if !framed {
        text.drain(inherited);
    }
    Some(())
}
