//! Responses to requests without WebSocket: the page and host-meta. And see-other-uri,
//! which sends clients to another endpoint.

use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::WsClient;

fn ask(daemon: &Daemon, request: &str) -> (crate::common::ws_client::Response, String) {
    ask_raw(daemon, &format!("{request} HTTP/1.1"))
}

fn ask_raw(daemon: &Daemon, start: &str) -> (crate::common::ws_client::Response, String) {
    let mut client = WsClient::dial(daemon.address).unwrap();
    let text = format!("{start}\r\nHost: a\r\nOrigin: https://b.example\r\n\r\n");
    client.send_raw(text.as_bytes()).unwrap();
    let response = client.read_response().unwrap();
    let body = String::from_utf8(client.read_rest().unwrap()).unwrap();
    (response, body)
}

#[test]
fn the_resource_answers_health_checks() {
    let daemon = Daemon::start("resource: /ws\norigin: https://a.example\n");
    let (response, body) = ask(&daemon, "GET /ws");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(body.lines().count(), 1, "{body}");
    // With another protocol in the offer, and with headers that proxies always add.
    for line in [
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk",
        "Connection: upgrade",
    ] {
        let request = format!("GET /ws HTTP/1.1\r\n{line}");
        let (response, same) = ask_raw(&daemon, &request);
        assert_eq!((response.status, same), (200, body.clone()), "{line}");
    }
    assert_eq!(ask(&daemon, "HEAD /ws").1, "");
    assert_eq!(ask(&daemon, "OPTIONS /ws").0.status, 204);
    assert_eq!(ask(&daemon, "GET /").0.status, 404);
    assert_eq!(ask(&daemon, "GET /.well-known/host-meta").0.status, 404);
    assert_eq!(ask(&daemon, "DELETE /ws").0.status, 405);
    daemon.wait_for_line("ended by jabsocket: answered: 200 plain request");
    daemon.wait_for_line("ended by jabsocket: refused: 405 ");
}

#[test]
fn host_meta_leads_here() {
    let daemon = Daemon::start("resource: /ws\nhost_meta: wss://example.org/ws\n");
    let (response, body) = ask(&daemon, "GET /.well-known/host-meta");
    assert_eq!(response.status, 200);
    assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
    assert!(body.contains("href='wss://example.org/ws'"), "{body}");
    let (response, body) = ask(&daemon, "GET /.well-known/host-meta.json");
    assert_eq!(response.field("Content-Type"), Some("application/json"));
    assert!(body.contains("\"href\":\"wss://example.org/ws\""), "{body}");
    assert_eq!(ask(&daemon, "OPTIONS /.well-known/host-meta").0.status, 204);
}

const ELSEWHERE: &str = "<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" \
    see-other-uri=\"wss://b.example/ws?a=1&amp;b=2\" />";
const KEY: &str = "see_other_uri: wss://b.example/ws?a=1&b=2\n";

#[test]
fn above_the_soft_limit_new_sessions_are_sent_elsewhere() {
    let stage = Stage::set(&format!("{KEY}see_other_above: 2\n"));
    let mut first = stage.framed();
    let second = stage.framed();
    let mut third = stage.daemon.client();
    third.send_text(OPEN).unwrap();
    expect_text(&mut third, ELSEWHERE);
    expect_close(&mut third, 1000, "");
    drop(second);
    first.0.send_text(PRESENCE).unwrap();
    first.1.expect(PRESENCE);
    assert!(stage.server.is_alone());
}

#[test]
fn while_stopping_clients_without_a_stream_are_sent_elsewhere() {
    let stage = Stage::set(KEY);
    let mut new = stage.daemon.client();
    let (mut old, _server) = stage.framed();
    stage.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    expect_text(&mut new, ELSEWHERE);
    expect_close(&mut new, 1001, "shutting down");
    expect_close(&mut old, 1001, "shutting down");
}
