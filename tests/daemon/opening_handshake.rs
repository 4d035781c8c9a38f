//! The opening handshake on the wire: the order of refusals, each a complete response
//! before the end of the connection; slow, oversized and foreign requests; and frames
//! sent with the request (RFC 6455, section 4.2).

use crate::common::daemon::Daemon;
use crate::common::stage::{OPEN, OPEN_UP, Stage, both_headers};
use crate::common::ws_client::{self, FIN, HANDSHAKE_KEY, Response, TEXT, WsClient, frame};

/// Sends bytes and reads the refusal. Fails unless it is complete, announces the end of
/// the connection, and is followed by FIN, not by a reset.
fn refused(daemon: &Daemon, request: &[u8]) -> (Response, String) {
    let mut client = WsClient::dial(daemon.address).expect("connect");
    client.send_raw(request).expect("send");
    refusal(&mut client)
}

fn refusal(client: &mut WsClient) -> (Response, String) {
    let response = client.read_response().expect("a response");
    let rest = client.read_rest().expect("the end, without a reset");
    let body = String::from_utf8(rest).expect("a body of text");
    let length = response
        .field("Content-Length")
        .and_then(|len| len.parse().ok());
    assert_eq!(length, Some(body.len()), "{}{body}", response.head);
    let mut options = response.field("Connection").unwrap_or_default().split(", ");
    assert!(options.any(|option| option == "close"), "{}", response.head);
    (response, body)
}

#[test]
fn refusals_come_in_the_order_clients_know() {
    let daemon =
        Daemon::start("resource: /xmpp\nhost: chat.example\norigin: https://good.example\n");
    // For each rule: a line that follows it, a line that breaks it, and the answer.
    let key = format!("Sec-WebSocket-Key: {HANDSHAKE_KEY}\r\n");
    let rules: [(&str, &str, u16, &str); 9] = [
        ("GET", "POST", 405, "method is not GET"),
        (
            "Origin: https://good.example\r\n",
            "Origin: https://bad.example\r\n",
            403,
            "origin is not allowed",
        ),
        (
            "Sec-WebSocket-Protocol: xmpp\r\n",
            "Sec-WebSocket-Protocol: chat\r\n",
            400,
            "sub-protocol xmpp is not offered",
        ),
        (&key, "", 400, "Sec-WebSocket-Key is missing"),
        (
            "Host: chat.example\r\n",
            "Host: other.example\r\n",
            400,
            "host is not served here",
        ),
        (
            "Upgrade: websocket\r\n",
            "Upgrade: h2c\r\n",
            400,
            "Upgrade does not list websocket",
        ),
        (
            "Connection: Upgrade\r\n",
            "Connection: keep-alive\r\n",
            400,
            "Connection does not list Upgrade",
        ),
        ("/xmpp", "/other", 404, "resource is not served here"),
        (
            "Sec-WebSocket-Version: 13\r\n",
            "Sec-WebSocket-Version: 12\r\n",
            426,
            "Sec-WebSocket-Version is not 13",
        ),
    ];
    for (first_broken, rule) in rules.iter().enumerate() {
        // Breaks this rule and all later ones.
        let part = |at: usize| match at < first_broken {
            true => rules[at].0,
            false => rules[at].1,
        };
        let (method, path) = (part(0), part(7));
        let fields: String = [1, 2, 3, 4, 5, 6, 8].map(part).concat();
        let request = format!("{method} {path} HTTP/1.1\r\n{fields}\r\n");
        let (response, body) = refused(&daemon, request.as_bytes());
        assert_eq!((response.status, body.trim_end()), (rule.2, rule.3));
        match rule.2 {
            405 => assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS")),
            426 => {
                assert_eq!(response.field("Sec-WebSocket-Version"), Some("13"));
                assert_eq!(response.field("Upgrade"), Some("websocket"));
                assert_eq!(response.field("Connection"), Some("Upgrade, close"));
            }
            _ => {}
        }
    }
    daemon.stop();
}

#[test]
fn a_query_is_no_part_of_the_resource() {
    let daemon = Daemon::start("resource: /xmpp\n");
    for path in ["/xmpp", "/xmpp?room=a&token=b", "/XMPP", "/xmpp?"] {
        let opened = WsClient::connect(daemon.address, path, &[], Some("xmpp"));
        assert!(opened.is_ok(), "{path}: {:?}", opened.err());
    }
    for path in ["/", "/xmpp/", "/xmppp", "/other?/xmpp"] {
        let request = ws_client::request(path, &[], Some("xmpp"));
        assert_eq!(refused(&daemon, &request).0.status, 404, "{path}");
    }
    daemon.stop();
}

#[test]
fn the_answer_names_the_subprotocol_alone() {
    let daemon = Daemon::start("");
    for offer in ["xmpp", "chat, xmpp", "xmpp,chat", "a ,\txmpp , b"] {
        let (_, response) =
            WsClient::open(daemon.address, "/", &[], Some(offer)).expect("a response");
        assert_eq!(response.status, 101, "{offer}");
        let answer = response.field("Sec-WebSocket-Protocol");
        assert_eq!(answer, Some("xmpp"), "{offer}");
        assert_eq!(response.field("Content-Length"), None, "{offer}");
    }
    daemon.stop();
}

#[test]
fn frames_in_the_segment_of_the_request_are_read() {
    let stage = Stage::set("");
    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    let mut bytes = ws_client::request("/", &[], Some("xmpp"));
    bytes.extend(frame(FIN | TEXT, OPEN.as_bytes()));
    client.send_raw(&bytes).unwrap();
    assert_eq!(client.read_response().unwrap().status, 101);
    both_headers(&mut client, &stage.server);
    stage.daemon.stop();
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let stage = Stage::set("");
    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    let mut bytes = ws_client::request("/", &[], Some("xmpp"));
    bytes.extend(frame(FIN | TEXT, OPEN.as_bytes()));
    client.send_chopped(&bytes, 1).unwrap();
    assert_eq!(client.read_response().unwrap().status, 101);
    stage.server.accept().expect(OPEN_UP);
    stage.daemon.stop();
}

#[test]
fn a_slow_request_is_given_up() {
    let daemon = Daemon::start("handshake_timeout: 2\n");
    for start in ["", "GET / HTTP/1.1\r\nHost: localhost\r\nUpgr"] {
        let (response, _) = refused(&daemon, start.as_bytes());
        assert_eq!(response.status, 408, "{start:?}");
    }
    // After a complete request, the timeout does not apply.
    let mut client = daemon.client();
    client.send_frame(FIN | ws_client::PING, b"x").unwrap();
    let pong = client.read_frame().unwrap().expect("a frame");
    assert_eq!(
        (pong.opcode, &pong.payload[..]),
        (ws_client::PONG, &b"x"[..])
    );
    daemon.stop();
}

#[test]
fn too_large_a_header_block_is_refused() {
    let daemon = Daemon::start("");
    let long = "a".repeat(20 << 10);
    let request = ws_client::request("/", &[("Cookie", &long)], Some("xmpp"));
    assert_eq!(refused(&daemon, &request).0.status, 431);
    // Without an end, and without waiting for the end.
    let start = format!("GET / HTTP/1.1\r\nCookie: {long}");
    assert_eq!(refused(&daemon, start.as_bytes()).0.status, 431);
    let many = [("X-Many", "1"); 200];
    let request = ws_client::request("/", &many, Some("xmpp"));
    assert_eq!(refused(&daemon, &request).0.status, 431);
    daemon.stop();
}

#[test]
fn what_is_not_http_is_refused() {
    let daemon = Daemon::start("");
    let alien: [&[u8]; 5] = [
        // The start of a TLS handshake.
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"<stream:stream to='example.org'>\r\n\r\n",
        b"\x00\x00\x00\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n",
    ];
    for bytes in alien {
        assert_eq!(refused(&daemon, bytes).0.status, 400, "{bytes:x?}");
    }
    daemon.stop();
}

#[test]
fn a_body_on_its_way_does_not_break_the_answer_off() {
    let daemon = Daemon::start("");
    let mut request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n".to_vec();
    request.extend(vec![b'x'; 200_000]);
    assert_eq!(refused(&daemon, &request).0.status, 405);
    daemon.stop();
}
