//! Without free descriptors clients wait until there are some again. The log says it
//! once, sessions continue, and the event loop does not spin.

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
    crowd.remove(0);
    assert_eq!(crowd[1].read_response().unwrap().status, 101);
    limit_descriptors(daemon, before + 100);
    for client in &mut crowd[2..] {
        assert_eq!(client.read_response().unwrap().status, 101);
    }
    let told = daemon.lines();
    let told = told
        .iter()
        .filter(|line| line.contains("cannot accept with "));
    assert!(told.count() <= 2, "told again and again");
    let ticks = cpu_ticks(daemon) - ticks;
    assert!(ticks < 50, "{ticks} ticks of CPU while waiting");
    drop(crowd);
    daemon.wait_for_descriptors(before);
}
