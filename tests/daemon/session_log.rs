//! The session line in the log, and what must never appear in the log.

use nix::time::{ClockId, clock_gettime};

use crate::common::answering::{Answering, closed, daemon_asking, opening};
use crate::common::daemon::Daemon;
use crate::common::dns_server::DnsServer;
use crate::common::stage::*;
use crate::common::ws_client::{FIN, TEXT, WsClient, frame_with, request};

/// The line from the word `session` on, with times replaced by `N`.
fn without_times(line: &str) -> String {
    let text = &line[line.find("session ").expect("a session's line")..];
    let words = text.split(' ').map(|word| {
        let digits = word
            .split_once('=')
            .and_then(|(_, value)| value.strip_suffix("ms"));
        match digits {
            Some(digits) if digits.parse::<u32>().is_ok() => word.replace(digits, "N"),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Drops `client` and waits for the line of its session.
fn line_of(daemon: &Daemon, client: WsClient) -> String {
    let peer = client.stream.local_addr().unwrap();
    drop(client);
    let line = daemon.wait_for_line(&format!(" {peer} origin="));
    let line = without_times(&line);
    let mut words = line.splitn(4, ' ');
    assert_eq!(words.next(), Some("session"));
    let number = words.next().and_then(|word| word.parse::<u32>().ok());
    assert!(number.is_some_and(|number| number > 0), "{line}");
    assert_eq!(words.next(), Some(&*peer.to_string()));
    words.next().expect("the rest").to_owned()
}

#[test]
fn a_session_line_has_every_field() {
    let stage = Stage::set("");
    let origin = ("Origin", "https://a.example");
    let mut client = WsClient::connect(stage.daemon.address, "/", &[origin], Some("xmpp")).unwrap();
    client.send_text(OPEN).unwrap();
    let mut server = both_headers(&mut client, &stage.server);
    client.send_text(PRESENCE).unwrap();
    client.send_text("<a xmlns='u'/>").unwrap();
    server.expect(PRESENCE);
    server.send("<b xmlns='u'/>");
    expect_text(&mut client, "<b xmlns='u'/>");
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    drop(server);
    let up = PRESENCE.len() + "<a xmlns='u'/>".len();
    let down = HEADER_DOWN.len() + "<b xmlns='u'/>".len();
    assert_eq!(
        line_of(&stage.daemon, client),
        format!(
            "origin=https://a.example domain=example.org dialect=rfc7395 handshake=Nms open=Nms \
             relaying=Nms up={up}B/2 down={down}B/2 ended by client: stream closed, \
             server's stream ended"
        )
    );
    stage.daemon.stop();
}

#[test]
fn every_end_names_its_side_and_cause() {
    let stage = Stage::set("");
    let relaying = "domain=example.org dialect=rfc7395 handshake=Nms open=Nms relaying=Nms";
    let expect = |client: WsClient, before: &str, after: &str| {
        let line = line_of(&stage.daemon, client);
        let good = line.starts_with(&format!("origin=- {before} "));
        assert!(good, "{line} instead of {before}");
        assert!(
            line.ends_with(&format!(" {after}")),
            "{line} instead of {after}"
        );
    };

    let (mut client, server) = stage.framed();
    client.send_close(1000, "secret").unwrap();
    client.read_close().unwrap();
    drop(server);
    expect(
        client,
        relaying,
        "ended by client: Close frame: 1000, server's stream cut",
    );

    let (client, server) = stage.framed();
    drop(server);
    let mut client = client;
    expect_close(&mut client, 1001, "XMPP server closed");
    expect(client, relaying, "ended by server: connection lost");

    let (mut client, mut server) = stage.framed();
    server.send(END);
    expect_stream_close(&mut client, 1000);
    drop(server);
    expect(
        client,
        relaying,
        "ended by server: stream closed, server's stream ended",
    );

    let (mut client, mut server) = stage.framed();
    client.send_text("<a>").unwrap();
    expect_error(&mut client, "not-well-formed", "<a>");
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    drop(server);
    expect(
        client,
        relaying,
        "ended by jabsocket: not-well-formed (the XML is not well-formed), Close 1000, \
         server's stream ended",
    );

    let (mut client, mut server) = stage.framed();
    client
        .send_raw(&frame_with(FIN | TEXT, None, 7, b"<a/>"))
        .unwrap();
    client.read_close().unwrap();
    server.expect_end();
    drop(server);
    expect(
        client,
        relaying,
        "ended by jabsocket: Close 1002: frame is not masked, server's stream ended",
    );

    let (mut client, mut server) = stage.framed();
    server.send("text");
    expect_error(&mut client, "remote-connection-failed", "text");
    expect_stream_close(&mut client, 1000);
    server.expect_failure("bad-format");
    drop(server);
    expect(
        client,
        relaying,
        "ended by jabsocket: server violated the protocol: text between the elements of the \
         stream, server's stream ended",
    );

    let (client, server) = stage.draft();
    let draft = "domain=example.org dialect=draft handshake=Nms open=Nms relaying=Nms";
    drop(server);
    let peer = client.stream.local_addr().unwrap();
    drop(client);
    let line = stage
        .daemon
        .wait_for_line(&format!(" {peer} origin=- domain"));
    assert!(without_times(&line).contains(draft), "{line}");

    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    client
        .send_raw(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!(client.read_response().unwrap().status, 400);
    expect(
        client,
        "domain=- dialect=- handshake=- open=- relaying=- up=0B/0 down=0B/0",
        "ended by jabsocket: refused: 400 sub-protocol xmpp is not offered",
    );

    let client = stage.daemon.client();
    expect(
        client,
        "domain=- dialect=- handshake=Nms open=- relaying=- up=0B/0 down=0B/0",
        "ended by client: connection lost",
    );
    stage.daemon.stop();
}

#[test]
fn secrets_and_stanzas_are_never_logged() {
    const SECRET: &str = "c2VjcmV0LXBhc3N3b3Jk";
    let stage = Stage::set("");
    let path = format!("/?token={SECRET}");
    let cookie = ("Cookie", SECRET);
    let good = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{SECRET}</auth>");
    let bad = format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{SECRET}");
    let mut lines = 0;
    for (up, down) in [
        (
            good.clone(),
            format!("<message><body>{SECRET}</body></message>"),
        ),
        (bad, String::new()),
        (good.clone(), format!("<{SECRET}></a>")),
        (format!("{SECRET} "), format!("</{SECRET}>")),
    ] {
        let mut client =
            WsClient::connect(stage.daemon.address, &path, &[cookie], Some("xmpp")).unwrap();
        client.send_text(OPEN).unwrap();
        let mut server = both_headers(&mut client, &stage.server);
        server.send(&down);
        client.send_text(&up).unwrap();
        client
            .send_frame(FIN | TEXT, format!("{SECRET}\u{0}").as_bytes())
            .unwrap();
        client.send_close(1000, SECRET).unwrap();
        // Reads everything from the daemon.
        while client.read_frame().unwrap().is_some() {}
        drop(server);
        line_of(&stage.daemon, client);
        lines += 1;
    }
    // A refused request is logged without its content.
    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nCookie: {SECRET}\r\n{SECRET}\r\n\r\n");
    client.send_raw(request.as_bytes()).unwrap();
    client.read_rest().unwrap();
    line_of(&stage.daemon, client);
    let log = stage.daemon.all_lines();
    assert!(log.len() > lines, "{log:#?}");
    let leaks: Vec<_> = log.iter().filter(|line| line.contains(SECRET)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
    stage.daemon.stop();
}

#[test]
fn what_a_peer_chose_is_escaped_and_cut() {
    let daemon = Daemon::start("domains: [example.org]\n");
    let origins = [
        ("a\tb", "origin=a\\x09b "),
        ("a\u{9b}31m", "origin=a\\x9b31m "),
        ("a\u{85}b", "origin=a\\x85b "),
        ("a\u{202e}b", "origin=a\\u{202e}b "),
    ];
    for (origin, logged) in origins {
        let client =
            WsClient::connect(daemon.address, "/", &[("Origin", origin)], Some("xmpp")).unwrap();
        let line = line_of(&daemon, client);
        assert!(line.starts_with(logged), "{origin:?}: {line}");
    }
    let long = "x".repeat(4000);
    let client =
        WsClient::connect(daemon.address, "/", &[("Origin", &long)], Some("xmpp")).unwrap();
    let line = line_of(&daemon, client);
    assert!(line.len() < 400, "{line}");
    assert!(line.ends_with("ended by client: connection lost"), "{line}");
    daemon.stop();
}

#[test]
fn an_origin_cannot_forge_other_fields() {
    let daemon = Daemon::start("domains: [example.org]\n");
    let origin = ("Origin", "x domain=forged.example dialect=rfc7395");
    let client = WsClient::connect(daemon.address, "/", &[origin], Some("xmpp")).unwrap();
    let line = line_of(&daemon, client);
    let domains: Vec<_> = line
        .split(' ')
        .filter(|w| w.starts_with("domain="))
        .collect();
    assert_eq!(domains, ["domain=-"], "{line}");
    daemon.stop();
}

#[test]
fn no_credential_is_logged_at_any_level() {
    let stage = Stage::set("log_level: LOG_DEBUG\n");
    let secret = "AGp1bGlldAByMG0zMG15cjBtMzA=";
    let (mut client, mut server) = stage.framed();
    let auth =
        format!("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>");
    client.send_text(&auth).unwrap();
    server.expect(&auth);
    let token = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>c2VjcmV0LXRva2Vu</success>";
    server.send(token);
    expect_text(&mut client, token);
    // Also in protocol violations from both sides, and in a request.
    client.send_text(&format!("{auth}<{secret}")).unwrap();
    let _ = WsClient::open(
        stage.daemon.address,
        &format!("/?{secret}"),
        &[("Authorization", secret), ("Cookie", secret)],
        Some("xmpp"),
    );
    let (mut client, mut server) = stage.framed();
    server.send(&format!("<a>{secret}</b>"));
    let _ = client.read_text();
    drop((client, server));
    stage.daemon.wait_for_line(" ended by ");
    let (mut last, _server) = stage.framed();
    last.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut last, 1000);
    let all = stage.daemon.all_lines().join("\n");
    assert!(all.contains("example.org"), "nothing was logged");
    for secret in [secret, "c2VjcmV0LXRva2Vu"] {
        assert!(!all.contains(secret), "{all}");
    }
}

/// When many sessions fail, the log has only one line until the server is back.
#[test]
fn a_server_that_is_down_leaves_one_line() {
    let closed = closed();
    let daemon = Daemon::start(&format!(
        "log_level: LOG_NOTICE\ndomains:\n  - name: example.org\n    server: {closed}\n    \
         tls: none\n"
    ));
    let down = format!("cannot reach the server of example.org: {closed}: ");
    for _ in 0..3 {
        let mut client = daemon.client();
        client.send_text(OPEN).unwrap();
        client.read_text().expect("<open/>");
        expect_error(&mut client, "remote-connection-failed", "down");
    }
    daemon.wait_for_line(&down);
    let _server = Answering::start_at(closed, "back");
    let mut client = daemon.client();
    client.send_text(OPEN).unwrap();
    client.read_text().expect("<open/>");
    let line = daemon.wait_for_line("the server of example.org answers again, after ");
    assert!(line.ends_with(" s and 3 failed sessions"), "{line}");
    let lines = daemon.all_lines();
    let told = lines.iter().filter(|line| line.contains(&down));
    assert_eq!(told.count(), 1, "{lines:#?}");
    daemon.stop();
}

#[test]
fn each_step_is_a_line_where_all_is_told() {
    let stage = Stage::set("");
    let (client, _server) = stage.framed();
    let peer = client.stream.local_addr().unwrap();
    for step in [
        "Opening -> AwaitOpen (Accepted)",
        "AwaitOpen -> Locating (Opened)",
        "Locating -> Connecting (Located)",
        "Connecting -> Securing (Connected)",
        "Securing -> Greeting (Secured)",
        "Greeting -> Relaying (Greeted)",
    ] {
        let line = stage.daemon.wait_for_line(&format!(" {peer}: {step}"));
        assert!(line.contains("debug: session 1 "), "{line}");
    }
    stage.daemon.stop();
}

/// The line about a failure contains the requested path, host or server.
#[test]
fn a_failure_names_what_was_tried() {
    let line = |daemon: &Daemon, client: WsClient| {
        let peer = client.stream.local_addr().unwrap();
        drop(client);
        daemon.wait_for_line(&format!(" {peer} origin="))
    };
    let only = "resource: /ws\nhost: chat.example\nconnect_timeout: 0.3\n";
    let stage = Stage::set(only);
    let daemon = &stage.daemon;
    let open = |path: &str, host: &str| {
        let mut client = WsClient::dial(daemon.address).unwrap();
        let request = String::from_utf8(request(path, &[], Some("xmpp"))).unwrap();
        let (before, rest) = request.split_once("Host: ").unwrap();
        let (_, after) = rest.split_once("\r\n").unwrap();
        let request = format!("{before}Host: {host}\r\n{after}");
        client.send_raw(request.as_bytes()).unwrap();
        let response = client.read_response().unwrap();
        (client, response.status)
    };
    let (client, status) = open("/other%0a?x", "chat.example");
    assert_eq!(status, 404);
    let told = line(daemon, client);
    assert!(told.ends_with(": /other%0a?x"), "{told}");
    let (client, status) = open("/ws", "evil.example");
    assert_eq!(status, 400);
    let told = line(daemon, client);
    assert!(told.ends_with(": evil.example"), "{told}");

    // A server that is silent.
    let (mut client, _) = open("/ws", "chat.example");
    client.send_text(OPEN).unwrap();
    let mut server = stage.server.accept();
    server.expect(OPEN_UP);
    let why = format!(
        "no stream header from the server in time: {}",
        stage.server.address
    );
    daemon.wait_for_line(&format!("cannot reach the server of example.org: {why}"));
    assert!(line(daemon, client).contains(&why));

    // A server that sends an error before it ends the stream.
    stage.reload("resource: /ws\nhost: chat.example\n");
    let (mut client, _) = open("/ws", "chat.example");
    client.send_text(OPEN).unwrap();
    let mut server = stage.server.accept();
    server.expect(OPEN_UP);
    server.send(HEADER);
    server.send(
        "<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>\
         </stream:stream>",
    );
    expect_text(&mut client, HEADER_DOWN);
    client.read_text().expect("the stream error");
    expect_stream_close(&mut client, 1000);
    let told = line(daemon, client);
    assert!(
        told.contains("ended by server: stream closed: host-gone"),
        "{told}"
    );
}

#[test]
fn a_dns_server_that_is_silent_is_named() {
    let dns = DnsServer::start("_xmpp-client._tcp.d.example SRV SILENCE\n");
    let daemon = daemon_asking(&dns, "connect_timeout: 0.3\nserver_tls: none\n");
    let mut client = opening(&daemon, "d.example");
    client.read_text().expect("<open/>");
    expect_error(&mut client, "remote-connection-failed", "DNS");
    daemon.wait_for_line(&format!(
        "cannot reach the server of d.example: no answer from the DNS in time: asked DNS server \
         {} for d.example",
        dns.address
    ));
}

#[test]
fn lines_about_invalid_streams_are_limited() {
    let stage = Stage::set("log_level: LOG_WARNING\n");
    let seconds = || {
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
        usize::try_from(time.tv_sec()).unwrap()
    };
    let begun = seconds();
    for _ in 0..50 {
        let (mut client, mut server) = stage.framed();
        server.send("</a>");
        client.read_text().expect("the stream error");
    }
    // Seconds of the daemon that may have begun.
    let most = seconds() - begun + 2;
    let daemon = stage.daemon;
    daemon.wait_for_line("sent an invalid stream");
    let lines = daemon.lines().into_iter();
    let lines = lines.filter(|line| line.contains("sent an invalid stream"));
    let count = lines.count();
    assert!(count <= 10 * most, "{count} lines in {most} s");
    daemon.stop();
}
