//! Sends the client our own stream headers, errors and stream ends, in both dialects.

use super::message_writer::{fresh_id, write_message};
use crate::proto::xmpp::Dialect;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::framing;
use crate::proto::xmpp::header::Header;
use crate::session::Session;
use crate::session::machine::Actions;
use crate::session::shared::Shared;

impl Session {
    /// Sends the client a stream error, the end of its stream, or both (RFC 7395, sections 3.5
    /// and 3.6).
    pub(in crate::session) fn tell_client(&mut self, actions: &Actions, shared: &mut Shared) {
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

    /// Sends a client without a stream to another endpoint (RFC 7395, section 3.6.1).
    pub(in crate::session) fn send_elsewhere(&mut self) {
        if let Some(uri) = self.config.see_other_uri.as_deref() {
            let mut close = Vec::new();
            framing::write_close_elsewhere(uri, &mut close);
            self.write_text(&close);
        }
    }
}
