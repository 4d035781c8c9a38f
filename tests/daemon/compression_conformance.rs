//! The case groups of the Autobahn test suite for permessage-deflate (12 and 13) and the
//! rules of RFC 7692, against the echo server. The tests have their own decoder.

use crate::common::deflate::{deflate, inflate};
use crate::common::ws_client::{BINARY, CONTINUATION, FIN, Frame, PING, PONG, TEXT, WsClient};
use crate::conformance::echo::EchoServer;

/// RSV1 of the first byte.
const RSV1: u8 = 0x40;

/// Messages of one case.
const MESSAGES: usize = 8;

const USUAL: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn start() -> EchoServer {
    EchoServer::start_with(&["--deflate"])
}

/// Payloads like those of the suite: repetitive text, JSON, words, a picture, and binary data
/// that is compressed already.
fn contents() -> [(&'static str, u8, Vec<u8>); 5] {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = ["light", "yonder", "window", "breaks", "\u{20ac}uro", "east"];
    let json: String = (0..4000)
        .map(|n| format!("{{\"id\":{n},\"name\":\"n\u{e4}me {:x}\"}},", random()))
        .collect();
    let prose: String = (0..30_000)
        .map(|_| words[(random() % 6) as usize].to_owned() + " ")
        .collect();
    let noise = (0..20_000).flat_map(|_| random().to_le_bytes()).collect();
    let picture = (0..150_000_u32).map(|n| ((n % 512) ^ (n / 512)) as u8 & 0xf8);
    [
        ("repetitive", TEXT, "abc ".repeat(40_000).into_bytes()),
        ("JSON", TEXT, json.into_bytes()),
        ("prose", TEXT, prose.into_bytes()),
        ("picture", BINARY, picture.collect()),
        ("noise", BINARY, noise),
    ]
}

/// The first `size` bytes, or a few less in order not to split a character.
fn cut(content: &[u8], size: usize, kind: u8) -> &[u8] {
    let mut end = size.min(content.len());
    while kind == TEXT && std::str::from_utf8(&content[..end]).is_err() {
        end -= 1;
    }
    &content[..end]
}

/// Sends a compressed message in fragments of at most `size` bytes.
fn send(client: &mut WsClient, kind: u8, payload: &[u8], size: usize) {
    let mut pieces: Vec<_> = payload.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    for (at, piece) in pieces.iter().enumerate() {
        let first = if at == 0 { RSV1 | kind } else { CONTINUATION };
        let fin = if at + 1 == pieces.len() { FIN } else { 0 };
        client.send_frame(fin | first, piece).unwrap();
    }
}

/// Reads a message; returns whether it was compressed and how far it refers back.
fn expect(client: &mut WsClient, kind: u8, message: &[u8], case: &str) -> Option<usize> {
    let frame = client.read_frame().unwrap().expect(case);
    assert!(
        frame.fin && frame.opcode == kind,
        "{case}: {}",
        frame.opcode
    );
    match frame.rsv {
        0 => assert!(frame.payload == message, "{case}: another message"),
        4 => {
            let inflated = inflate(&frame.payload);
            assert!(inflated.bytes == message, "{case}: another message");
            return Some(inflated.distance);
        }
        rsv => panic!("{case}: RSV {rsv}"),
    }
    None
}

fn close(mut client: WsClient) {
    client.send_close(1000, "").unwrap();
    assert_eq!(client.read_close().unwrap(), (Some(1000), String::new()));
    client.read_eof().unwrap();
}

/// The sizes of messages and of their fragments.
fn sizes() -> Vec<(usize, usize)> {
    let whole = usize::MAX;
    let sizes = [16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072];
    let mut all: Vec<_> = sizes.iter().map(|&size| (size, whole)).collect();
    all.extend(sizes[5..].iter().map(|&size| (size, 256)));
    all.extend([(131_072, 1024), (131_072, 4096), (131_072, 32_768)]);
    all
}

#[test]
fn group_12_messages_of_all_sizes_and_fragments() {
    let server = start();
    for (name, kind, content) in contents() {
        for (size, fragment) in sizes() {
            let case = format!("{name}, {size} bytes in fragments of {fragment}");
            let (mut client, response) = server.offering("permessage-deflate");
            assert_eq!(response.field("Sec-WebSocket-Extensions"), Some(USUAL));
            let message = cut(&content, size, kind);
            for n in 0..MESSAGES {
                let payload = deflate(message, [6, 1, 9, 0][n % 4]);
                send(&mut client, kind, &payload, fragment);
                let compressed = expect(&mut client, kind, message, &case);
                let pays = name != "noise" && size >= 1024;
                assert!(compressed.is_some() || !pays, "{case}: not compressed");
            }
            close(client);
        }
    }
}

/// Whether the client asks for no context takeover, and for which window: the list of offers of
/// each case.
#[test]
fn group_13_messages_after_each_offer() {
    let server = start();
    let [_, (_, kind, json), ..] = contents();
    let cases: [(&str, &[(bool, u8)]); 7] = [
        ("13.1", &[(false, 0)]),
        ("13.2", &[(true, 0)]),
        ("13.3", &[(false, 9)]),
        ("13.4", &[(false, 15)]),
        ("13.5", &[(true, 9)]),
        ("13.6", &[(true, 15)]),
        ("13.7", &[(true, 9), (true, 0), (false, 0)]),
    ];
    for (case, offers) in cases {
        let (mut offered, window) = (Vec::new(), offers[0].1);
        for &(no_takeover, window) in offers {
            let mut offer = "permessage-deflate; client_no_context_takeover; \
                             client_max_window_bits"
                .to_owned();
            if no_takeover {
                offer += "; server_no_context_takeover";
            }
            if window != 0 {
                offer += &format!("; server_max_window_bits={window}");
            }
            offered.push(offer);
        }
        let answer = match window {
            0 => USUAL.to_owned(),
            _ => format!("{USUAL}; server_max_window_bits={window}"),
        };
        let most = if window == 0 { 32_768 } else { 1 << window };
        for (size, fragment) in sizes() {
            let case = format!("{case}, {size} bytes in fragments of {fragment}");
            let (mut client, response) = server.offering(&offered.join(", "));
            let answered = response.field("Sec-WebSocket-Extensions");
            assert_eq!(answered, Some(&*answer), "{case}");
            let message = cut(&json, size, kind);
            for _ in 0..2 {
                send(&mut client, kind, &deflate(message, 6), fragment);
                let distance = expect(&mut client, kind, message, &case);
                assert!(distance.is_some() || size < 1024, "{case}: not compressed");
                assert!(distance.unwrap_or(0) <= most, "{case}: {distance:?}");
            }
            close(client);
        }
    }
}

/// Other offers than those of the suite.
#[test]
fn group_13_offers_of_clients() {
    let server = start();
    let [_, (_, kind, json), ..] = contents();
    let message = cut(&json, 60_000, kind);
    for (offer, answer, most) in [
        ("permessage-deflate", USUAL.to_owned(), 32_768),
        (
            "permessage-deflate; client_max_window_bits; server_no_context_takeover",
            USUAL.to_owned(),
            32_768,
        ),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=8",
            format!("{USUAL}; server_max_window_bits=8"),
            256,
        ),
        (
            "permessage-deflate; server_max_window_bits=9; server_no_context_takeover",
            format!("{USUAL}; server_max_window_bits=9"),
            512,
        ),
        (
            "permessage-deflate; server_max_window_bits=12",
            format!("{USUAL}; server_max_window_bits=12"),
            4096,
        ),
        (
            "permessage-deflate; server_max_window_bits=15; client_no_context_takeover",
            format!("{USUAL}; server_max_window_bits=15"),
            32_768,
        ),
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9, \
             permessage-deflate; server_no_context_takeover, permessage-deflate",
            format!("{USUAL}; server_max_window_bits=9"),
            512,
        ),
        (
            "permessage-deflate; server_max_window_bits=7, permessage-deflate; x, \
             permessage-deflate; server_max_window_bits=10",
            format!("{USUAL}; server_max_window_bits=10"),
            1024,
        ),
    ] {
        let (mut client, response) = server.offering(offer);
        assert_eq!(response.status, 101, "{offer}");
        let answered = response.field("Sec-WebSocket-Extensions");
        assert_eq!(answered, Some(&*answer), "{offer}");
        for _ in 0..MESSAGES {
            send(&mut client, kind, &deflate(message, 6), usize::MAX);
            let distance = expect(&mut client, kind, message, offer).expect("compressed");
            assert!(distance <= most, "{offer}: refers back by {distance}");
            // The compression uses the window.
            assert!(distance > most / 4, "{offer}: by {distance} only");
        }
        close(client);
    }
}

#[test]
fn an_offer_that_cannot_be_kept_is_passed_over() {
    let server = start();
    for offer in [
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_no_context_takeover=true",
        "permessage-bzip2",
    ] {
        let (mut client, response) = server.offering(offer);
        assert_eq!(response.status, 101, "{offer}");
        assert_eq!(response.field("Sec-WebSocket-Extensions"), None, "{offer}");
        client.send_frame(FIN | RSV1 | TEXT, b"x").unwrap();
        assert_eq!(client.read_close().unwrap().0, Some(1002), "{offer}");
    }
}

#[test]
fn without_the_option_nothing_is_agreed_on() {
    let server = EchoServer::start();
    let (client, response) = server.offering("permessage-deflate");
    assert_eq!(response.field("Sec-WebSocket-Extensions"), None);
    close(client);
}

#[test]
fn plain_messages_and_control_frames_pass_between() {
    let server = start();
    let (mut client, _) = server.offering("permessage-deflate");
    client.send_frame(FIN | TEXT, b"plain").unwrap();
    expect(&mut client, TEXT, b"plain", "not compressed");

    let message = "compressed ".repeat(300);
    let payload = deflate(message.as_bytes(), 6);
    let (head, tail) = payload.split_at(7);
    client.send_frame(RSV1 | TEXT, head).unwrap();
    client.send_frame(FIN | PING, b"between").unwrap();
    client.send_frame(FIN | CONTINUATION, tail).unwrap();
    let pong = client.read_frame().unwrap();
    let expected = Frame {
        fin: true,
        rsv: 0,
        opcode: PONG,
        payload: b"between".to_vec(),
    };
    assert_eq!(pong, Some(expected));
    expect(&mut client, TEXT, message.as_bytes(), "around a Ping");
    close(client);
}

#[test]
fn what_breaks_a_rule_fails_the_connection() {
    let server = EchoServer::start_with(&["--deflate", "--max-message", "100000"]);
    let not_utf8 = deflate(&[b'x', 0xc3, 0x28], 6);
    let bomb = deflate(&vec![b' '; 50 << 20], 9);
    assert!(bomb.len() < 100_000);
    for (case, frames, code) in [
        (
            "RSV1 on a continuation",
            [(TEXT, &b"a"[..]), (FIN | RSV1, b"b")],
            1002,
        ),
        (
            "RSV1 on a Ping",
            [(FIN | RSV1 | PING, b""), (FIN | PING, b"")],
            1002,
        ),
        ("RSV2", [(FIN | 0x20 | TEXT, b""), (FIN | PING, b"")], 1002),
        (
            "no DEFLATE",
            [(FIN | RSV1 | TEXT, b"\xff\xff\xff"), (FIN | PING, b"")],
            1007,
        ),
        (
            "no UTF-8",
            [(FIN | RSV1 | TEXT, &not_utf8), (FIN | PING, b"")],
            1007,
        ),
        (
            "a bomb",
            [(FIN | RSV1 | TEXT, &bomb), (FIN | PING, b"")],
            1009,
        ),
    ] {
        let (mut client, _) = server.offering("permessage-deflate");
        for (first, payload) in frames {
            // The server may have refused it before.
            let _ = client.send_frame(first, payload);
        }
        assert_eq!(client.read_close().unwrap().0, Some(code), "{case}");
        let _ = client.send_close(code, "");
        client.read_eof().unwrap();
    }
}
