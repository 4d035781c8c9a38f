//! SASL with channel binding cannot work through jabsocket, because TLS ends here. By
//! default jabsocket removes it from the features for web pages, which cannot use it. All
//! other clients get the features byte for byte, because they may check the offer.
//! `strip` and `relay` treat all clients alike.

use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;

const AUTO: &[&str] = &["tls: required"];
const AUTO_SAID: &[&str] = &["tls: required", "channel_binding: auto"];
const RELAY: &[&str] = &["tls: required", "channel_binding: relay"];
const STRIP: &[&str] = &["tls: required", "channel_binding: strip"];

/// The start of features that declare all their namespaces.
const START: &str = "<stream:features xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams'>";

/// Children of features that are always kept, in different spellings.
const PLAIN: &str = "<sasl:mechanisms xmlns:sasl='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <sasl:mechanism>PLAIN</sasl:mechanism></sasl:mechanisms>";
const KEPT: &str = "<ver  xmlns=\"urn:xmpp:features:rosterver\" />\n <bind xmlns='urn:x'>\
    <starttls/><compression/>-PLUS<mechanism>SCRAM-SHA-1-PLUS</mechanism>\u{e9}&#xe9;<a></a></bind>";

/// Children for channel binding.
const BINDINGS: &str = "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>\
    <channel-binding type='tls-exporter'/></sasl-channel-binding>";
const PLUS: &str = "<mechanism>SCRAM-SHA-1-PLUS</mechanism>";
const PLUS_256: &str = "<mechanism> SCRAM-SHA-256-PLUS\n</mechanism>";

/// Features with SASL and SASL2. `plus` has the mechanisms with channel binding for both,
/// `bindings` the rest.
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

/// What a client without an Origin receives for `features`.
fn relayed(more: &[&str], features: &str) -> String {
    relayed_to(None, more, features)
}

/// What a client with this Origin receives for `features`.
fn relayed_to(origin: Option<&str>, more: &[&str], features: &str) -> String {
    let stage = TlsStage::set(more, "");
    let fields: Vec<_> = origin.iter().map(|value| ("Origin", *value)).collect();
    let address = stage.daemon.address;
    let mut client = WsClient::connect(address, "/", &fields, Some("xmpp")).unwrap();
    client.send_text(OPEN).unwrap();
    let mut server = stage.server.starttls();
    server.expect(OPEN_UP);
    server.send(HEADER);
    server.send(features);
    expect_text(&mut client, HEADER_DOWN);
    let text = client.read_text().expect("features");
    exchange(&mut (client, server));
    stage.daemon.stop();
    text
}

#[test]
fn features_pass_byte_for_byte() {
    let all = children([PLUS, PLUS_256], BINDINGS);
    let features = format!("{START}{all}</stream:features>");
    for more in [RELAY, AUTO, AUTO_SAID] {
        assert_eq!(relayed(more, &features), features);
    }
}

/// Features as real servers send them, with all parts for channel binding in double
/// brackets: Prosody 13 with the modules for SASL2 and FAST, and ejabberd 24.
const PROSODY: &str = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    [[<mechanism>SCRAM-SHA-256-PLUS</mechanism>]]<mechanism>SCRAM-SHA-1</mechanism>\
    [[<mechanism>SCRAM-SHA-1-PLUS</mechanism>]]<mechanism>PLAIN</mechanism></mechanisms>\
    [[<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/>\
    </sasl-channel-binding>]]<authentication xmlns='urn:xmpp:sasl:2'>\
    [[<mechanism>SCRAM-SHA-1-PLUS</mechanism>]]<mechanism>SCRAM-SHA-1</mechanism>\
    <mechanism>PLAIN</mechanism><inline><bind xmlns='urn:xmpp:bind:0'><inline>\
    <feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/></inline></bind>\
    <sm xmlns='urn:xmpp:sm:3'/><fast xmlns='urn:xmpp:fast:0' tls-0rtt='true'>\
    <mechanism>HT-SHA-256-NONE</mechanism>[[<mechanism>HT-SHA-256-UNIQ</mechanism>]]\
    [[<mechanism>HT-SHA-256-EXPR</mechanism>]][[<mechanism>HT-SHA-256-ENDP</mechanism>]]</fast>\
    </inline></authentication><register xmlns='http://jabber.org/features/iq-register'/>";
const EJABBERD: &str = "<register xmlns=\"http://jabber.org/features/iq-register\"/>\
    <mechanisms xmlns=\"urn:ietf:params:xml:ns:xmpp-sasl\"><mechanism>PLAIN</mechanism>\
    <mechanism>SCRAM-SHA-512</mechanism>[[<mechanism>SCRAM-SHA-512-PLUS</mechanism>]]\
    <mechanism>X-OAUTH2</mechanism></mechanisms><authentication xmlns=\"urn:xmpp:sasl:2\">\
    <mechanism>SCRAM-SHA-512</mechanism>[[<mechanism>SCRAM-SHA-512-PLUS</mechanism>]]<inline>\
    <sm xmlns=\"urn:xmpp:sm:3\"/><bind xmlns=\"urn:xmpp:bind:0\"/>[[<fast \
    xmlns=\"urn:xmpp:fast:0\"><mechanism>HT-SHA-256-EXPR</mechanism></fast>]]</inline>\
    </authentication>[[<sasl-channel-binding xmlns=\"urn:xmpp:sasl-cb:0\"><channel-binding \
    type=\"tls-server-end-point\"/><channel-binding type=\"tls-exporter\"/>\
    </sasl-channel-binding>]]";

/// A list with the parts in double brackets, and without them.
fn offered_and_left(list: &str) -> (String, String) {
    let offered = list.replace("[[", "").replace("]]", "");
    let left = list.split("[[").map(|part| match part.split_once("]]") {
        Some((_, after)) => after,
        None => part,
    });
    let whole = |children: &str| format!("{START}{children}</stream:features>");
    (whole(&offered), whole(&left.collect::<String>()))
}

#[test]
fn by_default_web_pages_get_no_channel_binding() {
    for list in [PROSODY, EJABBERD] {
        let (offered, left) = offered_and_left(list);
        assert!(!left.contains("-PLUS") && !left.contains("EXPR"), "{left}");
        for page in ["https://example.org", "http://localhost:8080"] {
            assert_eq!(relayed_to(Some(page), AUTO, &offered), left);
        }
        assert_eq!(relayed_to(Some("null"), AUTO, &offered), offered);
        assert_eq!(relayed_to(None, AUTO, &offered), offered);
    }
    let (offered, left) = offered_and_left(PROSODY);
    let page = Some("https://example.org");
    assert_eq!(relayed_to(page, AUTO_SAID, &offered), left);
    assert_eq!(relayed_to(page, RELAY, &offered), offered);
    assert_eq!(relayed_to(None, STRIP, &offered), left);
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
    // The bindings of XEP-0440 may also be inside the SASL2 element.
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

/// The features after a restart are handled in the same way.
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
