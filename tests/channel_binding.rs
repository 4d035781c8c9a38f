//! SASL with channel binding cannot hold through this daemon, which ends TLS.
//! By default the server's features pass all the same, byte for byte, since a
//! client may check what was offered; on demand all of it is taken out.

mod common;

use common::stage::*;
use common::tls_server::*;

const RELAY: &[&str] = &["tls: required"];
const RELAY_SAID: &[&str] = &["tls: required", "channel_binding: relay"];
const STRIP: &[&str] = &["tls: required", "channel_binding: strip"];

/// What stands at the start of features that declare all they use.
const START: &str = "<stream:features xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

/// Children of features that stay in any case, in all sorts of spelling.
const PLAIN: &str = "<sasl:mechanisms xmlns:sasl='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <sasl:mechanism>PLAIN</sasl:mechanism></sasl:mechanisms>";
const KEPT: &str = "<ver  xmlns=\"urn:xmpp:features:rosterver\" />\n <bind xmlns='urn:x'>\
    <starttls/><compression/>-PLUS<mechanism>SCRAM-SHA-1-PLUS</mechanism>\u{e9}&#xe9;<a></a></bind>";

/// Children that channel binding needs.
const BINDINGS: &str = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
    <channel-binding type='tls-exporter'/></sasl-channel-binding>";
const PLUS: &str = "<mechanism>SCRAM-SHA-1-PLUS</mechanism>";
const PLUS_256: &str = "<mechanism> SCRAM-SHA-256-PLUS\n</mechanism>";

/// Features with SASL and SASL2, the bound parts of both in `plus`, the rest of
/// channel binding in `bindings`.
fn children(plus: [&str; 2], bindings: &str) -> String {
    let [one, other] = plus;
    format!(
        "{PLAIN}<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{one}\
         <mechanism>SCRAM-SHA-1</mechanism>{other}<mechanism>X-PLUS-MINUS</mechanism>\
         </mechanisms>{bindings}{KEPT}<authentication xmlns='urn:xmpp:sasl:2'>{other}\
         <mechanism>SCRAM-SHA-256</mechanism>{one}<inline><bind xmlns='urn:xmpp:bind:0'/>\
         </inline></authentication>"
    )
}

/// What the client gets for `features` from a server.
fn relayed(more: &[&str], features: &str) -> String {
    let stage = TlsStage::set(more, "");
    let mut client = stage.client(OPEN);
    let mut server = stage.server.starttls();
    server.expect(OPEN_UP);
    server.send(HEADER);
    server.send(features);
    expect_text(&mut client, HEADER_DOWN);
    let text = client.read_text().expect("features");
    expect_alive(&mut (client, server));
    stage.daemon.stop();
    text
}

#[test]
fn features_pass_byte_for_byte() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let features = format!("{START}{all}</stream:features>");
    for more in [RELAY, RELAY_SAID] {
        assert_eq!(relayed(more, &features), features);
    }
}

#[test]
fn only_namespaces_are_added() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let bare = format!("<stream:features>{all}</stream:features>");
    let added = START.replace('\'', "\"");
    let expected = format!("{added}{all}</stream:features>");
    assert_eq!(relayed(RELAY, &bare), expected);
}

#[test]
fn only_starttls_and_compression_are_taken_out() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let zlib = "<compression xmlns='http://jabber.org/features/compress'>\
        <method>zlib</method></compression>";
    let prefixed =
        "<t:starttls xmlns:t='urn:ietf:params:xml:ns:xmpp-tls'><t:required/></t:starttls>";
    let features = format!("{START}{STARTTLS}{all}{zlib}{prefixed}</stream:features>");
    let expected = format!("{START}{all}</stream:features>");
    assert_eq!(relayed(RELAY, &features), expected);
}

#[test]
fn on_demand_all_channel_binding_is_taken_out() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let features = format!("{START}{all}</stream:features>");
    let left = children(["", ""], "");
    let expected = format!("{START}{left}</stream:features>");
    assert_eq!(relayed(STRIP, &features), expected);
    // XEP-0440's bindings may stand within SASL2's element too.
    let within = format!(
        "{START}<authentication xmlns='urn:xmpp:sasl:2'>{PLUS}<mechanism>PLAIN</mechanism>\
         {BINDINGS}</authentication></stream:features>"
    );
    let expected = format!(
        "{START}<authentication xmlns='urn:xmpp:sasl:2'><mechanism>PLAIN</mechanism>\
         </authentication></stream:features>"
    );
    assert_eq!(relayed(STRIP, &within), expected);
}

/// After SASL a stream begins anew, and its features are no exception.
#[test]
fn features_after_a_restart_are_treated_alike() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let features = format!("{START}{all}</stream:features>");
    for (more, left) in [
        (RELAY, features.clone()),
        (
            STRIP,
            format!("{START}{}</stream:features>", children(["", ""], "")),
        ),
    ] {
        let stage = TlsStage::set(more, "");
        let (mut client, mut server) = stage.session();
        client
            .send_text("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
            .unwrap();
        server.expect("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        server.send(SUCCESS);
        expect_text(&mut client, SUCCESS);
        client.send_text(OPEN).unwrap();
        server.expect(OPEN_UP);
        server.send(&format!("{HEADER}{features}"));
        expect_text(&mut client, HEADER_DOWN);
        expect_text(&mut client, &left);
        stage.daemon.stop();
    }
}
