//! The memory that an attacker can make a daemon use. For each kind of attack,
//! `held_bytes` must account for it. Otherwise `max_total_memory` would not bound it.

use std::io::Write;
use std::net::UdpSocket;

use openssl::ssl::SslVersion;

use crate::common::daemon::Daemon;
use crate::common::dns_server::DnsServer;
use crate::common::prometheus::{Series, metrics};
use crate::common::stage::*;
use crate::common::ws_client::{CONTINUATION, FIN, PING, TEXT, WsClient, frame, header};
use crate::common::wss_stage::WssStage;
use crate::common::xmpp_server::Connection;
use crate::common::{patiently, write_until_stalled};

/// Enables the status port and disables limits that would stop an attack.
const CONFIG: &str = "status_listen: 127.0.0.1:0\nmax_first_message_size: 1000000\n\
    max_total_memory: 0\nopen_timeout: 600\nconnect_timeout: 600\nping_interval: 0\n";

/// Memory that `held_bytes` never contains: code, tables of the event loop, the
/// allocator's overhead.
const BASE: usize = 16 << 20;

fn held(series: &Series) -> usize {
    let parts = ["sessions", "parsers", "compression", "names", "tls"];
    let of = |part| series[&format!("held_bytes{{for=\"{part}\"}}")] as usize;
    parts.into_iter().map(of).sum()
}

/// Runs `attack`. Fails unless `held_bytes` grows by at least `least`, and the resident
/// memory by no more than `held_bytes`.
fn in_the_ledger<T>(daemon: &Daemon, least: usize, attack: impl FnOnce() -> T) {
    let (before, held_before) = (daemon.resident(), held(&metrics(daemon)));
    let _attackers = attack();
    let held = patiently("the ledger to tell of it", || {
        let held = held(&metrics(daemon)).saturating_sub(held_before);
        (held >= least).then_some(held)
    });
    let grown = daemon.resident().saturating_sub(before);
    assert!(
        grown <= held + held / 2 + BASE,
        "{grown} bytes resident, {held} of them in the ledger"
    );
}

/// Opens `count` sessions with both headers exchanged.
fn sessions(stage: &Stage, count: usize) -> Vec<(WsClient, Connection)> {
    (0..count).map(|_| stage.framed()).collect()
}

/// Waits until the daemon has read everything from `client`.
fn settle(client: &mut WsClient) {
    client.send_frame(FIN | PING, b"there").unwrap();
    let pong = client.read_frame().unwrap().expect("a Pong");
    assert_eq!(pong.payload, b"there");
}

#[test]
fn headers_that_wait_for_the_dns_are_counted() {
    let silent =
        "_xmpp-client._tcp.d.example SRV SILENCE\n_xmpps-client._tcp.d.example SRV SILENCE\n";
    let dns = DnsServer::start(silent);
    let daemon = Daemon::start(&format!("dns_servers: {}\n{CONFIG}", dns.address));
    let quotes = "\"".repeat(60_000);
    let open = open_with(&quotes, "d.example");
    in_the_ledger(&daemon, 300 * quotes.len(), || {
        let open = |_| {
            let mut client = daemon.client();
            client.send_text(&open).unwrap();
            client
        };
        (0..300).map(open).collect::<Vec<_>>()
    });
}

/// Each session uses a different domain with a name of maximum length.
#[test]
fn names_that_nobody_answers_for_are_counted() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let daemon = Daemon::start(&format!("dns_servers: {address}\n{CONFIG}"));
    let label = "x".repeat(60);
    in_the_ledger(&daemon, 200_000, || {
        let open = |n| {
            let mut client = daemon.client();
            let domain = format!("{n}.{label}.{label}.{label}.example");
            client.send_text(&open_with("", &domain)).unwrap();
            client
        };
        (0..400).map(open).collect::<Vec<_>>()
    });
}

fn open_with(attribute: &str, domain: &str) -> String {
    let namespace = "xmlns='urn:ietf:params:xml:ns:xmpp-framing'";
    format!("<open {namespace} to='{domain}' version='1.0' id='{attribute}'/>")
}

#[test]
fn headers_of_a_server_that_says_no_more_are_counted() {
    let stage = Stage::set(CONFIG);
    let quotes = "\"".repeat(60_000);
    in_the_ledger(&stage.daemon, 300 * quotes.len(), || {
        let open = |_| {
            let first = open_with(&quotes, "example.org");
            let (mut client, mut server) = stage.greeting(&first, OPEN_UP);
            server.send(HEADER);
            expect_text(&mut client, HEADER_DOWN);
            (client, server)
        };
        (0..300).map(open).collect::<Vec<_>>()
    });
}

/// Names, attributes and nested elements, each in a stanza without an end.
#[test]
fn unfinished_stanzas_of_a_server_are_counted() {
    let names: String = (0..50_000).map(|n| format!("<n{n} a{n}=''/>")).collect();
    let attributes: String = (0..3000)
        .map(|n| {
            let all: String = (0..20).map(|a| format!(" a{n}_{a}='v'")).collect();
            format!("<a{all}/>")
        })
        .collect();
    let depths = "<a xmlns:p='u'>".repeat(400) + &"</a>".repeat(400);
    let depths = depths.repeat(100);
    for shape in [names, attributes, depths] {
        let stage = Stage::set(CONFIG);
        let stanza = format!("<a xmlns='u'><p:b xmlns:p='u'/>{shape}");
        assert!(stanza.len() < 1 << 20, "{}", stanza.len());
        let mut sessions = sessions(&stage, 20);
        in_the_ledger(&stage.daemon, 20 * stanza.len(), || {
            for (_, server) in &mut sessions {
                server.send(&stanza);
            }
        });
    }
}

#[test]
fn unfinished_messages_of_clients_are_counted() {
    let stage = Stage::set(CONFIG);
    let mut sessions = sessions(&stage, 40);
    in_the_ledger(&stage.daemon, 40 * 500_000, || {
        for (at, (client, _)) in sessions.iter_mut().enumerate() {
            match at % 2 {
                0 => client.send_frame(TEXT, &[b'x'; 900_000]).unwrap(),
                // In fragments.
                _ => {
                    client.send_frame(TEXT, b"").unwrap();
                    for _ in 0..500 {
                        client.send_frame(CONTINUATION, &[b'x'; 1100]).unwrap();
                    }
                }
            }
            settle(client);
        }
    });
}

#[test]
fn queues_that_nobody_takes_are_counted() {
    let stage = Stage::set(&format!("{CONFIG}max_queue_size: 4000000\n"));
    let sessions = sessions(&stage, 10);
    let stanza = format!("<a xmlns='u'>{}</a>", "x".repeat(60_000));
    let mut pending = vec![Vec::new(); sessions.len()];
    in_the_ledger(&stage.daemon, 10 * 4_000_000, || {
        patiently("full queues", || {
            for ((_, server), pending) in sessions.iter().zip(&mut pending) {
                let next = || Some(stanza.clone().into_bytes());
                write_until_stalled(&server.stream, pending, next);
            }
            (held(&metrics(&stage.daemon)) >= 10 * 4_000_000).then_some(())
        });
    });
}

#[test]
fn messages_for_a_server_that_does_not_answer_are_counted() {
    let stage = Stage::set(CONFIG);
    let message = format!("<a xmlns='u'>{}</a>", "x".repeat(900_000));
    in_the_ledger(&stage.daemon, 20 * message.len(), || {
        let frame = frame(FIN | TEXT, message.as_bytes());
        let open = |_| {
            let (client, server) = stage.greeting(OPEN, OPEN_UP);
            // More than the kernel buffers for a server that does not read.
            let mut next = || Some(frame.clone());
            crate::common::write_until_stalled(&client.stream, &mut Vec::new(), &mut next);
            (client, server)
        };
        (0..20).map(open).collect::<Vec<_>>()
    });
}

#[test]
fn requests_that_do_not_end_are_counted() {
    let stage = Stage::set(&format!("{CONFIG}handshake_timeout: 600\n"));
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(16_000));
    in_the_ledger(&stage.daemon, 300 * 15_000, || {
        let begin = |_| {
            let mut client = WsClient::dial(stage.daemon.address).unwrap();
            client.send_raw(head.as_bytes()).unwrap();
            client
        };
        (0..300).map(begin).collect::<Vec<_>>()
    });
}

#[test]
fn long_origins_take_no_memory() {
    let stage = Stage::set(CONFIG);
    let path = "y".repeat(15_000);
    // What is left of an origin is not in the ledger.
    in_the_ledger(&stage.daemon, 0, || {
        let connect = |n| {
            let origin = format!("https://{n}/{path}");
            let fields = [("Origin", &origin[..])];
            WsClient::connect(stage.daemon.address, "/", &fields, Some("xmpp")).unwrap()
        };
        (0..2000).map(connect).collect::<Vec<_>>()
    });
}

#[test]
fn names_of_the_roots_of_clients_are_counted() {
    let stage = Stage::set(CONFIG);
    let prefix = "x".repeat(30_000);
    let open = DRAFT_OPEN
        .replace("stream:", &format!("{prefix}:"))
        .replace(":stream=", &format!(":{prefix}="));
    let header_up = format!("<?xml version='1.0'?>{open}");
    in_the_ledger(&stage.daemon, 800 * prefix.len(), || {
        let begin = |_| {
            let (mut client, mut server) = stage.greeting(&open, &header_up);
            // After another element, the headers are not held any more.
            for text in [HEADER, "<a/>"] {
                server.send(text);
                expect_text(&mut client, text);
            }
            (client, server)
        };
        (0..800).map(begin).collect::<Vec<_>>()
    });
}

#[test]
fn unusual_roots_of_servers_are_counted() {
    let stage = Stage::set(CONFIG);
    let prefix = "x".repeat(1_500);
    let header = HEADER
        .replace("stream:", &format!("{prefix}:"))
        .replace(":stream=", &format!(":{prefix}="));
    // The name of the root and the prefix that it declares.
    in_the_ledger(&stage.daemon, 300 * 2 * prefix.len(), || {
        let begin = |_| {
            let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
            server.send(&header);
            expect_text(&mut client, HEADER_DOWN);
            // After another element, the header is not held any more.
            server.send("<a xmlns='u'/>");
            expect_text(&mut client, "<a xmlns='u'/>");
            (client, server)
        };
        (0..300).map(begin).collect::<Vec<_>>()
    });
}

#[test]
fn records_of_tls_that_do_not_end_are_counted() {
    let stage = WssStage::set(&[&["example.com"]], CONFIG);
    in_the_ledger(&stage.daemon, 200 << 10, || {
        let begin = |_| {
            let client = stage.tls("example.com", SslVersion::TLS1_3);
            let mut half = vec![23, 3, 3, 0x40, 0];
            half.resize(9000, 0);
            let mut tcp = client.get_ref();
            tcp.write_all(&half).unwrap();
            client
        };
        (0..200).map(begin).collect::<Vec<_>>()
    });
}

#[test]
fn messages_announced_and_not_sent_take_no_memory() {
    let stage = Stage::set(CONFIG);
    let mut sessions = sessions(&stage, 100);
    in_the_ledger(&stage.daemon, 0, || {
        for (client, _) in &mut sessions {
            let head = header(FIN | TEXT, Some([1, 2, 3, 4]), 64, 1_000_000);
            client.send_raw(&head).unwrap();
            client.send_raw(b"x").unwrap();
        }
    });
}
