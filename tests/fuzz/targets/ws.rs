//! The frame reader, with whole and split input, with and without compression, compared
//! with a simple reader that has the whole input and follows only the RFC. Compressed
//! messages are inflated and must not exceed their limit.
#![no_main]

use jabsocket::meter::Meter;
use jabsocket::proto::ws::deflate::Codec;
use jabsocket::proto::ws::{CloseCode, Error, Event, Limits, Reader};
use jabsocket_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits {
    max_frame_size: 300,
    max_message_size: 400,
    max_fragments: 0,
    binary: true,
    deflate: false,
};

/// Maximum size of an inflated message.
const MAX_INFLATED: u64 = 5000;

/// An event that owns its bytes.
#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

type Outcome = (Vec<Seen>, Option<Error>);

fuzz_target!(|input: &[u8]| {
    for deflate in [false, true] {
        let expected = reference(input, deflate);
        assert_eq!(read(&[input], deflate), expected, "in one piece");
        assert_eq!(read(&pieces(input), deflate), expected, "in pieces");
        inflate(&expected.0);
    }
});

fn inflate(events: &[Seen]) {
    let mut codec = Codec::default();
    for event in events {
        let Seen::Compressed(_, payload) = event else {
            continue;
        };
        let (mut begun, mut meter) = (None, Meter::default());
        let mut inflated = Ok(None);
        while inflated == Ok(None) {
            meter.refill();
            inflated = codec.inflate(payload, MAX_INFLATED, &mut begun, &mut meter);
        }
        if let Ok(Some(message)) = inflated {
            assert!(message.len() as u64 <= MAX_INFLATED);
            codec.recycle(message);
        }
    }
}

fn read(pieces: &[&[u8]], deflate: bool) -> Outcome {
    let limits = Limits { deflate, ..LIMITS };
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        while !rest.is_empty() {
            let n = match reader.next(rest, &limits) {
                Err(error) => return (events, Some(error)),
                Ok((n, None)) => {
                    assert_eq!(n, rest.len(), "bytes were left without an event");
                    n
                }
                Ok((n, Some(event))) => {
                    events.push(seen(event));
                    n
                }
            };
            if let Some(Seen::Close(..)) = events.last() {
                return (events, None);
            }
            rest = &mut rest[n..];
            let most = LIMITS.max_message_size as usize + 125;
            assert!(reader.held() <= most, "{} held", reader.held());
        }
    }
    (events, None)
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Text(text) => Seen::Text(text.into()),
        Event::Binary(bytes) => Seen::Binary(bytes.into()),
        Event::Compressed { text, payload } => Seen::Compressed(text, payload.into()),
        Event::Ping(payload) => Seen::Ping(payload.into()),
        Event::Pong(payload) => Seen::Pong(payload.into()),
        Event::Close { code, reason } => Seen::Close(code.map(|code| code.0), reason.into()),
    }
}

/// Applies RFC 6455, sections 5 and 7.4, and RFC 7692, section 6, to a complete input.
fn reference(input: &[u8], deflate: bool) -> Outcome {
    let mut events = Vec::new();
    let error = frames(input, deflate, &mut events).err();
    (events, error)
}

fn frames(mut rest: &[u8], deflate: bool, events: &mut Vec<Seen>) -> Result<(), Error> {
    // Opcode and payload of the incomplete message.
    let mut message: Option<(u8, Vec<u8>)> = None;
    loop {
        let Some((fin, opcode, len, key, after)) = header(rest, deflate)? else {
            return Ok(());
        };
        let available = after.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let complete = available as u64 == len;
        let payload = after[..available].iter().zip(key.iter().cycle());
        let payload: Vec<u8> = payload.map(|(byte, key)| byte ^ key).collect();
        rest = &after[available..];
        if opcode & 15 >= 8 {
            if !complete {
                return Ok(());
            }
            events.push(control(opcode, payload)?);
            if opcode == 8 {
                return Ok(());
            }
            continue;
        }
        let (kind, mut bytes) = match (opcode, message.take()) {
            (0, None) => return Err(Error::UnexpectedContinuation),
            (0, Some(open)) => open,
            (_, Some(_)) => return Err(Error::ExpectedContinuation),
            (kind, None) => (kind, Vec::new()),
        };
        if len > LIMITS.max_frame_size {
            return Err(Error::FrameTooBig(len));
        }
        let size = bytes.len() as u64 + len;
        if size > LIMITS.max_message_size {
            return Err(Error::MessageTooBig(size));
        }
        bytes.extend(payload);
        let end = complete && fin;
        if kind == 1
            && let Err(error) = std::str::from_utf8(&bytes)
            && (end || error.error_len().is_some())
        {
            return Err(Error::TextNotUtf8);
        }
        match (end, kind) {
            (false, _) => message = Some((kind, bytes)),
            (true, 1) => events.push(Seen::Text(String::from_utf8(bytes).expect("checked"))),
            (true, 2) => events.push(Seen::Binary(bytes)),
            (true, kind) => events.push(Seen::Compressed(kind & 15 == 1, bytes)),
        }
        if !complete {
            return Ok(());
        }
    }
}

/// FIN, opcode (with RSV1), length, key, and the bytes after the header.
type Header<'a> = (bool, u8, u64, [u8; 4], &'a [u8]);

fn header(input: &[u8], deflate: bool) -> Result<Option<Header<'_>>, Error> {
    if input.len() < 2 {
        return Ok(None);
    }
    let (fin, opcode) = (input[0] >= 0x80, input[0] & 15);
    let rsv1 = input[0] & 0x40;
    if input[0] & 0x30 != 0 || (rsv1 != 0 && !deflate) {
        return Err(Error::ReservedBits);
    }
    if ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return Err(Error::ReservedOpcode(opcode));
    }
    if rsv1 != 0 && ![1, 2].contains(&opcode) {
        return Err(Error::ReservedBits);
    }
    if input[1] < 0x80 {
        return Err(Error::Unmasked);
    }
    let short = input[1] - 0x80;
    if opcode >= 8 && !fin {
        return Err(Error::FragmentedControl);
    }
    if opcode >= 8 && short > 125 {
        return Err(Error::LongControl);
    }
    let width = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if input.len() < 2 + width {
        return Ok(None);
    }
    let extended = &input[2..2 + width];
    let number = extended.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let len = match width {
        0 => u64::from(short),
        8 if number >= 1 << 63 => return Err(Error::LengthOutOfRange),
        8 if number < 1 << 16 => return Err(Error::LengthNotMinimal),
        2 if number < 126 => return Err(Error::LengthNotMinimal),
        _ => number,
    };
    let rest = &input[2 + width..];
    let key = rest.first_chunk().copied();
    Ok(key.map(|key| (fin, rsv1 | opcode, len, key, &rest[4..])))
}

fn control(opcode: u8, payload: Vec<u8>) -> Result<Seen, Error> {
    match (opcode, payload.len()) {
        (9, _) => Ok(Seen::Ping(payload)),
        (10, _) => Ok(Seen::Pong(payload)),
        (_, 0) => Ok(Seen::Close(None, String::new())),
        (_, 1) => Err(Error::ShortCloseBody),
        _ => {
            let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
            if !CloseCode(code).is_valid_on_wire() {
                return Err(Error::InvalidCloseCode(code));
            }
            let reason = String::from_utf8(payload[2..].to_vec());
            let reason = reason.map_err(|_| Error::CloseReasonNotUtf8)?;
            Ok(Seen::Close(Some(code), reason))
        }
    }
}
