//! The PROXY header to a server: the first bytes of the connection, with the browser's
//! real address, and only if the operator has enabled it.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};

use crate::common::certificates::Authority;
use crate::common::daemon::{Daemon, TempFile};
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

struct Scene {
    server: TlsServer,
    daemon: Daemon,
    _ca_file: TempFile,
}

impl Scene {
    fn set(listen: &str, tls: &str, proxy: &str) -> Scene {
        let authority = Authority::new();
        let ca_file = authority.ca_file();
        let server = TlsServer::start(&authority.identity(&["example.org"]));
        let more = [
            &format!("tls: {tls}")[..],
            &format!("proxy_protocol: {proxy}"),
        ];
        let address = server.tcp.address.to_string();
        let entry = entry("example.org", &address, Some(&ca_file), &more);
        let daemon = Daemon::start_on(listen, &format!("domains:\n{entry}"));
        Scene {
            server,
            daemon,
            _ca_file: ca_file,
        }
    }

    /// A client that has sent its `<open/>`, and its address.
    fn client(&self) -> (WsClient, SocketAddr) {
        let mut client = self.daemon.client();
        client.send_text(OPEN).unwrap();
        let address = client.stream.local_addr().unwrap();
        (client, address)
    }

    /// The expected header of `version` for a client at `client`.
    fn header(&self, version: &str, client: SocketAddr) -> Vec<u8> {
        let (from, to) = (client.port(), self.server.tcp.address.port());
        match (version, client.ip()) {
            ("none", _) => Vec::new(),
            ("v1", IpAddr::V4(_)) => {
                format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").into_bytes()
            }
            ("v1", IpAddr::V6(_)) => {
                format!("PROXY TCP6 ::1 ::ffff:127.0.0.1 {from} {to}\r\n").into_bytes()
            }
            (_, ip) => {
                let loopback = [127, 0, 0, 1];
                let mapped = [&[0; 10][..], &[255, 255], &loopback].concat();
                let (start, addresses) = match ip {
                    IpAddr::V4(_) => ([0x21, 0x11, 0, 12], [loopback, loopback].concat()),
                    IpAddr::V6(ip) => {
                        let addresses = [&ip.octets()[..], &mapped].concat();
                        ([0x21, 0x21, 0, 36], addresses)
                    }
                };
                let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
                [SIGNATURE, &start, &addresses, &ports].concat()
            }
        }
    }
}

/// Fails unless the next bytes are `header`.
fn expect_bytes(stream: &mut TcpStream, header: &[u8]) {
    let mut read = vec![0; header.len()];
    stream.read_exact(&mut read).expect("a header");
    assert_eq!(read, header, "{:?}", String::from_utf8_lossy(&read));
}

#[test]
fn the_header_is_sent_first() {
    for listen in ["127.0.0.1", "'::1'"] {
        for version in ["v1", "v2", "none"] {
            for tls in ["none", "auto", "required", "direct"] {
                println!("{listen} {version} {tls}");
                let scene = Scene::set(listen, tls, version);
                let (mut client, address) = scene.client();
                let mut connection = scene.server.tcp.accept();
                let header = scene.header(version, address);
                expect_bytes(&mut connection.stream, &header);
                if tls == "none" {
                    connection.expect(OPEN_UP);
                    connection.send(HEADER);
                    connection.send(FEATURES);
                    expect_greeted(&mut client);
                } else {
                    if tls != "direct" {
                        connection.expect(OPEN_UP);
                        connection.send(CLEAR_HEADER);
                        connection.send(OFFER);
                        connection.expect(STARTTLS);
                        connection.send(PROCEED);
                    }
                    let mut server = scene.server.handshake(connection.stream);
                    server.greet(OPEN_UP);
                    expect_greeted(&mut client);
                    exchange(&mut (client, server));
                }
                scene.daemon.stop();
            }
        }
    }
}

/// Each connection has its own header.
#[test]
fn the_server_gets_the_address_of_each_client() {
    let scene = Scene::set("127.0.0.1", "direct", "v2");
    let clients = (0..8).map(|_| {
        let (client, address) = scene.client();
        let mut connection = scene.server.tcp.accept();
        expect_bytes(&mut connection.stream, &scene.header("v2", address));
        (client, connection, address.port())
    });
    let clients: Vec<_> = clients.collect();
    let mut ports: Vec<_> = clients.iter().map(|(_, _, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
    scene.daemon.stop();
}

/// A header belongs to a connection, not to a session.
#[test]
fn a_redirect_target_gets_the_header_too() {
    let scene = Scene::set("127.0.0.1", "required", "v1");
    let (mut client, address) = scene.client();
    let header = scene.header("v1", address);
    let mut first = scene.server.tcp.accept();
    expect_bytes(&mut first.stream, &header);
    first.expect(OPEN_UP);
    first.send(CLEAR_HEADER);
    first.send(&format!(
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{}\
         </see-other-host></stream:error>",
        scene.server.tcp.address
    ));
    let mut second = scene.server.tcp.accept();
    expect_bytes(&mut second.stream, &header);
    second.expect(OPEN_UP);
    second.send(&format!("{CLEAR_HEADER}{OFFER}"));
    second.expect(STARTTLS);
    let mut server = scene.server.try_proceed(second).expect("TLS");
    server.greet(OPEN_UP);
    expect_greeted(&mut client);
    exchange(&mut (client, server));
    scene.daemon.stop();
}
