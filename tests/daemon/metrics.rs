//! The metrics: their values during sessions, and no new series caused by peers. For several
//! workers see `status_workers`.

use std::io::{Read, Write};
use std::net::TcpStream;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode, SslVersion};

use crate::common::answering::daemon_asking;
use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::dns_server::DnsServer;
use crate::common::prometheus::{Series, changes, dial, get, metrics, of_each, status_address};
use crate::common::stage::*;
use crate::common::tls_server::TlsStage;
use crate::common::ws_client::WsClient;
use crate::common::{patiently, reset, write_until_stalled};

const STATUS: &str = "status_listen: 127.0.0.1:0\n";

/// Drops `client` and waits until its session is over.
fn end(daemon: &Daemon, client: WsClient) {
    let peer = client.stream.local_addr().unwrap();
    drop(client);
    daemon.wait_for_line(&format!(" {peer} origin="));
}

/// The changes except for the memory in use and the sessions by server.
fn counted(before: &Series, after: &Series) -> Vec<String> {
    let changes = changes(before, after).into_iter();
    changes
        .filter(|change| !change.starts_with("held_bytes"))
        .filter(|change| !change.starts_with("server_sessions"))
        .collect()
}

#[test]
fn values_move_with_sessions() {
    let stage = Stage::set(STATUS);
    let daemon = &stage.daemon;
    let before = metrics(daemon);
    assert_eq!(before["draining"], 0.0);
    assert!(before["sessions_max"] >= 1.0);
    assert!(before["start_time_seconds"] > 1.6e9);
    let version = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(before[&version], 1.0);
    for (name, at_least) in [
        ("process_open_fds", 3.0),
        ("process_max_fds", 64.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_cpu_seconds_total", 0.001),
    ] {
        assert!(before[name] >= at_least, "{name} {}", before[name]);
    }
    let descriptors = daemon.descriptors() as f64;
    let told = before["process_open_fds"];
    assert!((told - descriptors).abs() <= 2.0, "{told}, {descriptors}");
    let start = before["process_start_time_seconds"];
    assert_eq!(start, before["start_time_seconds"]);

    let (mut client, mut server) = stage.framed();
    let open = metrics(daemon);
    assert_eq!(
        counted(&before, &open),
        [
            "accepted_connections_total 1".to_owned(),
            "connect_seconds_count 1".to_owned(),
            "domain_sessions_total{domain=\"example.org\"} 1".to_owned(),
            "domain_sessions{domain=\"example.org\"} 1".to_owned(),
            format!(
                "relayed_bytes_total{{direction=\"down\"}} {}",
                HEADER_DOWN.len()
            ),
            "relayed_messages_total{direction=\"down\"} 1".to_owned(),
            "sessions{phase=\"relaying\",dialect=\"rfc7395\"} 1".to_owned(),
            "time_to_open_seconds_count 1".to_owned(),
        ]
    );

    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send("<b xmlns='u'/>");
    expect_text(&mut client, "<b xmlns='u'/>");
    let busy = metrics(daemon);
    assert_eq!(
        counted(&open, &busy),
        [
            "relayed_bytes_total{direction=\"down\"} 14".to_owned(),
            format!("relayed_bytes_total{{direction=\"up\"}} {}", PRESENCE.len()),
            "relayed_messages_total{direction=\"down\"} 1".to_owned(),
            "relayed_messages_total{direction=\"up\"} 1".to_owned(),
        ]
    );

    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    drop(server);
    end(daemon, client);
    assert_eq!(
        counted(&busy, &metrics(daemon)),
        [
            "closed_sessions_total{by=\"client\",why=\"stream_closed\"} 1",
            "domain_sessions{domain=\"example.org\"} -1",
            "sessions{phase=\"relaying\",dialect=\"rfc7395\"} -1",
        ]
    );
    stage.daemon.stop();
}

/// The message is so large that relaying it takes long on every machine. Expat, however, checks
/// it over many turns.
#[test]
fn a_slow_turn_is_counted_and_logged() {
    const SIZE: usize = 150 << 20;
    if std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_some() {
        return;
    }
    let limits = "max_message_size: 0\nmax_frame_size: 0\nmax_total_memory: 0\n";
    let stage = Stage::set(&format!("{STATUS}{limits}log_level: LOG_WARNING\n"));
    let (mut client, mut server) = stage.framed();
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    let before = metrics(&stage.daemon)["slow_turns_total"];
    let peer = client.stream.local_addr().unwrap();
    let message = format!("<a xmlns='u'>{}</a>", "x".repeat(SIZE));
    client.send_text(&message).unwrap();
    let line = stage
        .daemon
        .wait_for_line(&format!(" {peer}: kept all others waiting for "));
    assert!(line.contains(" ms in Relaying, over "), "{line}");
    assert!(metrics(&stage.daemon)["slow_turns_total"] > before);
    drop((client, server));
}

#[test]
fn every_phase_and_end_has_its_series() {
    let stage = Stage::set(STATUS);
    let daemon = &stage.daemon;
    let before = metrics(daemon);
    let refused = WsClient::open(daemon.address, "/", &[], None).unwrap();
    assert_eq!(refused.1.status, 400);
    end(daemon, refused.0);
    let probe = WsClient::dial(daemon.address).unwrap();
    end(daemon, probe);
    let waiting = daemon.client();
    let (draft, draft_server) = stage.draft();
    let (mut wrong, wrong_server) = stage.framed();
    wrong.send_text("<a>").unwrap();
    expect_error(&mut wrong, "not-well-formed", "<a>");
    expect_stream_close(&mut wrong, 1000);
    drop(wrong_server);
    end(daemon, wrong);
    let after = metrics(daemon);
    let changes = changes(&before, &after);
    for expected in [
        "accepted_connections_total 5",
        "refused_requests_total{reason=\"subprotocol\"} 1",
        "closed_sessions_total{by=\"jabsocket\",why=\"refused\"} 1",
        "closed_sessions_total{by=\"client\",why=\"no_request\"} 1",
        "closed_sessions_total{by=\"jabsocket\",why=\"xmpp_violation\"} 1",
        "sessions{phase=\"await_open\",dialect=\"none\"} 1",
        "sessions{phase=\"relaying\",dialect=\"draft\"} 1",
        "domain_sessions{domain=\"example.org\"} 1",
        "domain_sessions_total{domain=\"example.org\"} 2",
    ] {
        assert!(
            changes.iter().any(|c| c == expected),
            "{expected}: {changes:#?}"
        );
    }
    let sessions = changes.iter().filter(|c| c.starts_with("sessions{"));
    assert_eq!(sessions.count(), 2, "{changes:#?}");
    drop((waiting, draft, draft_server));
    stage.daemon.stop();
}

/// Port checks may happen every second.
#[test]
fn port_checks_are_counted_and_do_not_fill_the_log() {
    let authority = Authority::new();
    let files = authority.identity(&["example.com"]).files(&[]);
    let (certificate, key) = (files.0.0.display(), files.1.0.display());
    let listeners = format!(
        "listeners:\n- {{port: 0, listen: 127.0.0.1}}\n- {{port: 0, listen: 127.0.0.2, \
         tls_certificate: {certificate}, tls_key: {key}}}\n"
    );
    for (level, lines) in [("LOG_DEBUG", 4), ("LOG_INFO", 0)] {
        let daemon = Daemon::start(&format!("log_level: {level}\n{STATUS}{listeners}"));
        let line = daemon.wait_for_line("listening on 127.0.0.2:");
        let secure = line.rsplit(' ').next().unwrap();
        drop(dial(daemon.address));
        reset(dial(daemon.address));
        drop(dial(secure.parse().unwrap()));
        assert_eq!(get(daemon.address, "/").0, 200);
        let by_client = "closed_sessions_total{by=\"client\",why=\"no_request\"}";
        let page = "closed_sessions_total{by=\"jabsocket\",why=\"page\"}";
        patiently("the counts", || {
            let now = metrics(&daemon);
            (now[by_client] == 3.0 && now[page] == 1.0).then_some(())
        });
        let (refused, _) = WsClient::open(daemon.address, "/", &[], None).unwrap();
        end(&daemon, refused);
        let told = daemon.lines();
        let sessions = told.iter().filter(|line| line.contains(" ended by "));
        assert_eq!(sessions.count(), lines + 1, "{level}: {told:#?}");
        daemon.stop();
    }
}

#[test]
fn a_hostile_to_creates_no_series() {
    let stage = Stage::set(STATUS);
    let before = metrics(&stage.daemon);
    for n in 0..50 {
        let mut client = stage.daemon.client();
        let open = OPEN.replace("example.org", &format!("evil{n}.example"));
        client.send_text(&open).unwrap();
        drop(client.read_text().expect("an <open/>"));
        expect_error(&mut client, "host-unknown", &open);
    }
    let changes = changes(&before, &metrics(&stage.daemon));
    for expected in [
        "domain_sessions_total{domain=\"other\"} 50",
        "closed_sessions_total{by=\"jabsocket\",why=\"host_unknown\"} 50",
    ] {
        assert!(
            changes.iter().any(|c| c == expected),
            "{expected}: {changes:#?}"
        );
    }
    stage.daemon.stop();
}

#[test]
fn an_open_proxy_has_one_series_and_the_resolver_is_counted() {
    let dns = DnsServer::start("");
    let daemon = daemon_asking(&dns, STATUS);
    let before = metrics(&daemon);
    for _ in 0..2 {
        let mut client = daemon.client();
        let open = OPEN.replace("example.org", "nowhere.example");
        client.send_text(&open).unwrap();
        drop(client.read_text().expect("an <open/>"));
        expect_error(&mut client, "host-unknown", &open);
    }
    let changes = changes(&before, &metrics(&daemon));
    for expected in [
        "domain_sessions_total{domain=\"other\"} 2",
        // Two services and two address families. The second session uses the cache.
        "dns_queries_total 4",
        "dns_cache_hits_total 4",
    ] {
        assert!(
            changes.iter().any(|c| c == expected),
            "{expected}: {changes:#?}"
        );
    }
    daemon.stop();
}

#[test]
fn versions_of_tls_are_counted() {
    let stage = TlsStage::set(&["tls: required"], STATUS);
    let before = metrics(&stage.daemon);
    let (_client, server) = stage.session();
    let changes = changes(&before, &metrics(&stage.daemon));
    let version = server.version();
    let expected = format!("server_tls_handshakes_total{{version=\"{version}\"}} 1");
    assert!(changes.contains(&expected), "{changes:#?}");
    stage.daemon.stop();
}

#[test]
fn without_other_workers_both_pages_say_the_same() {
    let stage = Stage::set(STATUS);
    let session = stage.framed();
    let sum = metrics(&stage.daemon);
    let own = of_each(status_address(&stage.daemon)).into_iter();
    let own = own
        .map(|(key, value)| {
            let key = key.replacen("worker=\"0\",", "", 1);
            (key.replacen("{worker=\"0\"}", "", 1), value)
        })
        .collect();
    assert_eq!(changes(&sum, &own), [""; 0]);
    assert_eq!(sum["workers"], 1.0);
    drop(session);
    stage.daemon.stop();
}

#[test]
fn relay_latency_is_sampled() {
    let stage = Stage::set(STATUS);
    let (mut client, mut server) = stage.framed();
    let before = metrics(&stage.daemon);
    // Each message takes its own turn, because it waits for the previous one.
    const MESSAGES: f64 = 100.0;
    for _ in 0..MESSAGES as u32 / 2 {
        client.send_text(PRESENCE).unwrap();
        server.expect(PRESENCE);
        server.send("<b xmlns='u'/>");
        expect_text(&mut client, "<b xmlns='u'/>");
    }
    let after = metrics(&stage.daemon);
    let grown = |key: &str| after[key] - before[key];
    let looked_at = grown("relay_latency_seconds_count");
    // On average one turn in 16 is measured; two measured turns are at most 31 apart.
    assert!((3.0..MESSAGES / 4.0).contains(&looked_at), "{looked_at}");
    let seconds = grown("relay_latency_seconds_sum") / looked_at;
    assert!(seconds > 0.0, "{seconds} s");
    assert_eq!(grown("relay_held_total"), 0.0);
    drop((client, server));
    stage.daemon.stop();
}

#[test]
fn turns_that_leave_bytes_in_a_queue_are_counted_apart() {
    let stage = Stage::set(&format!("{STATUS}max_queue_size: 33554432\n"));
    let (client, server) = stage.framed();
    let body = "x".repeat(60_000);
    let mut left = 1000;
    let mut next = || {
        left -= 1;
        (left > 0).then(|| format!("<a xmlns='u'>{body}</a>").into_bytes())
    };
    // Until the queue is full, hundreds of turns after the kernel's buffers are full.
    let mut pending = Vec::new();
    let values = patiently("a full queue", || {
        let done = write_until_stalled(&server.stream, &mut pending, &mut next);
        assert!(!done, "all was taken, though nobody reads");
        Some(metrics(&stage.daemon)).filter(|values| values["held_bytes{for=\"sessions\"}"] > 30e6)
    });
    assert!(values["relay_held_total"] > 0.0);
    drop((client, server));
    stage.daemon.stop();
}

#[test]
fn tls_with_browsers_is_counted_by_version() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity(&["example.com"]).files(&[]);
    let daemon = Daemon::start(&format!(
        "{STATUS}domains: [example.org]\ntls_certificate: {}\ntls_key: {}\n",
        certificate.0.display(),
        key.0.display()
    ));
    let before = metrics(&daemon);
    let expiry = before["certificate_expiry_seconds{name=\"example.com\"}"];
    assert!(expiry > before["start_time_seconds"], "{expiry}");
    let shake_hands = |version| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_min_proto_version(Some(version)).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
        let stream = TcpStream::connect(daemon.address).unwrap();
        builder.build().connect("example.com", stream)
    };
    // When the response comes, the daemon has completed the handshake too.
    let ask = |version| {
        let mut stream = shake_hands(version).expect("TLS");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1");
    };
    ask(SslVersion::TLS1_2);
    ask(SslVersion::TLS1_3);
    ask(SslVersion::TLS1_3);
    // An unsupported version of TLS, and no TLS.
    assert!(shake_hands(SslVersion::TLS1_1).is_err());
    let mut junk = TcpStream::connect(daemon.address).unwrap();
    junk.write_all(b"\x16junk that is no ClientHello").unwrap();
    drop(junk.read_to_end(&mut Vec::new()));
    let changes = changes(&before, &metrics(&daemon));
    for expected in [
        "client_tls_handshakes_total{version=\"TLSv1.2\"} 1",
        "client_tls_handshakes_total{version=\"TLSv1.3\"} 2",
        "client_tls_failures_total 2",
    ] {
        let found = changes.iter().any(|change| change == expected);
        assert!(found, "{expected}: {changes:#?}");
    }
    daemon.stop();
}
