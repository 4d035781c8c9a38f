//! The client's address from proxies. jabsocket uses it for limits, for the log and for
//! the server if the proxy is trusted, and ignores it otherwise.

use std::io::Write;

use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::{WsClient, request};

const TRUSTED: &str = "trusted_proxies:\n  - 127.0.0.1\n  - 10.0.0.0/8\n";

/// The address in the session line of a client that sends `before` and then a request
/// with `fields`.
fn logged(daemon: &Daemon, before: &[u8], fields: &[(&str, &str)]) -> String {
    let seen = daemon.lines().len();
    let mut client = WsClient::dial(daemon.address).unwrap();
    let port = client.stream.local_addr().unwrap().port();
    client.send_raw(before).unwrap();
    let response = client.handshake("/", fields, Some("xmpp")).unwrap();
    assert_eq!(response.status, 101, "{fields:?}");
    drop(client);
    let line = daemon.wait_for_line_after(seen, " ended by client");
    let address = line.split("session ").nth(1).expect("a session's line");
    let address = address.split(' ').nth(1).unwrap_or_default();
    // If the proxy reports no port, the line has the port of the connection.
    address.replace(&format!(":{port}"), ":PORT")
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

#[test]
fn a_trusted_proxy_reports_the_client() {
    let daemon = Daemon::start(TRUSTED);
    let told = |name, value| logged(&daemon, b"", &[(name, value)]);
    let list = "X-Forwarded-For";
    assert_eq!(told(list, "203.0.113.9"), "203.0.113.9:PORT");
    assert_eq!(
        told(list, "192.0.2.66, 203.0.113.9, 10.1.1.1"),
        "203.0.113.9:PORT"
    );
    assert_eq!(told(list, "nonsense"), "127.0.0.1:PORT");
    assert_eq!(
        told(
            "Forwarded",
            "for=192.0.2.66, for=\"[2001:db8::9]:4711\";proto=https"
        ),
        "[2001:db8::9]:4711"
    );
    let twice = [(list, "203.0.113.9"), (list, "203.0.113.10")];
    assert_eq!(logged(&daemon, b"", &twice), "203.0.113.10:PORT");
    assert_eq!(logged(&daemon, b"", &[]), "127.0.0.1:PORT");
}

#[test]
fn a_quoted_host_of_the_client_is_ignored() {
    let daemon = Daemon::start(TRUSTED);
    let quoted = "for=203.0.113.9;host=\"x;for=8.8.8.8;y\"";
    let told = |fields: &[(&str, &str)]| logged(&daemon, b"", fields);
    assert_eq!(told(&[("Forwarded", quoted)]), "203.0.113.9:PORT");
    // An unterminated quote from the client, in a separate line.
    let lines = [
        ("Forwarded", "for=8.8.8.8;by=\""),
        ("Forwarded", "for=203.0.113.9;by=\"_x\""),
    ];
    assert_eq!(told(&lines), "203.0.113.9:PORT");
    let unclear = "for=203.0.113.9;host=x;for=8.8.8.8;y=z";
    assert_eq!(told(&[("Forwarded", unclear)]), "127.0.0.1:PORT");
}

#[test]
fn only_the_configured_header_is_used() {
    let both = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.10"),
    ];
    for (key, [of_both, of_list, of_forwarded]) in [
        (
            "",
            ["203.0.113.9:PORT", "203.0.113.9:PORT", "203.0.113.10:PORT"],
        ),
        (
            "forwarded_header: x-forwarded-for\n",
            ["203.0.113.9:PORT", "203.0.113.9:PORT", "127.0.0.1:PORT"],
        ),
        (
            "forwarded_header: forwarded\n",
            ["203.0.113.10:PORT", "127.0.0.1:PORT", "203.0.113.10:PORT"],
        ),
    ] {
        let daemon = Daemon::start(&format!("{TRUSTED}{key}"));
        assert_eq!(logged(&daemon, b"", &both), of_both, "{key}");
        assert_eq!(logged(&daemon, b"", &both[..1]), of_list, "{key}");
        assert_eq!(logged(&daemon, b"", &both[1..]), of_forwarded, "{key}");
    }
}

#[test]
fn a_trusted_proxy_may_begin_with_a_proxy_header() {
    let daemon = Daemon::start(TRUSTED);
    let v1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n";
    assert_eq!(logged(&daemon, v1, &[]), "203.0.113.9:4711");
    let unknown = b"PROXY UNKNOWN\r\n";
    assert_eq!(logged(&daemon, unknown, &[]), "127.0.0.1:PORT");
    let body = [
        203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0x13, 0x88, 4, 0, 1, 0,
    ];
    assert_eq!(
        logged(&daemon, &v2(0x21, 0x11, &body), &[]),
        "203.0.113.9:4711"
    );
    assert_eq!(logged(&daemon, &v2(0x20, 0, b""), &[]), "127.0.0.1:PORT");
    // The address before the first proxy is used only if that proxy is trusted too.
    let list = [("X-Forwarded-For", "198.51.100.1")];
    assert_eq!(logged(&daemon, v1, &list), "203.0.113.9:4711");
    let inner = b"PROXY TCP4 10.0.0.7 127.0.0.1 4711 5000\r\n";
    assert_eq!(logged(&daemon, inner, &list), "198.51.100.1:4711");
}

#[test]
fn a_proxy_header_may_come_in_any_pieces() {
    let daemon = Daemon::start(TRUSTED);
    let body = [203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x67, 0x13, 0x88];
    for header in [
        b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n".to_vec(),
        v2(0x21, 0x11, &body),
    ] {
        let mut client = WsClient::dial(daemon.address).unwrap();
        let bytes = [&header[..], &request("/", &[], Some("xmpp"))].concat();
        client.send_chopped(&bytes, 1).unwrap();
        assert_eq!(client.read_response().unwrap().status, 101);
    }
}

#[test]
fn a_broken_proxy_header_is_refused() {
    let daemon = Daemon::start(TRUSTED);
    let mut client = WsClient::dial(daemon.address).unwrap();
    client.send_raw(b"PROXY TCP4 203.0.113.9\r\n").unwrap();
    assert_eq!(client.read_response().unwrap().status, 400);
    daemon.wait_for_line("trusted proxy: malformed PROXY header of version 1");
}

#[test]
fn reports_of_other_peers_are_ignored() {
    let daemon = Daemon::start("trusted_proxies: 192.0.2.1\n");
    let list = [
        ("X-Forwarded-For", "203.0.113.9"),
        ("Forwarded", "for=203.0.113.9"),
    ];
    assert_eq!(logged(&daemon, b"", &list), "127.0.0.1:PORT");
    let mut client = WsClient::dial(daemon.address).unwrap();
    client
        .send_raw(b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n")
        .unwrap();
    let _ = client.stream.write_all(&request("/", &[], Some("xmpp")));
    assert_eq!(client.read_response().unwrap().status, 400);
}

#[test]
fn limits_use_the_reported_address() {
    let daemon = Daemon::start(&format!("{TRUSTED}max_connections_per_address: 2\n"));
    let open = |address: &str| {
        let list = [("X-Forwarded-For", address)];
        WsClient::open(daemon.address, "/", &list, Some("xmpp")).unwrap()
    };
    let before = daemon.descriptors();
    let kept: Vec<_> = (0..2).map(|_| open("203.0.113.9")).collect();
    assert!(kept.iter().all(|(_, response)| response.status == 101));
    assert_eq!(open("203.0.113.9").1.status, 503);
    daemon.wait_for_line("limit: 203.0.113.9 exceeded max_connections_per_address");
    assert_eq!(open("203.0.113.10").1.status, 101);
    drop(kept);
    daemon.wait_for_descriptors(before);
    assert_eq!(open("203.0.113.9").1.status, 101);
    // Connections of the proxy itself are not counted.
    let _own: Vec<_> = (0..5).map(|_| daemon.client()).collect();
}

#[test]
fn the_server_gets_the_reported_address() {
    let server = crate::common::xmpp_server::XmppServer::start();
    let daemon = Daemon::start(&format!(
        "{TRUSTED}domains:\n  - name: example.org\n    server: {}\n    tls: none\n    \
         proxy_protocol: v1\n",
        server.address
    ));
    let list = [("X-Forwarded-For", "203.0.113.9")];
    let mut client = WsClient::connect(daemon.address, "/", &list, Some("xmpp")).unwrap();
    client.send_text(OPEN).unwrap();
    server.accept().expect("PROXY TCP4 203.0.113.9 127.0.0.1 ");
}
