//! Group 6: text is UTF-8, and the first invalid byte fails the connection. The sequences
//! are from Markus Kuhn's stress test.

use super::echo::EchoServer;
use crate::common::ws_client::{CONTINUATION, FIN, KEY, TEXT, frame, header};

/// "Hello-\u{b5}@ßöäüàá-UTF-8!!" and other text of two to four bytes a character.
const GREETING: &str = "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!";
const KOSME: &str = "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5}";

/// "κόσμε", a surrogate, "edited".
const BROKEN: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";

/// "κόσμε", a code point above U+10FFFF, "edited".
const BEYOND: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80edited";

#[test]
fn group_6_empty_and_fragmented_text() {
    let server = EchoServer::start();
    let mut case = server.case("6.1.1");
    case.send(FIN | TEXT, b"");
    case.expect(TEXT, b"");
    case.close();
    for (id, middle) in [("6.1.2", ""), ("6.1.3", "middle frame payload")] {
        let mut case = server.case(id);
        case.send(TEXT, b"");
        case.send(CONTINUATION, middle.as_bytes());
        case.send(FIN | CONTINUATION, b"");
        case.expect(TEXT, middle.as_bytes());
        case.close();
    }
    let mut case = server.case("6.2.1");
    case.send(FIN | TEXT, GREETING.as_bytes());
    case.expect(TEXT, GREETING.as_bytes());
    case.close();
    for (id, text, size) in [
        ("6.2.2", GREETING, 13),
        ("6.2.3", GREETING, 1),
        ("6.2.4", KOSME, 1),
        ("6.2.4, four bytes", "\u{1f600}\u{10ffff}", 1),
    ] {
        let mut case = server.case(id);
        case.raw(&super::fragments(TEXT, text.as_bytes(), size));
        case.expect(TEXT, text.as_bytes());
        case.close();
    }
}

#[test]
fn group_6_fails_fast() {
    let server = EchoServer::start();
    let mut case = server.case("6.3.1");
    case.send(FIN | TEXT, BROKEN);
    case.expect_failure(1007);
    let mut case = server.case("6.3.2");
    case.raw(&super::fragments(TEXT, BROKEN, 1));
    case.expect_failure(1007);

    // The answer comes before the end of the message.
    for broken in [BROKEN, BEYOND] {
        let (start, rest) = broken.split_at(11);
        let mut case = server.case("6.4.1");
        case.send(TEXT, start);
        case.send(CONTINUATION, &rest[..3]);
        case.expect_failure(1007);
        let mut case = server.case("6.4.2");
        case.send(TEXT, &broken[..12]);
        case.send(CONTINUATION, &broken[12..13]);
        case.expect_failure(1007);
        for (id, end) in [("6.4.3", 14), ("6.4.4", 13)] {
            let mut case = server.case(id);
            let whole = frame(FIN | TEXT, broken);
            let sent = whole.len() - broken.len() + end;
            case.chopped(&whole[..sent], sent - 2);
            case.expect_failure(1007);
        }
    }
    let mut case = server.case("inside a frame of 1 MiB");
    case.raw(&header(FIN | TEXT, Some(KEY), 64, 1 << 20));
    case.raw(&[b'a' ^ KEY[0], 0xff ^ KEY[1]]);
    case.expect_failure(1007);
    let mut case = server.case("cut character at the end");
    case.send(TEXT, b"ok");
    case.send(FIN | CONTINUATION, &[0xe1, 0xbd]);
    case.expect_failure(1007);
}

#[test]
fn group_6_valid_sequences() {
    let server = EchoServer::start();
    let hundred = KOSME.repeat(100);
    let texts = [
        ("6.5.1", "hello$world"),
        ("6.5.2", "hello\u{a2}world"),
        ("6.5.3", "hello\u{20ac}world"),
        ("6.5.4", "hello\u{24b62}world"),
        ("6.5.5", KOSME),
        ("a hundred times 6.5.5", &hundred),
        ("6.6.2", "\u{3ba}"),
        ("6.6.5", "\u{3ba}\u{1f79}"),
        ("6.6.7", "\u{3ba}\u{1f79}\u{3c3}"),
        ("6.6.9", "\u{3ba}\u{1f79}\u{3c3}\u{3bc}"),
        ("6.6.11", KOSME),
        ("6.7.1", "\0"),
        ("6.7.2", "\u{80}"),
        ("6.7.3", "\u{800}"),
        ("6.7.4", "\u{10000}"),
        ("6.9.1", "\u{7f}"),
        ("6.9.2", "\u{7ff}"),
        ("6.9.3", "\u{ffff}"),
        ("6.9.4", "\u{10ffff}"),
        ("6.11.1", "\u{d7ff}"),
        ("6.11.2", "\u{e000}"),
        ("6.11.3", "\u{fffd}"),
        ("6.11.4", "\u{10ffff}"),
        ("6.22.1", "\u{fffe}"),
        ("6.22.2", "\u{ffff}"),
        ("6.23.1", "\u{fff9}"),
        ("6.23.2", "\u{fffa}"),
        ("6.23.3", "\u{fffb}"),
        ("6.23.4", "\u{fffc}"),
        ("6.23.5", "\u{fffd}"),
        ("6.23.6", "\u{fffe}"),
        ("6.23.7", "\u{ffff}"),
    ];
    for (id, text) in texts {
        echoes_in_all_sizes(&server, id, text);
    }
    // 6.22.3 to 6.22.34: the last two code points of every plane.
    for plane in 1..=16u32 {
        for last in [0xfffe, 0xffff] {
            let text = char::from_u32(plane << 16 | last).unwrap().to_string();
            echoes_in_all_sizes(&server, &format!("6.22, {text:?}"), &text);
        }
    }
}

fn echoes_in_all_sizes(server: &EchoServer, id: &str, text: &str) {
    let mut case = server.case(id);
    for size in [usize::MAX, 1] {
        case.raw(&super::fragments(TEXT, text.as_bytes(), size));
        case.expect(TEXT, text.as_bytes());
        case.chopped(&frame(FIN | TEXT, text.as_bytes()), size);
        case.expect(TEXT, text.as_bytes());
    }
    case.close();
}

#[test]
fn group_6_invalid_sequences() {
    let server = EchoServer::start();
    let mut sequences: Vec<Vec<u8>> = [
        // 6.6: "κόσμε" split inside a character.
        &b"\xce"[..],
        b"\xce\xba\xe1",
        b"\xce\xba\xe1\xbd",
        b"\xce\xba\xe1\xbd\xb9\xcf",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce",
        // 6.8 and 6.10: five and six bytes; above U+10FFFF.
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfb\xbf\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        // 6.12: only continuation bytes.
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\x80\xbf\x80",
        b"\x80\xbf\x80\xbf",
        b"\x80\xbf\x80\xbf\x80",
        b"\x80\xbf\x80\xbf\x80\xbf",
        // 6.14: last continuation byte missing; 6.15: all of them in a row.
        b"\xc0",
        b"\xe0\x80",
        b"\xf0\x80\x80",
        b"\xf8\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80",
        b"\xdf",
        b"\xef\xbf",
        b"\xf7\xbf\xbf",
        b"\xfb\xbf\xbf\xbf",
        b"\xfd\xbf\xbf\xbf\xbf",
        b"\xc0\xe0\x80\xf0\x80\x80\xf8\x80\x80\x80\xfc\x80\x80\x80\x80\xdf\xef\xbf",
        // 6.16: impossible bytes.
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        // 6.17 to 6.19: overlong forms.
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
        b"\xc1\xbf",
        b"\xe0\x9f\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x87\xbf\xbf\xbf",
        b"\xfc\x83\xbf\xbf\xbf\xbf",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xf8\x80\x80\x80\x80",
        b"\xfc\x80\x80\x80\x80\x80",
        // 6.20 and 6.21: surrogates, single and paired.
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xaf\xbf",
        b"\xed\xb0\x80",
        b"\xed\xbe\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xed\xa0\x80\xed\xbf\xbf",
        b"\xed\xad\xbf\xed\xb0\x80",
        b"\xed\xad\xbf\xed\xbf\xbf",
        b"\xed\xae\x80\xed\xb0\x80",
        b"\xed\xae\x80\xed\xbf\xbf",
        b"\xed\xaf\xbf\xed\xb0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ]
    .iter()
    .map(|s| s.to_vec())
    .collect();
    // 6.12.7 and 6.12.8: every continuation byte; 6.13: every first byte alone.
    sequences.push((0x80..=0xbf).collect());
    for range in [
        0xc0..=0xdf,
        0xe0..=0xef,
        0xf0..=0xf7,
        0xf8..=0xfb,
        0xfc..=0xfd,
    ] {
        sequences.push(range.flat_map(|first| [first, b' ']).collect());
    }
    for sequence in sequences {
        for size in [usize::MAX, 1] {
            let mut case = server.case(&format!("6, {sequence:02x?}"));
            case.raw(&super::fragments(TEXT, &sequence, size));
            case.expect_failure(1007);
            let mut case = server.case(&format!("6, {sequence:02x?} in {size}"));
            case.chopped(&frame(FIN | TEXT, &sequence), size);
            case.expect_failure(1007);
        }
    }
}
