//! Redirects by see-other-host (RFC 6120, section 4.9.3.19). jabsocket follows them while
//! the stream is being opened, and the client does not notice.

use crate::common::answering::*;
use crate::common::daemon::Daemon;
use crate::common::dns_server::{DnsServer, SRV};
use crate::common::stage::{
    CLIENT_CLOSE, END, HEADER, PRESENCE, SUCCESS, expect_close, expect_stream_close,
};
use crate::common::ws_client::{FIN, PING, PONG, WsClient};
use crate::common::xmpp_server::XmppServer;

const LISTED: &str = "domains: [x.example]\n";

const CLEAR: &str = "_xmpp-client._tcp.x.example";

/// The redirect to `place`.
fn see_other(place: &str) -> String {
    format!(
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{place}\
         </see-other-host></stream:error></stream:stream>"
    )
}

/// A zone where `server` is that of `x.example`.
fn zone(server: &Answering) -> String {
    format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        server.port(),
    )
}

/// A server that redirects to `place`.
fn sending_to(place: &str) -> Answering {
    Answering::saying("127.0.0.1:0", "first", &see_other(place))
}

#[test]
fn it_is_followed_and_not_relayed() {
    let there = Answering::start("there");
    // With `auto` the first stream may lead to TLS. With `none` it is the client's
    // stream.
    for tls in ["auto", "none"] {
        for place in [
            there.address.to_string(),
            format!(" {}\n", there.address),
            format!("B.example:{}", there.port()),
        ] {
            let first = sending_to(&place);
            let dns = DnsServer::start(&zone(&first));
            dns.add("b.example A 127.0.0.1");
            let config = format!("{LISTED}server_tls: {tls}\n");
            let daemon = daemon_asking(&dns, &config);
            let mut client = opening(&daemon, "x.example");
            // In the client's own stream the header is relayed at once, because the
            // redirect is not known yet.
            let id = match tls {
                "none" => "first",
                _ => "there",
            };
            assert_eq!(read_id(&mut client, "x.example"), id, "{tls}, {place}");
            let features = client.read_text().unwrap();
            let case = format!("{tls}, {place}: {features}");
            assert!(features.starts_with("<stream:features"), "{case}");
            // The session is with the other server, and no message was lost or added.
            client.send_text(PRESENCE).unwrap();
            let at = there.connections() - 1;
            there.wait_received(at, PRESENCE.as_bytes());
            client.send_text(CLIENT_CLOSE).unwrap();
            expect_stream_close(&mut client, 1000);
            assert_eq!(first.connections(), 1, "{case}");
            daemon.stop();
        }
    }
}

/// A server may answer pipelined messages with its header.
#[test]
fn only_the_first_header_of_the_other_server_is_withheld() {
    let header = HEADER.replace("id='s1'", "id='second'");
    let there = Answering::saying("127.0.0.1:0", "there", &format!("{SUCCESS}{header}"));
    let first = sending_to(&there.address.to_string());
    let dns = DnsServer::start(&zone(&first));
    let daemon = daemon_asking(&dns, &format!("{LISTED}server_tls: none\n"));
    let mut client = opening(&daemon, "x.example");
    assert_eq!(read_id(&mut client, "x.example"), "first");
    assert_eq!(client.read_text().unwrap(), SUCCESS);
    let open = client.read_text().unwrap();
    assert!(open.contains(" id=\"second\""), "{open}");
    daemon.stop();
}

#[test]
fn a_target_without_a_port_has_the_standard_one() {
    let own = own_address();
    let _there = Answering::start_at((own, PORT), "there");
    for place in [own.to_string(), "b.example".to_owned()] {
        let first = sending_to(&place);
        let dns = DnsServer::start(&zone(&first));
        dns.add(&format!("b.example A {own}"));
        // A host, not a domain: its SRV records are not asked for.
        dns.add(&format!(
            "_xmpp-client._tcp.b.example SRV 1 1 {} b.example",
            closed().port()
        ));
        let daemon = daemon_asking(&dns, LISTED);
        drop(reach(&daemon, "x.example", "there"));
        daemon.stop();
    }
}

#[test]
fn an_ipv6_target_has_brackets() {
    let there = Answering::saying("[::1]:0", "there", FEATURES);
    let first = sending_to(&format!("[::1]:{}", there.port()));
    let dns = DnsServer::start(&zone(&first));
    let daemon = daemon_asking(&dns, LISTED);
    drop(reach(&daemon, "x.example", "there"));
    daemon.stop();
}

#[test]
fn the_domain_stays_and_so_do_messages() {
    let there = Answering::start("there");
    let first = sending_to(&there.address.to_string());
    let (_dns, daemon, mut client) = pipelining(&first, "auto");
    assert_eq!(read_id(&mut client, "x.example"), "there");
    let said = there.wait_received(0, b"<presence");
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("to=\"x.example\""), "{said}");
    assert!(said.ends_with(PRESENCE), "{said}");
    assert_eq!(said.matches("<presence").count(), 1, "{said}");
    assert_eq!(said.matches("<stream:stream").count(), 1, "{said}");
    daemon.stop();
}

#[test]
fn it_is_not_relayed_where_it_cannot_be_followed() {
    // The first server already has a message. Clients would take the redirect for a
    // WebSocket address.
    let there = Answering::start("there");
    let first = sending_to(&there.address.to_string());
    let (_dns, daemon, mut client) = pipelining(&first, "none");
    assert_eq!(read_id(&mut client, "x.example"), "first");
    first.wait_received(0, PRESENCE.as_bytes());
    expect_close(&mut client, 1001, "XMPP server closed");
    assert_eq!(there.connections(), 0);
    daemon.stop();
}

/// A client that has sent a message after its `<open/>` to the server `first`.
fn pipelining(first: &Answering, tls: &str) -> (DnsServer, Daemon, WsClient) {
    let dns = DnsServer::start(&format!("{CLEAR} SRV HELD\na.example A 127.0.0.1"));
    let daemon = daemon_asking(&dns, &format!("{LISTED}server_tls: {tls}\n"));
    let mut client = opening(&daemon, "x.example");
    client.send_text(PRESENCE).unwrap();
    // The frame after the message is answered, so the daemon has read the message.
    client.send_frame(FIN | PING, b"").unwrap();
    let pong = client.read_frame().unwrap().expect("a Pong");
    assert_eq!(pong.opcode, PONG);
    dns.wait_asked(CLEAR, SRV);
    dns.release(&zone(first));
    (dns, daemon, client)
}

#[test]
fn it_is_followed_twice_but_not_for_ever() {
    let there = Answering::start("there");
    let third = sending_to(&there.address.to_string());
    let second = sending_to(&third.address.to_string());
    let first = sending_to(&second.address.to_string());
    let dns = DnsServer::start(&zone(&second));
    let daemon = daemon_asking(&dns, LISTED);
    drop(reach(&daemon, "x.example", "there"));
    daemon.stop();
    let dns = DnsServer::start(&zone(&first));
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    let connections = [&first, &second, &third].map(Answering::connections);
    assert_eq!((connections, there.connections()), ([1, 2, 2], 1));
    daemon.stop();
}

#[test]
fn a_loop_ends() {
    let own = own_address();
    for (tls, end) in [("auto", END), ("auto", ""), ("none", END), ("none", "")] {
        let said = see_other("b.example:5222").replace(END, end);
        let first = Answering::saying(&format!("{own}:5222"), "first", &said);
        let dns = DnsServer::start(&format!(
            "{CLEAR} SRV 1 1 5222 b.example
             b.example A {own}"
        ));
        let config = format!("{LISTED}server_tls: {tls}\n");
        let daemon = daemon_asking(&dns, &config);
        reach_nothing(&daemon, "x.example", "remote-connection-failed");
        assert_eq!(first.connections(), 3, "{tls}, {end:?}");
        daemon.stop();
    }
}

#[test]
fn an_unusable_target_is_a_failure() {
    let closed = closed().to_string();
    for place in [
        "",
        "b.example:0",
        "b.example:port",
        "user@b.example",
        "b..example",
        &closed,
    ] {
        let first = sending_to(place);
        let dns = DnsServer::start(&zone(&first));
        let daemon = daemon_asking(&dns, LISTED);
        reach_nothing(&daemon, "x.example", "remote-connection-failed");
        assert_eq!(first.connections(), 1, "{place:?}");
        daemon.stop();
    }
}

#[test]
fn a_target_that_does_not_exist_is_not_the_client_s_domain() {
    let first = sending_to("missing.example:5222");
    let dns = DnsServer::start(&zone(&first));
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.stop();
}

/// If a server delays its features, jabsocket continues in plain text. The next server
/// gets the same messages.
#[test]
fn it_is_followed_after_the_server_was_slow() {
    let (slow, there) = (XmppServer::start(), Answering::start("there"));
    let daemon = Daemon::start(&format!(
        "domains:\n  - name: x.example\n    server: {}\n",
        slow.address
    ));
    let mut client = opening(&daemon, "x.example");
    let mut server = slow.accept();
    server.read_until(">");
    server.send(&HEADER.replace("example.org", "x.example"));
    assert_eq!(read_id(&mut client, "x.example"), "s1");
    server.send(&see_other(&there.address.to_string()));
    let features = client.read_text().unwrap();
    assert!(features.starts_with("<stream:features"), "{features}");
    daemon.stop();
}
