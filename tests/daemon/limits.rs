//! Each limit of the configuration. When a client exceeds it, the client gets an answer,
//! the log has a line, another session continues, and no descriptor leaks.

mod connections;

use std::io::Write;
use std::net::TcpStream;

use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::try_write_until_stalled;
use crate::common::ws_client::{CONTINUATION, FIN, PING, Response, TEXT, WsClient, request};
use crate::common::xmpp_server::Connection;

type Pair = (WsClient, Connection);

/// Runs `abuse` and a healthy session with `config`. Fails unless the log then says that
/// `key` was exceeded, and all descriptors are closed.
fn beside_a_healthy_session(config: &str, key: &str, abuse: impl FnOnce(&Stage)) {
    let stage = Stage::set(config);
    let healthy = stage.framed();
    beside(&stage, healthy, key, abuse);
}

/// Loads `config` after the healthy session has started, because that session might be
/// too slow for it on a busy machine.
fn beside_an_older_session(config: &str, key: &str, abuse: impl FnOnce(&Stage)) {
    let stage = Stage::set("");
    let healthy = stage.framed();
    stage.reload(config);
    beside(&stage, healthy, key, abuse);
}

fn beside(stage: &Stage, mut healthy: Pair, key: &str, abuse: impl FnOnce(&Stage)) {
    exchange(&mut healthy);
    let before = stage.daemon.descriptors();
    abuse(stage);
    stage
        .daemon
        .wait_for_line(&format!("limit: 127.0.0.1 exceeded {key}"));
    exchange(&mut healthy);
    stage.daemon.wait_for_descriptors(before);
}

fn open(daemon: &Daemon, extra: &[(&str, &str)]) -> (WsClient, Response) {
    WsClient::open(daemon.address, "/", extra, Some("xmpp")).expect("an answer")
}

/// The number of lines in the log about exceeded limits.
fn limit_lines(daemon: &Daemon) -> usize {
    let lines = daemon.all_lines().into_iter();
    lines.filter(|line| line.contains(" limit: ")).count()
}

#[test]
fn a_request_too_long_or_of_too_many_lines() {
    beside_a_healthy_session("max_request_size: 2000\n", "max_request_size", |stage| {
        let cookie = "c".repeat(2000);
        let (_, response) = open(&stage.daemon, &[("Cookie", &cookie)]);
        assert_eq!(response.status, 431);
        let (_, response) = open(&stage.daemon, &[("Cookie", &cookie[..1000])]);
        assert_eq!(response.status, 101);
    });
    beside_a_healthy_session("max_request_lines: 16\n", "max_request_lines", |stage| {
        let (_, response) = open(&stage.daemon, &[("X", "1"); 17]);
        assert_eq!(response.status, 431);
        let (_, response) = open(&stage.daemon, &[("X", "1"); 9]);
        assert_eq!(response.status, 101);
    });
}

#[test]
fn requests_that_never_end_are_refused() {
    beside_an_older_session("handshake_timeout: 0.5\n", "handshake_timeout", |stage| {
        let slow: Vec<_> = (0..50)
            .map(|n| {
                let mut stream = TcpStream::connect(stage.daemon.address).unwrap();
                stream.write_all(&request("/", &[], None)[..n * 2]).unwrap();
                stream
            })
            .collect();
        for stream in slow {
            let response = WsClient::new(stream).read_response().unwrap();
            assert_eq!(response.status, 408);
        }
    });
}

#[test]
fn a_browser_that_never_opens_its_stream() {
    beside_an_older_session("open_timeout: 0.2\n", "open_timeout", |stage| {
        let mut client = stage.daemon.client();
        client.read_text().expect("<open/>");
        expect_error(&mut client, "connection-timeout", "open_timeout");
        expect_stream_close(&mut client, 1000);
    });
}

#[test]
fn messages_that_are_too_large_end_the_session() {
    for key in ["max_message_size", "max_frame_size"] {
        beside_a_healthy_session(&format!("{key}: 10000\n"), key, |stage| {
            let (mut client, mut server) = stage.framed();
            client.send_text(&"x".repeat(10_001)).unwrap();
            expect_error(&mut client, "policy-violation", key);
            expect_stream_close(&mut client, 1009);
            server.expect(END);
        });
    }
}

#[test]
fn a_first_message_that_is_too_large_ends_the_session() {
    let key = "max_first_message_size";
    let padded = |len: usize| {
        let open = OPEN.replace("/>", " id='");
        open.clone() + &"x".repeat(len - open.len() - 3) + "'/>"
    };
    for (config, most) in [("", 8192), ("max_first_message_size: 2000\n", 2000)] {
        beside_a_healthy_session(config, key, |stage| {
            // The largest first message, and then the largest other message.
            let (mut client, mut server) = stage.greeting(&padded(most), OPEN_UP);
            server.send(HEADER);
            expect_text(&mut client, HEADER_DOWN);
            let large = format!("<a xmlns='u'>{}</a>", "x".repeat(100_000));
            client.send_text(&large).unwrap();
            server.expect(&large);
            let mut client = stage.daemon.client();
            client.send_text(&padded(most + 1)).unwrap();
            client.read_text().expect("<open/>");
            expect_error(&mut client, "policy-violation", key);
            expect_stream_close(&mut client, 1009);
        });
    }
}

#[test]
fn a_message_of_too_many_fragments() {
    beside_a_healthy_session("max_fragments: 5\n", "max_fragments", |stage| {
        let (mut client, mut server) = stage.framed();
        client.send_frame(TEXT, b"<a xmlns='u'>").unwrap();
        for _ in 0..3 {
            client.send_frame(CONTINUATION, b"").unwrap();
        }
        client.send_frame(FIN | CONTINUATION, b"</a>").unwrap();
        server.expect("<a xmlns='u'></a>");
        client.send_frame(TEXT, b"<a xmlns='u'>").unwrap();
        for _ in 0..5 {
            client.send_frame(CONTINUATION, b"").unwrap();
        }
        expect_close(&mut client, 1008, "");
    });
}

#[test]
fn xml_too_deep_or_with_too_many_attributes() {
    let deep = |depth: usize| "<a xmlns='u'>".repeat(depth) + &"</a>".repeat(depth);
    let wide = |attributes: usize, namespaces: usize| {
        let attributes: String = (0..attributes).map(|n| format!(" a{n}=''")).collect();
        let namespaces: String = (0..namespaces)
            .map(|n| format!(" xmlns:n{n}='u'"))
            .collect();
        format!("<a xmlns='u'{attributes}{namespaces}/>")
    };
    for (limit, key, good, bad) in [
        ("max_depth: 20", "max_depth", deep(19), deep(20)),
        (
            "max_attributes: 20",
            "max_attributes",
            wide(19, 0),
            wide(20, 0),
        ),
        (
            "max_namespaces: 8",
            "max_attributes",
            wide(0, 7),
            wide(0, 8),
        ),
    ] {
        beside_a_healthy_session(&format!("{limit}\n"), key, |stage| {
            let (mut client, mut server) = stage.framed();
            client.send_text(&good).unwrap();
            server.expect(&good);
            client.send_text(&bad).unwrap();
            expect_error(&mut client, "policy-violation", limit);
            expect_stream_close(&mut client, 1000);
            server.expect(END);
            // The same limit applies to the server.
            let (mut client, mut server) = stage.framed();
            server.send(&good);
            expect_text(&mut client, &good);
            server.send(&bad);
            expect_error(&mut client, "remote-connection-failed", limit);
            expect_stream_close(&mut client, 1000);
        });
    }
}

#[test]
fn a_tag_that_is_too_long_ends_the_session() {
    let stage = Stage::set("");
    let tag = |len: usize| format!("<a xmlns='u' b='{}'/>", "x".repeat(len - 20));
    let (mut client, mut server) = stage.framed();
    client.send_text(&tag(64 << 10)).unwrap();
    server.expect(&tag(64 << 10));
    client.send_text(&tag(65 << 10)).unwrap();
    let error = expect_error(&mut client, "policy-violation", "a long tag");
    assert!(error.contains("a tag is longer than 64 KiB"), "{error}");
    expect_stream_close(&mut client, 1000);
    server.expect(END);
    assert_eq!(limit_lines(&stage.daemon), 0, "no key sets this limit");
}

#[test]
fn more_queued_in_all_sessions_than_the_daemon_may_keep() {
    let key = "max_total_memory";
    beside_a_healthy_session("max_total_memory: 2000000\n", key, |stage| {
        // Unfinished messages, the largest of them 900,000 bytes long.
        let begun = |len: usize| {
            let (mut client, server) = stage.framed();
            client.send_frame(TEXT, &vec![b' '; len]).unwrap();
            client.send_frame(FIN | PING, b"there").unwrap();
            let pong = client.read_frame().unwrap().unwrap();
            assert_eq!(pong.payload, b"there");
            (client, server)
        };
        let mut largest = begun(900_000);
        let mut small = begun(10_000);
        let _others = [begun(500_000), begun(500_000)];
        let (mut last, _server) = stage.framed();
        last.send_frame(TEXT, &vec![b' '; 400_000]).unwrap();
        let (client, server) = &mut largest;
        expect_error(client, "resource-constraint", key);
        expect_stream_close(client, 1013);
        server.expect_cut();
        // A session that uses little memory continues.
        let (client, server) = &mut small;
        client.send_frame(FIN | CONTINUATION, b"").unwrap();
        client.send_text(PRESENCE).unwrap();
        server.expect(PRESENCE);
    });
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_logged_once() {
    let key = "max_total_memory";
    let config = "max_total_memory: 1000000\nmax_queue_size: 4000000\n";
    beside_a_healthy_session(config, key, |stage| {
        let (client, server) = stage.framed();
        let stanza = format!("<a xmlns='u'>{}</a>", "x".repeat(4000));
        let mut next = || Some(stanza.clone().into_bytes());
        // More than the kernel buffers for a client that does not read.
        let _ = try_write_until_stalled(&server.stream, &mut Vec::new(), &mut next);
        stage
            .daemon
            .wait_for_line("ended by jabsocket: too much memory held");
        assert_eq!(limit_lines(&stage.daemon), 1);
        drop(client);
    });
}
