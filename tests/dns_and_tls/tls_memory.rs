//! The memory of an idle session with TLS to its server, measured with 300 sessions. All
//! have a history and are then silent. And what is left of the memory of a crowd of browsers
//! with TLS once it has gone.

use std::net::TcpStream;

use openssl::ssl::{SslStream, SslVersion};

use crate::common::daemon::by_openssl;
use crate::common::patiently;
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;
use crate::common::wss_stage::WssStage;
use crate::common::xmpp_server::Connection;

const SESSIONS: usize = 300;
/// One session in so many has relayed a large message in each direction.
const LARGE_EVERY: usize = 20;

/// An idle session with a history.
fn session(stage: &TlsStage, n: usize) -> (WsClient, TlsConnection) {
    let (mut client, mut server) = stage.session();
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    if n.is_multiple_of(LARGE_EVERY) {
        let message = format!("<a xmlns='urn:x'>{}</a>", "x".repeat(60_000));
        client.send_text(&message).unwrap();
        server.expect(&message);
        server.send(&message);
        expect_text(&mut client, &message);
    }
    let mut session = (client, server);
    exchange(&mut session);
    session
}

/// A ticket of the server was the last to arrive that needs a buffer.
#[test]
fn a_session_that_has_only_been_opened_costs_as_little() {
    let stage = TlsStage::set(&["tls: required"], "ping_interval: 0\nlog_level: LOG_ERR\n");
    let mut sessions: Vec<_> = (0..50).map(|_| stage.session()).collect();
    let before = stage.daemon.resident();
    sessions.extend((0..SESSIONS).map(|_| stage.session()));
    let each = stage.daemon.resident().saturating_sub(before) / SESSIONS;
    assert!(each < by_openssl(16_384, 30_720), "{each} bytes");
    sessions.iter_mut().for_each(exchange);
    stage.daemon.stop();
}

#[test]
fn an_idle_tls_session_costs_little() {
    let stage = TlsStage::set(&["tls: required"], "ping_interval: 0\nlog_level: LOG_ERR\n");
    // The first sessions cause the allocations that all share.
    let mut sessions: Vec<_> = (0..50).map(|n| session(&stage, n)).collect();
    let before = stage.daemon.resident();
    sessions.extend((0..SESSIONS).map(|n| session(&stage, n)));
    let after = stage.daemon.resident();
    let each = after.saturating_sub(before) / SESSIONS;
    println!("idle TLS session: {each} bytes");
    assert!(each < by_openssl(16_384, 30_720), "{each} bytes");
    // The first and the last session still work.
    for at in [0, SESSIONS] {
        exchange(&mut sessions[at]);
    }
    // After their end, sessions leave no memory behind.
    let count = sessions.len();
    sessions.clear();
    let mut again: Vec<_> = (0..count).map(|n| session(&stage, n)).collect();
    let grown = stage.daemon.resident().saturating_sub(after);
    assert!(grown < count * 4096, "grown by {grown} bytes");
    again.iter_mut().for_each(exchange);
    stage.daemon.stop();
}

type Wss = (WsClient<SslStream<TcpStream>>, Connection);

fn wss_session(stage: &WssStage) -> Wss {
    let mut client = stage.client(SslVersion::TLS1_3);
    client.send_text(OPEN).unwrap();
    let mut server = stage.server.accept();
    server.read_until("<stream:stream");
    server.read_until(">");
    server.send(HEADER);
    expect_text(&mut client, HEADER_DOWN);
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    (client, server)
}

#[test]
fn a_crowd_that_leaves_returns_its_memory() {
    const MANY: usize = 1500;
    let stage = WssStage::set(
        &[&["example.com"]],
        "ping_interval: 0\nlog_level: LOG_ERR\n",
    );
    let first: Vec<_> = (0..50).map(|_| wss_session(&stage)).collect();
    let before = stage.daemon.resident();
    let sessions: Vec<_> = (0..MANY).map(|_| wss_session(&stage)).collect();
    assert!(stage.daemon.resident() > 2 * before, "no crowd");
    drop(sessions);
    patiently("the return of the memory", || {
        (stage.daemon.resident() < 2 * before).then_some(())
    });
    // Those who stay go on.
    for (mut client, mut server) in first {
        server.send("<b xmlns='u'/>");
        expect_text(&mut client, "<b xmlns='u'/>");
    }
    stage.daemon.stop();
}
