//! The opening handshake: which requests are accepted or refused, the order of the checks
//! and the bytes of the response, however the request is split.

use crate::common::chop::chop;
use jabsocket::buf::Buf;
use jabsocket::proto::http::host_meta::{Method, Page, PageRequest};
use jabsocket::proto::http::{self, Accept, Head, Limits, Policy, Refusal, Request, Subprotocol};

const POLICY: Policy<'static> = Policy {
    host: Some("example.com"),
    resource: Some("/ws"),
    origin_allowed: &|origin| origin != Some("https://evil.example"),
    subprotocol: Subprotocol::Xmpp,
    host_meta: true,
    deflate: false,
};

/// A request that follows every rule.
const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: xmpp\r\nSec-WebSocket-Version: 13\r\n\r\n";

type Outcome = Result<Option<Request>, Refusal>;

fn parse(input: &[u8], policy: &Policy<'_>) -> Outcome {
    let head = Head::parse(input, &Limits::DEFAULT)?;
    head.map(|head| policy.judge(&head)).transpose()
}

fn feed(pieces: &[&[u8]], policy: &Policy<'_>) -> Outcome {
    let mut gathered = Vec::new();
    for piece in pieces {
        let old_len = gathered.len();
        gathered.extend_from_slice(piece);
        if http::worth_parsing(&gathered, old_len, &Limits::DEFAULT) {
            match parse(&gathered, policy) {
                Ok(None) => {}
                outcome => return outcome,
            }
        }
    }
    Ok(None)
}

/// The outcome of a request. Fails if it depends on how the request is split.
fn outcome(request: &str) -> Outcome {
    chop(request.as_bytes(), |pieces| feed(pieces, &POLICY))
}

fn whole(request: &str) -> Outcome {
    parse(request.as_bytes(), &POLICY)
}

fn accepted(outcome: Outcome) -> Accept {
    match outcome {
        Ok(Some(Request::WebSocket(accept))) => accept,
        other => panic!("{other:?}"),
    }
}

fn accept(request: &str) -> Accept {
    accepted(whole(request))
}

/// `GOOD` with one line replaced, or removed if `new` is empty.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    match new {
        "" => GOOD.replace(&format!("{old}\r\n"), ""),
        _ => GOOD.replace(old, new),
    }
}

/// `GOOD` with one more line.
fn plus(line: &str) -> String {
    with("Host: example.com", &format!("Host: example.com\r\n{line}"))
}

fn bytes(write: impl FnOnce(&mut Buf)) -> String {
    let mut out = Buf::new();
    write(&mut out);
    String::from_utf8(out.take()).unwrap()
}

#[test]
fn accepts_with_the_answer_of_the_rfc() {
    let accept = accepted(outcome(GOOD));
    assert_eq!(accept.consumed, GOOD.len());
    assert_eq!(
        bytes(|out| accept.write(out)),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: xmpp\r\n\r\n"
    );
}

#[test]
fn leaves_the_bytes_after_the_blank_line() {
    let request = format!("\r\n{GOOD}\u{81}frames");
    assert_eq!(accept(&request).consumed, 2 + GOOD.len());
}

#[test]
fn accepts_every_form_of_the_request() {
    for request in [
        with("Upgrade: websocket", "UPGRADE: h2c,, WebSocket"),
        with(
            "Connection: Upgrade",
            "Connection: keep-alive\r\nconnection: uPGRADE",
        ),
        with("Host: example.com", "host:EXAMPLE.com"),
        with("GET /ws ", "GET /WS?token=/x "),
        with("Host: example.com", "Host: other").replace("/ws", "http://example.com/ws"),
        with("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwgJCgsMDQ4PEC=="),
        // Eight bytes, as the C daemon's own test client sends.
        with("dGhlIHNhbXBsZSBub25jZQ==", "AQIDBAUGBwg="),
        plus("Content-Length: 0"),
        plus("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
        plus("Origin: null"),
        GOOD.replace("\r\n", "\n"),
        format!("\r\n\r\n{GOOD}"),
    ] {
        accept(&request);
    }
}

#[test]
fn echoes_one_token_in_the_clients_spelling() {
    let line = "Sec-WebSocket-Protocol: xmpp";
    for (offer, echoed) in [
        ("foo, XMPP ,bar", "XMPP"),
        ("foo\r\nSec-WebSocket-Protocol: Xmpp, xmpp", "Xmpp"),
    ] {
        let request = with(line, &format!("Sec-WebSocket-Protocol: {offer}"));
        assert_eq!(accept(&request).subprotocol.as_deref(), Some(echoed));
    }
    let any = Policy {
        subprotocol: Subprotocol::Any,
        ..POLICY
    };
    let any = |request: &str| accepted(parse(request.as_bytes(), &any));
    let foo = any(&with(line, "Sec-WebSocket-Protocol: foo, xmpp"));
    assert_eq!(foo.subprotocol.as_deref(), Some("foo"));
    let none = any(&with(line, ""));
    assert!(!bytes(|out| none.write(out)).contains("Protocol:"));
}

#[test]
fn returns_what_the_session_needs() {
    let request =
        plus("Origin: https://Example.com\r\nX-Forwarded-For: ::1\r\nx-forwarded-for: a,b");
    let head = Head::parse(request.as_bytes(), &Limits::DEFAULT);
    let origin = head.unwrap().unwrap().origin();
    assert_eq!(origin, Ok(Some("https://Example.com")));
    let accept = accept(&request);
    assert_eq!(accept.forwarded_for.as_deref(), Some("::1, a,b"));
    assert_eq!(accept.forwarded, None);
}

#[test]
fn asks_for_the_origin_once() {
    let asked = std::cell::RefCell::new(Vec::new());
    let policy = Policy {
        origin_allowed: &|origin| {
            asked.borrow_mut().push(origin.map(str::to_owned));
            true
        },
        ..POLICY
    };
    parse(GOOD.as_bytes(), &policy).unwrap();
    parse(plus("Origin: A").as_bytes(), &policy).unwrap();
    assert_eq!(asked.take(), [None, Some("A".to_owned())]);
}

#[test]
fn refuses_each_broken_rule() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let host = "Host: example.com";
    let version = "Sec-WebSocket-Version: 13";
    let cases = [
        (Refusal::TlsOnPlainPort, "\x16\x03\x01\x02\0\x01".into()),
        (Refusal::Malformed, with("GET /ws HTTP/1.1", "nonsense")),
        (Refusal::Malformed, plus("Folded: a\r\n b")),
        (Refusal::Malformed, plus("Space : a")),
        (Refusal::Malformed, plus("Bare: a\rb")),
        (Refusal::Malformed, "\r\n".repeat(9) + GOOD),
        (Refusal::TooManyHeaders, plus(&"a:\r\n".repeat(100))),
        (
            Refusal::Version { head: false },
            with("HTTP/1.1", "HTTP/1.0"),
        ),
        (
            Refusal::Version { head: false },
            with("HTTP/1.1", "HTTP/2.0"),
        ),
        (Refusal::Method { head: false }, with("GET", "POST")),
        (Refusal::Method { head: false }, with("GET", "get")),
        (Refusal::Method { head: true }, with("GET", "HEAD")),
        (Refusal::OriginInvalid, plus("Origin: a\r\nOrigin: a")),
        (Refusal::Origin, plus("Origin: https://evil.example")),
        (
            Refusal::Subprotocol,
            with("Sec-WebSocket-Protocol: xmpp", ""),
        ),
        (
            Refusal::Subprotocol,
            with("Protocol: xmpp", "Protocol: xmpp2"),
        ),
        (Refusal::KeyMissing, with(key, "")),
        (Refusal::KeyDuplicated, plus(key)),
        (
            Refusal::KeyInvalid,
            with(key, "Sec-WebSocket-Key: c2hvcnQ=="),
        ),
        (Refusal::Target, with("/ws", "*")),
        (Refusal::HostMissing, with(host, "")),
        (Refusal::HostDuplicated, plus(host)),
        (Refusal::HostInvalid, with(host, "Host: a, example.com")),
        (Refusal::HostInvalid, with(host, "Host:")),
        (Refusal::HostInvalid, with("/ws", "http:///ws")),
        (Refusal::HostDiffers, with(host, "Host: example.com:80")),
        (Refusal::HostDiffers, with("/ws", "http://other/ws")),
        (Refusal::Upgrade, with("Upgrade: websocket", "")),
        (
            Refusal::Upgrade,
            with("Upgrade: websocket", "Upgrade: web socket"),
        ),
        (
            Refusal::Connection,
            with("Connection: Upgrade", "Connection: close"),
        ),
        (Refusal::Resource, with("/ws", "/ws/")),
        (Refusal::Resource, with("/ws", "http://example.com?/ws")),
        (Refusal::WebSocketVersionDuplicated, plus(version)),
        (Refusal::WebSocketVersion, with(version, "")),
        (
            Refusal::WebSocketVersion,
            with(version, "Sec-WebSocket-Version: 12"),
        ),
        (Refusal::Extensions, plus("Sec-WebSocket-Extensions: a; ;b")),
        (Refusal::Body, plus("Content-Length: 5")),
        (
            Refusal::Body,
            plus("Content-Length: 0\r\nContent-Length: +0"),
        ),
        (Refusal::Body, plus("Transfer-Encoding: chunked")),
    ];
    for (refusal, request) in cases {
        assert_eq!(outcome(&request), Err(refusal), "{request}");
    }
}

/// If a request breaks two rules, the earlier rule determines the response. Users and
/// scripts rely on this order.
#[test]
fn keeps_the_order_of_the_refusals() {
    let breaks: [(&str, &str, u16, &str); 9] = [
        ("GET", "PUT", 405, "method"),
        (
            "Host:",
            "Origin: https://evil.example\r\nHost:",
            403,
            "origin",
        ),
        ("Protocol: xmpp", "Protocol: mqtt", 400, "xmpp"),
        ("Sec-WebSocket-Key", "X-Key", 400, "Key"),
        ("example.com\r\n", "other.example\r\n", 400, "host"),
        ("Upgrade: websocket", "Upgrade: h2c", 400, "websocket"),
        (
            "Connection: Upgrade",
            "Connection: close",
            400,
            "Connection",
        ),
        ("/ws", "/elsewhere", 404, "resource"),
        ("Version: 13", "Version: 8", 426, "Version"),
    ];
    for first in 0..breaks.len() {
        let mut request = GOOD.to_owned();
        for (old, new, ..) in &breaks[first..] {
            request = request.replacen(old, new, 1);
        }
        let refusal = whole(&request).unwrap_err();
        let (_, _, status, word) = breaks[first];
        assert_eq!(refusal.status(), status, "{refusal}");
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
}

#[test]
fn the_version_is_judged_before_the_form_of_the_key() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let old = with("Version: 13", "Version: 8");
    let request = old.replace(key, "Sec-WebSocket-Key: ?");
    assert_eq!(outcome(&request), Err(Refusal::WebSocketVersion));
}

#[test]
fn only_requests_for_a_websocket_get_a_handshake() {
    let plain = |lines: &str| {
        let request = format!("GET /ws HTTP/1.1\r\nHost: example.com\r\n{lines}\r\n");
        matches!(outcome(&request), Ok(Some(Request::Page(_))))
    };
    for lines in [
        "Connection: upgrade\r\n",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Upgrade: h2c, TLS/1.0\r\n",
        "Upgrade:\r\nConnection: upgrade\r\n",
        "Upgrade: websocket2\r\n",
        "X-Sec-WebSocket-Key: a\r\n",
        "Sec-WebSocket: a\r\n",
    ] {
        assert!(plain(lines), "{lines}");
    }
    for lines in [
        "Upgrade: websocket\r\n",
        "Upgrade: h2c, WebSocket\r\n",
        "Upgrade: h2c\r\nupgrade: websocket\r\n",
        "Sec-WebSocket-Version: 13\r\n",
        "SEC-WEBSOCKET-EXTENSIONS: a\r\n",
        "sec-websocket-key1: a\r\n",
    ] {
        assert!(!plain(lines), "{lines}");
    }
}

#[test]
fn refuses_heads_above_the_limit_only() {
    let limit = Limits::DEFAULT.head_size - plus("Long: ").len();
    accept(&plus(&format!("Long: {}", "a".repeat(limit))));
    let above = plus(&format!("Long: {}", "a".repeat(limit + 1)));
    assert_eq!(whole(&above), Err(Refusal::HeadTooLarge));
    let target = format!("GET /{}", "a".repeat(Limits::DEFAULT.head_size));
    assert_eq!(whole(&target), Err(Refusal::HeadTooLarge));
    let bytes: Vec<&[u8]> = target.as_bytes().chunks(1).collect();
    assert_eq!(feed(&bytes, &POLICY), Err(Refusal::HeadTooLarge));
}

#[test]
fn refusals_end_the_connection_and_carry_their_length() {
    for (refusal, status, line) in [
        (Refusal::Malformed, "400 Bad Request", ""),
        (Refusal::Origin, "403 Forbidden", ""),
        (Refusal::Resource, "404 Not Found", ""),
        (
            Refusal::Method { head: false },
            "405 Method Not Allowed",
            "Allow: GET, HEAD, OPTIONS\r\n",
        ),
        (Refusal::Timeout, "408 Request Timeout", ""),
        (
            Refusal::TooManyHeaders,
            "431 Request Header Fields Too Large",
            "",
        ),
        (
            Refusal::Overloaded,
            "503 Service Unavailable",
            "Retry-After: 10\r\n",
        ),
        (
            Refusal::Stopping,
            "503 Service Unavailable",
            "Retry-After: 5\r\n",
        ),
    ] {
        assert_eq!(
            bytes(|out| refusal.write(out)),
            format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\n{line}\
                 Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{refusal}\n",
                refusal.to_string().len() + 1
            )
        );
    }
    let head = bytes(|out| Refusal::Method { head: true }.write(out));
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(
        bytes(|out| Refusal::WebSocketVersion.write(out)),
        "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: 32\r\n\r\nSec-WebSocket-Version is not 13\n"
    );
}

#[test]
fn requests_for_no_websocket_get_a_page() {
    let asked = |request: &str| parse(request.as_bytes(), &POLICY);
    let plain = |page, method| Ok(Some(Request::Page(PageRequest { page, method })));
    let meta = "/.well-known/host-meta";
    for (line, answer) in [
        ("GET /ws HTTP/1.1", plain(Page::Resource, Method::Get)),
        ("GET /WS?x HTTP/1.1", plain(Page::Resource, Method::Get)),
        ("HEAD /ws HTTP/1.1", plain(Page::Resource, Method::Head)),
        (
            "OPTIONS /ws HTTP/1.1",
            plain(Page::Resource, Method::Options),
        ),
        (
            &format!("GET {meta} HTTP/1.1"),
            plain(Page::HostMeta, Method::Get),
        ),
        (
            &format!("GET {meta}.json HTTP/1.1"),
            plain(Page::HostMetaJson, Method::Get),
        ),
        ("GET /other HTTP/1.1", Err(Refusal::Resource)),
        ("POST /ws HTTP/1.1", Err(Refusal::Method { head: false })),
    ] {
        let request = format!("{line}\r\nHost: example.com\r\n\r\n");
        assert_eq!(asked(&request), answer, "{line}");
    }
    let old = asked("OPTIONS /ws HTTP/1.0\r\n\r\n");
    assert_eq!(old, plain(Page::Resource, Method::Options));
    assert_eq!(asked("GET /ws HTTP/1.1\r\n\r\n"), Err(Refusal::HostMissing));
    let off = Policy {
        host_meta: false,
        deflate: false,
        ..POLICY
    };
    let request = format!("GET {meta} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(parse(request.as_bytes(), &off), Err(Refusal::Resource));
}
