//! A daemon between a scripted client and a scripted server of `example.org`, and what
//! both send before the interesting part of a test.

use std::io::{Read, Write};
use std::thread;

use super::daemon::Daemon;
use super::ws_client::WsClient;
use super::xmpp_server::{Connection, Socket, XmppServer};
use jabsocket::expat::Parser;

/// The client's `<open/>`.
pub const OPEN: &str =
    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='example.org' version='1.0'/>";

/// What the server receives for [`OPEN`].
pub const OPEN_UP: &str = "<?xml version='1.0'?><stream:stream to=\"example.org\" version=\"1.0\" \
    xmlns=\"jabber:client\" xmlns:stream=\"http://etherx.jabber.org/streams\">";

/// The server's header.
pub const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='example.org' version='1.0' \
    xml:lang='en'>";

/// What the client receives for [`HEADER`].
pub const HEADER_DOWN: &str = "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" \
    from=\"example.org\" id=\"s1\" version=\"1.0\" xml:lang=\"en\" />";

/// The client's header in the draft.
pub const DRAFT_OPEN: &str = "<stream:stream to='example.org' xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// `<close/>` as jabsocket writes it: the bytes that clients compare.
pub const CLOSE: &str = "<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" />";

/// `<close/>` as a client writes it.
pub const CLIENT_CLOSE: &str = "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";

/// The end of a stream on TCP.
pub const END: &str = "</stream:stream>";

/// A stanza of the client.
pub const PRESENCE: &str = "<presence xmlns='jabber:client'/>";

/// SASL's success, and that of SASL2.
pub const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
pub const SUCCESS2: &str = "<success xmlns='urn:xmpp:sasl:2'><x/></success>";

/// A daemon and the server of its only domain.
pub struct Stage {
    pub server: XmppServer,
    pub daemon: Daemon,
}

impl Stage {
    /// Starts both; `config` is added to the daemon's configuration.
    pub fn set(config: &str) -> Stage {
        Stage::set_in(config, &[])
    }

    /// Starts both, with variables in the daemon's environment.
    pub fn set_in(config: &str, environment: &[(&str, &str)]) -> Stage {
        let server = XmppServer::start();
        let config = format!("{}{config}", domains(&server));
        let daemon = Daemon::start_in("127.0.0.1", &config, environment);
        Stage { server, daemon }
    }

    /// Reloads the daemon with another `config`.
    pub fn reload(&self, config: &str) {
        self.daemon
            .reload(&format!("{}{config}", domains(&self.server)));
    }

    /// A client that has sent `first`, and the connection to the server after its stream
    /// header.
    pub fn greeting(&self, first: &str, header_up: &str) -> (WsClient, Connection) {
        let mut client = self.daemon.client();
        client.send_text(first).expect("send");
        let mut server = self.server.accept();
        server.expect(header_up);
        (client, server)
    }

    /// A session of RFC 7395 with both headers exchanged.
    pub fn framed(&self) -> (WsClient, Connection) {
        let (mut client, mut server) = self.greeting(OPEN, OPEN_UP);
        server.send(HEADER);
        expect_text(&mut client, HEADER_DOWN);
        (client, server)
    }

    /// A session of the draft with both headers exchanged.
    pub fn draft(&self) -> (WsClient, Connection) {
        let header_up = format!("<?xml version='1.0'?>{DRAFT_OPEN}");
        let (mut client, mut server) = self.greeting(DRAFT_OPEN, &header_up);
        server.send(HEADER);
        expect_text(&mut client, HEADER);
        (client, server)
    }
}

/// The list of domains, with one entry.
fn domains(server: &XmppServer) -> String {
    format!(
        "domains:\n  - name: example.org\n    server: {}\n    tls: none\n",
        server.address
    )
}

/// Fails unless the next message is this.
pub fn expect_text<S: Read + Write>(client: &mut WsClient<S>, text: &str) {
    match client.read_text() {
        Ok(read) => assert_eq!(read, text, "what the client received"),
        Err(error) => panic!("{error} instead of {text:?}"),
    }
}

/// Fails unless the [`OPEN`] that `client` has sent reaches the server, and the server's header
/// the client. Returns the connection to the server.
pub fn both_headers<S: Read + Write>(client: &mut WsClient<S>, server: &XmppServer) -> Connection {
    let mut server = server.accept();
    server.expect(OPEN_UP);
    server.send(HEADER);
    expect_text(client, HEADER_DOWN);
    server
}

/// Fails unless a stanza with a body of so many bytes passes in both directions. It need not fit
/// into the buffers on the way.
pub fn large_both_ways<C: Read + Write + Send, S: Socket + Send>(
    client: &mut WsClient<C>,
    server: &mut Connection<S>,
    bytes: usize,
) {
    let stanza = format!("<a xmlns='urn:x'>{}</a>", "x".repeat(bytes));
    thread::scope(|scope| {
        scope.spawn(|| client.send_text(&stanza).expect("send"));
        server.expect(&stanza);
    });
    thread::scope(|scope| {
        scope.spawn(|| server.send(&stanza));
        expect_text(client, &stanza);
    });
}

/// Fails unless stanzas pass in both directions.
pub fn exchange<S: Socket>((client, server): &mut (WsClient, Connection<S>)) {
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send("<b xmlns='u'/>");
    expect_text(client, "<b xmlns='u'/>");
}

/// The start of a stream error from jabsocket, without its text.
pub fn error_start(condition: &str) -> String {
    format!(
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><{condition} \
         xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
    )
}

/// Fails unless the next message is this stream error; returns the message.
pub fn expect_error(client: &mut WsClient, condition: &str, case: &str) -> String {
    let text = client
        .read_text()
        .unwrap_or_else(|error| panic!("{case}: {error} instead of {condition}"));
    let good = text.starts_with(&error_start(condition)) && text.ends_with("</stream:error>");
    assert!(good, "{case}: {text} instead of {condition}");
    let parsed = Parser::new(0).finish(text.as_bytes());
    assert_eq!(parsed, Ok(()), "{case}: {text}");
    let said = text
        .split_once("xml:lang='en'>")
        .and_then(|(_, rest)| rest.split_once("</text>"));
    assert!(
        said.is_some_and(|(said, _)| !said.contains('<')),
        "{case}: {text}"
    );
    text
}

/// Fails unless a Close frame comes; answers it and waits for the end.
pub fn expect_close<S: Read + Write>(client: &mut WsClient<S>, code: u16, reason: &str) {
    let close = client.read_close().expect("a Close frame");
    assert_eq!(close, (Some(code), reason.to_owned()), "the Close frame");
    // A daemon that failed the connection may have closed it.
    let _ = client.send_close(code, reason);
    client.read_eof().expect("the end of the connection");
}

/// Fails unless the stream is closed as in RFC 7395.
pub fn expect_stream_close<S: Read + Write>(client: &mut WsClient<S>, code: u16) {
    expect_text(client, CLOSE);
    expect_close(client, code, "");
}
