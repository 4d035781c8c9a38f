//! The stanzas and the opening exchange, as they are on the wire.

use crate::relay::Kind;
use crate::stanza::stanza;

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://example.org\r\n\r\n";
pub const OPEN: &[u8] =
    b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>";
pub const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='example.org' version='1.0'>\
    <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";

/// A client's frame with `payload`, masked.
pub fn masked(payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = header(0x80, payload.len());
    frame.extend(key);
    frame.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

fn header(mask: u8, len: usize) -> Vec<u8> {
    let mut header = vec![0x81];
    match len {
        0..=125 => header.push(mask | len as u8),
        126..=0xffff => {
            header.push(mask | 126);
            header.extend((len as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend((len as u64).to_be_bytes());
        }
    }
    header
}

/// A stanza on the wire.
pub struct Wire {
    pub request: Vec<u8>,
    pub answer_len: usize,
}

impl Wire {
    pub fn new(kind: Kind, size: usize) -> Wire {
        let stanza = stanza(size);
        let request = masked(&stanza);
        let answer_len = match kind {
            Kind::Tcp => request.len(),
            Kind::Xmpp => header(0, size).len() + size,
        };
        Wire {
            request,
            answer_len,
        }
    }
}

/// A stanza of `size` bytes in one frame.
pub fn large(size: usize) -> Vec<u8> {
    masked(&stanza(size))
}

/// Stanzas of 200 bytes in frames of one byte.
pub fn tiny_frames() -> Vec<u8> {
    let stanza = stanza(200);
    let mut frames = Vec::new();
    for (at, byte) in stanza.iter().enumerate() {
        let opcode = if at == 0 { 1 } else { 0 };
        let last = if at + 1 == stanza.len() { 0x80 } else { 0 };
        frames.extend([last | opcode, 0x81, 0, 0, 0, 0, *byte]);
    }
    frames.repeat(10)
}
