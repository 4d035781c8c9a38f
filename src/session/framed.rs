//! Handles later messages of RFC 7395. Each must be one complete element before it is relayed.

use super::Session;
use super::machine::Event;
use super::shared::Shared;
use crate::expat::Judgement;
use crate::proto::xmpp::address;
use crate::proto::xmpp::client_message::{self, Message};
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::features::{COMPRESS_FAILURE, STARTTLS_FAILURE};
use crate::proto::xmpp::header::Header;

impl Session {
    pub(super) fn take_element(
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
                self.write_text(STARTTLS_FAILURE.as_bytes());
                self.step(Event::Ended, "client requested STARTTLS", shared);
            }
            Message::Compress => self.write_text(COMPRESS_FAILURE.as_bytes()),
            Message::Open(header) => {
                let mut stream = Vec::new();
                header.write_stream(&mut stream);
                self.pass_on(self.restart(&header), &stream, shared);
            }
            Message::Element(element) => self.relay_up(Event::Unit, element, shared),
        }
        Ok(())
    }

    pub(super) fn restart(&self, header: &Header) -> Event {
        let domain = address::domain(header.to.as_deref()).ok();
        Event::Restart {
            same_domain: domain.is_some() && domain.as_deref() == self.domain.as_deref(),
        }
    }
}
