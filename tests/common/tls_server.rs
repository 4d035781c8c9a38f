//! A scripted XMPP server with TLS, by STARTTLS or from the first byte, and a daemon that
//! trusts the server's authority. The server records the daemon's handshake.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use openssl::ssl::{
    AlpnError, ErrorCode, NameType, Ssl, SslContext, SslContextBuilder, SslMethod, SslStream,
    SslVersion, select_next_proto,
};

use super::certificates::{Authority, Identity};
use super::daemon::{Daemon, TempFile};
use super::is_reset;
use super::stage::{HEADER, HEADER_DOWN, OPEN, OPEN_UP, expect_text};
use super::ws_client::WsClient;
use super::xmpp_server::{Connection, End, Socket, XmppServer};

/// The server's header before TLS; after TLS it sends [`HEADER`].
pub const CLEAR_HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' id='clear' from='example.org' version='1.0'>";

/// Features with STARTTLS, and the features after TLS.
pub const OFFER: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>\
    <required/></starttls></stream:features>";
pub const FEATURES: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";

/// What the client receives for [`FEATURES`].
pub const FEATURES_DOWN: &str = "<stream:features xmlns=\"jabber:client\" \
    xmlns:stream=\"http://etherx.jabber.org/streams\">\
    <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>PLAIN</mechanism></mechanisms></stream:features>";

pub const STARTTLS: &str = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
pub const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";

/// A listening server with a certificate.
pub struct TlsServer {
    pub tcp: XmppServer,
    context: SslContext,
    hello: Arc<Mutex<Hello>>,
}

/// What a ClientHello contained, also in a resumed session.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The name of the server.
    pub sni: Option<String>,
    /// The protocols offered by ALPN, in wire form.
    pub alpn: Option<Vec<u8>>,
}

impl TlsServer {
    pub fn start(identity: &Identity) -> TlsServer {
        TlsServer::start_with(identity, |_| ())
    }

    /// Starts a server whose context `change` has changed.
    pub fn start_with(identity: &Identity, change: impl FnOnce(&mut SslContextBuilder)) -> Self {
        let mut builder = SslContext::builder(SslMethod::tls_server()).expect("a context");
        builder.set_certificate(&identity.certificate).expect("it");
        builder.set_private_key(&identity.key).expect("its key");
        let hello = Arc::new(Mutex::new(Hello::default()));
        let noted = Arc::clone(&hello);
        builder.set_servername_callback(move |ssl, _| {
            let name = ssl.servername(NameType::HOST_NAME);
            noted.lock().unwrap().sni = name.map(str::to_owned);
            Ok(())
        });
        let noted = Arc::clone(&hello);
        builder.set_alpn_select_callback(move |_, client| {
            noted.lock().unwrap().alpn = Some(client.to_vec());
            select_next_proto(b"\x0bxmpp-client", client).ok_or(AlpnError::NOACK)
        });
        change(&mut builder);
        TlsServer {
            tcp: XmppServer::start(),
            context: builder.build(),
            hello,
        }
    }

    /// Starts a server for this version of TLS only.
    pub fn start_version(identity: &Identity, version: SslVersion) -> TlsServer {
        TlsServer::start_with(identity, |builder| {
            // Independent of the machine's policy.
            builder
                .set_cipher_list("DEFAULT:@SECLEVEL=0")
                .expect("ciphers");
            let version = Some(version);
            builder.set_min_proto_version(version).expect("version");
            builder.set_max_proto_version(version).expect("version");
        })
    }

    /// Accepts the next connection, offers STARTTLS and waits until the daemon asks for
    /// it.
    pub fn asked(&self) -> Connection {
        let mut connection = self.tcp.accept();
        connection.expect(OPEN_UP);
        // In one segment: if plain text is allowed, the daemon waits only briefly for the
        // features.
        connection.send(&format!("{CLEAR_HEADER}{OFFER}"));
        connection.expect(STARTTLS);
        connection
    }

    /// Does the server's part of the handshake.
    pub fn try_handshake(&self, stream: TcpStream) -> Result<TlsConnection, String> {
        *self.hello.lock().unwrap() = Hello::default();
        let ssl = Ssl::new(&self.context).expect("a connection");
        let stream = ssl.accept(stream).map_err(|error| error.to_string())?;
        Ok(Connection::new(stream))
    }

    /// What the last ClientHello contained.
    pub fn hello(&self) -> Hello {
        self.hello.lock().unwrap().clone()
    }

    pub fn handshake(&self, stream: TcpStream) -> TlsConnection {
        self.try_handshake(stream).expect("the TLS handshake")
    }

    /// Sends `<proceed/>` and does the server's part of the handshake.
    pub fn try_proceed(&self, mut connection: Connection) -> Result<TlsConnection, String> {
        connection.send(PROCEED);
        self.try_handshake(connection.stream)
    }

    /// Accepts the next connection and starts TLS by STARTTLS.
    pub fn starttls(&self) -> TlsConnection {
        self.try_proceed(self.asked()).expect("the TLS handshake")
    }

    /// Accepts the next connection with TLS from the first byte.
    pub fn direct(&self) -> TlsConnection {
        self.handshake(self.tcp.accept().stream)
    }
}

/// A TLS connection from the daemon.
pub type TlsConnection = Connection<SslStream<TcpStream>>;

impl Socket for SslStream<TcpStream> {
    fn read_some(&mut self, piece: &mut [u8]) -> io::Result<Result<usize, End>> {
        let error = match self.ssl_read(piece) {
            Ok(n) => return Ok(Ok(n)),
            Err(error) => error,
        };
        match (error.code(), error.into_io_error()) {
            (ErrorCode::ZERO_RETURN, _) => Ok(Err(End::CloseNotify)),
            (_, Ok(why)) if is_reset(&why) => Ok(Err(End::Reset)),
            (_, Ok(why)) if why.kind() == ErrorKind::Interrupted => Ok(Ok(0)),
            (_, Ok(why)) => Err(why),
            // The library's "unexpected eof".
            (ErrorCode::SSL | ErrorCode::SYSCALL, Err(_)) => Ok(Err(End::Fin)),
            // A record without data, for example a ticket.
            (_, Err(_)) => Ok(Ok(0)),
        }
    }

    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

impl TlsConnection {
    /// The protocol agreed upon by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.ssl().selected_alpn_protocol()
    }

    pub fn version(&self) -> &'static str {
        self.stream.ssl().version_str()
    }

    /// Whether an earlier TLS session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.stream.ssl().session_reused()
    }

    /// Expects this header and answers it with header and features.
    pub fn greet(&mut self, header_up: &str) {
        self.expect(header_up);
        self.send(HEADER);
        self.send(FEATURES);
    }

    /// Sends close_notify and closes the direction from the server.
    pub fn close_notify(&mut self) {
        self.stream.shutdown().expect("close_notify");
        self.half_close();
    }

    /// Fails unless `text` comes next, followed by close_notify.
    pub fn expect_end(&mut self, text: &str) {
        let ended = (End::CloseNotify, text.to_owned());
        assert_eq!(self.read_end(), ended, "the end of the connection");
    }
}

/// An entry of the `domains` list. `more` has further lines, `key: value`.
pub fn entry(name: &str, server: &str, ca_file: Option<&TempFile>, more: &[&str]) -> String {
    let mut text = format!("  - name: '{name}'\n    server: '{server}'\n");
    if let Some(file) = ca_file {
        text.push_str(&format!("    ca_file: {}\n", file.0.display()));
    }
    for line in more {
        text.push_str(&format!("    {line}\n"));
    }
    text
}

/// A daemon and the server of its only domain, `example.org`. The daemon trusts the
/// server's authority.
pub struct TlsStage {
    pub server: TlsServer,
    pub daemon: Daemon,
    _ca_file: TempFile,
}

impl TlsStage {
    /// Starts both. `more` is added to the domain's entry, `config` to the daemon's
    /// configuration.
    pub fn set(more: &[&str], config: &str) -> TlsStage {
        let authority = Authority::new();
        let server = TlsServer::start(&authority.identity(&["example.org"]));
        TlsStage::set_with(server, &authority, more, config)
    }

    /// Starts a daemon for an existing server.
    pub fn set_with(
        server: TlsServer,
        authority: &Authority,
        more: &[&str],
        config: &str,
    ) -> TlsStage {
        let ca_file = authority.ca_file();
        let address = server.tcp.address.to_string();
        let domain = entry("example.org", &address, Some(&ca_file), more);
        let daemon = Daemon::start(&format!("domains:\n{domain}{config}"));
        TlsStage {
            server,
            daemon,
            _ca_file: ca_file,
        }
    }

    /// A client that has sent `first`.
    pub fn client(&self, first: &str) -> WsClient {
        let mut client = self.daemon.client();
        client.send_text(first).expect("send");
        client
    }

    /// A session over STARTTLS with headers and features exchanged.
    pub fn session(&self) -> (WsClient, TlsConnection) {
        let mut client = self.client(OPEN);
        let mut server = self.server.starttls();
        server.greet(OPEN_UP);
        expect_greeted(&mut client);
        (client, server)
    }
}

/// Fails unless the client receives the header and features of `greet`.
pub fn expect_greeted(client: &mut WsClient) {
    expect_text(client, HEADER_DOWN);
    expect_text(client, FEATURES_DOWN);
}

/// Fails unless the client receives the daemon's own `<open/>`, the error
/// remote-connection-failed and the end of the stream.
pub fn expect_no_way(client: &mut WsClient, case: &str) {
    let open = client
        .read_text()
        .unwrap_or_else(|error| panic!("{case}: {error} instead of <open/>"));
    let own = open.starts_with("<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"");
    let foreign = ["id=\"s1\"", "id=\"clear\""]
        .iter()
        .any(|id| open.contains(id));
    assert!(own && !foreign, "{case}: {open}");
    super::stage::expect_error(client, "remote-connection-failed", case);
    super::stage::expect_stream_close(client, 1000);
}
