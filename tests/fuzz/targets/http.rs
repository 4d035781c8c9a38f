//! The opening handshake. The outcome does not depend on how a request is split, no part
//! of the request can break the structure of the response, and only the address that a
//! trusted proxy appends is used, whatever the client claims.
#![no_main]

use jabsocket::buf::Buf;
use jabsocket::proto::http::{
    Accept, Head, Limits, Policy, Refusal, Request, Subprotocol, forwarded, worth_parsing,
};
use jabsocket_fuzz::pieces;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for (subprotocol, host, resource) in [
        (Subprotocol::Xmpp, None, None),
        (
            Subprotocol::Any,
            Some("example.com"),
            Some("/xmpp-websocket"),
        ),
    ] {
        let policy = Policy {
            host,
            resource,
            origin_allowed: &|origin| origin != Some("https://evil.example"),
            subprotocol,
            host_meta: resource.is_none(),
            deflate: true,
        };
        let whole = parse(input, &policy);
        match &whole {
            Ok(Some(Request::WebSocket(accept))) => check_answer(input, accept),
            Ok(_) => {}
            Err(refusal) => check_refusal(*refusal),
        }
        match in_pieces(input, &policy) {
            // Only the end of a line triggers another look.
            Ok(None) => assert!(!matches!(whole, Ok(Some(_))), "accepted in one piece only"),
            verdict => assert_eq!(verdict, whole),
        }
    }
    behind_a_proxy(input);
});

/// A request with `input` as the address and Host that a client claims, forwarded by
/// several kinds of proxies.
fn behind_a_proxy(input: &[u8]) {
    let said: String = String::from_utf8_lossy(input)
        .chars()
        .filter(|char| !char.is_control())
        .take(1000)
        .collect();
    let host: String = said.chars().take(50).collect();
    let quoted = host.replace('\\', "\\\\").replace('"', "\\\"");
    let address = "192.0.2.7:4711";
    let list = format!("{address}, 127.0.0.1");
    for (name, appended) in [
        ("X-Forwarded-For", list.clone()),
        ("Forwarded", format!("for={address}")),
        (
            "Forwarded",
            format!("for=\"{address}\";proto=https, for=127.0.0.1"),
        ),
        (
            "Forwarded",
            format!("host=\"{quoted}\";for=\"{address}\";by=_x"),
        ),
    ] {
        for separator in [", ".to_owned(), format!("\r\n{name}: ")] {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: AA==\r\nSec-WebSocket-Version: 13\r\n\
                 {name}: {said}{separator}{appended}\r\n\r\n"
            );
            let policy = Policy {
                host: None,
                resource: None,
                origin_allowed: &|_| true,
                subprotocol: Subprotocol::Any,
                host_meta: false,
                deflate: false,
            };
            let verdict = parse(request.as_bytes(), &policy);
            let Ok(Some(Request::WebSocket(accept))) = verdict else {
                panic!("{verdict:?}: {request}");
            };
            let (list, elements) = (accept.forwarded_for.as_deref(), accept.forwarded.as_deref());
            let client = forwarded::client(list, elements, 7, |ip| ip.is_loopback());
            assert_eq!(client, address.parse().ok(), "{request}");
        }
    }
}

fn parse(input: &[u8], policy: &Policy<'_>) -> Result<Option<Request>, Refusal> {
    let head = Head::parse(input, &Limits::DEFAULT)?;
    head.map(|head| policy.judge(&head)).transpose()
}

/// The outcome for a reader that collects bytes as a session does.
fn in_pieces(input: &[u8], policy: &Policy<'_>) -> Result<Option<Request>, Refusal> {
    let mut len = 0;
    for piece in pieces(input) {
        let old_len = len;
        len += piece.len();
        if worth_parsing(&input[..len], old_len, &Limits::DEFAULT)
            && let Some(request) = parse(&input[..len], policy)?
        {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

fn check_answer(input: &[u8], accept: &Accept) {
    let head = &input[..accept.consumed];
    assert!(head.ends_with(b"\n"), "the header block ends with a line");
    let start = head.iter().position(|byte| !b"\r\n".contains(byte));
    assert!(head[start.unwrap_or(0)..].starts_with(b"GET "));
    let mut out = Buf::new();
    accept.write(&mut out);
    let text = String::from_utf8(out.take()).expect("a response in UTF-8");
    let fields = [accept.subprotocol.is_some(), accept.deflate.is_some()];
    let lines = 5 + fields.into_iter().filter(|&there| there).count();
    assert_eq!(text.matches("\r\n").count(), lines);
    assert_eq!(text.matches(['\r', '\n']).count(), 2 * lines);
    assert!(text.starts_with("HTTP/1.1 101 ") && text.ends_with("\r\n\r\n"));
}

fn check_refusal(refusal: Refusal) {
    let mut out = Buf::new();
    refusal.write(&mut out);
    let status = format!("HTTP/1.1 {} ", refusal.status());
    assert!(out.as_slice().starts_with(status.as_bytes()));
    assert!(!refusal.to_string().is_empty());
}
