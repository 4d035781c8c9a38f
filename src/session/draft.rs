//! Handles later messages of the draft. They are relayed unchanged, except for the stream
//! header after authentication.

use super::Session;
use super::machine::Event;
use super::shared::Shared;
use crate::expat::MAX_TAG;
use crate::meter::PARSER;
use crate::proto::xmpp::client_message::{self, First};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::features::COMPRESS_FAILURE;
use crate::proto::xmpp::{escape, is_space};

impl Session {
    pub(super) fn take_draft(
        &mut self,
        text: &str,
        shared: &mut Shared,
    ) -> Result<(), StreamError> {
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
            self.relay_up(event, text, shared);
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
                if self.pass_on(self.restart(&header), &stream_header(tag, rest), shared) {
                    self.draft_root = unusual_root(tag);
                }
            }
            _ => {
                self.step(Event::Unit, "", shared);
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

/// Returns the client's stream header with the rest of the message.
pub(super) fn stream_header(tag: &str, rest: &str) -> Vec<u8> {
    ["<?xml version='1.0'?>", tag, ">", rest]
        .concat()
        .into_bytes()
}

/// Returns the name of the root in this tag, if it is not `stream:stream`.
pub(super) fn unusual_root(tag: &str) -> Option<Box<str>> {
    let name = tag[1..].split([' ', '\t', '\r', '\n']).next();
    name.filter(|name| *name != "stream:stream").map(Into::into)
}
