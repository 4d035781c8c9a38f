//! If a server is configured by its address, jabsocket does not ask the DNS.

use std::io::ErrorKind;
use std::net::UdpSocket;

use crate::common::stage::*;

#[test]
fn the_dns_is_not_asked_for_an_address() {
    // This DNS server never answers.
    let dns = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = dns.local_addr().expect("address");
    let stage = Stage::set(&format!("dns_servers: {address}\n"));
    let _sessions: Vec<_> = (0..3).map(|_| stage.framed()).collect();
    // A question would have arrived before the connection.
    dns.set_nonblocking(true).expect("non-blocking");
    let mut question = [0; 512];
    let asked = dns.recv(&mut question);
    let silent = asked
        .as_ref()
        .is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    assert!(silent, "asked: {:?}", asked.map(|n| question[..n].to_vec()));
    stage.daemon.stop();
}
