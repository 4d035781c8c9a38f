//! If no local port is left, the kernel tries all of them before it says so. Each turn of the loop
//! tries only one such connect, however many sessions wait.

use nix::sys::signal::Signal;

use super::own_network::in_own_network;
use crate::common::daemon::Daemon;
use crate::common::prometheus::{metrics, status_address};
use crate::common::stage::*;
use crate::common::ws_client::WsClient;

const SESSIONS: usize = 100;

#[test]
fn connects_without_a_local_port_are_spread_over_turns() {
    in_own_network(find_no_ports);
}

fn find_no_ports() {
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
