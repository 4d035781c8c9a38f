//! The status port: paths and methods, the names by which it may be asked, slow clients,
//! and health checks while draining. For several workers see `status_workers`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use nix::sys::signal::Signal;

use crate::common::daemon::{Daemon, TempFile};
use crate::common::prometheus::{ask, dial, get, metrics, response, status_address};
use crate::common::stage::*;

const STATUS: &str = "status_listen: 127.0.0.1:0\n";

#[test]
fn paths_have_pages_and_other_methods_are_refused() {
    let stage = Stage::set(STATUS);
    let at = status_address(&stage.daemon);
    let before = stage.daemon.descriptors();
    assert_eq!(get(at, "/healthz").2, "ok\n");
    assert_eq!(get(at, "/readyz").2, "ready\n");
    assert_eq!(get(at, "/metrics?name[]=x").0, 200);
    assert_eq!(get(at, "/").0, 200);
    assert_eq!(get(at, "/status").0, 404);
    assert_eq!(get(at, "/metrics/workers").0, 200);
    assert_eq!(get(at, "/metrics/").0, 404);
    let (status, head, body) = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(!head.contains("Content-Length: 0\r\n"), "{head}");
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let (status, head, _) = ask(at, post);
    assert_eq!(status, 405);
    assert!(head.contains("Allow: GET, HEAD\r\n"), "{head}");
    assert!(head.contains("Connection: close\r\n"), "{head}");
    for junk in [
        "\x16\x03\x01\x02\0",
        "GET /\r\n\r\n",
        "GET / HTTP/2\r\n\r\n",
    ] {
        assert_eq!(ask(at, junk).0, 400, "{junk:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n", "y".repeat(5000));
    assert_eq!(ask(at, &long).0, 431);
    let lines = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert_eq!(ask(at, &lines).0, 431);
    // A client that closes its direction at once also gets the response, and no
    // descriptor leaks.
    let mut stream = dial(at);
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(response(&mut stream).0, 200);
    stage.daemon.wait_for_descriptors(before);
    stage.daemon.stop();
}

#[test]
fn requests_for_another_host_are_refused() {
    let config = format!("{STATUS}status_host: [Metrics.example, xmpp.example.com]\n");
    let mut stage = Stage::set(&config);
    let at = status_address(&stage.daemon);
    let status = |host: &str, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let (status, _, body) = ask(at, &request);
        assert_eq!(body.contains("jabsocket_sessions"), status == 200, "{host}");
        (status, body)
    };
    for host in [
        "127.0.0.1",
        "127.0.0.1:9150",
        "192.0.2.7:1",
        "[::1]",
        "[2001:db8::1]:9150",
        "localhost",
        "LOCALHOST:9150",
        "metrics.example:9150",
        "metrics.example.",
        "XMPP.example.com",
    ] {
        assert_eq!(status(host, "/metrics").0, 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:9150",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "example.com",
        "evil.example:metrics.example",
        "[evil.example]",
        "",
    ] {
        for path in ["/metrics", "/metrics/workers", "/"] {
            let (status, body) = status(host, path);
            assert_eq!(status, 421, "{host}");
            assert!(body.contains("'status_host'"), "{body}");
        }
    }
    for request in [
        "GET /metrics HTTP/1.1\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
    ] {
        assert_eq!(ask(at, request).0, 400, "{request}");
    }
    assert_eq!(ask(at, "GET /metrics HTTP/1.0\r\n\r\n").0, 200);
    // The host of the absolute form counts instead of the header field (RFC 9112 3.2.2).
    for (target, expected) in [
        ("http://localhost:9150/metrics", 200),
        ("http://evil.example/metrics", 421),
        ("http://localhost/sessions", 403),
    ] {
        for host in ["localhost", "evil.example"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert_eq!(ask(at, &request).0, expected, "{request}");
        }
    }
    let line = stage.daemon.wait_for_line("host evil.example; ");
    assert!(line.contains("warning: status_listen: ") && line.contains("'status_host'"));
    // New names apply after a reload.
    stage.daemon.configure("status_host: evil.example\n");
    stage.daemon.signal(Signal::SIGHUP);
    stage.daemon.wait_for_line("configuration reloaded");
    assert_eq!(status("evil.example", "/metrics").0, 200);
    assert_eq!(status("metrics.example", "/metrics").0, 421);
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
    let lines = stage.daemon.lines();
    let warnings = lines.iter().filter(|line| line.contains("status_listen: "));
    assert_eq!(warnings.count(), 1, "{lines:#?}");
}

#[test]
fn slow_clients_are_cut_and_nobody_else_waits() {
    let stage = Stage::set(&format!("{STATUS}max_connections: 1\n"));
    let at = status_address(&stage.daemon);
    let before = stage.daemon.descriptors();
    // The maximum number of concurrent status requests. They do not count as sessions.
    let mut slow: Vec<TcpStream> = (0..16).map(|_| dial(at)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /metrics HT").unwrap();
    }
    stage.daemon.wait_for_descriptors(before + 16);
    // A further status request waits. Sessions do not.
    let mut late = dial(at);
    late.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let (mut client, mut server) = stage.framed();
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    for mut stream in slow {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the end");
        assert_eq!(text, "");
    }
    assert_eq!(response(&mut late).0, 200);
    // A client that sends without an end is disconnected too.
    let mut endless = dial(at);
    endless.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let cut = (0..10_000).any(|_| endless.write_all(&[b'x'; 16 << 10]).is_err());
    assert!(cut, "it goes on reading");
    drop((client, server, late));
    stage.daemon.stop();
}

#[test]
fn not_ready_while_draining_but_alive_to_the_end() {
    let mut stage = Stage::set(STATUS);
    let at = status_address(&stage.daemon);
    let (mut client, server) = stage.framed();
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(client.read_close().unwrap().0, Some(1001));
    let (status, _, body) = get(at, "/readyz");
    assert_eq!((status, body.as_str()), (503, "draining\n"));
    assert_eq!(get(at, "/healthz").0, 200);
    let values = metrics(&stage.daemon);
    assert_eq!(values["draining"], 1.0);
    let drained = "closed_sessions_total{by=\"jabsocket\",why=\"drain\"}";
    assert_eq!(values[drained], 1.0);
    client.send_close(1001, "").unwrap();
    client.read_eof().unwrap();
    drop((client, server));
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}

#[test]
fn off_unless_configured_and_an_address_in_use_is_refused() {
    let daemon = Daemon::start("");
    assert!(!daemon.lines().iter().any(|line| line.contains("status at")));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = TempFile::new(&format!("port: 0\nstatus_listen: {address}\n"));
    let output = std::process::Command::new(crate::common::daemon::PROGRAM)
        .args(["-n", "-c"])
        .arg(&config.0)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("status_listen: cannot listen on {address}");
    assert!(said.contains(&expected), "{said}");
    daemon.stop();
}
