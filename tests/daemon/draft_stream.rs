//! The drafts before RFC 7395: the stream as on TCP, cut into messages
//! (draft-moffitt-xmpp-over-websocket-00 to -03).

use crate::common::stage::*;

#[test]
fn header_and_elements_pass_as_they_are() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    server.send("<message><body>1</body></message> \n<stream:x/>");
    expect_text(&mut client, "<message><body>1</body></message>");
    expect_text(&mut client, "<stream:x/>");
    server.dribble("<presence a='>'/>");
    expect_text(&mut client, "<presence a='>'/>");
    for message in ["<presence/>", "<stream:x/>", "<a/><b/>"] {
        client.send_text(message).unwrap();
        server.expect(message);
    }
    stage.daemon.stop();
}

#[test]
fn an_xml_declaration_and_a_closed_tag_are_accepted() {
    let stage = Stage::set("");
    let tag = DRAFT_OPEN.strip_suffix('>').unwrap();
    for (first, up) in [
        (format!("<?xml version='1.0'?>{tag}>"), format!("{tag}>")),
        (
            format!("<?xml version=\"1.0\"?>\n{tag} >\n"),
            format!("{tag} >\n"),
        ),
        (format!("{tag}/>"), format!("{tag}>")),
        (format!("{tag} />"), format!("{tag} >")),
    ] {
        let (mut client, mut server) =
            stage.greeting(&first, &format!("<?xml version='1.0'?>{up}"));
        server.send(HEADER);
        expect_text(&mut client, HEADER);
        client.send_text("<presence/>").unwrap();
        server.expect("<presence/>");
    }
    stage.daemon.stop();
}

#[test]
fn a_first_message_may_end_the_stream_too() {
    let stage = Stage::set("");
    for end in [END.to_owned(), format!("<presence/>{END}\n")] {
        let mut client = stage.daemon.client();
        client.send_text(&format!("{DRAFT_OPEN}{end}")).unwrap();
        expect_text(&mut client, END);
        expect_close(&mut client, 1000, "");
    }
    stage.daemon.stop();
}

#[test]
fn features_lose_starttls_and_compression() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    server.send(
        "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>\
         <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>\
         <compression xmlns='http://jabber.org/features/compress'/></stream:features>",
    );
    expect_text(
        &mut client,
        "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/></stream:features>",
    );
    stage.daemon.stop();
}

const FAILURE: &str =
    "<failure xmlns='http://jabber.org/protocol/compress'><setup-failed/></failure>";

#[test]
fn compression_that_is_asked_for_all_the_same_fails() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    let zlib = "<method>zlib</method>";
    for compress in [
        format!("<compress xmlns='http://jabber.org/protocol/compress'>{zlib}</compress>"),
        " \n<compress xmlns=\"http://jabber.org/protocol/compress\"/>".to_owned(),
        "<c:compress xmlns:c='http://jabber.org/protocol/compress'><c:method/></c:compress>"
            .to_owned(),
    ] {
        client.send_text(&compress).unwrap();
        expect_text(&mut client, FAILURE);
        // The rest of the message is relayed.
        client.send_text(&format!("{compress}<presence/>")).unwrap();
        expect_text(&mut client, FAILURE);
        server.expect("<presence/>");
    }
    for other in [
        "<compress xmlns='urn:x'/>",
        "<compress xmlns='urn:x'>",
        "</compress>",
        "<compressed xmlns='http://jabber.org/protocol/compress'/>",
    ] {
        client.send_text(other).unwrap();
        server.expect(other);
    }
    stage.daemon.stop();
}

#[test]
fn a_compress_cut_in_two_ends_the_stream() {
    let stage = Stage::set("");
    for part in [
        "<compress",
        "<compress xmlns='http://jabber.org/pro",
        "<compress xmlns='http://jabber.org/protocol/compress'><method>",
        "<c:compress/>",
    ] {
        let (mut client, mut server) = stage.draft();
        client.send_text(part).unwrap();
        let condition = match part {
            "<c:compress/>" => "not-well-formed",
            _ => "bad-format",
        };
        expect_error(&mut client, condition, part);
        expect_text(&mut client, END);
        expect_close(&mut client, 1000, "");
        server.expect_end();
    }
    stage.daemon.stop();
}

#[test]
fn the_end_tag_of_either_side_ends_both() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    server.send("<presence/></stream:stream>");
    expect_text(&mut client, "<presence/>");
    expect_text(&mut client, END);
    expect_close(&mut client, 1000, "");
    server.expect_end();

    let (mut client, mut server) = stage.draft();
    client.send_text("<presence type='unavailable'/>").unwrap();
    client.send_text(END).unwrap();
    expect_text(&mut client, END);
    expect_close(&mut client, 1000, "");
    server.expect("<presence type='unavailable'/>");
    // Only once, although both the client and the daemon send one.
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn an_opening_error_is_one_message() {
    let stage = Stage::set("");
    for (first, condition) in [
        (
            DRAFT_OPEN.replace("example.org", "other.example"),
            "host-unknown",
        ),
        (
            DRAFT_OPEN.replace("example.org", "127.0.0.1"),
            "improper-addressing",
        ),
        (
            DRAFT_OPEN.replace("to='example.org'", ""),
            "improper-addressing",
        ),
        (
            DRAFT_OPEN.replace("http://etherx.jabber.org/streams", "urn:wrong"),
            "invalid-namespace",
        ),
    ] {
        let mut client = stage.daemon.client();
        client.send_text(&first).unwrap();
        let message = client.read_text().unwrap();
        let header = "<stream:stream xmlns=\"jabber:client\" \
            xmlns:stream=\"http://etherx.jabber.org/streams\" from=\"\" id=\"";
        assert!(message.starts_with(header), "{first}: {message}");
        let error = format!("version=\"1.0\" xml:lang=\"en\">{}", error_start(condition));
        assert!(message.contains(&error), "{first}: {message}");
        assert!(
            message.ends_with("</stream:error></stream:stream>"),
            "{first}: {message}"
        );
        expect_close(&mut client, 1000, "");
    }
    assert!(stage.server.is_alone());
    stage.daemon.stop();
}

#[test]
fn a_success_restarts_the_stream() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    server.send(SUCCESS);
    expect_text(&mut client, SUCCESS);
    let second = DRAFT_OPEN.replace("to=", "from='a@example.org' to=");
    client
        .send_text(&format!("<?xml version='1.0'?>{second}"))
        .unwrap();
    server.expect(&format!("<?xml version='1.0'?>{second}"));
    let header = HEADER.replace("'s1'", "'s2'");
    server.send(&format!("{header}<stream:features/>"));
    expect_text(&mut client, &header);
    expect_text(&mut client, "<stream:features/>");
    stage.daemon.stop();
}

#[test]
fn a_restart_must_keep_the_domain() {
    let stage = Stage::set("  - other.example\n");
    let (mut client, mut server) = stage.draft();
    server.send(SUCCESS);
    expect_text(&mut client, SUCCESS);
    client
        .send_text(&DRAFT_OPEN.replace("example.org", "other.example"))
        .unwrap();
    expect_error(&mut client, "not-authorized", "another domain");
    expect_text(&mut client, END);
    expect_close(&mut client, 1000, "");
    server.expect_end();
    stage.daemon.stop();
}

/// Otherwise another domain could follow in the rest of a header.
#[test]
fn a_restart_is_one_message() {
    let stage = Stage::set("  - other.example\n");
    let (head, tail) = DRAFT_OPEN.split_at(DRAFT_OPEN.find("to=").unwrap());
    assert!(tail.ends_with('>'));
    for first in [
        head,
        "<presence/>",
        "<?xml version='1.0'?>",
        "</a><stream:stream>",
    ] {
        let (mut client, mut server) = stage.draft();
        server.send(SUCCESS);
        expect_text(&mut client, SUCCESS);
        client.send_text(first).unwrap();
        client.send_text(tail).unwrap();
        expect_error(&mut client, "not-authorized", first);
        expect_text(&mut client, END);
        expect_close(&mut client, 1000, "");
        server.expect_end();
    }
    // A client may end its stream then, and white space is ignored.
    let (mut client, mut server) = stage.draft();
    server.send(SUCCESS);
    expect_text(&mut client, SUCCESS);
    client.send_text(" ").unwrap();
    client.send_text(END).unwrap();
    expect_text(&mut client, END);
    expect_close(&mut client, 1000, "");
    server.expect_end();
    stage.daemon.stop();
}

#[test]
fn a_success_of_sasl2_restarts_nothing() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.draft();
    server.send(SUCCESS2);
    expect_text(&mut client, SUCCESS2);
    server.send("<stream:features/>");
    expect_text(&mut client, "<stream:features/>");
    client.send_text("<presence/>").unwrap();
    server.expect("<presence/>");
    stage.daemon.stop();
}

#[test]
fn the_servers_loss_is_reported_by_the_close_code_alone() {
    let stage = Stage::set("");
    let (mut client, server) = stage.draft();
    drop(server);
    expect_close(&mut client, 1001, "XMPP server closed");
    stage.daemon.stop();
}
