//! Negotiates STARTTLS with the server: header, features, `<starttls/>`, `<proceed/>` (RFC
//! 6120, section 5.4).
//!
//! The client does not see this dialogue. Unencrypted bytes after `<proceed/>` are an injection
//! and are refused. If the server offers no TLS, the caller decides whether to continue in
//! plain text; the server's bytes are kept for that case.

use std::fmt;

use super::framing::Element;
use super::server_stream::{self, Flow, ServerStream, Unit};
use super::{error, features, ns};
use crate::buf::Buf;
use crate::expat::Pool;
use crate::meter::{Meter, PARSER};

/// Asks for TLS.
pub const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// Largest element before TLS, in bytes.
const MAX_ELEMENT: usize = 64 << 10;
/// Maximum number of bytes from the server before TLS.
pub const MAX_RECEIVED: usize = 256 << 10;

/// Why the dialogue failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server's stream broke a rule.
    Stream(server_stream::Error),
    /// The server refused with `<failure/>` (section 5.4.2.2).
    Refused,
    /// The server ended its stream, or sent a stream error with this condition.
    Ended(String),
    /// Unencrypted bytes followed `<proceed/>` (section 5.4.3.3).
    Injection,
    /// The server sent an unexpected element.
    Unexpected,
    /// The server sent more than [`MAX_RECEIVED`].
    TooMuch,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Stream(error) => error.fmt(f),
            Error::Refused => f.write_str("the server refused STARTTLS"),
            Error::Ended(why) => write!(f, "the server ended the stream before TLS: {why}"),
            Error::Injection => f.write_str("unencrypted data after <proceed/> (an injection)"),
            Error::Unexpected => f.write_str("unexpected element before TLS"),
            Error::TooMuch => f.write_str("the server sent too much data before TLS"),
        }
    }
}

/// The next step of the dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Wait for more bytes from the server.
    Wait,
    /// Send [`STARTTLS`].
    Ask,
    /// Start TLS.
    Proceed,
    /// The server offers no TLS.
    NotOffered,
    /// The server redirects its clients to this host (section 4.9.3.19).
    SeeOther(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Header,
    Features,
    Proceed,
}

/// The dialogue with one server. It begins once our stream header was sent.
#[derive(Default)]
pub struct Dialogue {
    stream: ServerStream,
    step: Step,
    /// What the server sent before it was asked for TLS.
    received: Buf,
    /// The number of bytes that the server has sent.
    count: usize,
    /// Whether the server is asked for TLS although it offers none.
    insists: bool,
}

/// The meaning of an element for the dialogue.
enum Meaning {
    Offer(bool),
    Proceed,
    SeeOther(String),
    Failed(Error),
}

impl Dialogue {
    /// Takes bytes from the server. They complete at most one element of 64 KiB, so no pause
    /// for other sessions is needed.
    ///
    /// # Errors
    /// The dialogue failed; the connection cannot be used any more.
    pub fn feed(
        &mut self,
        pool: &mut Pool,
        bytes: &[u8],
        meter: &mut Meter,
    ) -> Result<Progress, Error> {
        self.count += bytes.len();
        if self.count > MAX_RECEIVED {
            return Err(Error::TooMuch);
        }
        if self.step != Step::Proceed {
            self.received.extend(bytes);
        }
        match self.next_unit(pool, bytes, meter).map_err(Error::Stream)? {
            None => Ok(Progress::Wait),
            Some(Meaning::Offer(true)) => {
                self.step = Step::Proceed;
                self.received.clear();
                match self.stream.rest_is_blank() {
                    true => Ok(Progress::Ask),
                    false => Err(Error::Unexpected),
                }
            }
            Some(Meaning::Offer(false)) => Ok(Progress::NotOffered),
            // White space is not treated as an injection, although no server should send it.
            Some(Meaning::Proceed) => match self.stream.rest_is_blank() {
                true => Ok(Progress::Proceed),
                false => Err(Error::Injection),
            },
            Some(Meaning::SeeOther(to)) => Ok(Progress::SeeOther(to)),
            Some(Meaning::Failed(error)) => Err(error),
        }
    }

    /// Feeds the stream until a unit after the header is complete.
    fn next_unit(
        &mut self,
        pool: &mut Pool,
        bytes: &[u8],
        meter: &mut Meter,
    ) -> Result<Option<Meaning>, server_stream::Error> {
        let (step, stream) = (&mut self.step, &mut self.stream);
        let (mut met, mut parsed, mut fresh) = (None, 0, bytes);
        loop {
            let flow = stream.feed(pool, fresh, MAX_ELEMENT, meter, |unit| {
                met = Some(match unit {
                    Unit::Header { header, .. } => {
                        *step = Step::Features;
                        if header.has_usable_version() {
                            return Flow::Continue;
                        }
                        // XMPP 0.9 has no features (section 4.7.5).
                        Meaning::Offer(false)
                    }
                    Unit::Element(element) => {
                        parsed = PARSER + element.bytes.len();
                        meaning(*step, &element)
                    }
                    Unit::End { .. } => Meaning::Failed(Error::Ended("no reason given".to_owned())),
                });
                Flow::Pause
            })?;
            fresh = &[];
            if flow == Flow::Continue || met.is_some() {
                break;
            }
        }
        meter.draw(parsed);
        Ok(met)
    }

    /// Asks a server for TLS that offers none: somebody may have removed the offer on the way
    /// (RFC 7590, section 3.1). Returns whether it is asked, and the caller must send
    /// [`STARTTLS`]. A server that has sent more than its features is not asked, because it could
    /// have answered already.
    pub fn insist(&mut self) -> bool {
        self.step = Step::Proceed;
        self.received.clear();
        self.insists = self.stream.rest_is_blank();
        self.insists
    }

    /// Whether the server is asked for TLS although it offers none.
    pub fn insists(&self) -> bool {
        self.insists
    }

    /// Returns all bytes from the server, for a session in plain text.
    pub fn into_received(mut self) -> Vec<u8> {
        self.received.take()
    }

    /// Returns the bytes of memory that the server's bytes take.
    pub fn memory(&self) -> usize {
        self.received.capacity() + self.stream.memory()
    }

    /// Whether the server has sent its header but not yet its features.
    pub fn awaits_features(&self) -> bool {
        self.step == Step::Features
    }
}

fn meaning(step: Step, element: &Element<'_>) -> Meaning {
    if element.is(ns::STREAMS, "error") {
        return match error::read(element) {
            (_, Some(to)) => Meaning::SeeOther(to),
            (condition, None) => Meaning::Failed(Error::Ended(condition)),
        };
    }
    match step {
        Step::Features if element.is(ns::STREAMS, "features") => {
            match features::offers_starttls(&element.whole()) {
                Ok(offered) => Meaning::Offer(offered),
                Err(error) => Meaning::Failed(Error::Stream(server_stream::Error::Xml(error))),
            }
        }
        Step::Proceed if element.is(ns::TLS, "proceed") => Meaning::Proceed,
        Step::Proceed if element.is(ns::TLS, "failure") => Meaning::Failed(Error::Refused),
        _ => Meaning::Failed(Error::Unexpected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::xmpp::Parsers;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream version='1.0' id='x' \
        xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    const OFFER: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>\
        <required/></starttls></stream:features>";
    const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

    /// Returns the progress after each of `pieces`.
    fn talk(pieces: &[&str]) -> Vec<Result<Progress, Error>> {
        let (mut parsers, mut meter) = (Parsers::default(), Meter::default());
        let mut dialogue = Dialogue::default();
        let talk = pieces.iter();
        talk.map(|piece| dialogue.feed(&mut parsers.stream, piece.as_bytes(), &mut meter))
            .filter(|progress| *progress != Ok(Progress::Wait))
            .collect()
    }

    #[test]
    fn an_offer_is_taken_in_whatever_pieces() {
        let said = format!("{HEADER}{OFFER}");
        for cut in 0..said.len() {
            let (head, tail) = said.split_at(cut);
            for cut in 0..PROCEED.len() {
                let (first, second) = PROCEED.split_at(cut);
                assert_eq!(
                    talk(&[head, tail, "\n", first, second]),
                    [Ok(Progress::Ask), Ok(Progress::Proceed)]
                );
            }
        }
    }

    #[test]
    fn clear_text_behind_proceed_is_an_injection() {
        let said = format!("{HEADER}{OFFER}");
        for more in ["<a/>", "<", "x", "\u{16}\u{3}\u{1}", HEADER] {
            let proceed = format!("{PROCEED}{more}");
            let outcome = talk(&[&said, &proceed]);
            assert_eq!(outcome, [Ok(Progress::Ask), Err(Error::Injection)]);
        }
        let proceed = format!("{PROCEED}\n");
        assert_eq!(talk(&[&said, &proceed])[1], Ok(Progress::Proceed));
        let early = format!("{said}{PROCEED}");
        assert_eq!(talk(&[&early]), [Err(Error::Unexpected)]);
    }

    #[test]
    fn no_offer_keeps_what_was_said() {
        let said = format!("{HEADER}<stream:features><x xmlns='x'/></stream:features><more/>");
        let (mut parsers, mut meter) = (Parsers::default(), Meter::default());
        let mut dialogue = Dialogue::default();
        let progress = dialogue.feed(&mut parsers.stream, said.as_bytes(), &mut meter);
        assert_eq!(progress, Ok(Progress::NotOffered));
        assert_eq!(dialogue.into_received(), said.as_bytes());
        let old = HEADER.replace("version='1.0' id", "id");
        assert_eq!(talk(&[&old]), [Ok(Progress::NotOffered)]);
    }

    #[test]
    fn a_server_has_so_many_bytes_before_tls() {
        let said = format!("{HEADER}{OFFER}");
        let blank = " ".repeat(MAX_RECEIVED / 4);
        let pieces = [&said[..], &blank, &blank, &blank, &blank];
        assert_eq!(talk(&pieces[..4]), [Ok(Progress::Ask)]);
        let all = talk(&pieces);
        assert_eq!(all, [Ok(Progress::Ask), Err(Error::TooMuch)]);
    }

    #[test]
    fn all_other_answers_fail() {
        let failure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
        let said = format!("{HEADER}{OFFER}");
        assert_eq!(talk(&[&said, failure])[1], Err(Error::Refused));
        assert_eq!(talk(&[&said, "<message/>"])[1], Err(Error::Unexpected));
        let message = format!("{HEADER}<message/>");
        assert_eq!(talk(&[&message]), [Err(Error::Unexpected)]);
        let ended = format!("{HEADER}</stream:stream>");
        assert!(matches!(talk(&[&ended])[0], Err(Error::Ended(_))));
        assert!(matches!(talk(&["garbage"])[0], Err(Error::Stream(_))));
        let other = format!(
            "{HEADER}<stream:error><see-other-host xmlns='{}'>b.c:5</see-other-host></stream:error>",
            ns::STREAM_ERRORS
        );
        assert_eq!(
            talk(&[&other]),
            [Ok(Progress::SeeOther("b.c:5".to_owned()))]
        );
        let endless = "<stream:features>".to_owned() + &"<a/>".repeat(20_000);
        assert!(talk(&[HEADER, &endless])[0].is_err());
    }
}
