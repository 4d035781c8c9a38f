//! A server, or an attacker on the path to it, that prevents TLS: by invalid data, by too
//! much data, or by silence. The session ends, none of the data reaches the client, and
//! another session continues.

use std::io::Write;

use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::Connection;
use crate::common::{PATIENCE, is_reset, wait_for};
use nix::poll::PollFlags;

/// How much the daemon may grow, whatever it receives.
const GROWTH_BYTES: usize = 4 << 20;
/// Bytes from a server that never stops sending.
const FLOOD_BYTES: usize = 32 << 20;

/// A daemon with a session that works.
struct Scene {
    stage: TlsStage,
    healthy: (WsClient, TlsConnection),
    before: usize,
}

impl Scene {
    fn set(config: &str) -> Scene {
        let stage = TlsStage::set(&["tls: required"], config);
        let healthy = stage.session();
        let before = stage.daemon.resident();
        Scene {
            stage,
            healthy,
            before,
        }
    }

    /// A client, and the connection to the server after its stream header.
    fn arrive(&self) -> (WsClient, Connection) {
        let client = self.stage.client(OPEN);
        let mut server = self.stage.server.tcp.accept();
        server.expect(OPEN_UP);
        (client, server)
    }

    /// A client, and the connection to the server after STARTTLS was offered and
    /// requested.
    fn ask(&self) -> (WsClient, Connection) {
        let client = self.stage.client(OPEN);
        (client, self.stage.server.asked())
    }

    /// Fails unless the session of `client` has ended and the other session works.
    fn expect_end(&mut self, client: &mut WsClient, case: &str) {
        expect_no_way(client, case);
        exchange(&mut self.healthy);
        let grown = self.stage.daemon.resident().saturating_sub(self.before);
        assert!(
            grown < GROWTH_BYTES,
            "{case}: grown by {} KiB",
            grown / 1024
        );
    }

    /// Fails unless the healthy session still works at the end.
    fn stop(mut self) {
        exchange(&mut self.healthy);
        self.stage.daemon.stop();
    }
}

/// Fails unless the daemon closes the connection without sending more.
fn expect_gone(server: &mut Connection, case: &str) {
    assert_eq!(server.read_end().1, "", "{case}");
}

#[test]
fn clear_text_after_proceed_is_an_injection() {
    let mut scene = Scene::set("");
    for injected in [
        "<message from='mallory@example.org'/>",
        " \n<message/>",
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        CLEAR_HEADER,
        "garbage",
        "<",
        "\u{16}\u{3}\u{3}\0\u{1}\0",
        "\0",
        END,
        PROCEED,
    ] {
        let (mut client, mut server) = scene.ask();
        server.send(&format!("{PROCEED}{injected}"));
        expect_gone(&mut server, injected);
        scene.expect_end(&mut client, injected);
        let peer = client.stream.local_addr().unwrap();
        let start = format!(" {peer}: cannot reach the server");
        let line = scene.stage.daemon.wait_for_line(&start);
        assert!(line.contains("an injection"), "{injected:?}: {line}");
    }
    scene.stop();
}

/// Data from before TLS is ignored after it, including white space.
#[test]
fn white_space_after_proceed_does_no_harm() {
    let mut scene = Scene::set("");
    let (mut client, mut server) = scene.ask();
    server.send(&format!("{PROCEED}\r\n \t"));
    let mut server = scene.stage.server.handshake(server.stream);
    server.greet(OPEN_UP);
    expect_greeted(&mut client);
    exchange(&mut (client, server));
    exchange(&mut scene.healthy);
    scene.stop();
}

/// Clear text in a later segment, after TLS has begun.
#[test]
fn clear_text_within_the_handshake_ends_it() {
    let mut scene = Scene::set("");
    for garbage in [
        "<message from='mallory@example.org'/>",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "\u{16}\u{3}\u{3}\0\u{4}junk",
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}\u{28}",
    ] {
        let (mut client, mut server) = scene.ask();
        server.send(PROCEED);
        // The ClientHello has arrived.
        let came = wait_for(
            &server.stream,
            PollFlags::POLLIN,
            PATIENCE.as_millis() as u16,
        );
        assert!(came, "no ClientHello");
        server.send(garbage);
        scene.expect_end(&mut client, garbage);
        drop(server);
    }
    scene.stop();
}

#[test]
fn a_server_that_breaks_off_within_the_handshake_has_lost_the_session() {
    let mut scene = Scene::set("");
    let (mut client, mut server) = scene.ask();
    server.send(PROCEED);
    server.half_close();
    scene.expect_end(&mut client, "end");
    let (mut client, mut server) = scene.ask();
    server.send(PROCEED);
    server.reset();
    scene.expect_end(&mut client, "reset");
    let (mut client, mut server) = scene.ask();
    // Half a record.
    server.send(PROCEED);
    server.stream.write_all(&[22, 3, 3, 1]).unwrap();
    server.half_close();
    scene.expect_end(&mut client, "half a record");
    scene.stop();
}

/// All of these are answers to the daemon's header. The server sends nothing else.
#[test]
fn wrong_openings_before_tls_end_the_session() {
    let mut scene = Scene::set("");
    let error = "<stream:error><internal-server-error \
        xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>";
    for (said, condition) in [
        (format!("{CLEAR_HEADER}{error}"), ""),
        (format!("{CLEAR_HEADER}<message/>"), ""),
        (format!("{CLEAR_HEADER}{PROCEED}"), ""),
        (format!("{CLEAR_HEADER}{OFFER}{PROCEED}"), ""),
        (format!("{CLEAR_HEADER}{OFFER}<message/>"), ""),
        (format!("{CLEAR_HEADER}</stream:stream>"), ""),
        (
            format!("{CLEAR_HEADER}<!-- no -->{OFFER}"),
            "restricted-xml",
        ),
        (
            format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{CLEAR_HEADER}{OFFER}"),
            "restricted-xml",
        ),
        (format!("{CLEAR_HEADER}&amp;{OFFER}"), "bad-format"),
        (
            format!("{CLEAR_HEADER}</stream:features>"),
            "not-well-formed",
        ),
        ("<html>".to_owned(), "invalid-namespace"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "bad-format"),
        ("* OK IMAP4 ready\r\n".to_owned(), "bad-format"),
    ] {
        let (mut client, mut server) = scene.arrive();
        server.send(&said);
        match condition {
            "" => expect_gone(&mut server, &said),
            _ => server.expect_failure(condition),
        }
        scene.expect_end(&mut client, &said);
    }
    scene.stop();
}

/// The daemon asks for TLS all the same; see tls_policy.rs.
#[test]
fn features_without_an_offer_end_the_session() {
    let mut scene = Scene::set("");
    let other = OFFER.replace("xmpp-tls", "xmpp-sasl");
    let deep = OFFER.replace("<starttls", "<x xmlns='urn:x'><starttls");
    let deep = deep.replace("</starttls>", "</starttls></x>");
    for features in [FEATURES, "<stream:features/>", &other, &deep] {
        let (mut client, mut server) = scene.arrive();
        server.send(&format!("{CLEAR_HEADER}{features}"));
        server.expect(STARTTLS);
        expect_gone(&mut server, features);
        scene.expect_end(&mut client, features);
    }
    scene.stop();
}

#[test]
fn wrong_answers_to_starttls_end_the_session() {
    let mut scene = Scene::set("");
    for answer in [
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:stream>",
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>",
        "<proceed/>",
        "<message/>",
        OFFER,
        END,
        "<stream:error><undefined-condition \
         xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    ] {
        let (mut client, mut server) = scene.ask();
        server.send(answer);
        expect_gone(&mut server, answer);
        scene.expect_end(&mut client, answer);
    }
    scene.stop();
}

/// Sends `start` and then `more` repeatedly. Fails unless the daemon closes the
/// connection.
fn expect_broken_off(mut server: Connection, start: &str, more: &str, case: &str) {
    let piece = more.repeat((16 << 10) / more.len() + 1);
    let mut pieces = std::iter::repeat_n(piece.as_str(), FLOOD_BYTES / piece.len());
    server.send(start);
    let error = pieces.find_map(|piece| server.stream.write_all(piece.as_bytes()).err());
    let error = error.unwrap_or_else(|| panic!("{case}: all was taken"));
    assert!(is_reset(&error), "{case}: {error}");
}

#[test]
fn a_server_must_not_send_too_much_before_tls() {
    let mut scene = Scene::set("");
    let features = "<stream:features>";
    let cases: [(&str, &str, &str); 8] = [
        ("white space first", "", " \n"),
        ("header", "<stream:stream a='", "x"),
        ("attributes", "<stream:stream ", "a='b' "),
        (
            "features",
            &format!("{CLEAR_HEADER}{features}"),
            "<a xmlns='urn:x'/>",
        ),
        ("text", &format!("{CLEAR_HEADER}{features}"), "text"),
        ("depth", &format!("{CLEAR_HEADER}{features}"), "<a>"),
        ("white space", CLEAR_HEADER, " "),
        ("elements", CLEAR_HEADER, "<message/>"),
    ];
    for (case, start, more) in cases {
        println!("{case}");
        let (mut client, server) = scene.arrive();
        expect_broken_off(server, start, more, case);
        scene.expect_end(&mut client, case);
    }
    for (case, start) in [("answer", "<proceed a='"), ("failure", "<failure>")] {
        println!("{case}");
        let (mut client, server) = scene.ask();
        expect_broken_off(server, start, "x", case);
        scene.expect_end(&mut client, case);
    }
    scene.stop();
}

/// The connect timeout ends these sessions. All wait at the same time.
#[test]
fn a_server_that_keeps_the_session_waiting_loses_it() {
    let mut scene = Scene::set("connect_timeout: 3\n");
    let half = format!("{CLEAR_HEADER}<stream:features>");
    let mut waiting: Vec<_> = ["", "<stream:stream", CLEAR_HEADER, &half]
        .map(|said| {
            let (client, mut server) = scene.arrive();
            server.send(said);
            (said, client, server)
        })
        .into();
    // Silent after the request for STARTTLS, and within the TLS handshake.
    let (client, server) = scene.ask();
    waiting.push(("no answer", client, server));
    let (mut silent, mut server) = scene.ask();
    server.send(PROCEED);
    // TLS is established, but no header comes.
    let mut secured = scene.stage.client(OPEN);
    let mut tls = scene.stage.server.starttls();
    tls.expect(OPEN_UP);
    for (said, mut client, mut server) in waiting {
        expect_gone(&mut server, said);
        scene.expect_end(&mut client, said);
    }
    scene.expect_end(&mut silent, "no ServerHello");
    scene.expect_end(&mut secured, "no header");
    scene.stop();
}

/// White space instead of an answer: only the time is limited.
#[test]
fn endless_white_space_instead_of_an_answer_runs_into_the_time_limit() {
    let mut scene = Scene::set("connect_timeout: 3\n");
    let (mut client, mut server) = scene.ask();
    let writer = std::thread::spawn(move || {
        let piece = [b' '; 1024];
        while server.stream.write_all(&piece).is_ok() {}
    });
    scene.expect_end(&mut client, "white space");
    writer.join().expect("the writer");
    scene.stop();
}
