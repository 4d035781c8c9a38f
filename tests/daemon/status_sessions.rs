//! The list of sessions and the closing of one, by the unix socket of `status_listen`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::common::PATIENCE;
use crate::common::background::TempDir;
use crate::common::daemon::Daemon;
use crate::common::prometheus::{ask, get, metrics, status_address};
use crate::common::stage::*;
use crate::common::ws_client::{WsClient, request};

fn dial(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request; returns the status code, head and body.
fn send(path: &Path, method: &str, target: &str) -> (u16, String, String) {
    let mut stream = dial(path);
    write!(stream, "{method} {target} HTTP/1.1\r\nHost: any\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP");
    (
        status[..3].parse().unwrap(),
        format!("{head}\r\n"),
        body.to_owned(),
    )
}

fn list(path: &Path, query: &str) -> Vec<String> {
    let (status, head, body) = send(path, "GET", &format!("/sessions{query}"));
    assert_eq!(status, 200, "{body}");
    assert!(
        head.contains("Content-Type: application/x-ndjson\r\n"),
        "{head}"
    );
    body.lines().map(str::to_owned).collect()
}

/// The value of a field in a line of JSON.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\":")).expect(name);
    let end = rest.find([',', '}']).unwrap();
    rest[..end].trim_matches('"')
}

fn numbers(lines: &[String]) -> Vec<u32> {
    let numbers = lines.iter().map(|line| field(line, "number"));
    numbers.map(|number| number.parse().unwrap()).collect()
}

fn config(dir: &TempDir) -> (String, std::path::PathBuf) {
    let path = dir.path("status.sock");
    let config = format!(
        "status_listen: ['unix:{}', '127.0.0.1:0']\n",
        path.display()
    );
    (config, path)
}

#[test]
fn each_session_is_one_line_of_json() {
    let dir = TempDir::new();
    let (config, path) = config(&dir);
    let stage = Stage::set(&config);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    assert_eq!(list(&path, ""), [""; 0]);
    let fields = [("Origin", "https://chat.example/\"")];
    let handshake = request("/", &fields, Some("xmpp"));
    let mut waiting = WsClient::dial(stage.daemon.address).unwrap();
    waiting.send_raw(&handshake).unwrap();
    assert_eq!(waiting.read_response().unwrap().status, 101);
    let (mut client, mut server) = stage.framed();
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    let draft = stage.draft();

    let lines = list(&path, "");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    let line = |number: usize| &lines[number];
    let peer = client.stream.local_addr().unwrap().to_string();
    for (at, name, value) in [
        (0, "number", "1"),
        (0, "domain", "null"),
        (0, "dialect", "null"),
        (0, "phase", "await_open"),
        (0, "up", "0"),
        (1, "number", "2"),
        (1, "address", &peer),
        (1, "origin", "null"),
        (1, "domain", "example.org"),
        (1, "dialect", "rfc7395"),
        (1, "phase", "relaying"),
        (1, "up", &PRESENCE.len().to_string()),
        (1, "down", &HEADER_DOWN.len().to_string()),
        (1, "queued", "0"),
        (2, "dialect", "draft"),
    ] {
        assert_eq!(field(line(at), name), value, "{name}: {}", line(at));
    }
    assert!(
        line(0).contains("\"origin\":\"https://chat.example/\\\"\""),
        "{}",
        line(0)
    );
    for time in ["age", "idle"] {
        let seconds: f64 = field(line(1), time).parse().unwrap();
        assert!(
            (0.0..PATIENCE.as_secs_f64()).contains(&seconds),
            "{time} {seconds}"
        );
    }
    assert!(!lines.concat().contains("presence"));

    assert_eq!(numbers(&list(&path, "?sort=up&limit=1")), [2]);
    assert_eq!(numbers(&list(&path, "?sort=number")), [3, 2, 1]);
    assert_eq!(numbers(&list(&path, "?sort=age&limit=2")).len(), 2);
    assert_eq!(numbers(&list(&path, "?limit=2")), [1, 2]);
    assert_eq!(numbers(&list(&path, "?domain=EXAMPLE.org")), [2, 3]);
    assert_eq!(numbers(&list(&path, "?domain=example.com")), [0; 0]);
    assert_eq!(
        numbers(&list(&path, "?address=127.0.0.1&limit=9")),
        [1, 2, 3]
    );
    assert_eq!(numbers(&list(&path, "?address=192.0.2.1")), [0; 0]);
    for bad in ["?sort=name", "?limit=x", "?address=x", "?order=up"] {
        assert_eq!(
            send(&path, "GET", &format!("/sessions{bad}")).0,
            400,
            "{bad}"
        );
    }
    let (status, head, body) = send(&path, "HEAD", "/sessions");
    assert_eq!((status, body.as_str()), (200, ""), "{head}");
    // The other pages are there too, whatever the host.
    assert!(send(&path, "GET", "/").2.contains("<title>jabsocket "));
    assert!(
        send(&path, "GET", "/metrics")
            .2
            .contains("jabsocket_sessions{")
    );
    drop((waiting, client, server, draft));
    stage.daemon.stop();
    assert!(!path.exists());
}

#[test]
fn sessions_are_neither_listed_nor_closed_over_tcp() {
    let dir = TempDir::new();
    let (config, _) = config(&dir);
    let stage = Stage::set(&config);
    let at = status_address(&stage.daemon);
    let session = stage.framed();
    let why = "sessions are served by a unix socket only (status_listen: unix:/path)\n";
    for target in ["/sessions", "/sessions?limit=1", "/sessions/1/close"] {
        let (status, _, body) = get(at, target);
        assert_eq!((status, body.as_str()), (403, why), "{target}");
        let request = format!("POST {target} HTTP/1.1\r\nHost: {at}\r\n\r\n");
        let (status, _, body) = ask(at, &request);
        assert_eq!((status, body.as_str()), (403, why), "{target}");
    }
    let relaying = "sessions{phase=\"relaying\",dialect=\"rfc7395\"}";
    assert_eq!(metrics(&stage.daemon)[relaying], 1.0);
    drop(session);
    stage.daemon.stop();
}

#[test]
fn a_closed_session_gets_a_close_code_and_can_be_resumed() {
    let dir = TempDir::new();
    let (config, path) = config(&dir);
    let stage = Stage::set(&config);
    let (mut other, mut other_server) = stage.framed();
    let (mut client, mut server) = stage.framed();
    let waiting = stage.daemon.client();
    let (status, _, body) = send(&path, "POST", "/sessions/2/close");
    assert_eq!((status, body.as_str()), (200, "closing session 2\n"));
    assert_eq!(
        client.read_close().unwrap(),
        (Some(1001), "closed by the operator".to_owned())
    );
    server.expect_cut();
    client.send_close(1001, "").unwrap();
    client.read_eof().unwrap();
    let line = stage.daemon.wait_for_line("session 2 ");
    drop(line);
    stage
        .daemon
        .wait_for_line(" ended by jabsocket: closed by the operator, server's stream cut");
    let closed = "closed_sessions_total{by=\"jabsocket\",why=\"operator\"}";
    assert_eq!(metrics(&stage.daemon)[closed], 1.0);
    for number in ["2", "99", "4294967296", "-1", "x", ""] {
        let target = format!("/sessions/{number}/close");
        assert_eq!(send(&path, "POST", &target).0, 404, "{number}");
    }
    assert_eq!(send(&path, "POST", "/sessions").0, 404);
    assert_eq!(send(&path, "POST", "/metrics").0, 405);
    assert_eq!(send(&path, "GET", "/sessions/1/close").0, 404);
    assert_eq!(numbers(&list(&path, "?sort=number")), [3, 1]);
    other.send_text(PRESENCE).unwrap();
    other_server.expect(PRESENCE);
    // Closing again does not wait for the client.
    for _ in 0..2 {
        assert_eq!(send(&path, "POST", "/sessions/1/close").0, 200);
    }
    stage.daemon.wait_for_lines(": closed by the operator", 2);
    drop((other, other_server, waiting));
    stage.daemon.stop();
}

/// So many sessions that their list does not fit into the buffers of a socket.
#[test]
fn a_client_that_does_not_read_a_long_list_is_cut() {
    const SESSIONS: usize = 2_000;
    let dir = TempDir::new();
    let (config, path) = config(&dir);
    let daemon = Daemon::start(&format!("{config}domains: [example.org]\n"));
    let clients: Vec<WsClient> = (0..SESSIONS).map(|_| daemon.client()).collect();
    let before = daemon.descriptors();
    let mut lazy = dial(&path);
    lazy.write_all(b"GET /sessions HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    daemon.wait_for_descriptors(before + 1);
    for query in ["", "?sort=age"] {
        let mut found = numbers(&list(&path, query));
        found.sort_unstable();
        assert!(found.into_iter().eq(1..=SESSIONS as u32), "{query}");
    }
    // The daemon closes the connection.
    daemon.wait_for_descriptors(before);
    let mut text = Vec::new();
    let end = lazy.read_to_end(&mut text);
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines < SESSIONS, "{lines} lines, {end:?}");
    drop(clients);
    daemon.stop();
}
