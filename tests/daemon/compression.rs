//! `compression`: permessage-deflate between a browser and the daemon. Servers do not see
//! it, and small messages cannot expand into much memory.

use crate::common::daemon::Daemon;
use crate::common::deflate::{deflate, inflate};
use crate::common::stage::*;
use crate::common::ws_client::{CONTINUATION, FIN, TEXT, WsClient};
use crate::common::xmpp_server::Connection;

const RSV1: u8 = 0x40;

/// A client that has negotiated compression.
fn client(daemon: &Daemon) -> WsClient {
    let offer = [(
        "Sec-WebSocket-Extensions",
        "permessage-deflate; client_max_window_bits",
    )];
    let opened = WsClient::open(daemon.address, "/", &offer, Some("xmpp"));
    let (client, response) = opened.unwrap();
    assert_eq!(
        response.field("Sec-WebSocket-Extensions"),
        Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    );
    client
}

/// A session with compression, starting with the `<open/>`.
fn session(stage: &Stage) -> (WsClient, Connection) {
    let mut client = client(&stage.daemon);
    send(&mut client, OPEN);
    let server = both_headers(&mut client, &stage.server);
    (client, server)
}

fn send(client: &mut WsClient, text: &str) {
    let payload = deflate(text.as_bytes(), 9);
    client.send_frame(FIN | RSV1 | TEXT, &payload).unwrap();
}

/// Reads the next message. Fails unless it is compressed.
fn read(client: &mut WsClient) -> String {
    let frame = client.read_frame().unwrap().expect("a message");
    assert_eq!((frame.fin, frame.rsv, frame.opcode), (true, 4, TEXT));
    String::from_utf8(inflate(&frame.payload).bytes).unwrap()
}

fn stanza(words: usize) -> String {
    let body: String = (0..words).map(|n| format!("w\u{f6}rd {n} ")).collect();
    format!("<message xmlns='jabber:client'><body>{body}</body></message>")
}

#[test]
fn nothing_is_agreed_on_by_default() {
    let daemon = Daemon::start("");
    let offer = [("Sec-WebSocket-Extensions", "permessage-deflate")];
    let (mut client, response) = WsClient::open(daemon.address, "/", &offer, Some("xmpp")).unwrap();
    assert_eq!(response.status, 101);
    assert_eq!(response.field("Sec-WebSocket-Extensions"), None);
    client.send_frame(FIN | RSV1 | TEXT, b"x").unwrap();
    assert_eq!(client.read_close().unwrap().0, Some(1002));
}

#[test]
fn messages_pass_both_ways() {
    let stage = Stage::set("compression: true\n");
    let (mut client, mut server) = session(&stage);
    for words in [200, 20_000, 500] {
        let stanza = stanza(words);
        send(&mut client, &stanza);
        server.expect(&stanza);
        server.send(&stanza);
        assert_eq!(read(&mut client), stanza);
    }
    // Small messages are not compressed in either direction.
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send(PRESENCE);
    expect_text(&mut client, PRESENCE);
    send(&mut client, CLIENT_CLOSE);
    expect_stream_close(&mut client, 1000);
    server.expect_end();
}

/// It would be too much work at once.
#[test]
fn very_large_stanzas_are_not_compressed() {
    let stage = Stage::set("compression: true\n");
    let (mut client, mut server) = session(&stage);
    let stanza = stanza(40_000);
    assert!(stanza.len() > 256 << 10);
    send(&mut client, &stanza);
    server.expect(&stanza);
    server.send(&stanza);
    expect_text(&mut client, &stanza);
}

#[test]
fn the_draft_may_be_compressed_too() {
    let stage = Stage::set("compression: true\n");
    let mut client = client(&stage.daemon);
    send(&mut client, DRAFT_OPEN);
    let mut server = stage.server.accept();
    server.expect(&format!("<?xml version='1.0'?>{DRAFT_OPEN}"));
    server.send(HEADER);
    expect_text(&mut client, HEADER);
    let stanza = stanza(300);
    send(&mut client, &stanza);
    server.expect(&stanza);
    server.send(&stanza);
    assert_eq!(read(&mut client), stanza);
}

#[test]
fn fragments_of_a_compressed_message_may_come_one_by_one() {
    let stage = Stage::set("compression: true\n");
    let (mut client, mut server) = session(&stage);
    let stanza = stanza(400);
    let payload = deflate(stanza.as_bytes(), 9);
    let (last, before) = payload.split_last().unwrap();
    for (at, byte) in before.iter().enumerate() {
        let first = if at == 0 { RSV1 | TEXT } else { CONTINUATION };
        client.send_frame(first, &[*byte]).unwrap();
    }
    client.send_frame(FIN | CONTINUATION, &[*last]).unwrap();
    server.expect(&stanza);
}

#[test]
fn inflated_messages_are_judged_like_others() {
    let stage = Stage::set("compression: true\n");
    for (payload, condition, code) in [
        (deflate(b"<a xmlns='u'></b>", 9), "not-well-formed", 1000),
        (deflate(b"<a xmlns='u'>\xff</a>", 9), "", 1007),
        (b"\xff\xff\xff".to_vec(), "", 1007),
    ] {
        let (mut client, mut server) = session(&stage);
        client.send_frame(FIN | RSV1 | TEXT, &payload).unwrap();
        if !condition.is_empty() {
            expect_error(&mut client, condition, "inflated");
            expect_text(&mut client, CLOSE);
        }
        let close = client.read_close().unwrap();
        assert_eq!(close.0, Some(code), "{condition}");
        server.expect_end();
    }
}

#[test]
fn a_bomb_gets_1009_and_no_memory() {
    let stage = Stage::set("compression: true\nmax_message_size: 100000\n");
    let (mut healthy, mut server) = session(&stage);
    // The first bomb causes allocations that are made only once.
    let bomb = deflate(&vec![b' '; 64 << 20], 9);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let mut before = 0;
    for n in 0..30 {
        let (mut client, mut server) = session(&stage);
        client.send_frame(FIN | RSV1 | TEXT, &bomb).unwrap();
        expect_error(&mut client, "policy-violation", "a bomb");
        expect_text(&mut client, CLOSE);
        assert_eq!(client.read_close().unwrap().0, Some(1009));
        server.expect_end();
        if n == 0 {
            before = stage.daemon.resident();
        }
    }
    let grown = stage.daemon.resident().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes more");
    let stanza = stanza(10);
    send(&mut healthy, &stanza);
    server.expect(&stanza);
}

#[test]
fn much_work_in_one_read_is_done_in_several_turns() {
    let stage = Stage::set("compression: true\n");
    let (mut client, mut server) = session(&stage);
    // White space is discarded, so it does not fill a queue and the client is not slowed
    // down.
    let blank = deflate(&vec![b' '; 1 << 20], 9);
    let mut frames = Vec::new();
    let mut expected = String::new();
    for n in 0..40 {
        let stanza = format!("<a xmlns='u' n='{n}'/>");
        frames.extend(crate::common::ws_client::frame(FIN | RSV1 | TEXT, &blank));
        frames.extend(crate::common::ws_client::frame(
            FIN | TEXT,
            stanza.as_bytes(),
        ));
        expected.push_str(&stanza);
    }
    client.send_raw(&frames).unwrap();
    server.expect(&expected);
}
