//! The frame reader. However its input is split, it reports the same events and the same
//! error and keeps no memory.

use crate::common::chop::chop;
use crate::common::ws_client::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close_body, frame, frame_with, header,
};
use jabsocket::proto::ws::{CloseCode, Error, Event, Limits, Reader};

const LIMITS: Limits = Limits {
    max_fragments: 0,
    max_frame_size: 200,
    max_message_size: 300,
    binary: true,
    deflate: false,
};

/// An event that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Compressed(bool, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

fn seen(event: Event<'_>) -> Seen {
    match event {
        Event::Text(text) => Seen::Text(text.into()),
        Event::Binary(bytes) => Seen::Binary(bytes.into()),
        Event::Compressed { text, payload } => Seen::Compressed(text, payload.into()),
        Event::Ping(payload) => Seen::Ping(payload.into()),
        Event::Pong(payload) => Seen::Pong(payload.into()),
        Event::Close { code, reason } => Seen::Close(code.map(|c| c.0), reason.into()),
    }
}

/// The events of `pieces` up to a Close or an error. Without these, fails if a frame or
/// message is incomplete.
fn read(pieces: &[&[u8]], limits: &Limits) -> (Vec<Seen>, Option<Error>) {
    let mut reader = Reader::default();
    let (events, error) = drive(&mut reader, pieces, limits);
    reader.release();
    let ended = error.is_some() || matches!(events.last(), Some(Seen::Close(..)));
    assert!(ended || reader.is_idle(), "memory kept after {events:?}");
    (events, error)
}

fn drive(reader: &mut Reader, pieces: &[&[u8]], limits: &Limits) -> (Vec<Seen>, Option<Error>) {
    let mut events = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match reader.next(input, limits) {
                Ok((n, Some(event))) => {
                    events.push(seen(event));
                    if let Some(Seen::Close(..)) = events.last() {
                        return (events, None);
                    }
                    input = &mut input[n..];
                }
                Ok((n, None)) => {
                    assert_eq!(n, input.len(), "bytes were left without an event");
                    break;
                }
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

/// The events of `bytes`. Fails if they depend on how the bytes are split.
fn outcome(bytes: &[u8]) -> (Vec<Seen>, Option<Error>) {
    chop(bytes, |pieces| read(pieces, &LIMITS))
}

fn text(text: &str) -> Seen {
    Seen::Text(text.into())
}

#[test]
fn reads_messages_and_control_frames() {
    let bytes = [
        frame(FIN | TEXT, "h\u{e9}llo".as_bytes()),
        frame(FIN | BINARY, &[0, 0xff]),
        frame(FIN | TEXT, b""),
        frame(FIN | PING, b"ping"),
        frame(FIN | PONG, b""),
        frame(FIN | CLOSE, &close_body(1001, "bye \u{20ac}".as_bytes())),
        b"ignored by the caller".to_vec(),
    ]
    .concat();
    let expected = vec![
        text("h\u{e9}llo"),
        Seen::Binary(vec![0, 0xff]),
        text(""),
        Seen::Ping(b"ping".to_vec()),
        Seen::Pong(vec![]),
        Seen::Close(Some(1001), "bye \u{20ac}".into()),
    ];
    assert_eq!(outcome(&bytes), (expected, None));
}

#[test]
fn control_frames_leave_the_message_alone() {
    let bytes = [
        frame(TEXT, &"\u{20ac}".as_bytes()[..1]),
        frame(FIN | PING, &[0xff]),
        frame(CONTINUATION, &"\u{20ac}".as_bytes()[1..]),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"p"),
        frame(FIN | CONTINUATION, b"end"),
        frame(FIN | CLOSE, b""),
    ]
    .concat();
    let expected = vec![
        Seen::Ping(vec![0xff]),
        Seen::Pong(b"p".to_vec()),
        text("\u{20ac}end"),
        Seen::Close(None, String::new()),
    ];
    assert_eq!(outcome(&bytes), (expected, None));
}

#[test]
fn compressed_messages_come_as_they_are() {
    const RSV1: u8 = 0x40;
    let limits = Limits {
        deflate: true,
        ..LIMITS
    };
    let bytes = [
        frame(FIN | RSV1 | TEXT, &[0xff; 9]),
        frame(RSV1 | BINARY, b"a"),
        frame(FIN | PING, b""),
        frame(FIN | CONTINUATION, b"bc"),
        frame(FIN | TEXT, b"plain"),
        frame(FIN | RSV1 | TEXT, b""),
    ]
    .concat();
    let expected = vec![
        Seen::Compressed(true, vec![0xff; 9]),
        Seen::Ping(vec![]),
        Seen::Compressed(false, b"abc".to_vec()),
        text("plain"),
        Seen::Compressed(true, vec![]),
    ];
    let outcome = chop(&bytes, |pieces| read(pieces, &limits));
    assert_eq!(outcome, (expected, None));

    let too_big = [
        frame(RSV1 | TEXT, &[0; 200]),
        frame(FIN | CONTINUATION, &[0; 101]),
    ];
    let outcome = chop(&too_big.concat(), |pieces| read(pieces, &limits));
    assert_eq!(outcome, (vec![], Some(Error::MessageTooBig(301))));
}

#[test]
fn a_length_of_sixteen_bits() {
    let bytes = frame(FIN | BINARY, &[7; 126]);
    assert_eq!(outcome(&bytes), (vec![Seen::Binary(vec![7; 126])], None));
}

#[test]
fn a_length_of_sixty_four_bits() {
    let limits = Limits {
        max_fragments: 0,
        max_frame_size: 0,
        max_message_size: 0,
        binary: true,
        deflate: false,
    };
    let bytes = frame(FIN | BINARY, &[7; 65536]);
    let expected = (vec![Seen::Binary(vec![7; 65536])], None);
    for size in [1, 13, 14, 1000, 65536, usize::MAX] {
        let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
        assert!(read(&pieces, &limits) == expected, "pieces of {size}");
    }
}

#[test]
fn every_rule_broken_after_a_good_message() {
    let key = Some([9, 8, 7, 6]);
    let cases: &[(Error, u16, Vec<u8>)] = &[
        (Error::ReservedBits, 1002, frame(FIN | 0x40 | TEXT, b"x")),
        (Error::ReservedBits, 1002, frame(FIN | 0x10 | PING, b"")),
        (Error::ReservedOpcode(3), 1002, frame(FIN | 3, b"x")),
        (Error::ReservedOpcode(15), 1002, frame(FIN | 15, b"")),
        (Error::Unmasked, 1002, frame_with(FIN | TEXT, None, 7, b"x")),
        (Error::FragmentedControl, 1002, frame(PING, b"")),
        (Error::LongControl, 1002, frame(FIN | PING, &[0; 126])),
        (Error::LongControl, 1002, header(FIN | CLOSE, key, 64, 5)),
        (
            Error::LengthNotMinimal,
            1002,
            header(FIN | TEXT, key, 16, 125),
        ),
        (
            Error::LengthNotMinimal,
            1002,
            header(FIN | TEXT, key, 64, 65535),
        ),
        (
            Error::LengthOutOfRange,
            1002,
            header(FIN | TEXT, key, 64, 1 << 63),
        ),
        (Error::UnexpectedContinuation, 1002, frame(FIN, b"x")),
        (Error::UnexpectedContinuation, 1002, frame(0, b"")),
        (
            Error::ExpectedContinuation,
            1002,
            [frame(TEXT, b"a"), frame(FIN | BINARY, b"b")].concat(),
        ),
        (Error::ShortCloseBody, 1002, frame(FIN | CLOSE, b"a")),
        (
            Error::InvalidCloseCode(1005),
            1002,
            frame(FIN | CLOSE, &close_body(1005, b"")),
        ),
        (
            Error::CloseReasonNotUtf8,
            1007,
            frame(FIN | CLOSE, &close_body(1000, &[0xff])),
        ),
        (Error::TextNotUtf8, 1007, frame(FIN | TEXT, b"a\xffb")),
        (Error::TextNotUtf8, 1007, frame(FIN | TEXT, &[0xe2, 0x82])),
        (
            Error::TextNotUtf8,
            1007,
            [frame(TEXT, &[0xe2, 0x82]), frame(0, b"a")].concat(),
        ),
        (
            Error::TextNotUtf8,
            1007,
            [frame(TEXT, &[0xe2, 0x82]), frame(FIN, b"")].concat(),
        ),
        (
            Error::FrameTooBig(201),
            1009,
            header(FIN | TEXT, key, 16, 201),
        ),
        (
            Error::FrameTooBig(u64::MAX >> 1),
            1009,
            header(FIN | TEXT, key, 64, u64::MAX >> 1),
        ),
        (
            Error::MessageTooBig(301),
            1009,
            [frame(BINARY, &[0; 101]), header(FIN, key, 16, 200)].concat(),
        ),
    ];
    for (error, code, bytes) in cases {
        let bytes = [&frame(FIN | TEXT, b"ok"), bytes.as_slice()].concat();
        assert_eq!(outcome(&bytes), (vec![text("ok")], Some(*error)));
        assert_eq!(error.close_code(), CloseCode(*code), "{error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn binary_is_refused_where_it_is_not_wanted() {
    let limits = Limits {
        binary: false,
        deflate: false,
        ..LIMITS
    };
    let refused = chop(&frame(FIN | BINARY, b"x"), |pieces| read(pieces, &limits));
    assert_eq!(refused, (vec![], Some(Error::BinaryMessage)));
    assert_eq!(Error::BinaryMessage.close_code(), CloseCode(1003));
}

#[test]
fn limits_are_inclusive_and_spare_control_frames() {
    let bytes = [frame(BINARY, &[1; 20]), frame(FIN, &[1; 10])].concat();
    let limits = Limits {
        max_fragments: 0,
        max_frame_size: 20,
        max_message_size: 30,
        binary: true,
        deflate: false,
    };
    let seen = chop(&bytes, |pieces| read(pieces, &limits));
    assert_eq!(seen, (vec![Seen::Binary(vec![1; 30])], None));
    let ping = frame(FIN | PING, &[2; 125]);
    let seen = chop(&ping, |pieces| read(pieces, &limits));
    assert_eq!(seen, (vec![Seen::Ping(vec![2; 125])], None));
}

/// The reader reports the first byte that is not UTF-8 at once, before its frame and its
/// message are complete.
#[test]
fn broken_text_is_reported_at_its_first_bad_byte() {
    for (bad, at) in [
        (&b"abc\xffdef"[..], 3),
        (b"\xed\xa0\x80x", 1),
        (b"\xf4\x90\x80\x80", 1),
        (b"\xe2\x82(x", 2),
        (b"\xc0\xaf", 0),
    ] {
        let bytes = frame(TEXT, bad);
        let mut reader = Reader::default();
        let head = bytes.len() - bad.len();
        for (i, byte) in bytes.iter().enumerate() {
            let result = reader
                .next(&mut [*byte], &LIMITS)
                .map(|(n, e)| (n, e.is_some()));
            if i == head + at {
                assert_eq!(result, Err(Error::TextNotUtf8), "{bad:x?}");
                break;
            }
            assert_eq!(result, Ok((1, false)), "{bad:x?} byte {i}");
        }
    }
}

/// Random frames, some with a changed byte, in random pieces. The reader does not panic,
/// and the outcome is the same as in one piece.
#[test]
fn random_frames_read_alike_in_random_pieces() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let any = [TEXT, FIN | TEXT, BINARY, 0, FIN, FIN | CLOSE, PING];
    let (mut events, mut errors) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        let mut open = false;
        for _ in 0..random(8) {
            let fin = [0, FIN][random(2)];
            let first = match random(10) {
                0 => any[random(any.len())],
                1..3 => FIN | [PING, PONG][random(2)],
                _ if open => fin | CONTINUATION,
                _ => fin | [TEXT, BINARY][random(2)],
            };
            open = if first & 8 == 0 {
                first & FIN == 0
            } else {
                open
            };
            let payload = "a\u{e9}\u{20ac}\u{1f600}".repeat(random(4));
            bytes.extend(frame(first, payload.as_bytes()));
        }
        if random(4) == 0 && !bytes.is_empty() {
            let at = random(bytes.len());
            bytes[at] = random(256) as u8;
        }
        let mut pieces = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + random(rest.len().min(20)));
            pieces.push(piece);
            rest = after;
        }
        let whole = drive(&mut Reader::default(), &[&bytes], &LIMITS);
        let cut = drive(&mut Reader::default(), &pieces, &LIMITS);
        assert_eq!(cut, whole, "{bytes:02x?}");
        events += whole.0.len();
        errors += usize::from(whole.1.is_some());
    }
    assert!(events > 20_000 && errors > 2_000, "{events} {errors}");
}
