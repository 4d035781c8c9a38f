//! How sessions end, seen from both sides. If a client disconnects without closing its
//! stream, jabsocket cuts the stream to the server, which lets an XEP-0198 session
//! survive. If the client closes its stream, jabsocket ends it with an end tag (RFC 7395,
//! section 3.6).

use crate::common::reset;
use crate::common::stage::*;
use crate::common::tls_server::TlsStage;
use crate::common::ws_client::{
    BINARY, CLOSE as CLOSE_FRAME, CONTINUATION, FIN, KEY, PING, PONG, TEXT, WsClient, close_body,
    frame, frame_with, header,
};

/// Fails unless the next frame is a Ping; returns its payload.
fn expect_ping(client: &mut WsClient) -> Vec<u8> {
    let frame = client.read_frame().unwrap().expect("a Ping");
    assert_eq!((frame.fin, frame.opcode), (true, PING));
    frame.payload
}

#[test]
fn a_client_that_is_lost_leaves_the_server_cut() {
    let stage = Stage::set("");
    for broken_off in [true, false] {
        let (mut client, mut server) = stage.framed();
        client.send_text(PRESENCE).unwrap();
        server.expect(PRESENCE);
        match broken_off {
            true => reset(client.stream),
            false => drop(client),
        }
        server.expect_cut();
    }
    stage.daemon.stop();
}

#[test]
fn stanzas_of_a_lost_client_still_reach_the_server() {
    let stage = Stage::set("");
    let stanzas: Vec<String> = (0..100)
        .map(|n| format!("<message xmlns='jabber:client' id='{n}'/>"))
        .collect();
    let bytes: Vec<u8> = stanzas
        .iter()
        .flat_map(|stanza| frame(FIN | TEXT, stanza.as_bytes()))
        .collect();

    let (mut client, mut server) = stage.framed();
    client.send_raw(&bytes).unwrap();
    drop(client);
    server.expect(&stanzas.concat());
    server.expect_cut();

    // A reset may overtake sent data but does not split a stanza.
    let (mut client, mut server) = stage.framed();
    client.send_raw(&bytes).unwrap();
    reset(client.stream);
    let (_, text) = server.read_end();
    let whole = (0..=stanzas.len()).any(|n| text == stanzas[..n].concat());
    assert!(whole, "{text}");

    // An incomplete message is not relayed.
    let (mut client, mut server) = stage.framed();
    client.send_raw(&bytes[..bytes.len() - 3]).unwrap();
    drop(client);
    server.expect(&stanzas[..99].concat());
    server.expect_cut();
    stage.daemon.stop();
}

#[test]
fn a_close_frame_is_echoed_and_cuts() {
    let stage = Stage::set("");
    for (body, echo) in [
        (close_body(1000, b""), (Some(1000), "")),
        (close_body(1001, b"gone"), (Some(1001), "gone")),
        (
            close_body(3000, "h\u{e9}".as_bytes()),
            (Some(3000), "h\u{e9}"),
        ),
        // close() in a page sends this. The page sees 1005, "no code".
        (Vec::new(), (None, "")),
        // The four bytes that the tests of the C daemon send.
        (b"ABCD".to_vec(), (Some(16706), "CD")),
    ] {
        let (mut client, mut server) = stage.framed();
        client.send_frame(FIN | CLOSE_FRAME, &body).unwrap();
        let close = client.read_close().unwrap();
        assert_eq!(close, (echo.0, echo.1.to_owned()), "{body:?}");
        client.read_eof().unwrap();
        server.expect_cut();
    }
    stage.daemon.stop();
}

#[test]
fn an_empty_close_frame_is_echoed_empty_in_every_phase() {
    let stage = Stage::set("");
    let leave = |mut client: WsClient| {
        client.send_frame(FIN | CLOSE_FRAME, b"").unwrap();
        assert_eq!(client.read_close().unwrap(), (None, String::new()));
        client.read_eof().unwrap();
    };
    leave(stage.daemon.client());
    let (client, mut server) = stage.greeting(OPEN, OPEN_UP);
    leave(client);
    server.expect_cut();
    for (client, mut server) in [stage.framed(), stage.draft()] {
        leave(client);
        server.expect_cut();
    }
    stage.daemon.stop();
    // The server does not answer, so the session is still being set up.
    let stage = TlsStage::set(&["tls: required"], "");
    let client = stage.client(OPEN);
    let mut server = stage.server.tcp.accept();
    server.read_until("<stream:stream ");
    leave(client);
    stage.daemon.stop();
}

#[test]
fn all_before_the_close_reaches_the_server_first() {
    let stage = Stage::set("");
    let last = "<presence xmlns='jabber:client' type='unavailable'/>";
    let mut bytes = frame(FIN | TEXT, PRESENCE.as_bytes());
    bytes.extend(frame(FIN | TEXT, last.as_bytes()));

    // Browsers log out like this: stanza, <close/> and Close frame in one segment.
    let (mut client, mut server) = stage.framed();
    let mut logout = bytes.clone();
    logout.extend(frame(FIN | TEXT, CLIENT_CLOSE.as_bytes()));
    logout.extend(frame(FIN | CLOSE_FRAME, &close_body(1000, b"")));
    client.send_raw(&logout).unwrap();
    expect_text(&mut client, CLOSE);
    assert_eq!(client.read_close().unwrap(), (Some(1000), String::new()));
    client.read_eof().unwrap();
    server.expect(PRESENCE);
    server.expect(last);
    server.expect_end();

    let (mut client, mut server) = stage.framed();
    bytes.extend(frame(FIN | CLOSE_FRAME, &close_body(1001, b"")));
    client.send_raw(&bytes).unwrap();
    assert_eq!(client.read_close().unwrap(), (Some(1001), String::new()));
    client.read_eof().unwrap();
    server.expect(PRESENCE);
    server.expect(last);
    server.expect_cut();
    stage.daemon.stop();
}

#[test]
fn a_client_that_answers_no_ping_is_given_up() {
    let stage = Stage::set("ping_interval: 0.2\n");
    let (mut client, mut server) = stage.framed();
    expect_ping(&mut client);
    expect_ping(&mut client);
    expect_close(&mut client, 1001, "no answer to pings");
    server.expect_cut();
    stage.daemon.stop();
}

#[test]
fn a_client_that_answers_pings_stays() {
    let stage = Stage::set("ping_interval: 1\n");
    let (mut client, mut server) = stage.framed();
    for _ in 0..4 {
        let payload = expect_ping(&mut client);
        client.send_frame(FIN | PONG, &payload).unwrap();
    }
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    // The daemon handles Pings itself. The server does not see them.
    client.send_text(CLIENT_CLOSE).unwrap();
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn frames_against_the_rules_fail_the_connection() {
    let stage = Stage::set("");
    let key = Some(KEY);
    let fragment = frame(TEXT, b"<a>");
    for (case, code, bytes) in [
        ("unmasked", 1002, frame_with(FIN | TEXT, None, 7, b"<a/>")),
        ("RSV1", 1002, frame(FIN | 0x40 | TEXT, b"<a/>")),
        ("opcode 3", 1002, frame(FIN | 3, b"<a/>")),
        ("opcode 15", 1002, frame(FIN | 15, b"")),
        ("fragmented Ping", 1002, frame(PING, b"")),
        ("long Ping", 1002, frame(FIN | PING, &[b'x'; 126])),
        ("continuation", 1002, frame(FIN | CONTINUATION, b"<a/>")),
        (
            "text in a text",
            1002,
            [fragment.clone(), frame(FIN | TEXT, b"")].concat(),
        ),
        ("length", 1002, frame_with(FIN | TEXT, key, 16, b"<a/>")),
        ("bit 63", 1002, header(FIN | TEXT, key, 64, 1 << 63)),
        ("UTF-8", 1007, frame(FIN | TEXT, b"<a>\xc0\x80</a>")),
        (
            "UTF-8 cut off",
            1007,
            [fragment.clone(), frame(FIN, b"\xe2\x82")].concat(),
        ),
        ("binary", 1003, frame(FIN | BINARY, b"<a/>")),
        ("Close of 1", 1002, frame(FIN | CLOSE_FRAME, b"x")),
        (
            "Close 1005",
            1002,
            frame(FIN | CLOSE_FRAME, &close_body(1005, b"")),
        ),
        (
            "Close 999",
            1002,
            frame(FIN | CLOSE_FRAME, &close_body(999, b"")),
        ),
        (
            "Close reason",
            1007,
            frame(FIN | CLOSE_FRAME, &close_body(1000, b"\xff")),
        ),
    ] {
        let (mut client, mut server) = stage.framed();
        let mut all = frame(FIN | TEXT, PRESENCE.as_bytes());
        all.extend(bytes);
        // Ignored after the error.
        all.extend(frame(FIN | TEXT, b"<late xmlns='u'/>"));
        client.send_raw(&all).unwrap();
        let (told, _) = client
            .read_close()
            .unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(told, Some(code), "{case}");
        client.read_eof().unwrap();
        server.expect(PRESENCE);
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn a_message_that_is_too_big_gets_a_stream_error() {
    let stage = Stage::set("max_message_size: 2000\nmax_frame_size: 1000\n");
    let ok = format!("<a xmlns='u'>{}</a>", "x".repeat(500));
    // One frame, a message of small frames, and only a header.
    let mut fragments = frame(TEXT, &[b'x'; 900]);
    fragments.extend(frame(CONTINUATION, &[b'x'; 900]));
    fragments.extend(frame(FIN | CONTINUATION, &[b'x'; 900]));
    for bytes in [
        frame(FIN | TEXT, &[b'x'; 1001]),
        fragments,
        header(FIN | TEXT, Some(KEY), 64, 1 << 40),
    ] {
        let (mut client, mut server) = stage.framed();
        client.send_text(&ok).unwrap();
        client.send_raw(&bytes).unwrap();
        let error = expect_error(&mut client, "policy-violation", "too big");
        assert!(
            error.contains("<stanza-too-big xmlns='urn:xmpp:errors'/>"),
            "{error}"
        );
        expect_stream_close(&mut client, 1009);
        server.expect(&ok);
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn a_refused_message_on_its_way_does_not_break_the_answer_off() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client.send_frame(FIN | TEXT, &vec![b'x'; 3 << 20]).unwrap();
    expect_error(&mut client, "policy-violation", "too big");
    expect_stream_close(&mut client, 1009);
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn a_lost_server_is_reported_by_the_close_code_alone() {
    let stage = Stage::set("");
    for (said, broken_off) in [("", false), ("", true), ("<message><bo", false)] {
        let (mut client, mut server) = stage.framed();
        server.send(PRESENCE);
        expect_text(&mut client, PRESENCE);
        server.send(said);
        match broken_off {
            true => server.reset(),
            false => drop(server),
        }
        expect_close(&mut client, 1001, "XMPP server closed");
    }
    stage.daemon.stop();
}

#[test]
fn a_server_that_ends_its_direction_is_lost_too() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    server.send(PRESENCE);
    server.half_close();
    expect_text(&mut client, PRESENCE);
    expect_close(&mut client, 1001, "XMPP server closed");
    server.expect_cut();
    stage.daemon.stop();
}

#[test]
fn a_client_that_never_answers_a_close_is_left() {
    let stage = Stage::set("close_timeout: 0.3\n");
    let (mut client, server) = stage.framed();
    drop(server);
    let close = client.read_close().unwrap();
    assert_eq!(close.0, Some(1001));
    // Without an answer the daemon closes too.
    client.read_eof().unwrap();
    stage.daemon.wait_for_line("ended by server");
    stage.daemon.stop();
}

#[test]
fn a_server_that_never_closes_is_left() {
    let stage = Stage::set("close_timeout: 0.3\n");
    let (mut client, mut server) = stage.framed();
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    // The server keeps its direction open, but the session ends.
    stage.daemon.wait_for_line("ended by client");
    stage.daemon.stop();
}

/// Without a new stream header, the end belongs to the stream that the success ended.
#[test]
fn the_end_of_the_stream_after_a_success_is_passed_on() {
    let stage = Stage::set("");
    let said = "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>\
        <policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    for restarted in [false, true] {
        for error in ["", said] {
            let (mut client, mut server) = stage.framed();
            server.send(SUCCESS);
            expect_text(&mut client, SUCCESS);
            if restarted {
                client.send_text(OPEN).unwrap();
                server.expect(OPEN_UP);
            }
            server.send(&format!("{error}{END}"));
            if !error.is_empty() {
                let start = "<stream:error xmlns=\"jabber:client\"";
                expect_text(&mut client, &error.replace("<stream:error", start));
            }
            expect_stream_close(&mut client, 1000);
            server.expect_end();
        }
    }
    // In the draft, too.
    let (mut client, mut server) = stage.draft();
    server.send(&format!("{SUCCESS}{said}{END}"));
    for text in [SUCCESS, said, END] {
        expect_text(&mut client, text);
    }
    expect_close(&mut client, 1000, "");
    server.expect_end();
    stage.daemon.stop();
}
