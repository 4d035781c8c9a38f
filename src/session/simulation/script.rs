//! What the peers of a simulated session send, and how the received bytes are read.

use super::Random;
use crate::proto::xmpp::Dialect;

pub const HEADER: &str = "<?xml version='1.0'?><stream:stream id='i' version='1.0' \
    xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:client' from='example.com'>";
pub const OPEN: &str =
    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.com' version='1.0'/>";
const TAG: &str = "<stream:stream xmlns='jabber:client' to='example.com' version='1.0' \
    xmlns:stream='http://etherx.jabber.org/streams'>";
const CLOSE: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
pub const REQUEST: &str = "GET /xmpp-websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The script of a session: bytes to send and the expected results.
pub struct Script {
    pub dialect: Dialect,
    /// All bytes from the client before its end: request, opening, messages, pings.
    pub client: Vec<u8>,
    /// All bytes from the server before its end, starting with its header.
    pub server: Vec<u8>,
    /// The bytes that the server must get after the stream header.
    pub up: Vec<u8>,
    /// The messages that the client must get after the first.
    pub down: Vec<Vec<u8>>,
    /// The payloads of the pings, which must come back in pongs.
    pub pings: Vec<Vec<u8>>,
}

impl Script {
    pub fn new(random: &mut Random) -> Script {
        let dialect = [Dialect::Framed, Dialect::Draft][random.below(2)];
        let mut script = Script {
            dialect,
            client: REQUEST.into(),
            server: HEADER.into(),
            up: Vec::new(),
            down: Vec::new(),
            pings: Vec::new(),
        };
        let opening = match dialect {
            Dialect::Framed => OPEN,
            Dialect::Draft => TAG,
        };
        script.message(opening.as_bytes(), random);
        let most = [300, 3_000, 150_000][random.below(3)];
        for number in 0..random.below(25) {
            let text = element("iq", number, " xmlns='jabber:client'", most, random);
            script.message(&text, random);
            script.up.extend(&text);
        }
        let features = "<stream:features><b xmlns='b'/></stream:features>";
        let inherited = "<stream:features xmlns=\"jabber:client\" \
            xmlns:stream=\"http://etherx.jabber.org/streams\"><b xmlns='b'/></stream:features>";
        script.unit(features.as_bytes(), inherited.as_bytes());
        for number in 0..random.below(40) {
            let own = [" xmlns='jabber:client'", ""][random.below(2)];
            let text = element("message", number, own, most, random);
            let mut whole = text.clone();
            if own.is_empty() {
                let at = "<message".len();
                whole.splice(at..at, *b" xmlns=\"jabber:client\"");
            }
            script.unit(&text, &whole);
            script
                .server
                .extend(["", "", "\n"][random.below(3)].bytes());
        }
        script
    }

    /// Creates a script with far more data than the queues hold, in both directions.
    pub fn heavy(random: &mut Random) -> Script {
        loop {
            let script = Script::new(random);
            let down: usize = script.down.iter().map(Vec::len).sum();
            if script.up.len().min(down) > 300_000 {
                return script;
            }
        }
    }

    /// Returns the client's `<close/>` or end tag.
    pub fn client_end(&self, random: &mut Random) -> Vec<u8> {
        let text = match self.dialect {
            Dialect::Framed => CLOSE,
            Dialect::Draft => "</stream:stream>",
        };
        let mut bytes = Vec::new();
        frame(&mut bytes, 0x81, text.as_bytes(), random);
        bytes
    }

    fn unit(&mut self, text: &[u8], whole: &[u8]) {
        self.server.extend(text);
        self.down.push(match self.dialect {
            Dialect::Framed => whole.to_vec(),
            Dialect::Draft => text.to_vec(),
        });
    }

    /// Appends a message in frames, with pings before and between them.
    fn message(&mut self, text: &[u8], random: &mut Random) {
        let mut rest = text;
        let mut opcode = 1;
        loop {
            if random.once_in(4) {
                let payload = vec![b'a' + random.below(26) as u8; random.below(126)];
                frame(&mut self.client, 0x89, &payload, random);
                self.pings.push(payload);
            }
            let n = match random.once_in(3) {
                true => random.below(rest.len() + 1),
                false => rest.len(),
            };
            let last = n == rest.len();
            let first = if last { 0x80 | opcode } else { opcode };
            frame(&mut self.client, first, &rest[..n], random);
            if last {
                return;
            }
            rest = &rest[n..];
            opcode = 0;
        }
    }
}

/// Returns a unique element of about `most` bytes or fewer. Every second one needs a parser.
fn element(name: &str, number: usize, own: &str, most: usize, random: &mut Random) -> Vec<u8> {
    let mut text = format!("<{name}{own} n='{number}'><b>").into_bytes();
    let piece = [
        "t\u{e4}xt ",
        "&lt;a&gt;",
        "<c/>",
        "<![CDATA[</b>]]>",
        "\u{1f600}",
    ];
    if number.is_multiple_of(2) {
        text.extend(piece[3].bytes());
    }
    for _ in 0..random.length(most) / 8 {
        text.extend(piece[random.below(piece.len())].bytes());
    }
    text.extend(format!("</b></{name}>").bytes());
    text
}

/// Appends a masked frame.
pub fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], random: &mut Random) {
    let len = payload.len();
    out.push(first);
    match len {
        0..126 => out.push(0x80 | len as u8),
        126..65_536 => {
            out.push(0xfe);
            out.extend((len as u16).to_be_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend((len as u64).to_be_bytes());
        }
    }
    let key = (random.below(1 << 30) as u32).to_be_bytes();
    out.extend(key);
    let masked = payload.iter().zip(key.iter().cycle());
    out.extend(masked.map(|(byte, key)| byte ^ key));
}

/// What a client has received.
#[derive(Debug, Default)]
pub struct Heard {
    pub upgraded: bool,
    pub texts: Vec<Vec<u8>>,
    pub pongs: Vec<Vec<u8>>,
    pub pings: usize,
    pub close: Option<u16>,
    /// Bytes of an incomplete frame.
    pub rest: Vec<u8>,
}

impl Heard {
    /// Reads the bytes that have arrived.
    pub fn take(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
        if !self.upgraded {
            let end = self.rest.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else {
                return;
            };
            if !self.rest.starts_with(b"HTTP/1.1 101 ") {
                // The request was too slow, or the daemon is stopping.
                let status = &self.rest[9..12];
                return assert!([b"408", b"503"].contains(&status.try_into().expect("three")));
            }
            self.upgraded = true;
            self.rest.drain(..end + 4);
        }
        let mut at = 0;
        while let Some((first, payload, end)) = server_frame(&self.rest[at..]) {
            assert_eq!(self.close, None, "a frame behind the Close");
            match first {
                0x81 => self.texts.push(payload.to_vec()),
                0x8a => self.pongs.push(payload.to_vec()),
                0x89 => self.pings += 1,
                0x88 => self.close = Some(u16::from_be_bytes([payload[0], payload[1]])),
                _ => panic!("a frame of kind {first:x}"),
            }
            at += end;
        }
        self.rest.drain(..at);
    }
}

/// Returns the first byte, payload and length of the frame at the front.
fn server_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, &short) = (bytes.first()?, bytes.get(1)?);
    let (start, len) = match short {
        126 => (
            4,
            usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)),
        ),
        127 => (
            10,
            u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize,
        ),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(start..start + len)?;
    Some((first, payload, start + len))
}
