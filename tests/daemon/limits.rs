//! Each limit of the configuration. When a client exceeds it, the client gets an answer,
//! the log has a line, another session continues, and no descriptor leaks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use crate::common::daemon::Daemon;
use crate::common::prometheus::metrics;
use crate::common::stage::*;
use crate::common::ws_client::{CONTINUATION, FIN, Response, TEXT, WsClient, request};
use crate::common::wss_stage::WssStage;
use crate::common::xmpp_server::Connection;

type Pair = (WsClient, Connection);

/// Fails unless stanzas pass in both directions.
fn exchange((client, server): &mut Pair) {
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send("<b xmlns='u'/>");
    expect_text(client, "<b xmlns='u'/>");
}

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

fn expect_busy(response: &Response, case: &str) {
    assert_eq!(response.status, 503, "{case}: {}", response.head);
    assert_eq!(response.field("Retry-After"), Some("10"), "{case}");
}

/// Fails unless the daemon closes the connection without a response.
fn expect_dropped(stream: &mut impl Read) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => panic!("an answer without a request"),
        Err(error) => assert!(crate::common::is_reset(&error), "{error}"),
    }
}

/// Connects from another address of this machine.
fn connect_from(source: [u8; 4], to: SocketAddr) -> WsClient {
    let fd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    bind(
        raw,
        &SockaddrIn::new(source[0], source[1], source[2], source[3], 0),
    )
    .unwrap();
    let SocketAddr::V4(to) = to else {
        panic!("{to}")
    };
    connect(raw, &SockaddrIn::from(to)).unwrap();
    WsClient::new(TcpStream::from(fd))
}

#[test]
fn more_connections_than_there_is_room_for() {
    let stage = Stage::set("max_connections: 2\n");
    let mut first = stage.framed();
    let second = stage.daemon.client();
    let before = stage.daemon.descriptors();
    for n in 0..200 {
        let (mut refused, response) = open(&stage.daemon, &[]);
        expect_busy(&response, &n.to_string());
        let body = String::from_utf8(refused.read_rest().unwrap()).unwrap();
        assert_eq!(body, "too many connections\n");
    }
    let line = stage
        .daemon
        .wait_for_line("max_connections reached, 127.0.0.1");
    assert!(!line.contains("exceeded"), "no fault of the client: {line}");
    stage.daemon.wait_for_descriptors(before);
    exchange(&mut first);
    drop(second);
    stage.daemon.wait_for_descriptors(before - 1);
    assert_eq!(open(&stage.daemon, &[]).1.status, 101);
    exchange(&mut first);
}

#[test]
fn more_connections_of_one_address_than_it_may_have() {
    beside_a_healthy_session(
        "max_connections_per_address: 3\n",
        "max_connections_per_address",
        |stage| {
            let kept = [stage.daemon.client(), stage.daemon.client()];
            for n in 0..5 {
                expect_busy(&open(&stage.daemon, &[]).1, &n.to_string());
            }
            let mut stranger = connect_from([127, 0, 0, 9], stage.daemon.address);
            let response = stranger.handshake("/", &[], Some("xmpp")).unwrap();
            assert_eq!(response.status, 101, "another address has its own share");
            let busy = stage.daemon.descriptors();
            drop(kept);
            stage.daemon.wait_for_descriptors(busy - 2);
            assert_eq!(open(&stage.daemon, &[]).1.status, 101, "room again");
        },
    );
}

#[test]
fn a_crowd_of_one_address_beyond_its_share_is_not_kept() {
    let stage = Stage::set("max_connections_per_address: 3\nhandshake_timeout: 60\n");
    let mut healthy = stage.framed();
    let before = stage.daemon.descriptors();
    // None of them sends anything. Two are admitted, and four may stay for a short time.
    let crowd: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(stage.daemon.address).unwrap())
        .collect();
    for mut stream in crowd.iter().rev().take(194) {
        expect_dropped(&mut stream);
    }
    let now = stage.daemon.descriptors();
    assert!(now <= before + 6, "{} more descriptors", now - before);
    let line = "limit: 127.0.0.1 exceeded max_connections_per_address";
    stage.daemon.wait_for_line(line);
    let mut stranger = connect_from([127, 0, 0, 9], stage.daemon.address);
    let response = stranger.handshake("/", &[], Some("xmpp")).unwrap();
    assert_eq!(response.status, 101);
    // These four may stay for less time than others.
    for mut stream in &crowd[2..6] {
        expect_dropped(&mut stream);
    }
    exchange(&mut healthy);
    drop((crowd, stranger));
    stage.daemon.wait_for_descriptors(before);
}

#[test]
fn a_silent_connection_beyond_a_limit_is_logged_once() {
    let stage = Stage::set("max_connections_per_address: 1\n");
    let mut healthy = stage.framed();
    for _ in 0..3 {
        let mut silent = TcpStream::connect(stage.daemon.address).unwrap();
        expect_dropped(&mut silent);
    }
    exchange(&mut healthy);
    let lines = stage.daemon.all_lines();
    let told = lines.iter().filter(|line| line.contains(" limit: "));
    assert_eq!(told.count(), 3, "{lines:#?}");
}

#[test]
fn a_limit_by_address_applies_before_tls() {
    for limit in [
        "max_handshakes_per_address: 1",
        "max_connections_per_address: 1",
    ] {
        let config = format!("status_listen: 127.0.0.1:0\n{limit}\n");
        let stage = WssStage::set(&[&["example.com"]], &config);
        let count = || {
            let metrics = metrics(&stage.daemon);
            let of =
                |version| metrics[&format!("client_tls_handshakes_total{{version=\"{version}\"}}")];
            of("TLSv1.2") + of("TLSv1.3")
        };
        let connector = stage.connector().build();
        let mut streams = Vec::new();
        for _ in 0..200 {
            let stream = TcpStream::connect(stage.daemon.address).unwrap();
            stream
                .set_read_timeout(Some(crate::common::PATIENCE))
                .unwrap();
            streams.extend(connector.connect("example.com", stream));
        }
        // A slow machine needs some seconds for them.
        let most = if limit.contains("handshakes") {
            50.0
        } else {
            1.0
        };
        assert!(count() >= 1.0 && count() <= most, "{limit}: {}", count());
        let key = limit.split(':').next().unwrap();
        let line = format!("limit: 127.0.0.1 exceeded {key}");
        stage.daemon.wait_for_line(&line);
    }
}

#[test]
fn a_limit_by_address_applies_before_tls_behind_a_proxy_too() {
    let config = "status_listen: 127.0.0.1:0\ntrusted_proxies: 127.0.0.1\n\
                  max_connections_per_address: 1\n";
    let stage = WssStage::set(&[&["example.com"]], config);
    let connector = stage.connector().build();
    let open = |address: &str| {
        let mut stream = TcpStream::connect(stage.daemon.address).unwrap();
        stream
            .set_read_timeout(Some(crate::common::PATIENCE))
            .unwrap();
        let header = format!("PROXY TCP4 {address} 127.0.0.1 4711 5000\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        connector.connect("example.com", stream).ok()
    };
    let kept = open("203.0.113.9").expect("TLS");
    for _ in 0..20 {
        assert!(open("203.0.113.9").is_none(), "a limit passed");
    }
    stage
        .daemon
        .wait_for_line("limit: 203.0.113.9 exceeded max_connections_per_address");
    let other = open("203.0.113.10").expect("TLS");
    let failed = metrics(&stage.daemon)["client_tls_failures_total"];
    assert_eq!(failed, 0.0, "TLS was begun and failed");
    drop((kept, other));
}

#[test]
fn silent_clients_of_a_proxy_are_bounded_by_address_too() {
    let config = "trusted_proxies: 127.0.0.1\nmax_connections_per_address: 1\n\
                  handshake_timeout: 60\n";
    let stage = Stage::set(config);
    let before = stage.daemon.descriptors();
    let crowd: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(stage.daemon.address).unwrap();
            let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n";
            stream.write_all(header).unwrap();
            stream
        })
        .collect();
    // One is admitted, and four may stay for a short time.
    let dropped = |mut stream: &TcpStream| {
        stream
            .set_read_timeout(Some(crate::common::PATIENCE))
            .unwrap();
        expect_dropped(&mut stream);
    };
    let mut left: Vec<_> = crowd.iter().collect();
    left.remove(0);
    left.into_iter().for_each(dropped);
    stage.daemon.wait_for_descriptors(before + 1);
}

#[test]
fn more_handshakes_in_a_second_than_an_address_may_begin() {
    let key = "max_handshakes_per_address";
    beside_a_healthy_session("max_handshakes_per_address: 4\n", key, |stage| {
        let answers = (0..40).map(|_| open(&stage.daemon, &[]).1.status);
        let refused = answers.filter(|status| *status == 503).count();
        assert!(refused > 0, "40 handshakes on end, none refused");
    });
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
fn requests_that_never_end() {
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
fn messages_too_large() {
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
fn a_first_message_too_large() {
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
fn a_tag_too_long() {
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
    let told = stage
        .daemon
        .all_lines()
        .iter()
        .any(|line| line.contains("limit:"));
    assert!(!told, "no key sets this limit");
}

#[test]
fn more_queued_in_all_sessions_than_the_daemon_may_keep() {
    let key = "max_total_memory";
    beside_a_healthy_session("max_total_memory: 2000000\n", key, |stage| {
        // Unfinished messages, the largest of them 900,000 bytes long.
        let begun = |len: usize| {
            let (mut client, server) = stage.framed();
            client.send_frame(TEXT, &vec![b' '; len]).unwrap();
            client
                .send_frame(FIN | crate::common::ws_client::PING, b"there")
                .unwrap();
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
fn a_small_queue_holds_back_early() {
    let stage = Stage::set("max_queue_size: 16384\n");
    let (client, server) = stage.framed();
    let stanza = format!("<a xmlns='u'>{}</a>", "x".repeat(4000));
    let mut numbers = 0..16_000;
    let mut next = || numbers.next().map(|_| stanza.clone().into_bytes());
    let before = stage.daemon.resident();
    let done = crate::common::write_until_stalled(&server.stream, &mut Vec::new(), &mut next);
    assert!(!done, "all was taken, though nobody reads");
    let grown = stage.daemon.resident().saturating_sub(before);
    assert!(grown < 256 << 10, "grown by {grown} bytes");
    drop(client);
}

#[test]
fn the_log_is_not_flooded() {
    let stage = Stage::set("max_connections_per_address: 1\n");
    let mut healthy = stage.framed();
    for _ in 0..100 {
        assert_eq!(open(&stage.daemon, &[]).1.status, 503);
    }
    exchange(&mut healthy);
    let lines = stage.daemon.all_lines();
    let told = lines
        .iter()
        .filter(|line| line.contains(" limit: "))
        .count();
    assert!((1..100).contains(&told), "{told} lines for 100 refusals");
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
        let _ = crate::common::try_write_until_stalled(&server.stream, &mut Vec::new(), &mut next);
        stage
            .daemon
            .wait_for_line("ended by jabsocket: too much memory held");
        let lines = stage.daemon.all_lines();
        let told = lines.iter().filter(|line| line.contains(" limit: "));
        assert_eq!(told.count(), 1, "{lines:#?}");
        drop(client);
    });
}
