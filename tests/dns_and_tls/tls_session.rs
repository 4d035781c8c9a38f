//! A session over TLS relays the same as one in plain text: large stanzas, many small
//! stanzas, and a flood that TCP slows down. And the resumption of TLS sessions.

use std::io::{Read, Write};
use std::thread;

use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::{FIN, TEXT, WsClient, frame};
use crate::common::{write_to_the_end, write_until_stalled};
use openssl::ssl::SslVersion;

const REQUIRED: &[&str] = &["tls: required"];

#[test]
fn large_stanzas_go_both_ways() {
    let stage = TlsStage::set(REQUIRED, "");
    let (mut client, mut server) = stage.session();
    // Near the sizes of a TLS record, of a read and of the high-water mark.
    for size in [16_000, 16_384, 16_400, 32_768, 60_000, 65_536, 300_000] {
        large_both_ways(&mut client, &mut server, size);
    }
    exchange(&mut (client, server));
    stage.daemon.stop();
}

#[test]
fn many_small_stanzas_stay_in_order() {
    let stage = TlsStage::set(REQUIRED, "");
    let (mut client, mut server) = stage.session();
    let stanza = |n| format!("<a xmlns='urn:x' n='{n}'/>");
    for n in 0..200 {
        client.send_text(&stanza(n)).unwrap();
        server.send(&stanza(1000 + n));
    }
    for n in 0..200 {
        server.expect(&stanza(n));
        expect_text(&mut client, &stanza(1000 + n));
    }
    // In one record, and in one segment.
    server.send(&(0..200).map(stanza).collect::<String>());
    let frames = (0..200).map(|n| frame(FIN | TEXT, stanza(n).as_bytes()));
    client
        .send_raw(&frames.collect::<Vec<_>>().concat())
        .unwrap();
    for n in 0..200 {
        server.expect(&stanza(n));
        expect_text(&mut client, &stanza(n));
    }
    stage.daemon.stop();
}

/// Bytes sent to a peer that does not read: far more than the kernel buffers.
const FLOOD_BYTES: usize = 64 << 20;
const STANZAS: usize = FLOOD_BYTES / (1 << 18);
/// How much the daemon may grow during that time.
const GROWTH_BYTES: usize = 5 << 20;

/// Most have 256 KiB; each sixteenth has nearly the maximum size.
fn large(n: usize) -> String {
    let body = match n % 16 {
        0 => (1 << 20) - 100,
        _ => 1 << 18,
    };
    format!("<a xmlns='urn:x' n='{n}'>{}</a>", "x".repeat(body))
}

#[test]
fn an_echo_waits_for_the_client() {
    let stage = TlsStage::set(REQUIRED, "");
    let mut other = stage.session();
    let (client, mut server) = stage.session();
    let before = stage.daemon.resident();
    let echo = thread::spawn(move || {
        let mut piece = [0; 16 << 10];
        // At the end of the test, the connection ends with an error or with FIN.
        while let Ok(n @ 1..) = server.stream.read(&mut piece) {
            if server.stream.write_all(&piece[..n]).is_err() {
                break;
            }
        }
    });
    let mut numbers = 0..STANZAS;
    let mut next = || {
        numbers
            .next()
            .map(|n| frame(FIN | TEXT, large(n).as_bytes()))
    };
    let mut pending = Vec::new();
    let done = write_until_stalled(&client.stream, &mut pending, &mut next);
    assert!(!done, "all was taken, though nobody reads");
    let grown = stage.daemon.resident().saturating_sub(before);
    assert!(grown < GROWTH_BYTES, "grown by {} KiB", grown / 1024);
    exchange(&mut other);
    let mut reader = WsClient::new(client.stream.try_clone().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| write_to_the_end(&client.stream, &mut pending, &mut next));
        for n in 0..STANZAS {
            expect_text(&mut reader, &large(n));
        }
    });
    exchange(&mut other);
    stage.daemon.stop();
    echo.join().expect("the echo");
}

/// Runs a whole session for `domain`; returns whether TLS was resumed. OpenSSL drops the
/// tickets of connections that end in another way.
fn resumes(daemon: &Daemon, server: &TlsServer, domain: &str) -> bool {
    let named = |text: &str| text.replace("example.org", domain);
    let mut client = daemon.client();
    client.send_text(&named(OPEN)).unwrap();
    let mut connection = server.tcp.accept();
    connection.expect(&named(OPEN_UP));
    connection.send(&named(&format!("{CLEAR_HEADER}{OFFER}")));
    connection.expect(STARTTLS);
    let mut tls = server.try_proceed(connection).unwrap();
    tls.expect(&named(OPEN_UP));
    tls.send(&named(&format!("{HEADER}{FEATURES}")));
    // Tickets arrive before this.
    expect_text(&mut client, &named(HEADER_DOWN));
    expect_text(&mut client, FEATURES_DOWN);
    assert_eq!(server.hello().sni.as_deref(), Some(domain));
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    tls.expect_end(END);
    tls.is_resumed()
}

#[test]
fn tls_is_resumed_for_the_same_domain_only() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let authority = Authority::new();
        let domains = ["example.org", "example.net"];
        let server = TlsServer::start_version(&authority.identity(&domains), version);
        let (address, ca) = (server.tcp.address.to_string(), authority.ca_file());
        let entries = domains.map(|name| entry(name, &address, Some(&ca), REQUIRED));
        let daemon = Daemon::start(&format!("domains:\n{}", entries.concat()));
        let resumed: Vec<_> = [0, 0, 1, 1, 0, 1]
            .map(|at| resumes(&daemon, &server, domains[at]))
            .into();
        assert_eq!(
            resumed,
            [false, true, false, true, true, true],
            "{version:?}"
        );
        daemon.stop();
    }
}

#[test]
fn a_ticket_that_the_server_forgot_costs_nothing_but_time() {
    let authority = Authority::new();
    let identity = authority.identity(&["example.org"]);
    let stage = TlsStage::set_with(TlsServer::start(&identity), &authority, REQUIRED, "");
    assert!(!resumes(&stage.daemon, &stage.server, "example.org"));
    assert!(resumes(&stage.daemon, &stage.server, "example.org"));
    // The same address, with other ticket keys.
    let mut server = TlsServer::start(&identity);
    server.tcp = stage.server.tcp;
    assert!(!resumes(&stage.daemon, &server, "example.org"));
    assert!(resumes(&stage.daemon, &server, "example.org"));
    stage.daemon.stop();
}
