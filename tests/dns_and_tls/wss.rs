//! wss without a proxy: TLS to the browser in both versions, the choice of a certificate,
//! data that is not TLS, and listeners with their own rules.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::common::certificates::{Authority, Content, Identity};
use crate::common::daemon::{Daemon, PROGRAM, TempFile, by_openssl};
use crate::common::stage::*;
use crate::common::ws_client::{FIN, TEXT, WsClient, frame, request};
use crate::common::wss_stage::{VERSIONS, WssStage, connected, first_name};
use openssl::ssl::{
    ErrorCode, SslConnector, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVersion,
};

fn read_to_end(mut stream: impl Read) -> String {
    let mut bytes = Vec::new();
    // A reset after the response does not matter.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_session_from_begin_to_end_in_both_versions() {
    let stage = WssStage::set(&[&["example.com"]], "");
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let mut client = stage.client(version);
        let ssl = client.stream.ssl();
        assert_eq!(ssl.version_str(), name);
        assert_eq!(ssl.selected_alpn_protocol(), Some(&b"http/1.1"[..]));
        // The chain has the certificate and its issuer.
        assert_eq!(ssl.peer_cert_chain().map(|chain| chain.len()), Some(2));
        client.send_text(OPEN).unwrap();
        let mut server = both_headers(&mut client, &stage.server);
        for size in [10, 16_384, 65_536, 300_000] {
            large_both_ways(&mut client, &mut server, size);
        }
        // Each byte in its own record.
        let dribbled = frame(FIN | TEXT, PRESENCE.as_bytes());
        client.send_chopped(&dribbled, 1).unwrap();
        server.expect(PRESENCE);
        client.send_text(CLIENT_CLOSE).unwrap();
        expect_text(&mut client, CLOSE);
        assert_eq!(client.read_close().unwrap(), (Some(1000), String::new()));
        client.send_close(1000, "").unwrap();
        let end = client
            .stream
            .ssl_read(&mut [0; 16])
            .map_err(|error| error.code());
        assert_eq!(end, Err(ErrorCode::ZERO_RETURN), "close_notify");
        stage
            .daemon
            .wait_for_line(&format!("{name} with the client, for example.com"));
    }
    stage.daemon.stop();
}

/// Sends each byte in its own segment.
#[derive(Debug)]
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Dribble {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_handshake_may_come_byte_by_byte() {
    let stage = WssStage::set(&[&["example.com"]], "");
    let connector = stage.connector().build();
    let stream = connector.connect("example.com", Dribble(stage.tcp()));
    let mut client = WsClient::new(stream.expect("the TLS handshake"));
    let response = client.handshake("/", &[], Some("xmpp")).unwrap();
    assert_eq!(response.status, 101);
    stage.daemon.stop();
}

#[test]
fn the_certificate_depends_on_the_requested_name() {
    let names: [&[&str]; 3] = [
        &["example.com", "www.example.com"],
        &["*.example.org"],
        &["chat.example.org", "example.net"],
    ];
    let stage = WssStage::set(&names, "");
    for version in VERSIONS {
        for (name, first) in [
            ("example.com", "example.com"),
            ("www.example.com", "example.com"),
            ("a.example.org", "*.example.org"),
            ("chat.example.org", "chat.example.org"),
            ("EXAMPLE.net", "chat.example.org"),
        ] {
            let stream = stage.tls(name, version);
            assert_eq!(first_name(&stream), first, "{name}");
            let alpn = stream.ssl().selected_alpn_protocol();
            assert_eq!(alpn, Some(&b"http/1.1"[..]), "{name}");
        }
    }
    // For an unknown name, and without a name: the first certificate.
    for (name, sni) in [("a.b.example.org", true), ("example.com", false)] {
        let mut settings = stage.connector().build().configure().unwrap();
        settings.set_verify_hostname(false);
        settings.set_use_server_name_indication(sni);
        let stream = settings.connect(name, stage.tcp()).unwrap();
        assert_eq!(first_name(&stream), "example.com", "{name}");
    }
    stage.daemon.stop();
}

/// A client that keeps its tickets.
struct Returning {
    connector: SslConnector,
    tickets: Receiver<SslSession>,
}

impl Returning {
    fn new(stage: &WssStage, version: SslVersion) -> Returning {
        let mut builder = stage.connector();
        builder.set_max_proto_version(Some(version)).unwrap();
        builder.set_session_cache_mode(SslSessionCacheMode::CLIENT);
        let (sender, tickets) = channel();
        builder.set_new_session_callback(move |_, session| {
            let _ = sender.send(session);
        });
        let connector = builder.build();
        Returning { connector, tickets }
    }

    fn connect(
        &self,
        address: SocketAddr,
        ticket: Option<&SslSession>,
    ) -> Result<SslStream<TcpStream>, openssl::ssl::Error> {
        let settings = self.connector.configure()?;
        let mut ssl = settings.into_ssl("example.com")?;
        if let Some(ticket) = ticket {
            // SAFETY: the ticket is from the same context.
            unsafe { ssl.set_session(ticket) }?;
        }
        let mut stream = SslStream::new(ssl, connected(address))?;
        stream.connect()?;
        Ok(stream)
    }

    /// Opens a WebSocket, and tells whether TLS was resumed.
    fn visit(&self, address: SocketAddr, ticket: Option<&SslSession>) -> bool {
        let stream = self.connect(address, ticket).expect("TLS");
        let resumed = stream.ssl().session_reused();
        let mut client = WsClient::new(stream);
        client.handshake("/", &[], Some("xmpp")).unwrap();
        // OpenSSL drops the tickets of connections that are reset.
        client.stream.shutdown().unwrap();
        resumed
    }
}

#[test]
fn a_client_comes_back_with_a_ticket() {
    let stage = WssStage::set(&[&["example.com"]], "");
    let address = stage.daemon.address;
    for version in VERSIONS {
        let client = Returning::new(&stage, version);
        assert!(!client.visit(address, None), "{version:?}");
        let ticket = client.tickets.try_recv().expect("a ticket");
        assert!(client.visit(address, Some(&ticket)), "{version:?}");
    }
    stage.daemon.stop();
}

/// Otherwise an attacker in the network could lead a browser to another listener.
#[test]
fn a_ticket_is_good_only_where_the_certificate_is_the_same() {
    let unknown = Authority::new();
    let (certificate, key) = unknown.identity(&["example.com"]).files(&[]);
    let stage = WssStage::set(
        &[&["example.com"]],
        &format!(
            "listeners:\n  - port: 0\n  - port: 0\n    tls_certificate: {}\n    tls_key: {}\n",
            certificate.0.display(),
            key.0.display()
        ),
    );
    let (first, second) = (stage.daemon.address, second_listener(&stage));
    for version in VERSIONS {
        let client = Returning::new(&stage, version);
        assert!(!client.visit(first, None), "{version:?}");
        let ticket = client.tickets.try_recv().expect("a ticket");
        // There the client must see the certificate, which it does not trust.
        assert!(
            client.connect(second, Some(&ticket)).is_err(),
            "{version:?}"
        );
    }
    stage.daemon.stop();
}

#[test]
fn tls_1_3_can_be_required() {
    let stage = WssStage::set(
        &[&["example.com"], &["other.example"]],
        "tls_min_version: 1.3\n",
    );
    for name in ["example.com", "other.example"] {
        let stream = stage.tls(name, SslVersion::TLS1_3);
        assert_eq!(first_name(&stream), name);
        let mut builder = stage.connector();
        let version = Some(SslVersion::TLS1_2);
        builder.set_max_proto_version(version).unwrap();
        assert!(builder.build().connect(name, stage.tcp()).is_err());
        stage
            .daemon
            .wait_for_line("TLS handshake failed: unsupported protocol");
    }
    stage.daemon.stop();
}

/// They take up to 150 ms.
#[test]
fn key_exchanges_in_finite_fields_are_refused() {
    let stage = WssStage::set(&[&["example.com"]], "");
    for (groups, is_good) in [("X25519", true), ("ffdhe2048", false), ("ffdhe8192", false)] {
        let mut builder = stage.connector();
        builder.set_groups_list(groups).unwrap();
        let version = Some(SslVersion::TLS1_3);
        builder.set_min_proto_version(version).unwrap();
        let stream = builder.build().connect("example.com", stage.tcp());
        assert_eq!(stream.is_ok(), is_good, "{groups}");
    }
    stage.daemon.stop();
}

#[test]
fn handshakes_that_fail_are_in_the_log_and_cost_nothing_else() {
    let stage = WssStage::set(&[&["example.com"]], "");
    let descriptors = stage.daemon.descriptors();
    // Only an older version.
    let mut builder = stage.connector();
    builder.set_cipher_list("DEFAULT:@SECLEVEL=0").unwrap();
    builder
        .set_min_proto_version(Some(SslVersion::TLS1))
        .unwrap();
    builder
        .set_max_proto_version(Some(SslVersion::TLS1_1))
        .unwrap();
    assert!(builder.build().connect("example.com", stage.tcp()).is_err());
    stage
        .daemon
        .wait_for_line("TLS handshake failed: unsupported protocol");
    // Only unsupported protocols.
    let mut builder = stage.connector();
    builder.set_alpn_protos(b"\x02h2").unwrap();
    let error = builder.build().connect("example.com", stage.tcp());
    let error = error.expect_err("an alert").to_string();
    assert!(error.contains("no application protocol"), "{error}");
    stage
        .daemon
        .wait_for_line("TLS handshake failed: no application protocol");
    // Random bytes, and a client that leaves during the handshake.
    let mut tcp = stage.tcp();
    tcp.write_all(&[0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
        .unwrap();
    read_to_end(tcp);
    let mut tcp = stage.tcp();
    tcp.write_all(&[0x16, 3, 1]).unwrap();
    tcp.shutdown(Shutdown::Write).unwrap();
    read_to_end(tcp);
    stage
        .daemon
        .wait_for_line("TLS handshake failed: the client left");
    drop(stage.client(SslVersion::TLS1_3));
    stage.daemon.wait_for_descriptors(descriptors);
    stage.daemon.stop();
}

#[test]
fn a_handshake_has_its_time() {
    let stage = WssStage::set(&[&["example.com"]], "handshake_timeout: 2\n");
    let silent = stage.tcp();
    let mut slow = stage.tcp();
    slow.write_all(&[0x16, 3, 1]).unwrap();
    assert_eq!((read_to_end(silent), read_to_end(slow)), Default::default());
    stage.daemon.wait_for_line("no TLS handshake in time");
    // The same timeout applies to the request.
    let tls = stage.tls("example.com", SslVersion::TLS1_3);
    assert!(read_to_end(tls).starts_with("HTTP/1.1 408 "));
    stage.daemon.stop();
}

#[test]
fn plain_http_on_a_tls_port_is_logged() {
    let stage = WssStage::set(&[&["example.com"]], "");
    let mut tcp = stage.tcp();
    tcp.write_all(&request("/", &[], Some("xmpp"))).unwrap();
    let answer = read_to_end(tcp);
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("plain HTTP on a TLS port"), "{answer}");
    stage
        .daemon
        .wait_for_line("refused: 400 plain HTTP on a TLS port");
    stage.daemon.stop();
}

#[test]
fn tls_on_a_plain_port_is_logged() {
    let daemon = Daemon::start("");
    let connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    let refused = connector
        .build()
        .connect("localhost", connected(daemon.address));
    assert!(refused.is_err());
    daemon.wait_for_line("refused: 400 TLS on a plain port");
    daemon.stop();
}

#[test]
fn a_trusted_proxy_may_report_the_address_before_tls() {
    let stage = WssStage::set(&[&["example.com"]], "trusted_proxies: 127.0.0.1\n");
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    // In one segment with the ClientHello, or dribbled, or not at all.
    let mut whole = stage.tcp();
    whole.write_all(header.as_bytes()).unwrap();
    let mut dribbled = stage.tcp();
    for byte in header.as_bytes() {
        dribbled.write_all(&[*byte]).unwrap();
    }
    for (tcp, told) in [(whole, true), (dribbled, true), (stage.tcp(), false)] {
        let seen = stage.daemon.lines().len();
        let connector = stage.connector().build();
        let stream = connector
            .connect("example.com", tcp)
            .expect("the handshake");
        let peer = match told {
            true => "192.0.2.7:4711".to_owned(),
            false => stream.get_ref().local_addr().unwrap().to_string(),
        };
        let mut client = WsClient::new(stream);
        client.handshake("/", &[], Some("xmpp")).unwrap();
        let line = format!(" {peer}: TLSv1.3 with the client");
        stage.daemon.wait_for_line_after(seen, &line);
    }
    stage.daemon.stop();
}

/// Returns the address of the second listener.
fn second_listener(stage: &WssStage) -> SocketAddr {
    stage.daemon.wait_for_lines("listening on ", 2);
    let lines = stage.daemon.all_lines();
    let mut lines = lines.iter().filter(|line| line.contains("listening on "));
    let line = lines.nth(1).expect("two listeners");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn listeners_have_rules_of_their_own() {
    let stage = WssStage::set(
        &[&["example.com"]],
        "resource: /top\nlisteners:\n  - port: 0\n  - port: 0\n    tls: false\n    \
         resource: /own\n    origin: https://a.example\n",
    );
    let plain = second_listener(&stage);
    let status = |path: &str, origin: &str| {
        let (_, response) =
            WsClient::open(plain, path, &[("Origin", origin)], Some("xmpp")).unwrap();
        response.status
    };
    assert_eq!(status("/own", "https://a.example"), 101);
    assert_eq!(status("/own", "https://b.example"), 403);
    assert_eq!(status("/top", "https://a.example"), 404);
    for (path, status) in [("/top", 101), ("/own", 404)] {
        let mut client = WsClient::new(stage.tls("example.com", SslVersion::TLS1_3));
        let response = client.handshake(path, &[("Origin", "https://b.example")], Some("xmpp"));
        assert_eq!(response.unwrap().status, status, "{path}");
    }
    stage.daemon.stop();
}

const IDLE_SESSIONS: usize = 200;

#[test]
fn an_idle_session_costs_little() {
    let stage = WssStage::set(
        &[&["example.com"]],
        "ping_interval: 0\nlog_level: LOG_NOTICE\n",
    );
    let session = |n: usize| {
        let mut client = stage.client(VERSIONS[n % 2]);
        client.send_text(OPEN).unwrap();
        let mut server = both_headers(&mut client, &stage.server);
        let size = if n.is_multiple_of(20) { 60_000 } else { 100 };
        let stanza = format!("<a xmlns='urn:x'>{}</a>", "x".repeat(size));
        client.send_text(&stanza).unwrap();
        server.expect(&stanza);
        server.send(&stanza);
        expect_text(&mut client, &stanza);
        (client, server)
    };
    // The first sessions cause the allocations that all share.
    let mut sessions: Vec<_> = (0..40).map(session).collect();
    let before = stage.daemon.resident();
    sessions.extend((0..IDLE_SESSIONS).map(session));
    let each = stage.daemon.resident().saturating_sub(before) / IDLE_SESSIONS;
    println!("idle wss session: {each} bytes");
    assert!(each < by_openssl(15 << 10, 24 << 10), "{each} bytes");
    stage.daemon.stop();
}

/// What a daemon with these keys says when it fails to start.
fn refusal(config: &str) -> String {
    let config = TempFile::new(&format!("port: 0\nlisten: 127.0.0.1\n{config}"));
    let mut child = Command::new(PROGRAM)
        .arg("-n")
        .arg("-c")
        .arg(&config.0)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the daemon");
    let said = read_to_end(child.stderr.take().expect("a pipe"));
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_bad_certificate_keeps_the_daemon_from_starting() {
    let authority = Authority::new();
    let one: Identity = authority.identity(&["example.com"]);
    let other = authority.sign(&Content::default());
    let (certificate, key) = one.files(&[]);
    let (_, foreign) = other.files(&[]);
    let cipher = openssl::symm::Cipher::aes_128_cbc();
    let locked = one
        .key
        .private_key_to_pem_pkcs8_passphrase(cipher, b"secret");
    let locked = TempFile::new(&String::from_utf8(locked.unwrap()).unwrap());
    let empty = TempFile::new("nothing\n");
    let path = |file: &TempFile| file.0.display().to_string();
    for (certificate, key, named, why) in [
        (
            &certificate,
            &foreign,
            &foreign,
            "not the key of the certificate in",
        ),
        (
            &certificate,
            &locked,
            &locked,
            "the key is protected by a passphrase",
        ),
        (&certificate, &empty, &empty, "not a PEM key"),
        (&empty, &key, &empty, "contains no PEM certificate"),
        (&key, &key, &key, "contains no PEM certificate"),
    ] {
        let (certificate, key) = (path(certificate), path(key));
        let said = refusal(&format!("tls_certificate: {certificate}\ntls_key: {key}\n"));
        let told = said.contains(&format!("{}: {why}", path(named)));
        assert!(told, "{said} instead of {why}");
    }
    let said = refusal("tls_certificate: /nowhere\ntls_key: /nowhere\n");
    assert!(said.contains("/nowhere: No such file"), "{said}");
}
