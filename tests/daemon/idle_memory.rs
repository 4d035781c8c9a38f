//! The memory of an idle session, measured with 2,000 sessions in each dialect. All have
//! a history (a SASL dialogue and a restart, some with large messages) and are then
//! silent.

use crate::common::stage::*;
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::Connection;

const SESSIONS: usize = 2000;
/// The maximum memory per session in the daemon.
const LIMIT_BYTES: usize = 512;
/// One session in so many has relayed a large message in each direction.
const LARGE_EVERY: usize = 20;

/// The start of a session in a dialect.
struct Dialect {
    name: &'static str,
    begin: fn(&Stage) -> (WsClient, Connection),
    open: &'static str,
    header_down: &'static str,
}

const DIALECTS: [Dialect; 2] = [
    Dialect {
        name: "rfc7395",
        begin: Stage::framed,
        open: OPEN,
        header_down: HEADER_DOWN,
    },
    Dialect {
        name: "draft",
        begin: Stage::draft,
        open: DRAFT_OPEN,
        header_down: HEADER,
    },
];

/// An idle session with a history.
fn session(stage: &Stage, dialect: &Dialect, large: bool) -> (WsClient, Connection) {
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGEAYg==</auth>";
    let (mut client, mut server) = (dialect.begin)(stage);
    client.send_text(auth).unwrap();
    server.expect(auth);
    server.send(SUCCESS);
    expect_text(&mut client, SUCCESS);
    client.send_text(dialect.open).unwrap();
    server.read_until("<stream:stream");
    server.read_until(">");
    server.send(HEADER);
    expect_text(&mut client, dialect.header_down);
    if large {
        let message = format!("<a xmlns='u'>{}</a>", "x".repeat(60_000));
        client.send_text(&message).unwrap();
        server.expect(&message);
        server.send(&message);
        expect_text(&mut client, &message);
    }
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send(PRESENCE);
    expect_text(&mut client, PRESENCE);
    (client, server)
}

#[test]
fn an_idle_session_costs_less_than_half_a_kibibyte() {
    for dialect in &DIALECTS {
        let stage = Stage::set("ping_interval: 0\nlog_level: LOG_ERR\n");
        // The first sessions cause the allocations that all share: parsers, tables,
        // buffers.
        let mut sessions: Vec<_> = (0..50)
            .map(|n| session(&stage, dialect, n % LARGE_EVERY == 0))
            .collect();
        let before = stage.daemon.resident();
        sessions.extend((0..SESSIONS).map(|n| session(&stage, dialect, n % LARGE_EVERY == 0)));
        let after = stage.daemon.resident();
        let each = after.saturating_sub(before) / SESSIONS;
        println!("idle session: {each} bytes ({})", dialect.name);
        assert!(each < LIMIT_BYTES, "{}: {each} bytes", dialect.name);
        // The first and the last session still work.
        for at in [0, SESSIONS] {
            let (client, server) = &mut sessions[at];
            server.send("<b xmlns='u'/>");
            expect_text(client, "<b xmlns='u'/>");
        }
        stage.daemon.stop();
    }
}
