//! What an idle session costs whose server is spoken to under TLS: 300 of them,
//! all with a history, then silent.

use crate::common::daemon::by_openssl;
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;

const SESSIONS: usize = 300;
/// One session in so many has passed a large message each way.
const LARGE_EVERY: usize = 20;

/// A session with a history, now idle.
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
    expect_alive(&mut session);
    session
}

#[test]
fn an_idle_tls_session_costs_little() {
    let stage = TlsStage::set(&["tls: required"], "ping_interval: 0\nlog_level: LOG_ERR\n");
    // The first ones pay for what all share.
    let mut sessions: Vec<_> = (0..50).map(|n| session(&stage, n)).collect();
    let before = stage.daemon.resident();
    sessions.extend((0..SESSIONS).map(|n| session(&stage, n)));
    let after = stage.daemon.resident();
    let each = after.saturating_sub(before) / SESSIONS;
    println!("idle TLS session: {each} bytes");
    assert!(each < by_openssl(18_944, 40_960), "{each} bytes");
    // They are alive, the first and the last.
    for at in [0, SESSIONS] {
        expect_alive(&mut sessions[at]);
    }
    // And none of them held on to what it cost once it is gone.
    let count = sessions.len();
    sessions.clear();
    let mut again: Vec<_> = (0..count).map(|n| session(&stage, n)).collect();
    let grown = stage.daemon.resident().saturating_sub(after);
    assert!(grown < count * 4096, "grown by {grown} bytes");
    again.iter_mut().for_each(expect_alive);
    stage.daemon.stop();
}
