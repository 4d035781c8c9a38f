//! STARTTLS on the wire: what is sent before and after TLS starts, the versions of TLS,
//! and sessions over TLS, which work like any other.

use crate::common::certificates::{Authority, Content};
use crate::common::stage::*;
use crate::common::tls_server::*;
use openssl::dh::Dh;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::SslVersion;

const REQUIRED: &[&str] = &["tls: required"];

#[test]
fn the_users_name_is_sent_under_tls_only() {
    let stage = TlsStage::set(REQUIRED, "");
    let open = OPEN.replace(" to=", " from='juliet@example.org' to=");
    let header_up = OPEN_UP.replace(" to=", " from=\"juliet@example.org\" to=");
    let mut client = stage.client(&open);
    let mut connection = stage.server.asked();
    assert_eq!(connection.text(), format!("{OPEN_UP}{STARTTLS}"));
    connection.send(PROCEED);
    let mut server = stage.server.handshake(connection.stream);
    assert_eq!(stage.server.hello().sni.as_deref(), Some("example.org"));
    server.expect(&header_up);
    server.send(HEADER);
    // A server may offer STARTTLS again. The client does not see the offer.
    let offer = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>";
    server.send(&FEATURES.replace("</stream:features>", offer));
    // The ID is that of the header after TLS.
    expect_text(&mut client, HEADER_DOWN);
    expect_text(&mut client, FEATURES_DOWN);
    exchange(&mut (client, server));
    let line = stage.daemon.wait_for_line(" with the server of ");
    assert!(line.contains("TLSv1.3 with the server of example.org"));
    stage.daemon.stop();
}

#[test]
fn messages_wait_for_tls() {
    let stage = TlsStage::set(REQUIRED, "");
    let mut client = stage.client(OPEN);
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
    client.send_text(auth).unwrap();
    let connection = stage.server.asked();
    assert_eq!(connection.text(), format!("{OPEN_UP}{STARTTLS}"));
    let mut server = stage.server.try_proceed(connection).unwrap();
    server.greet(OPEN_UP);
    server.expect(auth);
    expect_greeted(&mut client);
    exchange(&mut (client, server));
    stage.daemon.stop();
}

#[test]
fn tls_1_2_and_1_3_are_spoken() {
    for (version, name) in [
        (SslVersion::TLS1_2, "TLSv1.2"),
        (SslVersion::TLS1_3, "TLSv1.3"),
    ] {
        let authority = Authority::new();
        let identity = authority.identity(&["example.org"]);
        let server = TlsServer::start_version(&identity, version);
        let stage = TlsStage::set_with(server, &authority, REQUIRED, "");
        let mut session = stage.session();
        assert_eq!(session.1.version(), name);
        exchange(&mut session);
        stage.daemon.stop();
    }
}

#[test]
fn tls_1_1_is_not_spoken() {
    let authority = Authority::new();
    let identity = authority.identity(&["example.org"]);
    let server = TlsServer::start_version(&identity, SslVersion::TLS1_1);
    let stage = TlsStage::set_with(server, &authority, REQUIRED, "");
    let mut client = stage.client(OPEN);
    let refused = stage.server.try_proceed(stage.server.asked());
    assert!(refused.is_err(), "{:?}", refused.map(|tls| tls.version()));
    expect_no_way(&mut client, "TLS 1.1");
    stage.daemon.stop();
}

/// The server would choose the field, and a large one takes a second.
#[test]
fn key_exchanges_in_finite_fields_are_refused() {
    let authority = Authority::new();
    let content = Content {
        dns: &["example.org"],
        ..Content::default()
    };
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let identity = authority.sign_key(&content, key);
    let in_tls_1_3 = TlsServer::start_with(&identity, |builder| {
        let version = Some(SslVersion::TLS1_3);
        builder.set_min_proto_version(version).unwrap();
        builder.set_groups_list("ffdhe2048").unwrap();
    });
    let in_tls_1_2 = TlsServer::start_with(&identity, |builder| {
        let version = Some(SslVersion::TLS1_2);
        builder.set_max_proto_version(version).unwrap();
        builder
            .set_cipher_list("DHE-RSA-AES128-GCM-SHA256")
            .unwrap();
        builder.set_tmp_dh(&Dh::get_2048_256().unwrap()).unwrap();
    });
    for server in [in_tls_1_3, in_tls_1_2] {
        let stage = TlsStage::set_with(server, &authority, REQUIRED, "");
        let mut client = stage.client(OPEN);
        let refused = stage.server.try_proceed(stage.server.asked());
        assert!(refused.is_err(), "{:?}", refused.map(|tls| tls.version()));
        expect_no_way(&mut client, "a finite field");
        stage.daemon.stop();
    }
}

#[test]
fn the_dialogue_may_come_byte_by_byte() {
    let stage = TlsStage::set(REQUIRED, "");
    let mut client = stage.client(OPEN);
    let mut connection = stage.server.tcp.accept();
    connection.expect(OPEN_UP);
    connection.dribble(&format!("{CLEAR_HEADER}{OFFER}"));
    connection.expect(STARTTLS);
    connection.dribble(PROCEED);
    let mut server = stage.server.handshake(connection.stream);
    server.expect(OPEN_UP);
    server.dribble(HEADER);
    server.dribble(FEATURES);
    expect_greeted(&mut client);
    server.dribble("<a xmlns='urn:x'><b/></a><c xmlns='urn:x'/>");
    expect_text(&mut client, "<a xmlns='urn:x'><b/></a>");
    expect_text(&mut client, "<c xmlns='urn:x'/>");
    exchange(&mut (client, server));
    stage.daemon.stop();
}

#[test]
fn header_and_offer_may_come_in_one_piece() {
    let stage = TlsStage::set(REQUIRED, "");
    let mut client = stage.client(OPEN);
    let mut connection = stage.server.tcp.accept();
    connection.expect(OPEN_UP);
    connection.send(&format!("{CLEAR_HEADER}{OFFER}"));
    connection.expect(STARTTLS);
    let mut server = stage.server.try_proceed(connection).unwrap();
    server.expect(OPEN_UP);
    server.send(&format!("{HEADER}{FEATURES}"));
    expect_greeted(&mut client);
    exchange(&mut (client, server));
    stage.daemon.stop();
}

#[test]
fn each_way_of_the_server_to_end_is_passed_on() {
    let stage = TlsStage::set(REQUIRED, "");
    for case in ["close_notify", "end of TCP"] {
        let (mut client, mut server) = stage.session();
        match case {
            "close_notify" => server.close_notify(),
            _ => server.half_close(),
        }
        let close = client.read_close().expect(case);
        assert_eq!(close, (Some(1001), "XMPP server closed".into()), "{case}");
    }
    let (mut client, server) = stage.session();
    server.reset();
    expect_close(&mut client, 1001, "XMPP server closed");

    let (mut client, mut server) = stage.session();
    server.send(END);
    expect_stream_close(&mut client, 1000);
    server.expect_end(END);
    stage.daemon.stop();
}

#[test]
fn stanzas_sent_before_the_end_arrive() {
    let stage = TlsStage::set(REQUIRED, "");
    let (mut client, mut server) = stage.session();
    let last = format!("<a xmlns='urn:x'>{}</a>", "x".repeat(60_000));
    server.send(&last);
    server.close_notify();
    expect_text(&mut client, &last);
    expect_close(&mut client, 1001, "XMPP server closed");

    let (mut client, mut server) = stage.session();
    client.send_text(&last).unwrap();
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    server.expect_end(&format!("{last}{END}"));
    stage.daemon.stop();
}

#[test]
fn the_stream_of_a_lost_browser_is_cut() {
    let stage = TlsStage::set(REQUIRED, "");
    let (client, mut server) = stage.session();
    drop(client);
    server.expect_end("");
    let (client, mut server) = stage.session();
    crate::common::reset(client.stream);
    server.expect_end("");
    let (mut client, mut server) = stage.session();
    client.send_close(1001, "").unwrap();
    server.expect_end("");
    stage.daemon.stop();
}

#[test]
fn a_browser_lost_within_the_handshake_ends_it() {
    let stage = TlsStage::set(REQUIRED, "");
    let client = stage.client(OPEN);
    let mut connection = stage.server.asked();
    drop(client);
    let (_, rest) = connection.read_end();
    assert_eq!(rest, "");
    let client = stage.client(OPEN);
    let mut connection = stage.server.asked();
    connection.send(PROCEED);
    // The ClientHello has arrived, and the daemon waits for the answer.
    let hello = connection.stream.peek(&mut [0]).unwrap();
    assert_eq!(hello, 1);
    drop(client);
    let mut rest = Vec::new();
    let end = std::io::Read::read_to_end(&mut connection.stream, &mut rest);
    assert!(end.is_ok_and(|n| n > 0));
    assert_eq!(rest[..2], [22, 3], "nothing but the ClientHello");
    stage.daemon.stop();
}
