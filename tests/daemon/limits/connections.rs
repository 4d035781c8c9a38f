//! The limits on connections, in all and by address. A client over a limit gets an answer or is
//! dropped, and never an expensive TLS handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use super::{beside_a_healthy_session, limit_lines, open};
use crate::common::prometheus::metrics;
use crate::common::stage::*;
use crate::common::ws_client::{Response, WsClient};
use crate::common::wss_stage::{WssStage, connected};

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
    assert_eq!(limit_lines(&stage.daemon), 3);
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
            streams.extend(connector.connect("example.com", stage.tcp()));
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
        let mut stream = stage.tcp();
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
            let mut stream = connected(stage.daemon.address);
            let header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n";
            stream.write_all(header).unwrap();
            stream
        })
        .collect();
    // One is admitted, and four may stay for a short time.
    for mut stream in &crowd[1..] {
        expect_dropped(&mut stream);
    }
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
fn the_log_is_not_flooded() {
    let stage = Stage::set("max_connections_per_address: 1\n");
    let mut healthy = stage.framed();
    for _ in 0..100 {
        assert_eq!(open(&stage.daemon, &[]).1.status, 503);
    }
    exchange(&mut healthy);
    let told = limit_lines(&stage.daemon);
    assert!((1..100).contains(&told), "{told} lines for 100 refusals");
}
