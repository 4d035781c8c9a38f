//! The unfinished part of what a client sends: a frame, or a message.

use crate::expat::UnitCheck;
use crate::proto::ws;
use crate::proto::ws::deflate::Inflation;

/// What is unfinished, if anything is.
#[derive(Default)]
pub(in crate::session) struct Incoming(Option<Box<Unfinished>>);

#[derive(Default)]
pub(super) struct Unfinished {
    pub reader: ws::Reader,
    /// A message that takes several turns; later bytes from the client wait for it.
    pub message: Option<UnfinishedMessage>,
}

/// A complete message that takes several turns.
pub(super) enum UnfinishedMessage {
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
    /// Whether a message is being inflated or checked.
    pub fn has_message(&self) -> bool {
        let unfinished = self.0.as_ref();
        unfinished.is_some_and(|unfinished| unfinished.message.is_some())
    }

    pub fn size(&self) -> Size {
        let unfinished = self.0.as_ref();
        unfinished.map_or_else(Size::default, |unfinished| unfinished.size())
    }

    /// Takes what is unfinished, to continue with it.
    pub(super) fn take(&mut self) -> Unfinished {
        self.0.take().map_or_else(Unfinished::default, |kept| *kept)
    }

    /// Keeps what is still unfinished, if anything is.
    pub(super) fn keep(&mut self, unfinished: Unfinished) {
        if !unfinished.reader.is_idle() || unfinished.message.is_some() {
            self.0 = Some(Box::new(unfinished));
        }
    }

    pub fn clear(&mut self) {
        self.0 = None;
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Unfinished {
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
}
