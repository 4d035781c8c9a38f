//! TLS records without payload cause work but deliver no data: KeyUpdates, tickets,
//! refused renegotiations. However many a peer sends, one call handles only a few, and
//! other sessions get their turns in between.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::certificates::Authority;
use crate::common::daemon::{Daemon, TempFile};
use crate::common::prometheus::metrics;
use crate::common::stage::*;
use crate::common::tls_records::{Idle, Relay, Renegotiation, TLS12_CIPHER};
use crate::common::tls_server::{TlsConnection, TlsServer, entry, expect_greeted};
use crate::common::wait_for;
use crate::common::ws_client::{HANDSHAKE_ACCEPT, WsClient};
use crate::common::wss_stage::{WssStage, connected, keys};
use jabsocket::config;
use jabsocket::meter::{Meter, TLS_RECORD, UNITS_PER_TURN};
use jabsocket::net::endpoint::Endpoint;
use jabsocket::net::tls_client::{Contexts, TlsRequest};
use jabsocket::net::transport::Transport;
use mio::{Poll, Token};
use nix::poll::PollFlags;
use openssl::ssl::{
    Ssl, SslConnector, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion,
};

/// Maximum number of records per call.
const MOST_RECORDS: usize = 32;
/// The number of records for one transport: less than a socket buffers.
const FEW: usize = 100;

/// A transport with TLS, and its peer.
struct Pair {
    transport: Transport,
    socket: UnixStream,
    peer: SslStream<UnixStream>,
    meter: Meter,
    poll: Poll,
}

impl Pair {
    /// Does the handshake between the daemon's side `ssl` and `peer`.
    fn new(ssl: Ssl, peer: Ssl, peer_is_server: bool) -> Pair {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let peer = thread::spawn(move || {
            let done = match peer_is_server {
                true => peer.accept(theirs),
                false => peer.connect(theirs),
            };
            done.expect("the peer's handshake")
        });
        ours.set_nonblocking(true).expect("non-blocking");
        let socket = ours.try_clone().expect("another handle");
        let poll = Poll::new().expect("a poll");
        let ours = mio::net::UnixStream::from_std(ours);
        let plain = Transport::register(ours, poll.registry(), Token(0)).expect("registered");
        let mut transport = plain.start_tls(ssl).expect("TLS");
        let mut meter = Meter::default();
        while let Err(error) = transport.shake_hands(&mut meter) {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
            assert!(wait_for(&socket, PollFlags::POLLIN, 10_000), "no handshake");
        }
        Pair {
            transport,
            socket,
            peer: peer.join().expect("the peer"),
            meter,
            poll,
        }
    }

    /// The daemon as a client of a server.
    fn with_server(version: SslVersion) -> Pair {
        let authority = Authority::new();
        let identity = authority.identity(&["example.org"]);
        let mut builder = SslContext::builder(SslMethod::tls_server()).expect("a context");
        builder.set_certificate(&identity.certificate).expect("it");
        builder.set_private_key(&identity.key).expect("its key");
        builder.set_max_proto_version(Some(version)).expect("it");
        let contexts = Contexts::new(std::iter::empty()).expect("contexts");
        let wish = TlsRequest {
            domain: "example.org",
            ca_file: None,
            verify: false,
            direct: false,
        };
        let ours = contexts.connection(&wish).expect("a connection");
        let peer = Ssl::new(&builder.build()).expect("a connection");
        Pair::new(ours, peer, true)
    }

    /// The daemon as a server for a browser.
    fn with_browser(version: SslVersion) -> Pair {
        let authority = Authority::new();
        let files = [authority.identity(&["example.org"]).files(&[])];
        let file = TempFile::new(&keys(&files));
        let config = config::load(&file.0).expect("a configuration").config;
        let endpoints = Endpoint::all(&config).expect("an endpoint");
        let ours = endpoints[0].connection().expect("TLS").expect("it");
        Pair::new(ours, browser(version), false)
    }

    /// Reads until the peer's last stanza; returns the number of calls. Fails if a call
    /// handles too many records.
    fn read_to_the_end(&mut self, expected: &[u8]) -> usize {
        let (mut calls, mut buffer) = (0, [0; 16 << 10]);
        loop {
            let before = self.meter.drawn();
            let done = self.transport.read(&mut buffer, &mut self.meter);
            let records = (self.meter.drawn() - before) / TLS_RECORD;
            assert!(records <= MOST_RECORDS, "{records} records in a call");
            match done {
                Ok(n) => {
                    assert_eq!(&buffer[..n], expected);
                    break calls;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
                    assert!(records > 0, "a call that cost nothing and gave nothing");
                    calls += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}");
                    assert!(wait_for(&self.socket, PollFlags::POLLIN, 10_000));
                }
            }
        }
    }
}

/// A browser that accepts any certificate.
fn browser(version: SslVersion) -> Ssl {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a context");
    builder.set_max_proto_version(Some(version)).expect("it");
    builder.set_cipher_list(TLS12_CIPHER).expect("a cipher");
    builder.set_verify(SslVerifyMode::NONE);
    let settings = builder.build().configure().expect("settings");
    let settings = settings.verify_hostname(false);
    settings.into_ssl("example.org").expect("a connection")
}

#[test]
fn one_call_takes_one_of_them() {
    use SslVersion as Version;
    for (mut pair, idle) in [
        (Pair::with_browser(Version::TLS1_3), Idle::KeyUpdate),
        (Pair::with_server(Version::TLS1_3), Idle::KeyUpdate),
        (Pair::with_server(Version::TLS1_3), Idle::Ticket),
        (Pair::with_server(Version::TLS1_2), Idle::HelloRequest),
    ] {
        for _ in 0..FEW {
            idle.send(&mut pair.peer);
        }
        pair.peer.write_all(b"<a/>").expect("write");
        let before = pair.meter.drawn();
        let calls = pair.read_to_the_end(b"<a/>");
        // A TLS 1.3 server sends two more tickets.
        assert!((FEW..=FEW + 2).contains(&calls), "{idle:?}: {calls} calls");
        let drawn = (pair.meter.drawn() - before) / TLS_RECORD;
        assert!((FEW..=FEW + 2).contains(&drawn), "{idle:?}: {drawn} drawn");
        drop(pair.poll);
    }
}

/// After the handshake the daemon frees what only the handshake needs.
#[test]
fn keys_and_tickets_change_in_turns_on_several_connections() {
    let mut pairs = [
        (Pair::with_browser(SslVersion::TLS1_3), Idle::KeyUpdate),
        (Pair::with_server(SslVersion::TLS1_3), Idle::Ticket),
        (Pair::with_server(SslVersion::TLS1_3), Idle::KeyUpdate),
    ];
    for round in 0..5 {
        for (pair, idle) in &mut pairs {
            idle.send(&mut pair.peer);
            Idle::KeyUpdateRequest.send(&mut pair.peer);
            let message = format!("<a n='{round}'/>");
            pair.peer.write_all(message.as_bytes()).expect("write");
            pair.read_to_the_end(message.as_bytes());
        }
        for (pair, _) in &mut pairs {
            // The library sends its own KeyUpdate first.
            let written = pair.transport.write(b"<b/>", &mut pair.meter);
            assert_eq!(written.expect("written"), 4);
            let mut answer = [0; 4];
            pair.peer.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"<b/>");
        }
    }
}

#[test]
fn one_call_refuses_a_few_renegotiations() {
    let mut pair = Pair::with_browser(SslVersion::TLS1_2);
    let mut renegotiation = Renegotiation::new(pair.peer.ssl());
    for _ in 0..FEW {
        let record = renegotiation.record();
        pair.peer.get_mut().write_all(&record).expect("write");
    }
    // These records bypass OpenSSL's sequence numbers, so no stanza can follow them.
    pair.transport.edge(false);
    let before = pair.meter.drawn();
    let mut buffer = [0; 100];
    let mut calls = 0;
    loop {
        let error = pair.transport.read(&mut buffer, &mut pair.meter);
        let error = error.expect_err("there is nothing to read");
        calls += 1;
        match error.kind() {
            std::io::ErrorKind::Interrupted => {}
            std::io::ErrorKind::WouldBlock => break,
            _ => panic!("{error}"),
        }
    }
    let drawn = (pair.meter.drawn() - before) / TLS_RECORD;
    assert_eq!(drawn, FEW, "in {calls} calls");
    assert!(calls >= FEW.div_ceil(MOST_RECORDS), "{calls} calls");
}

/// The number of records for a daemon.
const MANY: usize = 40_000;
const STATUS: &str = "status_listen: 127.0.0.1:0\n";

/// Runs `done`, and round trips of another session with `trip` at the same time. Fails
/// unless the daemon spreads `records` over as many turns as the meter requires. The
/// other session gets its turn in each of them.
fn beside(daemon: &Daemon, records: usize, mut trip: impl FnMut(), done: impl FnOnce() + Send) {
    let turns = || metrics(daemon)["turn_seconds_count"];
    let (before, over) = (turns(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            done();
            over.store(true, Ordering::SeqCst);
        });
        while !over.load(Ordering::SeqCst) {
            trip();
        }
    });
    // A turn may handle a few records more.
    let (turns, least) = (
        turns() - before,
        records * TLS_RECORD / UNITS_PER_TURN * 3 / 4,
    );
    assert!(turns >= least as f64, "{turns} turns, not {least}");
}

#[test]
fn a_browser_that_sends_them_costs_only_itself() {
    let stage = WssStage::set(&[&["example.org"]], STATUS);
    let relay = Relay::start(stage.daemon.address);
    let open = |tls: SslStream<_>| {
        let mut client = WsClient::new(tls);
        let response = client.handshake("/", &[], Some("xmpp")).expect("it");
        let accept = response.field("Sec-WebSocket-Accept");
        assert_eq!(accept, Some(HANDSHAKE_ACCEPT));
        client.send_text(OPEN).unwrap();
        let server = both_headers(&mut client, &stage.server);
        (client, server)
    };
    let mut healthy = open(stage.tls("example.org", SslVersion::TLS1_3));
    let connector = stage.connector().build();
    let tls = connector.connect("example.org", connected(relay.address));
    let (mut client, mut server) = open(tls.expect("TLS"));
    let held = relay.hold();
    for _ in 0..MANY {
        Idle::KeyUpdate.send(&mut client.stream);
    }
    held.store(false, Ordering::SeqCst);
    client.send_text(PRESENCE).unwrap();
    server.stream.set_read_timeout(None).unwrap();
    let trip = || alive(&mut healthy.0, &mut healthy.1);
    beside(&stage.daemon, MANY, trip, || server.expect(PRESENCE));
    stage.daemon.stop();
}

/// Fails unless a session works both ways.
fn alive(
    client: &mut WsClient<SslStream<std::net::TcpStream>>,
    server: &mut crate::common::xmpp_server::Connection,
) {
    client.send_text(PRESENCE).expect("send");
    server.expect(PRESENCE);
    server.send("<a xmlns='urn:x'/>");
    expect_text(client, "<a xmlns='urn:x'/>");
}

#[test]
fn a_server_that_sends_them_costs_only_its_session() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["example.org"]));
    let relay = Relay::start(server.tcp.address);
    let ca = authority.ca_file();
    let address = relay.address.to_string();
    let domain = entry("example.org", &address, Some(&ca), &["tls: direct"]);
    let daemon = Daemon::start(&format!("{STATUS}domains:\n{domain}"));
    let session = || -> (WsClient, TlsConnection) {
        let mut client = daemon.client();
        client.send_text(OPEN).unwrap();
        let mut server = server.direct();
        server.greet(OPEN_UP);
        expect_greeted(&mut client);
        (client, server)
    };
    let mut healthy = session();
    for (idle, count) in [(Idle::KeyUpdate, MANY), (Idle::Ticket, MANY / 4)] {
        let (mut client, mut server) = session();
        let held = relay.hold();
        for _ in 0..count {
            idle.send(&mut server.stream);
        }
        held.store(false, Ordering::SeqCst);
        server.send("<a xmlns='urn:x'/>");
        client.stream.set_read_timeout(None).unwrap();
        let done = || expect_text(&mut client, "<a xmlns='urn:x'/>");
        beside(&daemon, count, || exchange(&mut healthy), done);
    }
    daemon.stop();
}
