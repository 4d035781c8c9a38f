//! The case groups of the Autobahn test suite, with its numbers, against the echo server.
//! The tests are strict: they expect the exact answer, the exact close code and then the
//! end of the stream.

pub mod echo;
mod utf8;

use crate::common::ws_client::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, close_body, frame, frame_with,
};
use echo::EchoServer;

#[test]
fn group_1_framing() {
    let server = EchoServer::start();
    for (group, opcode, byte) in [("1.1", TEXT, b'*'), ("1.2", BINARY, 0xfe)] {
        for (i, len) in [0, 125, 126, 127, 128, 65535, 65536]
            .into_iter()
            .enumerate()
        {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            case.send(FIN | opcode, &vec![byte; len]);
            case.expect(opcode, &vec![byte; len]);
            case.close();
        }
        let mut case = server.case(&format!("{group}.8"));
        case.chopped(&frame(FIN | opcode, &[byte; 65536]), 997);
        case.expect(opcode, &[byte; 65536]);
        case.close();
    }
}

#[test]
fn group_2_pings_and_pongs() {
    let server = EchoServer::start();
    let payloads: [(&str, &[u8]); 4] = [
        ("2.1", b""),
        ("2.2", b"Hello, world!"),
        ("2.3", &[0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff]),
        ("2.4", &[0xfe; 125]),
    ];
    for (id, payload) in payloads {
        let mut case = server.case(id);
        case.send(FIN | PING, payload);
        case.expect(PONG, payload);
        case.close();
    }
    let mut case = server.case("2.5");
    case.send(FIN | PING, &[0xfe; 126]);
    case.expect_failure(1002);

    let mut case = server.case("2.6");
    case.chopped(&frame(FIN | PING, &[0xfe; 125]), 1);
    case.expect(PONG, &[0xfe; 125]);
    case.close();

    for (id, payload) in [("2.7", "".as_bytes()), ("2.8", b"unsolicited pong payload")] {
        let mut case = server.case(id);
        case.send(FIN | PONG, payload);
        case.close();
    }
    let mut case = server.case("2.9");
    case.send(FIN | PONG, b"unsolicited pong payload");
    case.send(FIN | PING, b"ping payload");
    case.expect(PONG, b"ping payload");
    case.close();

    for (id, size) in [("2.10", usize::MAX), ("2.11", 1)] {
        let mut case = server.case(id);
        let payload = |i| format!("payload-{i}").into_bytes();
        let pings: Vec<_> = (0..10).map(|i| frame(FIN | PING, &payload(i))).collect();
        case.chopped(&pings.concat(), size);
        for i in 0..10 {
            case.expect(PONG, &payload(i));
        }
        case.close();
    }
}

#[test]
fn group_3_reserved_bits() {
    let server = EchoServer::start();
    for (id, first) in [
        ("3.1", FIN | 0x10 | TEXT),
        ("3.5", FIN | 0x50 | BINARY),
        ("3.6", FIN | 0x60 | PING),
        ("3.7", FIN | 0x70 | CLOSE),
    ] {
        let mut case = server.case(id);
        case.send(first, b"Hello, world!");
        case.expect_failure(1002);
    }
    for (id, rsv, size) in [("3.2", 0x20, 4096), ("3.3", 0x30, 19), ("3.4", 0x40, 1)] {
        let mut case = server.case(id);
        let frames = [
            frame(FIN | TEXT, b"Hello, world!"),
            frame(FIN | rsv | TEXT, b"Hello, world!"),
            frame(FIN | PING, b""),
        ];
        case.chopped(&frames.concat(), size);
        case.expect(TEXT, b"Hello, world!");
        case.expect_failure(1002);
    }
}

#[test]
fn group_4_reserved_opcodes() {
    let server = EchoServer::start();
    for (group, opcodes) in [("4.1", 3..=7), ("4.2", 11..=15)] {
        for (i, opcode) in opcodes.enumerate() {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            let payload: &[u8] = match i {
                0 | 2 => b"",
                _ => b"reserved payload",
            };
            if i < 2 {
                case.send(FIN | opcode, payload);
            } else {
                let frames = [
                    frame(FIN | TEXT, b"Hello, world!"),
                    frame(FIN | opcode, payload),
                    frame(FIN | PING, b""),
                ];
                case.chopped(&frames.concat(), [4096, 7, 1][i - 2]);
                case.expect(TEXT, b"Hello, world!");
            }
            case.expect_failure(1002);
        }
    }
}

#[test]
fn group_5_fragmentation() {
    let server = EchoServer::start();
    for (id, opcode) in [("5.1", PING), ("5.2", PONG)] {
        let mut case = server.case(id);
        case.send(opcode, b"fragment1");
        case.send(FIN | CONTINUATION, b"fragment2");
        case.expect_failure(1002);
    }
    let first = || frame(TEXT, b"fragment1");
    let last = || frame(FIN | CONTINUATION, b"fragment2");
    // In one write, with one write per frame, and with one write per byte.
    for (i, size) in [4096, 15, 1].into_iter().enumerate() {
        let mut case = server.case(&format!("5.{}", 3 + i));
        case.chopped(&[first(), last()].concat(), size);
        case.expect(TEXT, b"fragment1fragment2");
        case.close();

        let mut case = server.case(&format!("5.{}", 6 + i));
        case.chopped(
            &[first(), frame(FIN | PING, b"ping"), last()].concat(),
            size,
        );
        case.expect(PONG, b"ping");
        case.expect(TEXT, b"fragment1fragment2");
        case.close();

        for (base, fin) in [(9, FIN), (12, 0)] {
            let mut case = server.case(&format!("5.{}", base + i));
            let frames = [
                frame(fin | CONTINUATION, b"nothing to go on"),
                frame(FIN | TEXT, b"Hello, world!"),
            ];
            case.chopped(&frames.concat(), size);
            case.expect_failure(1002);
        }
    }
    let mut case = server.case("5.15");
    let stray = frame(CONTINUATION, b"fragment3");
    let text = frame(FIN | TEXT, b"fragment4");
    case.raw(&[first(), last(), stray, text].concat());
    case.expect(TEXT, b"fragment1fragment2");
    case.expect_failure(1002);

    for (id, fin) in [("5.16", 0), ("5.17", FIN)] {
        let mut case = server.case(id);
        for _ in 0..2 {
            case.send(fin | CONTINUATION, b"fragment1");
            case.send(TEXT, b"fragment2");
            case.send(FIN | CONTINUATION, b"fragment3");
        }
        case.expect_failure(1002);
    }
    let mut case = server.case("5.18");
    case.send(TEXT, b"fragment1");
    case.send(FIN | TEXT, b"fragment2");
    case.expect_failure(1002);

    for (id, size) in [("5.19", usize::MAX), ("5.20", 15)] {
        let mut case = server.case(id);
        let before = [
            first(),
            frame(CONTINUATION, b"fragment2"),
            frame(FIN | PING, b"pongme 1!"),
        ];
        let after = [
            frame(CONTINUATION, b"fragment3"),
            frame(CONTINUATION, b"fragment4"),
            frame(FIN | PING, b"pongme 2!"),
            frame(FIN | CONTINUATION, b"fragment5"),
        ];
        case.chopped(&before.concat(), size);
        case.expect(PONG, b"pongme 1!");
        case.chopped(&after.concat(), size);
        case.expect(PONG, b"pongme 2!");
        case.expect(TEXT, b"fragment1fragment2fragment3fragment4fragment5");
        case.close();
    }
}

#[test]
fn group_7_closing_handshake() {
    let server = EchoServer::start();
    let mut case = server.case("7.1.1");
    case.send(FIN | TEXT, b"Hello World!");
    case.expect(TEXT, b"Hello World!");
    case.close();

    let close = || frame(FIN | CLOSE, &close_body(1000, b""));
    for (id, later) in [
        ("7.1.2", close()),
        ("7.1.3", frame(FIN | PING, b"")),
        ("7.1.4", frame(FIN | TEXT, b"Hello World!")),
    ] {
        let mut case = server.case(id);
        case.raw(&[close(), later].concat());
        case.expect_close(Some(1000), "");
    }
    let mut case = server.case("7.1.5");
    let rest = frame(FIN | CONTINUATION, b"fragment2");
    case.raw(&[frame(TEXT, b"fragment1"), close(), rest].concat());
    case.expect_close(Some(1000), "");

    let mut case = server.case("7.1.6");
    let big = vec![b'B'; 256 * 1024];
    let hello = frame(FIN | TEXT, b"Hello World!");
    let ping = frame(FIN | PING, b"");
    case.raw(&[frame(FIN | TEXT, &big), hello, close(), ping].concat());
    case.expect(TEXT, &big);
    case.expect(TEXT, b"Hello World!");
    case.expect_close(Some(1000), "");
}

#[test]
fn group_7_close_payloads() {
    let server = EchoServer::start();
    let mut case = server.case("7.3.1");
    case.send(FIN | CLOSE, b"");
    case.expect_close(None, "");

    let mut case = server.case("7.3.2");
    case.send(FIN | CLOSE, b"a");
    case.expect_failure(1002);

    let longest = "*".repeat(123);
    for (id, reason) in [
        ("7.3.3", ""),
        ("7.3.4", "Hello World!"),
        ("7.3.5", &longest),
    ] {
        let mut case = server.case(id);
        case.send(FIN | CLOSE, &close_body(1000, reason.as_bytes()));
        case.expect_close(Some(1000), reason);
    }
    let mut case = server.case("7.3.6");
    case.send(FIN | CLOSE, &close_body(1000, &[b'*'; 124]));
    case.expect_failure(1002);

    let mut case = server.case("7.5.1");
    let reason = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited";
    case.send(FIN | CLOSE, &close_body(1000, reason));
    case.expect_failure(1007);
}

#[test]
fn group_7_close_codes() {
    let server = EchoServer::start();
    let valid = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ];
    // 7.13 has no expectation. The server echoes codes added to the registry and codes
    // from 5000.
    let more = [1012, 1013, 1014, 5000, 16706, 65535];
    for code in valid.into_iter().chain(more) {
        let mut case = server.case(&format!("7.7 and 7.13, code {code}"));
        case.send(FIN | CLOSE, &close_body(code, b""));
        case.expect_close(Some(code), "");
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999] {
        let mut case = server.case(&format!("7.9, code {code}"));
        case.send(FIN | CLOSE, &close_body(code, b""));
        case.expect_failure(1002);
    }
}

#[test]
fn group_9_big_messages() {
    let server = EchoServer::start();
    for (i, kib) in [64, 256, 1024, 4096, 8192, 16384].into_iter().enumerate() {
        for (group, opcode) in [("9.1", TEXT), ("9.2", BINARY)] {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            case.send(FIN | opcode, &vec![b'*'; kib << 10]);
            case.expect(opcode, &vec![b'*'; kib << 10]);
            case.close();
        }
    }
    let big = vec![b'*'; 4 << 20];
    for i in 0..9 {
        let size = 64 << (2 * i);
        for (group, opcode) in [("9.3", TEXT), ("9.4", BINARY)] {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            case.raw(&fragments(opcode, &big, size));
            case.expect(opcode, &big);
            case.close();
        }
    }
    let message = vec![b'*'; 1 << 20];
    for (i, size) in [64, 128, 256, 512, 1024, 2048].into_iter().enumerate() {
        for (group, opcode) in [("9.5", TEXT), ("9.6", BINARY)] {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            case.chopped(&frame(FIN | opcode, &message), size);
            case.expect(opcode, &message);
            case.close();
        }
    }
    for (i, size) in [0, 16, 64, 256, 1024, 4096].into_iter().enumerate() {
        for (group, opcode) in [("9.7", TEXT), ("9.8", BINARY)] {
            let mut case = server.case(&format!("{group}.{}", i + 1));
            for _ in 0..1000 {
                case.send(FIN | opcode, &vec![b'*'; size]);
                case.expect(opcode, &vec![b'*'; size]);
            }
            case.close();
        }
    }
}

#[test]
fn group_10_auto_fragmentation() {
    let server = EchoServer::start();
    let mut case = server.case("10.1.1");
    case.raw(&fragments(TEXT, &[b'*'; 65536], 1300));
    case.expect(TEXT, &[b'*'; 65536]);
    case.close();
}

/// Frames that break RFC 6455, sections 5.1 and 5.2, and are missing from the suite.
#[test]
fn masks_and_lengths() {
    let server = EchoServer::start();
    let key = Some([1, 2, 3, 4]);
    for (id, bytes) in [
        ("unmasked", frame_with(FIN | TEXT, None, 7, b"text")),
        ("unmasked ping", frame_with(FIN | PING, None, 7, b"")),
        (
            "125 in 16 bits",
            frame_with(FIN | TEXT, key, 16, &[b'a'; 125]),
        ),
        (
            "65535 in 64 bits",
            frame_with(FIN | TEXT, key, 64, &[b'a'; 65535]),
        ),
        (
            "bit 63",
            crate::common::ws_client::header(FIN | TEXT, key, 64, 1 << 63),
        ),
    ] {
        let mut case = server.case(id);
        case.raw(&bytes);
        case.expect_failure(1002);
    }
}

#[test]
fn limits_apply_from_the_header_on() {
    let server = EchoServer::start_with(&["--max-frame", "1000", "--max-message", "2500"]);
    let mut case = server.case("at both limits");
    case.raw(&fragments(TEXT, &[b'a'; 2500], 1000));
    case.expect(TEXT, &[b'a'; 2500]);
    case.close();
    let key = Some([1, 2, 3, 4]);
    let mut case = server.case("frame above");
    case.raw(&crate::common::ws_client::header(FIN | TEXT, key, 16, 1001));
    case.expect_failure(1009);
    let mut case = server.case("message above");
    case.send(TEXT, &[b'a'; 1000]);
    case.send(CONTINUATION, &[b'a'; 1000]);
    case.raw(&crate::common::ws_client::header(FIN, key, 16, 501));
    case.expect_failure(1009);
}

/// Back-pressure: 32 MiB pass through a server that stops reading while 1 MiB is queued.
#[test]
fn a_flood_comes_back_in_full() {
    let server = EchoServer::start();
    let mut case = server.case("flood");
    let mut writer = server.share(&case);
    let message = vec![b'*'; 64 * 1024];
    let bytes = frame(FIN | BINARY, &message);
    let sender = std::thread::spawn(move || {
        for _ in 0..512 {
            std::io::Write::write_all(&mut writer, &bytes).unwrap();
        }
    });
    for _ in 0..512 {
        case.expect(BINARY, &message);
    }
    sender.join().unwrap();
    case.close();
}

/// The frames of a message, in fragments of `size` bytes.
fn fragments(opcode: u8, message: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = message.len().div_ceil(size);
    for (i, fragment) in message.chunks(size).enumerate() {
        let opcode = if i == 0 { opcode } else { CONTINUATION };
        let fin = if i + 1 == count { FIN } else { 0 };
        bytes.extend(frame(fin | opcode, fragment));
    }
    bytes
}
