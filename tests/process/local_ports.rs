//! A connect that gets no local port takes the kernel long. However many sessions need one at
//! the same time, each turn of the loop tries only one.

use std::thread;

use nix::sys::signal::Signal;

use super::vanished_host::leave_the_network;
use crate::common::daemon::Daemon;
use crate::common::prometheus::{metrics, status_address};
use crate::common::stage::*;
use crate::common::ws_client::WsClient;

const SESSIONS: usize = 100;

#[test]
fn connects_without_a_local_port_are_spread_over_turns() {
    // In its own thread, because the other tests need their network.
    let outcome = thread::spawn(find_no_ports).join();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn find_no_ports() {
    if !leave_the_network() {
        println!("left out: a network of its own takes root's rights");
        return;
    }
    // Without its address there is no local port for it.
    let sysctl = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
    std::fs::write(sysctl, "1").expect("no IPv6");
    let config = "status_listen: 127.0.0.1:0\nserver: '[::1]:5222'\nserver_tls: none\n";
    let daemon = Daemon::start(config);
    status_address(&daemon);
    let mut clients: Vec<WsClient> = (0..SESSIONS).map(|_| daemon.client()).collect();
    let turns = || metrics(&daemon)["turn_seconds_count"] as usize;
    let before = turns();
    // All messages are there when the daemon goes on.
    daemon.signal(Signal::SIGSTOP);
    for client in &mut clients {
        client.send_text(OPEN).unwrap();
    }
    daemon.signal(Signal::SIGCONT);
    for client in &mut clients {
        client.read_text().expect("<open/>");
        expect_error(client, "remote-connection-failed", "no local port");
    }
    daemon.wait_for_line("Cannot assign requested address");
    let count = turns() - before;
    assert!(count >= SESSIONS, "{count} turns");
    daemon.stop();
}
