//! RFC 7395 through the daemon: headers, elements with inherited declarations, restarts,
//! the end of streams, and features that must not be offered.

use std::collections::HashSet;

use crate::common::stage::*;
use crate::common::ws_client::{FIN, TEXT, frame};

#[test]
fn headers_are_translated_to_the_byte() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.greeting(
        "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to=\"example.org\" version='1.0' \
         xml:lang='de' from='a&amp;b@example.org' id='ignored'></open>",
        "<?xml version='1.0'?><stream:stream from=\"a&amp;b@example.org\" to=\"example.org\" \
         version=\"1.0\" xml:lang=\"de\" xmlns=\"jabber:client\" \
         xmlns:stream=\"http://etherx.jabber.org/streams\">",
    );
    server.send(
        "<?xml version='1.0'?>\n<stream:stream id='i>&#39;d' from=\"example.org\" \
         to='a&amp;b@example.org' version='1.0' xml:lang='de' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>",
    );
    expect_text(
        &mut client,
        "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"example.org\" \
         to=\"a&amp;b@example.org\" id=\"i&gt;&apos;d\" version=\"1.0\" xml:lang=\"de\" />",
    );
    stage.daemon.stop();
}

/// RFC 6120, section 4.7: the client's header must have `from`, `id` and `xml:lang`, whatever
/// the server leaves out.
#[test]
fn a_header_of_the_server_is_completed() {
    let stage = Stage::set("");
    let mut ids = HashSet::new();
    for id in ["", "id=''"] {
        let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
        server.send(&format!(
            "<?xml version='1.0' standalone='no'?><stream:stream {id} version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ));
        let open = client.read_text().unwrap();
        let before =
            "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"example.org\" id=\"";
        let own = open
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix("\" version=\"1.0\" xml:lang=\"en\" />"));
        let own = own.unwrap_or_else(|| panic!("{open}"));
        assert!(own.len() >= 16 && ids.insert(own.to_owned()), "{open}");
    }
    stage.daemon.stop();
}

#[test]
fn messages_before_the_server_answers_are_kept_in_order() {
    let stage = Stage::set("");
    let mut client = stage.daemon.client();
    let mut bytes = frame(FIN | TEXT, OPEN.as_bytes());
    bytes.extend(frame(FIN | TEXT, b"<a xmlns='u'/>"));
    bytes.extend(frame(FIN | TEXT, b"<b xmlns='u'/>"));
    client.send_raw(&bytes).unwrap();
    let mut server = stage.server.accept();
    server.expect(OPEN_UP);
    server.expect("<a xmlns='u'/><b xmlns='u'/>");
    stage.daemon.stop();
}

#[test]
fn features_lose_starttls_and_compression() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    server.send(
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
         </mechanisms><compression xmlns='http://jabber.org/features/compress'><method>zlib\
         </method></compression><sub xmlns='urn:x'/></stream:features>",
    );
    expect_text(
        &mut client,
        "<stream:features xmlns=\"jabber:client\" \
         xmlns:stream=\"http://etherx.jabber.org/streams\">\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
         </mechanisms><sub xmlns='urn:x'/></stream:features>",
    );
    stage.daemon.stop();
}

#[test]
fn elements_get_the_namespaces_that_they_need() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
    server.send(
        "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
         xmlns:foo='urn:f&quot;oo' id='s1' from='example.org' version='1.0' xml:lang='en'>",
    );
    expect_text(&mut client, HEADER_DOWN);
    let cases = [
        ("<presence/>", "<presence xmlns=\"jabber:client\"/>"),
        (
            "<iq\n id='>'><query xmlns='u'/></iq>",
            "<iq xmlns=\"jabber:client\"\n id='>'><query xmlns='u'/></iq>",
        ),
        (
            "<presence xmlns='jabber:client' id='own'/>",
            "<presence xmlns='jabber:client' id='own'/>",
        ),
        ("<r xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>"),
        (
            "<message><foo:x/></message>",
            "<message xmlns=\"jabber:client\" xmlns:foo=\"urn:f&quot;oo\"><foo:x/></message>",
        ),
        (
            "<message><foo:x xmlns:foo='mine'/></message>",
            "<message xmlns=\"jabber:client\" xmlns:foo=\"urn:f&quot;oo\">\
             <foo:x xmlns:foo='mine'/></message>",
        ),
        (
            "<foo:y xmlns:foo='mine'/>",
            "<foo:y xmlns=\"jabber:client\" xmlns:foo='mine'/>",
        ),
        (
            "<message><body>]]&gt;<![CDATA[<stream:x>]]>\u{1f600}</body></message>",
            "<message xmlns=\"jabber:client\" \
             xmlns:stream=\"http://etherx.jabber.org/streams\"><body>]]&gt;\
             <![CDATA[<stream:x>]]>\u{1f600}</body></message>",
        ),
    ];
    for (sent, expected) in cases {
        server.send(sent);
        expect_text(&mut client, expected);
    }
    stage.daemon.stop();
}

#[test]
fn a_server_may_name_its_root_otherwise() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.greeting(OPEN, OPEN_UP);
    server.send(
        "<stream xmlns='http://etherx.jabber.org/streams' id='s1' from='example.org' \
         version='1.0' xml:lang='en'>",
    );
    expect_text(&mut client, HEADER_DOWN);
    server.send("<features/>");
    expect_text(
        &mut client,
        "<features xmlns=\"http://etherx.jabber.org/streams\"/>",
    );
    server.send(PRESENCE);
    expect_text(&mut client, PRESENCE);
    server.send("</stream>");
    expect_stream_close(&mut client, 1000);
    server.half_close();
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn each_element_is_one_message_however_it_comes() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    server.send("\r\n\r\n <a xmlns='u'/> \n<b xmlns='u'>1 2</b>\r\n\r\n");
    expect_text(&mut client, "<a xmlns='u'/>");
    expect_text(&mut client, "<b xmlns='u'>1 2</b>");
    let stanza =
        "<message xmlns='jabber:client' a='1&gt;>'><body>h\u{e9}llo \u{1f600}</body></message>";
    server.dribble(stanza);
    expect_text(&mut client, stanza);
    // White space is not relayed. The next message is the next element.
    server.dribble(" \n\n \t");
    server.send("<c xmlns='u'/><d xmlns='u'");
    expect_text(&mut client, "<c xmlns='u'/>");
    server.send("/>");
    expect_text(&mut client, "<d xmlns='u'/>");
    stage.daemon.stop();
}

#[test]
fn client_messages_pass_as_they_are() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    for (sent, passed) in [
        ("<presence/>", "<presence/>"),
        (
            "<a xmlns='u' b=\"'\"><c>&amp;&#x41;<![CDATA[<]]></c></a>",
            "<a xmlns='u' b=\"'\"><c>&amp;&#x41;<![CDATA[<]]></c></a>",
        ),
        ("<x:a xmlns:x='u'/>", "<x:a xmlns:x='u'/>"),
        ("<?xml version='1.0'?><a xmlns='u'/>", "<a xmlns='u'/>"),
        (
            "<?xml version='1.0' standalone='no'?><a xmlns='u'/>",
            "<a xmlns='u'/>",
        ),
        (
            "<?xml version='1.0' encoding='UTF-8'?>\n<a xmlns='u'>1</a>\n",
            "<a xmlns='u'>1</a>",
        ),
        ("", ""),
        ("  \r\n\t", ""),
        ("<a xmlns='u'/>\n", "<a xmlns='u'/>"),
        ("<r/>", "<r/>"),
    ] {
        client.send_text(sent).unwrap();
        // White space is told apart from what follows it.
        client.send_text("<next xmlns='u'/>").unwrap();
        server.expect(&format!("{passed}<next xmlns='u'/>"));
    }
    stage.daemon.stop();
}

#[test]
fn a_success_restarts_the_stream() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client
        .send_text("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        .unwrap();
    server.expect("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
    server.send(SUCCESS);
    expect_text(&mut client, SUCCESS);
    client.send_text(OPEN).unwrap();
    server.expect(OPEN_UP);
    server.send(&HEADER.replace("'s1'", "'s2'"));
    expect_text(&mut client, &HEADER_DOWN.replace("\"s1\"", "\"s2\""));
    server.send(PRESENCE);
    expect_text(&mut client, PRESENCE);
    // Once for each success.
    client.send_text(OPEN).unwrap();
    expect_error(&mut client, "bad-format", "a third open");
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn a_success_of_sasl2_restarts_nothing() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    let features = "<stream:features xmlns:stream='http://etherx.jabber.org/streams' xmlns='u'/>";
    server.send(&format!("{SUCCESS2}{features}"));
    expect_text(&mut client, SUCCESS2);
    expect_text(&mut client, features);
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    stage.daemon.stop();
}

#[test]
fn a_second_open_without_a_success_is_refused() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client.send_text(OPEN).unwrap();
    expect_error(&mut client, "bad-format", "a second open");
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn a_restart_must_keep_the_domain() {
    let stage = Stage::set("  - other.example\n");
    for second in [
        OPEN.replace("example.org", "other.example"),
        OPEN.replace(" to='example.org'", ""),
        PRESENCE.to_owned(),
    ] {
        let (mut client, mut server) = stage.framed();
        server.send(SUCCESS);
        expect_text(&mut client, SUCCESS);
        client.send_text(&second).unwrap();
        expect_error(&mut client, "not-authorized", &second);
        expect_stream_close(&mut client, 1000);
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn a_close_is_answered_at_once() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client.send_text(CLIENT_CLOSE).unwrap();
    // The server has not read or answered anything yet.
    expect_text(&mut client, CLOSE);
    assert_eq!(CLOSE.len(), 53);
    expect_close(&mut client, 1000, "");
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn the_end_of_the_servers_stream_closes_the_clients() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    server.send("<message xmlns='jabber:client'/></stream:stream >");
    expect_text(&mut client, "<message xmlns='jabber:client'/>");
    expect_stream_close(&mut client, 1000);
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn a_stream_error_of_the_server_is_passed_on_and_ends_the_session() {
    let stage = Stage::set("");
    let tag = "</stream:stream>";
    for (behind, closes) in [(tag, true), ("", true), ("", false), ("<a/>", false)] {
        let (mut client, mut server) = stage.framed();
        let error = "<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
        server.send(&format!("<stream:error>{error}{behind}"));
        if closes {
            server.half_close();
        }
        expect_text(
            &mut client,
            &format!(
                "<stream:error xmlns=\"jabber:client\" \
                 xmlns:stream=\"http://etherx.jabber.org/streams\">{error}"
            ),
        );
        expect_stream_close(&mut client, 1000);
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn a_server_that_breaks_its_stream_gets_an_error_and_is_left() {
    let stage = Stage::set("max_stanza_size: 10000\n");
    let long = format!("<a xmlns='u'>{}</a>", "x".repeat(10_000));
    let deep = "<a>".repeat(600);
    for (broken, condition) in [
        ("<a></b>", "not-well-formed"),
        ("<x:a/>", "not-well-formed"),
        ("<a>\u{1}</a>", "not-well-formed"),
        ("text", "bad-format"),
        ("<!-- no -->", "restricted-xml"),
        ("<?no no?>", "restricted-xml"),
        ("<!DOCTYPE a>", "restricted-xml"),
        ("</stream>", "not-well-formed"),
        ("<a>&no;</a>", "restricted-xml"),
        (&long, "policy-violation"),
        (&deep, "policy-violation"),
    ] {
        let (mut client, mut server) = stage.framed();
        server.send(&format!("<good xmlns='u'/>{broken}"));
        expect_text(&mut client, "<good xmlns='u'/>");
        expect_error(&mut client, "remote-connection-failed", broken);
        expect_stream_close(&mut client, 1000);
        server.expect_failure(condition);
    }
    stage.daemon.stop();
}

#[test]
fn starttls_and_compression_are_answered_here() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client
        .send_text("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>")
        .unwrap();
    expect_text(
        &mut client,
        "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>",
    );
    client.send_text(PRESENCE).unwrap();
    client
        .send_text("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        .unwrap();
    expect_text(
        &mut client,
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    );
    expect_stream_close(&mut client, 1000);
    server.expect(PRESENCE);
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn nothing_passes_that_is_not_one_element() {
    let stage = Stage::set("");
    let deep = "<a>".repeat(600);
    let cases = [
        ("</stream:stream>", "not-well-formed"),
        ("</r>", ""),
        ("<a/></r><r>", ""),
        ("<a/></stream:stream>", "not-well-formed"),
        ("<a xmlns='u'/><b xmlns='u'/>", "bad-format"),
        ("<a xmlns='u'/>text", "bad-format"),
        ("<a xmlns='u'/><b", ""),
        ("<a>", "not-well-formed"),
        ("<a", "not-well-formed"),
        ("<a></b>", "not-well-formed"),
        ("<a b='1' b='2'/>", "not-well-formed"),
        ("<a>\u{0}</a>", "not-well-formed"),
        ("<a>\u{ffff}</a>", "not-well-formed"),
        ("<", "not-well-formed"),
        ("<x:a/>", "not-well-formed"),
        ("<stream:error/>", "not-well-formed"),
        ("<a x:b=''/>", "not-well-formed"),
        ("<!-- c --><a/>", "restricted-xml"),
        ("<a><!-- c --></a>", "restricted-xml"),
        ("<a/><!-- c -->", "restricted-xml"),
        ("<?pi pi?><a/>", "restricted-xml"),
        ("<a><?pi pi?></a>", "restricted-xml"),
        ("<!DOCTYPE a><a/>", "restricted-xml"),
        ("<!DOCTYPE a [<!ENTITY e 'e'>]><a>&e;</a>", "restricted-xml"),
        ("<?xml version='1.0'?><!DOCTYPE a><a/>", "restricted-xml"),
        ("<a>&e;</a>", "restricted-xml"),
        ("<a b='&e;'/>", "restricted-xml"),
        (
            "<?xml version='1.0' encoding='UTF-16'?><a/>",
            "unsupported-encoding",
        ),
        ("<?xml version='1.0'?>", "not-well-formed"),
        ("<?xml version='1.0'?><a/><b/>", ""),
        ("text", "bad-format"),
        (" <a xmlns='u'/>", "bad-format"),
        ("\u{feff}<a xmlns='u'/>", "bad-format"),
        (
            "<other xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
            "unsupported-stanza-type",
        ),
        (&deep, "policy-violation"),
    ];
    for (bad, condition) in cases {
        let case = &bad[..bad.len().min(60)];
        let (mut client, mut server) = stage.framed();
        client.send_text(bad).unwrap();
        // Ignored: the stream is at its end.
        client.send_text(PRESENCE).unwrap();
        match condition {
            // The parser decides between two errors.
            "" => {
                let error = client.read_text().unwrap();
                assert!(error.starts_with("<stream:error "), "{case}: {error}");
            }
            _ => drop(expect_error(&mut client, condition, case)),
        }
        expect_stream_close(&mut client, 1000);
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn messages_may_be_fragmented_around_pings() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    client.send_frame(TEXT, b"<a xmlns='u'>").unwrap();
    client.send_frame(FIN | 9, b"abcd").unwrap();
    client.send_frame(FIN, b"</a>").unwrap();
    server.expect("<a xmlns='u'></a>");
    let pong = client.read_frame().unwrap().expect("a frame");
    assert_eq!((pong.opcode, &pong.payload[..]), (10, &b"abcd"[..]));
    stage.daemon.stop();
}
