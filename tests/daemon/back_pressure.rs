//! A peer that does not read. TCP slows the other peer down, the daemon's memory does not
//! grow, nothing is lost, and other sessions continue. If the peer never reads again, the
//! daemon drops the session.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::common::stage::*;
use crate::common::ws_client::{FIN, PING, PONG, TEXT, WsClient, frame};
use crate::common::{is_reset, reset, write_to_the_end, write_until_stalled};

const MIB: usize = 1 << 20;
/// Bytes sent to a peer that does not read: far more than the kernel buffers.
const FLOOD_BYTES: usize = 64 * MIB;
/// How much the daemon may grow during that time.
const GROWTH_BYTES: usize = 4 * MIB;
/// Size of a stanza's text.
const BODY_BYTES: usize = 4000;
const STANZAS: usize = FLOOD_BYTES / BODY_BYTES;

fn stanza(n: usize) -> String {
    format!("<a xmlns='u' n='{n}'>{}</a>", "x".repeat(BODY_BYTES))
}

/// Fails if the daemon has grown too much.
fn assert_small(stage: &Stage, before: usize) {
    let now = stage.daemon.resident();
    let grown = now.saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grown by {} KiB", grown / 1024);
}

#[test]
fn a_flood_from_the_server_waits_for_the_client() {
    let stage = Stage::set("");
    let mut other = stage.framed();
    let (mut client, server) = stage.framed();
    let before = stage.daemon.resident();
    let mut numbers = 0..STANZAS;
    let mut next = || numbers.next().map(|n| stanza(n).into_bytes());
    let mut pending = Vec::new();
    let done = write_until_stalled(&server.stream, &mut pending, &mut next);
    assert!(!done, "all was taken, though nobody reads");
    assert_small(&stage, before);
    exchange(&mut other);
    thread::scope(|scope| {
        scope.spawn(|| {
            write_to_the_end(&server.stream, &mut pending, &mut next);
        });
        for n in 0..STANZAS {
            expect_text(&mut client, &stanza(n));
        }
    });
    assert_small(&stage, before);
    stage.daemon.stop();
}

#[test]
fn a_flood_from_the_client_waits_for_the_server() {
    let stage = Stage::set("");
    let mut other = stage.framed();
    let (client, mut server) = stage.framed();
    let before = stage.daemon.resident();
    let mut numbers = 0..STANZAS;
    let mut next = || {
        numbers
            .next()
            .map(|n| frame(FIN | TEXT, stanza(n).as_bytes()))
    };
    let mut pending = Vec::new();
    let done = write_until_stalled(&client.stream, &mut pending, &mut next);
    assert!(!done, "all was taken, though nobody reads");
    assert_small(&stage, before);
    exchange(&mut other);
    thread::scope(|scope| {
        scope.spawn(|| {
            write_to_the_end(&client.stream, &mut pending, &mut next);
        });
        for n in 0..STANZAS {
            server.expect(&stanza(n));
        }
    });
    assert_small(&stage, before);
    stage.daemon.stop();
}

/// After the reset, the server still answers what the client sent before.
#[test]
fn a_client_that_is_lost_while_its_queue_is_full_ends_the_session() {
    let stage = Stage::set("write_timeout: 3600\n");
    let (client, server) = stage.framed();
    thread::scope(|scope| {
        let stream = &server.stream;
        let echo = scope.spawn(move || std::io::copy(&mut &*stream, &mut &*stream));
        let mut numbers = 0..STANZAS;
        let mut next = || {
            numbers
                .next()
                .map(|n| frame(FIN | TEXT, stanza(n).as_bytes()))
        };
        let done = write_until_stalled(&client.stream, &mut Vec::new(), &mut next);
        assert!(!done, "all was taken, though nobody reads");
        reset(client.stream);
        // After some MiB that the server still sends, its connection is reset.
        if let Err(error) = echo.join().unwrap() {
            assert!(is_reset(&error), "{error}");
        }
    });
    stage.daemon.stop();
}

#[test]
fn a_flood_of_pings_waits_for_the_client() {
    let stage = Stage::set("");
    let mut other = stage.framed();
    let (mut client, mut server) = stage.framed();
    let before = stage.daemon.resident();
    // Enough to fill the kernel's buffers in both directions.
    let pings = frame(FIN | PING, &[b'p'; 125]).repeat(1000);
    let mut sent = 0;
    let mut next = || {
        sent += 1000;
        (sent <= 500_000).then(|| pings.clone())
    };
    let mut pending = Vec::new();
    let done = write_until_stalled(&client.stream, &mut pending, &mut next);
    assert!(!done, "all was taken, though nobody reads");
    assert_small(&stage, before);
    exchange(&mut other);
    // When the client reads, the messages after the Pings arrive.
    let mut reader = WsClient::new(client.stream.try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut left = std::mem::take(&mut pending);
            write_to_the_end(&client.stream, &mut left, || None);
            client.send_frame(FIN | PING, b"last").unwrap();
            client.send_text(PRESENCE).unwrap();
        });
        let mut pongs = 0;
        loop {
            let pong = reader.read_frame().unwrap().expect("a Pong");
            assert_eq!((pong.fin, pong.opcode), (true, PONG));
            if pong.payload == b"last" {
                break;
            }
            assert_eq!(pong.payload, [b'p'; 125]);
            pongs += 1;
        }
        assert!(pongs > 1000, "only {pongs}");
    });
    server.expect(PRESENCE);
    stage.daemon.stop();
}

#[test]
fn small_stanzas_with_large_declarations_are_bounded_as_sent() {
    const COUNT: usize = 16 << 10;
    let stage = Stage::set("");
    // The longest namespace that a header may have, and escaping makes it longer. jabsocket
    // adds it to each stanza of four bytes.
    let long = "\"".repeat(256);
    let header = format!(
        "<stream:stream xmlns='{long}' xmlns:stream='http://etherx.jabber.org/streams' \
         id='s1' from='example.org' version='1.0' xml:lang='en'>"
    );
    let expected = format!("<a xmlns=\"{}\"/>", "&quot;".repeat(256));
    let flood = "<a/>".repeat(COUNT);
    let (mut client, server) = stage.greeting(OPEN, OPEN_UP);
    let before = stage.daemon.resident();
    let mut floods = 0;
    let mut next = || {
        floods += 1;
        match floods {
            1 => Some(header.clone().into_bytes()),
            2..100 => Some(flood.clone().into_bytes()),
            _ => None,
        }
    };
    let done = write_until_stalled(&server.stream, &mut Vec::new(), &mut next);
    assert!(!done, "all was taken, though nobody reads");
    assert_small(&stage, before);
    expect_text(&mut client, HEADER_DOWN);
    for _ in 0..COUNT {
        expect_text(&mut client, &expected);
    }
    assert_small(&stage, before);
    stage.daemon.stop();
}

#[test]
fn a_small_queue_holds_back_early() {
    let stage = Stage::set("max_queue_size: 16384\n");
    let (client, server) = stage.framed();
    let stanza = format!("<a xmlns='u'>{}</a>", "x".repeat(4000));
    let mut numbers = 0..16_000;
    let mut next = || numbers.next().map(|_| stanza.clone().into_bytes());
    let before = stage.daemon.resident();
    let done = write_until_stalled(&server.stream, &mut Vec::new(), &mut next);
    assert!(!done, "all was taken, though nobody reads");
    let grown = stage.daemon.resident().saturating_sub(before);
    assert!(grown < 256 << 10, "grown by {grown} bytes");
    drop(client);
}

/// Stanza sizes that fill the daemon's queue to different levels when the kernel accepts
/// no more: above the high-water mark, and between both marks.
const BODIES: [usize; 6] = [700, 2500, 9000, 20_000, 30_000, 50_000];

/// Sends stanzas of one size, encoded by `wrap`, until the other side resets the
/// connection.
fn flood(mut stream: &TcpStream, body: usize, wrap: impl Fn(&str) -> Vec<u8>) {
    let stanza = wrap(&format!("<a xmlns='u'>{}</a>", "x".repeat(body)));
    let mut stanzas = std::iter::repeat_n(stanza, FLOOD_BYTES / body);
    let taken = stanzas.all(|stanza| stream.write_all(&stanza).is_ok());
    assert!(!taken, "all was taken, though nobody reads");
}

#[test]
fn a_client_that_takes_nothing_is_dropped() {
    let stage = Stage::set("write_timeout: 0.5\n");
    let mut other = stage.framed();
    for body in BODIES {
        let (client, mut server) = stage.framed();
        let flooded = server.stream.try_clone().unwrap();
        let peer = client.stream.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| flood(&flooded, body, |stanza| stanza.into()));
            let (_, text) = server.read_end();
            assert_eq!(text, "", "a cut");
        });
        drop((server, flooded));
        let line = stage.daemon.wait_for_line(&format!("{peer} origin="));
        assert!(
            line.contains("ended by jabsocket: client does not read"),
            "{line}"
        );
    }
    exchange(&mut other);
    stage.daemon.stop();
}

#[test]
fn a_server_that_takes_nothing_is_lost() {
    let stage = Stage::set("write_timeout: 0.5\n");
    let mut other = stage.framed();
    for body in BODIES {
        let (mut client, mut server) = stage.framed();
        let flooded = client.stream.try_clone().unwrap();
        let framed = |stanza: &str| frame(FIN | TEXT, stanza.as_bytes());
        thread::scope(|scope| {
            scope.spawn(|| flood(&flooded, body, framed));
            let close = client.read_close().unwrap();
            assert_eq!(close, (Some(1001), "XMPP server closed".to_owned()));
            flooded.shutdown(Shutdown::Both).unwrap();
        });
        let (_, text) = server.read_end();
        assert!(!text.contains(END), "a cut");
    }
    exchange(&mut other);
    stage.daemon.stop();
}
