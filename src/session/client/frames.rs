//! Handles the client's frames.
//!
//! Passes messages to `messages`, inflated if they were compressed. Answers control frames: a
//! Ping with a Pong, and a Close frame with a Close frame if we have not sent one (RFC 6455,
//! section 5.5). Fails the connection if the client breaks a rule of that RFC. Keeps a message
//! that takes several turns to inflate or check.

use std::borrow::Cow;

use crate::expat::UnitCheck;
use crate::meter::FRAME;
use crate::proto::ws::deflate::Inflation;
use crate::proto::ws::{self, Opcode, frame};
use crate::session::Session;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;

/// The unfinished part of what a client sends.
#[derive(Default)]
pub(in crate::session) struct Incoming {
    reader: ws::Reader,
    /// A message that takes several turns; later bytes from the client wait for it.
    message: Option<UnfinishedMessage>,
}

/// A complete message that takes several turns.
enum UnfinishedMessage {
    Inflating {
        payload: Vec<u8>,
        inflation: Inflation,
    },
    Checking {
        text: String,
        check: UnitCheck,
    },
}

/// The size of what is unfinished, in bytes.
#[derive(Default)]
pub(in crate::session) struct Size {
    /// Parts of messages.
    pub held: usize,
    /// The memory that they take.
    pub memory: usize,
    /// The memory of a parser that is not in the pool at the moment.
    pub parser: usize,
}

impl Incoming {
    fn size(&self) -> Size {
        let (held, memory, parser) = match &self.message {
            None => (0, 0, 0),
            Some(UnfinishedMessage::Inflating { payload, inflation }) => (
                payload.len() + inflation.held(),
                payload.capacity() + inflation.memory(),
                0,
            ),
            Some(UnfinishedMessage::Checking { text, check }) => {
                (text.len(), text.capacity(), check.parser().heap_bytes())
            }
        };
        Size {
            held: held + self.reader.held(),
            memory: memory + self.reader.memory(),
            parser,
        }
    }

    fn is_idle(&self) -> bool {
        self.reader.is_idle() && self.message.is_none()
    }
}

impl Session {
    /// Whether a message from the client is being inflated or checked.
    pub(in crate::session) fn has_unfinished_message(&self) -> bool {
        let incoming = self.incoming.as_ref();
        incoming.is_some_and(|incoming| incoming.message.is_some())
    }

    /// Returns the size of the unfinished part of what the client sends.
    pub(in crate::session) fn incoming_size(&self) -> Size {
        let incoming = self.incoming.as_ref();
        incoming.map_or(Size::default(), |incoming| incoming.size())
    }

    /// Returns the bytes of memory in parsers that are not in the pool but in use by this
    /// session.
    pub fn parser_bytes(&self) -> usize {
        self.incoming_size().parser + self.server.stream.parser_bytes()
    }

    /// Continues with a message, or drops it if the result does not matter any more.
    pub(super) fn continue_message(&mut self, shared: &mut Shared) {
        let Some(mut incoming) = self.incoming.take() else {
            return;
        };
        if let Some(message) = incoming.message.take()
            && self.machine.phase().is_open()
        {
            incoming.message = match message {
                UnfinishedMessage::Inflating { payload, inflation } => {
                    self.take_compressed(payload.into(), Some(inflation), shared)
                }
                UnfinishedMessage::Checking { text, check } => {
                    self.take_text(text.into(), Some(check), shared)
                }
            };
        }
        if self.machine.phase() < Phase::Lingering && !incoming.is_idle() {
            self.incoming = Some(incoming);
        }
    }

    /// Handles frames, and keeps the rest when a queue is full.
    pub(super) fn take_frames(&mut self, mut bytes: &mut [u8], shared: &mut Shared) {
        let mut incoming = self
            .incoming
            .take()
            .map_or_else(Incoming::default, |incoming| *incoming);
        while !bytes.is_empty() && self.machine.phase() < Phase::Lingering {
            if self.machine.phase().is_open()
                && (self.measure().client_waits || shared.meter.is_spent())
            {
                self.client.tail.extend(bytes);
                break;
            }
            let used = match incoming.reader.next(bytes, &self.frame_limits()) {
                Ok((used, event)) => {
                    incoming.message = event.and_then(|event| self.take_frame(event, shared));
                    used
                }
                Err(error) => {
                    self.fail(error, shared);
                    break;
                }
            };
            shared.meter.draw(FRAME * incoming.reader.take_count());
            bytes = &mut bytes[used..];
        }
        incoming.reader.release();
        if self.machine.phase() < Phase::Lingering && !incoming.is_idle() {
            self.incoming = Some(Box::new(incoming));
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
