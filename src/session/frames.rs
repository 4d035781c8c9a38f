//! From the client's frames to its messages.
//!
//! Owns what becomes of each frame: a message goes to `client`, inflated if it
//! was compressed, a Ping is answered, a Close taken to the phase table. A client
//! that breaks a rule of RFC 6455 is failed here. What a turn may inflate is
//! bounded: a few compressed bytes can be a lot of work.

use super::Session;
use super::phase::{Event, Phase};
use super::worker::Worker;
use crate::meter;
use crate::proto::ws::{self, CloseCode, frame};
use crate::proto::xmpp::error::StreamError;

impl Session {
    /// Works off frames; keeps what is left when a queue is full.
    pub(super) fn take_frames(&mut self, mut bytes: &mut [u8], worker: &mut Worker) {
        let mut reader = self
            .reader
            .take()
            .map_or_else(ws::Reader::new, |reader| *reader);
        while !bytes.is_empty() && self.phase < Phase::Lingering {
            if self.phase.is_open() && (self.is_paused() || worker.meter.is_spent()) {
                self.client.tail.extend(bytes);
                break;
            }
            let used = match reader.next(bytes, &self.frame_limits()) {
                Ok((used, event)) => {
                    if let Some(event) = event {
                        self.take_frame(event, worker);
                    }
                    used
                }
                Err(error) => {
                    self.fail(error, worker);
                    break;
                }
            };
            bytes = &mut bytes[used..];
        }
        reader.release();
        if self.phase < Phase::Lingering && !reader.is_idle() {
            self.reader = Some(Box::new(reader));
        }
    }

    fn frame_limits(&self) -> ws::Limits {
        ws::Limits {
            max_frame_size: self.config.max_frame_bytes as u64,
            max_message_size: self.max_message_size(),
            max_fragments: self.config.max_fragments,
            binary: false,
            deflate: self.deflate.is_some(),
        }
    }

    /// The most bytes that the next message may have: before a server has been
    /// named a client needs few.
    fn max_message_size(&self) -> u64 {
        let config = &self.config;
        let most = match self.phase {
            Phase::AwaitOpen => config.max_message_bytes.min(config.max_first_message_bytes),
            _ => config.max_message_bytes,
        };
        most as u64
    }

    fn take_frame(&mut self, event: ws::Event<'_>, worker: &mut Worker) {
        // Once our Close is sent only the client's is of interest.
        let open = self.phase.is_open();
        match event {
            ws::Event::Text(text) if open => self.take_message(text, worker),
            ws::Event::Compressed { payload, .. } if open => self.take_compressed(payload, worker),
            ws::Event::Ping(payload) if open => frame::write_pong(&mut self.client.out, payload),
            ws::Event::Close { code, reason } => {
                let detail = code.map_or(String::new(), |code| code.0.to_string());
                let actions = self.step(Event::CloseFrame, &detail, worker);
                if actions.echo_close {
                    frame::write_close(&mut self.client.out, code, reason);
                }
            }
            _ => {}
        }
    }

    fn take_compressed(&mut self, payload: &[u8], worker: &mut Worker) {
        let message = match worker.codec.inflate(payload, self.max_message_size()) {
            Ok(message) => message,
            Err(error) => return self.fail(error, worker),
        };
        worker.meter.draw(message.len() / meter::INFLATED_BYTES);
        match std::str::from_utf8(&message) {
            Ok(text) => self.take_message(text, worker),
            Err(_) => self.fail(ws::Error::TextNotUtf8, worker),
        }
        worker.codec.recycle(message);
    }

    /// Fails the connection as RFC 6455, section 7.1.7 says. A message too big
    /// is also told in XMPP's words, or the client would only try it again.
    fn fail(&mut self, error: ws::Error, worker: &mut Worker) {
        let code = error.close_code();
        if code == CloseCode::TOO_BIG && self.phase.is_open() {
            let event = Event::Violation(StreamError::TooBig, code);
            self.step(event, &error.to_string(), worker);
        }
        self.step(Event::FrameViolation(code), &error.to_string(), worker);
    }
}
