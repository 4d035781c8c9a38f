//! Streams that cannot be opened: bad first messages, invalid or unknown domains, and
//! servers that refuse, stay silent or send garbage. The client receives `<open/>`, a
//! stream error and `<close/>` (RFC 7395, section 3.5).

use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::{FIN, TEXT, WsClient, frame, request};

const FRAMING: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-framing'";
const STREAMS: &str = "xmlns:stream='http://etherx.jabber.org/streams'";

/// Fails unless the client receives an `<open/>` with this `from`, this stream error and
/// the end of the connection.
fn expect_opening_error(client: &mut WsClient, condition: &str, from: &str, case: &str) {
    let open = client
        .read_text()
        .unwrap_or_else(|error| panic!("{case}: {error} instead of <open/>"));
    let start =
        format!("<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"{from}\" id=\"");
    let id = open
        .strip_prefix(&start)
        .and_then(|rest| rest.strip_suffix("\" version=\"1.0\" xml:lang=\"en\" />"));
    assert!(id.is_some_and(|id| id.len() >= 16), "{case}: {open}");
    expect_error(client, condition, case);
    expect_stream_close(client, 1000);
}

#[test]
fn bad_first_messages_are_answered() {
    let stage = Stage::set("");
    let open = |rest: &str| format!("<open {FRAMING} {rest}");
    for (first, condition) in [
        (
            "<open xmlns='urn:wrong' to='example.org' version='1.0'/>",
            "invalid-namespace",
        ),
        (
            "<open to='example.org' version='1.0'/>",
            "invalid-namespace",
        ),
        ("<close xmlns='urn:wrong'/>", "invalid-namespace"),
        (&open("to='example.org' version='1.0'"), "not-well-formed"),
        (&open("to='example.org' version='1.0'>"), "not-well-formed"),
        (
            &open("to='example.org' to='example.org'/>"),
            "not-well-formed",
        ),
        (
            &open("to='example.org' x:y='' version='1.0'/>"),
            "not-well-formed",
        ),
        (&format!("{OPEN}{OPEN}"), "not-well-formed"),
        (&format!("{OPEN}text"), "not-well-formed"),
        ("</stream:stream>", "not-well-formed"),
        ("<", "not-well-formed"),
        (&format!("<!-- c -->{OPEN}"), "restricted-xml"),
        (&format!("{OPEN}<!-- c -->"), "restricted-xml"),
        (&format!("<?pi pi?>{OPEN}"), "restricted-xml"),
        (&format!("<!DOCTYPE open>{OPEN}"), "restricted-xml"),
        (&open("to='&e;' version='1.0'/>"), "restricted-xml"),
        (
            &format!("<?xml version='1.0' encoding='ISO-8859-1'?>{OPEN}"),
            "unsupported-encoding",
        ),
        ("", "bad-format"),
        ("hello", "bad-format"),
        (&format!(" {OPEN}"), "bad-format"),
        (&format!("\u{feff}{OPEN}"), "bad-format"),
        (PRESENCE, "not-authorized"),
        (
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
            "not-authorized",
        ),
    ] {
        let mut client = stage.daemon.client();
        client.send_text(first).unwrap();
        expect_opening_error(&mut client, condition, "", first);
    }
    for version in ["", "version=''", "version='0.9'", "version='one'"] {
        let mut client = stage.daemon.client();
        client
            .send_text(&open(&format!("to='example.org' {version}/>")))
            .unwrap();
        expect_opening_error(&mut client, "unsupported-version", "example.org", version);
    }
    assert!(stage.server.is_alone(), "somebody went to the server");
    stage.daemon.stop();
}

#[test]
fn a_to_that_is_no_domain_is_refused() {
    // Without `domains`. The daemon must not look these names up or connect to them.
    let daemon = Daemon::start("");
    let long = format!("{}.example", "a".repeat(64));
    let longer = format!("{}example", "abcdefg.".repeat(40));
    for to in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::1]",
        "::1",
        "127.0.0.1:22",
        "localhost:22",
        "user@example.org",
        "example.org/resource",
        "exam&#9;ple.org",
        "example.org&#10;",
        "exam ple.org",
        "example..org",
        ".",
        "",
        &long,
        &longer,
    ] {
        let mut client = daemon.client();
        client.send_text(&OPEN.replace("example.org", to)).unwrap();
        expect_opening_error(&mut client, "improper-addressing", "", to);
    }
    let mut client = daemon.client();
    client
        .send_text(&OPEN.replace(" to='example.org'", ""))
        .unwrap();
    expect_opening_error(&mut client, "improper-addressing", "", "no to");
    daemon.stop();
}

#[test]
fn a_domain_that_is_not_listed_is_unknown() {
    let stage = Stage::set("");
    for to in ["other.example", "sub.example.org", "org", "xexample.org"] {
        let mut client = stage.daemon.client();
        client.send_text(&OPEN.replace("example.org", to)).unwrap();
        expect_opening_error(&mut client, "host-unknown", "", to);
    }
    assert!(stage.server.is_alone(), "somebody went to the server");
    // Upper case and a trailing dot mean the same domain.
    let mut client = stage.daemon.client();
    client
        .send_text(&OPEN.replace("example.org", "EXAMPLE.org."))
        .unwrap();
    stage.server.accept().read_until("<stream:stream ");
    stage.daemon.stop();
}

#[test]
fn a_server_that_refuses_is_logged() {
    let stage = Stage::set("");
    let Stage { server, daemon } = stage;
    drop(server);
    let mut client = daemon.client();
    client.send_text(OPEN).unwrap();
    client.send_text(PRESENCE).unwrap();
    expect_opening_error(
        &mut client,
        "remote-connection-failed",
        "example.org",
        "refused",
    );
    daemon.stop();
}

#[test]
fn a_server_without_a_header_is_logged() {
    let stage = Stage::set("");
    for (said, reset) in [
        ("", false),
        ("", true),
        ("<?xml version='1.0'?><stream:str", false),
    ] {
        let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
        server.send(said);
        match reset {
            true => server.reset(),
            false => drop(server),
        }
        expect_opening_error(&mut client, "remote-connection-failed", "example.org", said);
    }
    stage.daemon.stop();
}

#[test]
fn a_server_that_sends_nonsense_is_told_and_left() {
    let stage = Stage::set("");
    let many: String = (0..100)
        .map(|n| format!(" xmlns:n{n}='urn:a-long-name'"))
        .collect();
    let long = format!("<stream:stream {STREAMS}{many}>");
    for (nonsense, condition) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "bad-format"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "bad-format"),
        ("<html>", "invalid-namespace"),
        ("<stream:stream>", "not-well-formed"),
        (
            "<stream:stream xmlns:stream='urn:wrong' version='1.0'>",
            "invalid-namespace",
        ),
        (
            &format!("<?xml version='1.0' encoding='UTF-16'?><stream:stream {STREAMS}>"),
            "unsupported-encoding",
        ),
        (
            &format!("<!DOCTYPE a><stream:stream {STREAMS}>"),
            "restricted-xml",
        ),
        (&format!("\u{feff}<stream:stream {STREAMS}>"), "bad-format"),
        (&format!("<stream:stream {STREAMS}/>"), "invalid-namespace"),
        (&long, "policy-violation"),
    ] {
        let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
        server.send(nonsense);
        expect_opening_error(
            &mut client,
            "remote-connection-failed",
            "example.org",
            nonsense,
        );
        server.expect_failure(condition);
    }
    stage.daemon.stop();
}

#[test]
fn a_silent_server_is_given_up() {
    let stage = Stage::set("connect_timeout: 0.5\n");
    let (mut client, server) = stage.greeting(OPEN, OPEN_UP);
    expect_opening_error(
        &mut client,
        "remote-connection-failed",
        "example.org",
        "silent",
    );
    drop(server);
    stage.daemon.stop();
}

#[test]
fn a_silent_client_is_given_up() {
    let stage = Stage::set("open_timeout: 0.3\n");
    let mut client = stage.daemon.client();
    expect_opening_error(&mut client, "connection-timeout", "", "silent");
    // After its stream is open, a client has no such limit. This client sends its
    // `<open/>` with the request.
    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    let mut request = request("/", &[], Some("xmpp"));
    request.extend(frame(FIN | TEXT, OPEN.as_bytes()));
    client.send_raw(&request).unwrap();
    assert_eq!(client.read_response().unwrap().status, 101);
    let mut server = both_headers(&mut client, &stage.server);
    let mut silent = stage.daemon.client();
    expect_opening_error(&mut silent, "connection-timeout", "", "silent");
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    stage.daemon.stop();
}

#[test]
fn a_client_may_close_before_it_opens() {
    let stage = Stage::set("");
    let mut client = stage.daemon.client();
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
    client.send_text(CLIENT_CLOSE).unwrap();
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    stage.daemon.stop();
}
