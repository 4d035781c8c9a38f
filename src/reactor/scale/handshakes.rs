//! A test of the event loop with clients that all begin a TLS handshake at once.

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use openssl::ssl::{HandshakeError, MidHandshakeSslStream, Ssl, SslContext, SslMethod};

use super::cost::Cost;
use super::crowd::{CONFIG, Crowd, STANZA};
use crate::net::peer::Peer;
use crate::net::test_identity::identity;
use crate::session::shared::TLS_STEPS_PER_TURN;

const CLIENTS: u32 = 5 * TLS_STEPS_PER_TURN;

/// A crowd of one session, with a TLS port as its second endpoint.
fn crowd() -> Crowd {
    let (certificate, key) = identity();
    let name = format!("jabsocket-handshakes-{}.pem", std::process::id());
    let path = std::env::temp_dir().join(name);
    let key = key.private_key_to_pem_pkcs8().unwrap();
    std::fs::write(&path, [certificate.to_pem().unwrap(), key].concat()).unwrap();
    let pem = path.display();
    let mut crowd = Crowd::with_config(
        1,
        &format!(
            "{CONFIG}tls_certificate: {pem}\ntls_key: {pem}\n\
             listeners:\n  - port: 1\n    tls: false\n  - port: 2\n    tls: true\n"
        ),
    );
    std::fs::remove_file(path).unwrap();
    crowd.set_up(1);
    crowd
}

/// Connects a client, which sends a ClientHello, and begins its session.
fn begin(
    crowd: &mut Crowd,
    listener: &TcpListener,
    context: &SslContext,
) -> MidHandshakeSslStream<TcpStream> {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_nonblocking(true).unwrap();
    let Err(HandshakeError::WouldBlock(client)) = Ssl::new(context).unwrap().connect(client) else {
        panic!("not waiting for a ServerHello");
    };
    let (socket, address) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = mio::net::TcpStream::from_std(socket);
    let endpoint = Rc::clone(&crowd.reactor.acceptor.endpoints[1]);
    crowd
        .reactor
        .begin(socket.into(), Peer::Ip(address), &endpoint);
    client
}

/// Each turn does a few steps of handshakes, and all that other sessions want.
#[test]
fn others_wait_only_for_a_few_of_many_tls_handshakes() {
    let mut crowd = crowd();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let context = SslContext::builder(SslMethod::tls_client())
        .unwrap()
        .build();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| begin(&mut crowd, &listener, &context))
        .collect();
    let is_answered =
        |client: &&MidHandshakeSslStream<TcpStream>| match client.get_ref().peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            seen => seen.unwrap() > 0,
        };
    let answered = || clients.iter().filter(is_answered).count();
    let mut most = 0;
    while answered() < clients.len() {
        crowd.servers[0].send(STANZA);
        crowd.turn(&mut Cost::default(), |reactor| {
            reactor.poke(0, |session, _| session.server_edge(false));
        });
        assert!(!crowd.clients[0].take(usize::MAX).is_empty());
        most += TLS_STEPS_PER_TURN as usize;
        assert!(answered() <= most, "{} in {most} steps", answered());
    }
}
