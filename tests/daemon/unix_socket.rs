//! Listening on Unix sockets for a proxy on the same host: whole sessions with and
//! without TLS, which peers may report the browser's address, and several workers on one
//! socket.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use openssl::ssl::{SslConnector, SslMethod};
use openssl::x509::store::X509StoreBuilder;

use crate::common::background::{TempDir, children, signal_to, state};
use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::{Response, WsClient, request};
use crate::common::xmpp_server::XmppServer;
use crate::common::{PATIENCE, patiently};

type UnixClient = WsClient<UnixStream>;

/// A daemon that listens on a Unix socket in its own directory.
struct Scene {
    daemon: Daemon,
    path: PathBuf,
    _dir: TempDir,
}

impl Scene {
    fn set(config: &str) -> Scene {
        let dir = TempDir::new();
        let path = dir.path("ws.sock");
        let daemon = Daemon::start_on(&format!("unix:{}", path.display()), config);
        Scene {
            daemon,
            path,
            _dir: dir,
        }
    }

    /// A daemon for `example.org`, and its server.
    fn with_server(config: &str) -> (Scene, XmppServer) {
        let server = XmppServer::start();
        let domains = format!(
            "domains:\n  - name: example.org\n    server: {}\n    tls: none\n",
            server.address
        );
        (Scene::set(&format!("{domains}{config}")), server)
    }

    /// Sends `before` and then a request with `fields`.
    fn open(&self, before: &[u8], fields: &[(&str, &str)]) -> (UnixClient, Response) {
        let mut client = dialled(&self.path);
        client.send_raw(before).unwrap();
        let response = client.handshake("/", fields, Some("xmpp")).unwrap();
        (client, response)
    }

    fn client(&self, fields: &[(&str, &str)]) -> UnixClient {
        let (client, response) = self.open(b"", fields);
        assert_eq!(response.status, 101, "{fields:?}");
        client
    }

    /// The client's address in the log for `before` and `fields`.
    fn logged(&self, before: &[u8], fields: &[(&str, &str)]) -> String {
        let seen = self.daemon.lines().len();
        let (client, response) = self.open(before, fields);
        assert_eq!(response.status, 101, "{fields:?}");
        drop(client);
        let line = self.daemon.wait_for_line_after(seen, " ended by client");
        let rest = line.split("session ").nth(1).expect("a session's line");
        rest.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}

fn client_of(stream: UnixStream) -> UnixClient {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    WsClient::new(stream)
}

fn dialled(path: &Path) -> UnixClient {
    client_of(UnixStream::connect(path).expect("connect"))
}

const FORWARDED: (&str, &str) = ("X-Forwarded-For", "203.0.113.9");
const PROXY_V1: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 5000\r\n";
const TRUSTED: &str = "trusted_proxies: 'unix:'\n";

#[test]
fn a_session_from_begin_to_end() {
    let (scene, server) = Scene::with_server("");
    let place = format!("listening on unix:{}", scene.path.display());
    scene.daemon.wait_for_line(&place);
    let mut client = scene.client(&[]);
    client.send_text(OPEN).unwrap();
    let mut server = both_headers(&mut client, &server);
    for size in [10, 65_536, 300_000, 1_000_000] {
        large_both_ways(&mut client, &mut server, size);
    }
    client.send_text(CLIENT_CLOSE).unwrap();
    server.expect(END);
    server.send(END);
    expect_stream_close(&mut client, 1000);
    drop(client);
    let line = scene.daemon.wait_for_line("ended by client: stream closed");
    assert!(
        line.contains(" unix: origin=- domain=example.org"),
        "{line}"
    );
    scene.daemon.stop();
}

#[test]
fn a_proxy_is_believed_where_the_file_says_so() {
    let scene = Scene::set(TRUSTED);
    let told = |field| scene.logged(b"", &[field]);
    assert_eq!(told(FORWARDED), "203.0.113.9:0");
    let list = ("X-Forwarded-For", "192.0.2.66, 203.0.113.9");
    assert_eq!(told(list), "203.0.113.9:0");
    let forwarded = ("Forwarded", "for=\"[2001:db8::9]:4711\"");
    assert_eq!(told(forwarded), "[2001:db8::9]:4711");
    assert_eq!(scene.logged(PROXY_V1, &[]), "203.0.113.9:4711");
    assert_eq!(scene.logged(b"PROXY UNKNOWN\r\n", &[]), "unix:");
    assert_eq!(scene.logged(b"", &[]), "unix:");
    scene.daemon.stop();
}

#[test]
fn reports_of_untrusted_peers_are_ignored() {
    let scene = Scene::set("trusted_proxies: [127.0.0.1, '::/0', 0.0.0.0/0]\n");
    let fields = [FORWARDED, ("Forwarded", "for=203.0.113.9")];
    assert_eq!(scene.logged(b"", &fields), "unix:");
    assert_eq!(scene.open(PROXY_V1, &[]).1.status, 400);
    scene.daemon.stop();
}

#[test]
fn limits_by_address_use_the_reported_address() {
    let scene = Scene::set(&format!("{TRUSTED}max_connections_per_address: 2\n"));
    let _kept = [scene.client(&[FORWARDED]), scene.client(&[FORWARDED])];
    assert_eq!(scene.open(b"", &[FORWARDED]).1.status, 503);
    let line = "limit: 203.0.113.9 exceeded max_connections_per_address";
    scene.daemon.wait_for_line(line);
    assert_eq!(scene.open(PROXY_V1, &[]).1.status, 503);
    let other = ("X-Forwarded-For", "203.0.113.10");
    assert_eq!(scene.open(b"", &[other]).1.status, 101);
    scene.daemon.stop();
}

#[test]
fn clients_without_an_address_are_not_counted_by_address() {
    let scene = Scene::set("max_connections_per_address: 1\nmax_handshakes_per_address: 1\n");
    let _clients: Vec<_> = (0..5).map(|_| scene.client(&[])).collect();
    scene.daemon.stop();
}

#[test]
fn limits_for_all_clients_apply_there_too() {
    let scene = Scene::set("max_connections: 1\nmax_message_size: 100\n");
    let mut client = scene.client(&[]);
    assert_eq!(scene.open(b"", &[]).1.status, 503);
    let line = "limit: max_connections reached, unix: turned away";
    scene.daemon.wait_for_line(line);
    client.send_text(&"x".repeat(200)).unwrap();
    let line = "limit: unix: exceeded max_message_size";
    scene.daemon.wait_for_line(line);
    scene.daemon.stop();
}

#[test]
fn the_server_learns_that_the_address_is_unknown() {
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (version, header) in [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", local)] {
        let server = XmppServer::start();
        let scene = Scene::set(&format!(
            "{TRUSTED}domains:\n  - name: example.org\n    server: {}\n    tls: none\n    \
             proxy_protocol: {version}\n",
            server.address
        ));
        let mut client = scene.client(&[]);
        client.send_text(OPEN).unwrap();
        let mut connection = server.accept();
        let mut read = vec![0; header.len()];
        std::io::Read::read_exact(&mut connection.stream, &mut read).unwrap();
        assert_eq!(read, header, "{version}");
        connection.expect(OPEN_UP);
        scene.daemon.stop();
    }
}

#[test]
fn an_abstract_name_needs_no_file() {
    let name = format!("jabsocket-test-{}", std::process::id());
    let place = format!("unix:@{name}");
    let daemon = Daemon::start_on(&place, "");
    daemon.wait_for_line(&format!("listening on {place}"));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let mut client = client_of(UnixStream::connect_addr(&address).unwrap());
    let response = client.handshake("/", &[], Some("xmpp")).unwrap();
    assert_eq!(response.status, 101);
    daemon.stop();
}

#[test]
fn a_unix_socket_can_be_listed_with_addresses_and_have_rules_of_its_own() {
    let dir = TempDir::new();
    let (one, two) = (dir.path("one"), dir.path("two"));
    let daemon = Daemon::start(&format!(
        "listeners:\n- listen: [unix:{}, 127.0.0.1]\n  resource: /one\n- listen: unix:{}\n  \
         resource: /two\n",
        one.display(),
        two.display(),
    ));
    let line = daemon.wait_for_line("listening on 127.0.0.1:");
    let address = line.rsplit(' ').next().unwrap();
    let mut tcp = WsClient::dial(address).unwrap();
    assert_eq!(
        tcp.handshake("/one", &[], Some("xmpp")).unwrap().status,
        101
    );
    for (path, resource, status) in [
        (&one, "/one", 101),
        (&one, "/two", 404),
        (&two, "/two", 101),
        (&two, "/one", 404),
    ] {
        let response = dialled(path).handshake(resource, &[], Some("xmpp"));
        assert_eq!(response.unwrap().status, status, "{resource}");
    }
    daemon.stop();
}

#[test]
fn tls_is_spoken_behind_a_proxy_header_too() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity(&["example.com"]).files(&[&authority.0]);
    let (scene, server) = Scene::with_server(&format!(
        "{TRUSTED}tls_certificate: {}\ntls_key: {}\n",
        certificate.0.display(),
        key.0.display()
    ));
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(authority.0.certificate.clone()).unwrap();
    builder.set_cert_store(store.build());
    let mut raw = dialled(&scene.path);
    raw.send_raw(PROXY_V1).unwrap();
    let stream = builder.build().connect("example.com", raw.stream);
    let mut client = WsClient::new(stream.expect("the TLS handshake"));
    let response = client.handshake("/", &[], Some("xmpp")).unwrap();
    assert_eq!(response.status, 101);
    client.send_text(OPEN).unwrap();
    let mut server = both_headers(&mut client, &server);
    large_both_ways(&mut client, &mut server, 300_000);
    let line = " 203.0.113.9:4711: TLSv1.3 with the client";
    scene.daemon.wait_for_line(line);
    scene.daemon.stop();
}

/// A stopped process. Dropping this value continues it, also when a test fails.
struct Stopped(u32);

impl Stopped {
    fn now(pid: u32) -> Stopped {
        signal_to(pid, Signal::SIGSTOP);
        patiently("a stop", || (state(pid) == Some('T')).then_some(()));
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal_to(self.0, Signal::SIGCONT);
    }
}

#[test]
fn all_workers_take_from_the_same_queue() {
    let scene = Scene::set("workers: 2\n");
    let master = scene.daemon.pid();
    let workers = patiently("the workers", || {
        Some(children(master)).filter(|pids| pids.len() == 2)
    });
    for pid in workers {
        let _stopped = Stopped::now(pid);
        // The other worker serves all clients, whichever of the two is stopped.
        for _ in 0..10 {
            scene.client(&[]);
        }
    }
    // Without a worker, clients wait.
    for pid in children(master) {
        signal_to(pid, Signal::SIGKILL);
        patiently("its end", || (state(pid) != Some('T')).then_some(()));
    }
    let mut client = dialled(&scene.path);
    client.send_raw(&request("/", &[], Some("xmpp"))).unwrap();
    assert_eq!(client.read_response().unwrap().status, 101);
    scene.daemon.stop();
    assert!(!scene.path.exists(), "the file is left behind");
}

#[test]
fn a_reload_changes_the_rules_and_leaves_the_socket() {
    let scene = Scene::set("");
    scene.daemon.configure("resource: /only\n");
    scene.daemon.signal(Signal::SIGHUP);
    let line = scene.daemon.wait_for_line("configuration reloaded");
    assert!(line.ends_with("configuration reloaded"), "{line}");
    assert_eq!(scene.open(b"", &[]).1.status, 404);
    let other = scene.path.with_file_name("other");
    let seen = scene.daemon.lines().len();
    let listen = format!("listen: unix:{}\n", other.display());
    scene.daemon.configure(&listen);
    scene.daemon.signal(Signal::SIGHUP);
    let line = scene
        .daemon
        .wait_for_line_after(seen, "configuration reloaded");
    assert!(line.ends_with("to apply: listen"), "{line}");
    let named = format!("the socket unix:{} has no listener", scene.path.display());
    scene.daemon.wait_for_line_after(seen, &named);
    assert_eq!(scene.open(b"", &[]).1.status, 404, "the rules that it had");
    assert!(!other.exists(), "bound without a restart");
    scene.daemon.stop();
}
