//! Whether jabsocket uses TLS or plain text with a server. It depends on the key `tls`,
//! on the server's offer and on its address.
#![allow(
    clippy::disallowed_methods,
    reason = "a client gives up on a server that keeps it waiting"
)]

use std::time::{Duration, Instant};

use crate::common::certificates::Authority;
use crate::common::daemon::{Daemon, TempFile};
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::{Connection, End, XmppServer};
use nix::sys::signal::Signal;

/// A message with a secret.
const AUTH: &str =
    "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";

/// A refusal of STARTTLS, and the namespace of the conditions of stream errors.
const FAILURE: &str = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>";
const STREAM_ERRORS: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-streams'";

/// Features with an optional STARTTLS.
fn with_offer() -> String {
    let start = "<stream:features>";
    FEATURES.replace(start, &format!("{start}{STARTTLS}"))
}

/// Where the server is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// At the configured address.
    Configured,
    /// At a loopback address from a redirect.
    Loopback,
    /// At an address from a redirect that does not look like a loopback address.
    Elsewhere,
}
use Place::{Configured, Elsewhere, Loopback};

/// The expected outcome.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Tls,
    Plain,
    NoWay,
}
use Outcome::{NoWay, Plain, Tls};

/// A daemon, the configured server, and the server under test. They may be the same
/// server.
struct Scene {
    configured: XmppServer,
    server: TlsServer,
    place: Place,
    daemon: Daemon,
    _ca_file: TempFile,
}

impl Scene {
    fn set(policy: &str, place: Place, config: &str) -> Scene {
        let authority = Authority::new();
        let ca_file = authority.ca_file();
        let server = TlsServer::start(&authority.identity(&["example.org"]));
        let configured = XmppServer::start();
        let address = match place {
            Configured => server.tcp.address,
            _ => configured.address,
        };
        let tls = format!("tls: {policy}");
        let entry = entry("example.org", &address.to_string(), Some(&ca_file), &[&tls]);
        let daemon = Daemon::start(&format!("domains:\n{entry}{config}"));
        Scene {
            configured,
            server,
            place,
            daemon,
            _ca_file: ca_file,
        }
    }

    /// A client that has sent its first messages, and the unread connection to the server
    /// under test.
    fn arrive(&self) -> (WsClient, Connection) {
        let mut client = self.daemon.client();
        client.send_text(OPEN).unwrap();
        client.send_text(AUTH).unwrap();
        let host = match self.place {
            Configured => return (client, self.server.tcp.accept()),
            Loopback => "127.0.0.1",
            // Connects to this machine too.
            Elsewhere => "0.0.0.0",
        };
        let mut server = self.configured.accept();
        server.expect(OPEN_UP);
        server.send(CLEAR_HEADER);
        server.send(&format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\
             {host}:{}</see-other-host></stream:error></stream:stream>",
            self.server.tcp.address.port()
        ));
        let rest = server.read_end().1;
        assert_eq!(rest, "", "told to a server that sends us away");
        (client, self.server.tcp.accept())
    }
}

/// Fails unless the server is asked for TLS all the same, and told nothing else after its `answer`.
fn expect_only_starttls(server: &mut Connection, answer: &str, case: &str) {
    server.expect(STARTTLS);
    server.send(answer);
    let (end, rest) = server.read_end();
    assert_eq!((end, &rest[..]), (End::Fin, ""), "{case}");
    assert_eq!(server.text(), format!("{OPEN_UP}{STARTTLS}"), "{case}");
}

fn under_tls(scene: &Scene, mut client: WsClient, server: Connection) {
    let mut server = scene.server.try_proceed(server).expect("TLS");
    server.greet(OPEN_UP);
    server.expect(AUTH);
    expect_greeted(&mut client);
    exchange(&mut (client, server));
}

fn in_plain_text(client: &mut WsClient, server: &mut Connection) {
    server.expect(AUTH);
    expect_text(client, HEADER_DOWN);
    expect_text(client, FEATURES_DOWN);
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    assert!(!server.text().contains("starttls"), "{}", server.text());
}

#[test]
fn policy_offer_and_address_decide() {
    let (offer, both, none) = (OFFER, &with_offer()[..], FEATURES);
    for (policy, place, features, outcome) in [
        ("auto", Configured, offer, Tls),
        ("auto", Configured, both, Tls),
        ("auto", Configured, none, Plain),
        ("auto", Loopback, offer, Tls),
        ("auto", Loopback, none, Plain),
        ("auto", Elsewhere, offer, Tls),
        ("auto", Elsewhere, none, NoWay),
        ("required", Configured, offer, Tls),
        ("required", Configured, both, Tls),
        ("required", Configured, none, NoWay),
        ("required", Loopback, offer, Tls),
        ("required", Loopback, none, NoWay),
        ("required", Elsewhere, offer, Tls),
        ("required", Elsewhere, none, NoWay),
        ("none", Configured, both, Plain),
        ("none", Configured, none, Plain),
    ] {
        let case = format!("{policy}, {place:?}, {features}");
        println!("{case}");
        let scene = Scene::set(policy, place, "");
        let (mut client, mut server) = scene.arrive();
        server.expect(OPEN_UP);
        // In one segment: if plain text is allowed, the daemon waits only briefly for the
        // features.
        server.send(&format!("{HEADER}{features}"));
        match outcome {
            Tls => {
                server.expect(STARTTLS);
                assert_eq!(server.text(), format!("{OPEN_UP}{STARTTLS}"));
                under_tls(&scene, client, server);
            }
            Plain => in_plain_text(&mut client, &mut server),
            NoWay => {
                expect_only_starttls(&mut server, FAILURE, &case);
                expect_no_way(&mut client, &case);
                scene.daemon.wait_for_line("offers no STARTTLS");
            }
        }
        scene.daemon.stop();
    }
}

/// Somebody may have removed the offer on the way (RFC 7590, section 3.1).
#[test]
fn tls_is_asked_for_although_it_is_not_offered() {
    let scene = Scene::set("required", Configured, "");
    let (client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    server.send(&format!("{CLEAR_HEADER}{FEATURES}"));
    server.expect(STARTTLS);
    under_tls(&scene, client, server);

    // Other answers, and none, are the lack of an offer.
    let error = format!("<stream:error><not-authorized {STREAM_ERRORS}/></stream:error>{END}");
    for answer in [FAILURE, &error, "<message/>", END, ""] {
        let (mut client, mut server) = scene.arrive();
        server.expect(OPEN_UP);
        server.send(&format!("{CLEAR_HEADER}{FEATURES}"));
        expect_only_starttls(&mut server, answer, answer);
        expect_no_way(&mut client, answer);
        let peer = client.stream.local_addr().unwrap();
        let line = scene
            .daemon
            .wait_for_line(&format!(" {peer}: cannot reach the server"));
        assert!(line.contains("offers no STARTTLS"), "{answer}: {line}");
    }
    // A server that has already sent more is not asked.
    let early = format!("{CLEAR_HEADER}{FEATURES}{PROCEED}");
    let (mut client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    server.send(&early);
    assert_eq!(server.read_end(), (End::Fin, String::new()), "{early}");
    expect_no_way(&mut client, &early);
    // An injection stays one.
    let (mut client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    server.send(&format!("{CLEAR_HEADER}{FEATURES}"));
    expect_only_starttls(&mut server, &format!("{PROCEED}<message/>"), "injection");
    expect_no_way(&mut client, "injection");
    scene.daemon.wait_for_line("an injection");
    scene.daemon.stop();
}

/// An XMPP 0.9 server has no features and no STARTTLS.
#[test]
fn a_header_without_version_is_no_offer() {
    let header = HEADER.replace(" version='1.0' xml", " xml");
    let scene = Scene::set("required", Configured, "");
    let (mut client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    server.send(&header);
    expect_only_starttls(&mut server, FAILURE, "required");
    expect_no_way(&mut client, "required");
    scene.daemon.stop();

    let scene = Scene::set("auto", Configured, "");
    let (mut client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    server.send(&header);
    expect_text(&mut client, &HEADER_DOWN.replace(" version=\"1.0\"", ""));
    server.expect(AUTH);
    scene.daemon.stop();
}

#[test]
fn direct_tls_sends_its_alpn_and_asks_for_no_starttls() {
    let scene = Scene::set("direct", Configured, "");
    let (mut client, connection) = scene.arrive();
    let mut server = scene.server.handshake(connection.stream);
    let hello = scene.server.hello();
    assert_eq!(hello.sni.as_deref(), Some("example.org"));
    assert_eq!(hello.alpn.as_deref(), Some(&b"\x0bxmpp-client"[..]));
    assert_eq!(server.alpn(), Some(&b"xmpp-client"[..]));
    server.expect(OPEN_UP);
    server.send(HEADER);
    // With or without an offer.
    server.send(&with_offer());
    expect_greeted(&mut client);
    server.expect(AUTH);
    assert_eq!(server.text(), format!("{OPEN_UP}{AUTH}"));
    exchange(&mut (client, server));
    scene.daemon.stop();
}

#[test]
fn direct_tls_has_no_way_to_a_server_in_plain_text() {
    let scene = Scene::set("direct", Configured, "");
    let (mut client, mut connection) = scene.arrive();
    // What such a server answers to a ClientHello.
    connection.send(&format!("{HEADER}<stream:error/></stream:stream>"));
    expect_no_way(&mut client, "direct");
    let mut told = Vec::new();
    // A reset is acceptable, because the daemon did not read the whole answer.
    let _ = std::io::Read::read_to_end(&mut connection.stream, &mut told);
    let told = String::from_utf8_lossy(&told);
    assert!(told.starts_with("\u{16}\u{3}"), "no ClientHello: {told:?}");
    assert!(!told.contains("stream"), "{told:?}");
    scene.daemon.stop();
}

#[test]
fn starttls_sends_no_alpn() {
    let scene = Scene::set("required", Configured, "");
    let mut client = scene.daemon.client();
    client.send_text(OPEN).unwrap();
    let _server = scene.server.starttls();
    let hello = scene.server.hello();
    assert_eq!(hello.alpn, None);
    assert_eq!(hello.sni.as_deref(), Some("example.org"));
    scene.daemon.stop();
}

/// A client gives up 2 s after its `<open/>`, long before this connect timeout.
#[test]
fn features_held_back_do_not_hold_a_client_up_in_plain_text() {
    let scene = Scene::set("auto", Configured, "connect_timeout: 3600\n");
    let (mut client, mut server) = scene.arrive();
    server.expect(OPEN_UP);
    let start = Instant::now();
    server.send(HEADER);
    expect_text(&mut client, HEADER_DOWN);
    let took = start.elapsed();
    assert!(took > Duration::from_millis(100), "no time: {took:?}");
    server.expect(AUTH);
    // Too late for an offer.
    server.send(&with_offer());
    expect_text(&mut client, FEATURES_DOWN);
    assert!(!server.text().contains("starttls"));
    scene.daemon.stop();
}

#[test]
fn features_held_back_end_a_session_that_needs_tls() {
    let cases = [
        ("required", Configured),
        ("required", Loopback),
        ("auto", Elsewhere),
    ];
    // All wait at the same time.
    let waiting = cases.map(|(policy, place)| {
        let scene = Scene::set(policy, place, "connect_timeout: 3\n");
        let start = Instant::now();
        let (client, mut server) = scene.arrive();
        server.expect(OPEN_UP);
        server.send(HEADER);
        (format!("{policy}, {place:?}"), scene, start, client, server)
    });
    for (case, scene, start, mut client, mut server) in waiting {
        let (end, rest) = server.read_end();
        assert_eq!((end, &rest[..]), (End::Fin, ""), "{case}");
        let took = start.elapsed();
        assert!(took > Duration::from_millis(2700), "{case}: {took:?}");
        expect_no_way(&mut client, &case);
        scene.daemon.stop();
    }
}

/// The policy for all domains without their own `tls`.
#[test]
fn server_tls_is_for_domains_without_their_own() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["example.org"]));
    let address = server.tcp.address.to_string();
    let domains = format!(
        "server_tls: required\ndomains:\n{}{}",
        entry("example.org", &address, None, &[]),
        entry("example.net", &address, None, &["tls: none"])
    );
    let daemon = Daemon::start(&domains);
    for (domain, secure) in [("example.org", true), ("example.net", false)] {
        let mut client = daemon.client();
        client
            .send_text(&OPEN.replace("example.org", domain))
            .unwrap();
        let mut connection = server.tcp.accept();
        connection.expect(&OPEN_UP.replace("example.org", domain));
        connection.send(HEADER);
        connection.send(FEATURES);
        match secure {
            true => expect_no_way(&mut client, domain),
            false => expect_greeted(&mut client),
        }
    }
    daemon.stop();
}

#[test]
fn a_session_keeps_its_authority_over_a_reload() {
    let (own, system) = (Authority::new_named("own"), Authority::new_named("system"));
    let (own_file, system_file) = (own.ca_file(), system.ca_file());
    for (authority, trusted) in [(&own, true), (&system, false)] {
        let server = TlsServer::start(&authority.identity(&["example.org"]));
        let address = server.tcp.address.to_string();
        let domains = |file: Option<&TempFile>| {
            let entry = entry("example.org", &address, file, &["tls: required"]);
            format!("log_level: LOG_DEBUG\ndomains:\n{entry}")
        };
        let system_path = system_file.0.to_string_lossy();
        let daemon = Daemon::start_in(
            "127.0.0.1",
            &domains(Some(&own_file)),
            &[("SSL_CERT_FILE", &system_path)],
        );
        let client = || {
            let mut client = daemon.client();
            client.send_text(OPEN).unwrap();
            client
        };
        // One client has sent its domain, the other has not.
        let mut client_before = client();
        let asked = server.asked();
        let mut silent = daemon.client();
        daemon.configure(&domains(None));
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_line("configuration reloaded");
        let end = |client: &mut WsClient, server: Result<TlsConnection, String>| match trusted {
            true => {
                server.expect("TLS").greet(OPEN_UP);
                expect_greeted(client);
            }
            false => expect_no_way(client, "another authority"),
        };
        end(&mut client_before, server.try_proceed(asked));
        silent.send_text(OPEN).unwrap();
        end(&mut silent, server.try_proceed(server.asked()));
        // New sessions use the system's authorities.
        let mut after = client();
        let proceeded = server.try_proceed(server.asked());
        match trusted {
            true => expect_no_way(&mut after, "the authority is gone"),
            false => {
                proceeded.expect("TLS").greet(OPEN_UP);
                expect_greeted(&mut after);
            }
        }
        daemon.stop();
    }
}
