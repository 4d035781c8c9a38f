//! Handles the client's frames.
//!
//! Passes messages to `messages`, inflated if they were compressed. Answers control frames: a
//! Ping with a Pong, and a Close frame with a Close frame if we have not sent one (RFC 6455,
//! section 5.5). Fails the connection if the client breaks a rule of that RFC. `incoming` keeps
//! what is unfinished.

use std::borrow::Cow;

use super::incoming::{Unfinished, UnfinishedMessage};
use crate::expat::UnitCheck;
use crate::meter::FRAME;
use crate::proto::ws::deflate::Inflation;
use crate::proto::ws::{self, Opcode, frame};
use crate::session::Session;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;

impl Session {
    /// Continues with a message, or drops it if the result does not matter any more.
    pub(super) fn continue_message(&mut self, shared: &mut Shared) {
        let mut unfinished = self.incoming.take();
        if let Some(message) = unfinished.message.take()
            && self.machine.phase().is_open()
        {
            unfinished.message = match message {
                UnfinishedMessage::Inflating { payload, inflation } => {
                    self.take_compressed(payload.into(), Some(inflation), shared)
                }
                UnfinishedMessage::Checking { text, check } => {
                    self.take_text(text.into(), Some(check), shared)
                }
            };
        }
        self.keep(unfinished);
    }

    /// Handles frames, and keeps the rest when a queue is full.
    pub(super) fn take_frames(&mut self, mut bytes: &mut [u8], shared: &mut Shared) {
        let mut unfinished = self.incoming.take();
        while !bytes.is_empty() && self.machine.phase() < Phase::Lingering {
            if self.machine.phase().is_open()
                && (self.measure().client_waits || shared.meter.is_spent())
            {
                self.client.tail.extend(bytes);
                break;
            }
            let used = match unfinished.reader.next(bytes, &self.frame_limits()) {
                Ok((used, event)) => {
                    unfinished.message = event.and_then(|event| self.take_frame(event, shared));
                    used
                }
                Err(error) => {
                    self.fail(error, shared);
                    break;
                }
            };
            shared.meter.draw(FRAME * unfinished.reader.take_count());
            bytes = &mut bytes[used..];
        }
        unfinished.reader.release();
        self.keep(unfinished);
    }

    /// Keeps what is unfinished while the client's frames matter.
    fn keep(&mut self, unfinished: Unfinished) {
        if self.machine.phase() < Phase::Lingering {
            self.incoming.keep(unfinished);
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

    /// Returns the maximum length of the next message. It is low until the client has named a
    /// domain.
    fn max_message_size(&self) -> u64 {
        let config = &self.config;
        let most = match self.machine.phase() {
            Phase::AwaitOpen => config.max_message_bytes.min(config.max_first_message_bytes),
            _ => config.max_message_bytes,
        };
        most as u64
    }

    /// Handles one message or control frame. Returns a message that takes another turn; the
    /// meter is then spent.
    fn take_frame(
        &mut self,
        event: ws::Event<'_>,
        shared: &mut Shared,
    ) -> Option<UnfinishedMessage> {
        let open = self.machine.phase().is_open();
        match event {
            ws::Event::Text(text) if open => self.take_text(text, None, shared),
            ws::Event::Compressed { payload, .. } if open => {
                self.take_compressed(payload, None, shared)
            }
            control => {
                self.take_control_frame(control, shared);
                None
            }
        }
    }

    /// Handles a control frame. After our Close frame was sent, only the client's Close frame
    /// matters.
    fn take_control_frame(&mut self, control: ws::Event<'_>, shared: &mut Shared) {
        match control {
            ws::Event::Ping(payload) if self.machine.phase().is_open() => {
                frame::write_control(&mut self.client.out, Opcode::Pong, payload);
            }
            ws::Event::Close { code, reason } => {
                let detail = code.map_or(String::new(), |code| code.0.to_string());
                let actions = self.step(Event::CloseFrame, &detail, shared);
                if actions.echo_close {
                    frame::write_close(&mut self.client.out, code, reason);
                }
            }
            _ => {}
        }
    }

    fn take_text(
        &mut self,
        mut text: Cow<'_, str>,
        begun: Option<UnitCheck>,
        shared: &mut Shared,
    ) -> Option<UnfinishedMessage> {
        let check = self.take_message(&mut text, begun, shared)?;
        let text = text.into_owned();
        Some(UnfinishedMessage::Checking { text, check })
    }

    fn take_compressed(
        &mut self,
        payload: Cow<'_, [u8]>,
        mut begun: Option<Inflation>,
        shared: &mut Shared,
    ) -> Option<UnfinishedMessage> {
        let (limit, meter) = (self.max_message_size(), &mut shared.meter);
        let inflated = shared.codec.inflate(&payload, limit, &mut begun, meter);
        if let Some(inflation) = begun {
            let payload = payload.into_owned();
            return Some(UnfinishedMessage::Inflating { payload, inflation });
        }
        let message = match inflated {
            Ok(message) => String::from_utf8(message.unwrap_or_default()),
            Err(error) => {
                self.fail(error, shared);
                return None;
            }
        };
        let message = match message {
            Ok(text) => match self.take_message(&mut text.as_str().into(), None, shared) {
                Some(check) => return Some(UnfinishedMessage::Checking { text, check }),
                None => text.into_bytes(),
            },
            Err(error) => {
                self.fail(ws::Error::TextNotUtf8, shared);
                error.into_bytes()
            }
        };
        shared.codec.recycle(message);
        None
    }

    fn fail(&mut self, error: ws::Error, shared: &mut Shared) {
        self.step(Event::FrameViolation(error), &error.to_string(), shared);
    }
}
