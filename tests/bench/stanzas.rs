//! A fixed load to count instructions: stanzas through the relay path in both directions,
//! without sockets. `tests/bench/callgrind.sh` runs it.
//!
//! `stanzas PATH SIZE COUNT`: PATH is `up` (unmasks, reads and checks a client's frame)
//! or `down` (splits the server's stream, adds namespaces and frames the stanza).

mod stanza;

use jabsocket::buf::Buf;
use jabsocket::meter::Meter;
use jabsocket::proto::ws::{self, Opcode, frame};
use jabsocket::proto::xmpp::Parsers;
use jabsocket::proto::xmpp::client_message::{self, Message};
use jabsocket::proto::xmpp::server_stream::{Flow, ServerStream, Unit};
use stanza::stanza;

const HEADER: &[u8] = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='example.org' version='1.0'>";

const LIMITS: ws::Limits = ws::Limits {
    max_fragments: 0,
    max_frame_size: 1 << 20,
    max_message_size: 1 << 20,
    binary: false,
    deflate: false,
};

/// A client's frame with a zero mask, which takes the same work to unmask.
fn client_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Buf::new();
    frame::write_header(&mut out, Opcode::Text, payload.len());
    let mut frame = out.take();
    frame[1] |= 0x80;
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

fn up(size: usize, count: usize) -> usize {
    let (mut parsers, mut reader, mut out) =
        (Parsers::default(), ws::Reader::default(), Buf::new());
    let mut meter = Meter::default();
    let mut frame = client_frame(&stanza(size));
    let mut relayed = 0;
    for _ in 0..count {
        let (_, event) = reader.next(&mut frame, &LIMITS).expect("a frame");
        let Some(ws::Event::Text(text)) = event else {
            panic!("no message: {event:?}");
        };
        meter.refill();
        match client_message::read(&mut parsers, &text, &mut None, &mut meter) {
            Ok(Some(Message::Element(element))) => out.extend(element.as_bytes()),
            other => panic!("{other:?}"),
        }
        relayed += out.len();
        out.clear();
    }
    relayed
}

fn down(size: usize, count: usize) -> usize {
    let (mut parsers, mut stream, mut out) =
        (Parsers::default(), ServerStream::default(), Buf::new());
    let (mut text, stanza, mut meter) = (Vec::new(), stanza(size), Meter::default());
    let mut relayed = 0;
    for piece in std::iter::once(HEADER).chain(std::iter::repeat_n(&stanza[..], count)) {
        let mut fresh = piece;
        loop {
            meter.refill();
            let flow = stream.feed(&mut parsers.stream, fresh, 1 << 20, &mut meter, |unit| {
                if let Unit::Element(element) = unit {
                    text.clear();
                    element.inherited(&mut text);
                    let (head, tail) = element.bytes.split_at(element.name_end());
                    let len = head.len() + text.len() + tail.len();
                    frame::write_header(&mut out, Opcode::Text, len);
                    for part in [head, &text, tail] {
                        out.extend(part);
                    }
                }
                Flow::Continue
            });
            fresh = &[];
            match flow {
                Ok(Flow::Continue) => break,
                Ok(Flow::Pause) => {}
                Err(error) => panic!("{error}"),
            }
        }
        relayed += out.len();
        out.clear();
    }
    relayed
}

fn main() {
    let args: Vec<_> = std::env::args().collect();
    let number = |at: usize| args.get(at).and_then(|arg| arg.parse().ok());
    let (Some(path), Some(size), Some(count)) = (args.get(1), number(2), number(3)) else {
        eprintln!("stanzas up|down SIZE COUNT");
        std::process::exit(2);
    };
    let relayed = match &path[..] {
        "up" => up(size, count),
        _ => down(size, count),
    };
    println!("{relayed}");
}
