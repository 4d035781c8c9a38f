//! Without free descriptors, clients wait until there are some again, and so do sessions that
//! connect to their servers. The log says it once, sessions continue, and the event loop does not
//! spin.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::{WsClient, request};

/// The daemon's CPU time in clock ticks, 100 per second.
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let behind_name = stat.rsplit(')').next().unwrap();
    let fields: Vec<_> = behind_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn limit_descriptors(daemon: &Daemon, soft: usize) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", daemon.pid()))
        .arg(format!("--nofile={soft}:"))
        .status();
    assert!(status.expect("prlimit").success());
}

/// Lets the daemon open this many more descriptors. The limit is on their numbers, which have gaps.
fn leave_descriptors(daemon: &Daemon, count: usize) {
    let directory = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let taken: Vec<usize> = names.map(|name| name.parse().unwrap()).collect();
    let mut free = (0..).filter(|number| !taken.contains(number));
    limit_descriptors(daemon, free.nth(count).unwrap());
}

#[test]
fn clients_wait_until_there_are_descriptors_again() {
    let stage = Stage::set("");
    let daemon = &stage.daemon;
    let (mut client, mut server) = stage.framed();
    let before = daemon.descriptors();
    let ticks = cpu_ticks(daemon);
    // Two more clients fit.
    limit_descriptors(daemon, before + 2);
    let mut crowd: Vec<WsClient> = (0..10)
        .map(|_| {
            let mut client = WsClient::dial(daemon.address).unwrap();
            client
                .stream
                .write_all(&request("/", &[], Some("xmpp")))
                .unwrap();
            client
        })
        .collect();
    daemon.wait_for_line("cannot accept with ");
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send("<b xmlns='u'/>");
    expect_text(&mut client, "<b xmlns='u'/>");
    for client in &mut crowd[..2] {
        assert_eq!(client.read_response().unwrap().status, 101);
    }
    // When a client leaves, the next one is served at once.
    for _ in 0..3 {
        crowd.remove(0);
        assert_eq!(crowd[1].read_response().unwrap().status, 101);
    }
    limit_descriptors(daemon, before + 100);
    for client in &mut crowd[2..] {
        assert_eq!(client.read_response().unwrap().status, 101);
    }
    let told = daemon.lines();
    let told = told
        .iter()
        .filter(|line| line.contains("cannot accept with "));
    assert_eq!(told.count(), 1, "told again and again");
    let ticks = cpu_ticks(daemon) - ticks;
    assert!(ticks < 50, "{ticks} ticks of CPU while waiting");
    drop(crowd);
    daemon.wait_for_descriptors(before);
}

#[test]
fn a_session_waits_for_a_descriptor_to_reach_its_server() {
    let stage = Stage::set("");
    let daemon = &stage.daemon;
    let before = daemon.descriptors();
    // The client fits, the connection to its server does not.
    leave_descriptors(daemon, 1);
    let mut client = WsClient::dial(daemon.address).unwrap();
    client.handshake("/", &[], Some("xmpp")).unwrap();
    client.send_text(OPEN).unwrap();
    daemon.wait_for_line("Locating -> Connecting");
    limit_descriptors(daemon, before + 100);
    let _server = both_headers(&mut client, &stage.server);
}

#[test]
fn the_log_says_that_a_session_had_no_descriptor() {
    let stage = Stage::set("connect_timeout: 1\n");
    let daemon = &stage.daemon;
    leave_descriptors(daemon, 1);
    let mut client = WsClient::dial(daemon.address).unwrap();
    client.handshake("/", &[], Some("xmpp")).unwrap();
    client.send_text(OPEN).unwrap();
    let line = daemon.wait_for_line("cannot reach the server of example.org");
    assert!(line.contains("Too many open files"), "{line}");
}
