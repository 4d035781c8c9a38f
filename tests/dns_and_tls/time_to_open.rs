//! The streams of many clients open even if the first address of their server never
//! answers a connect. `cargo bench --bench opening` measures how long this takes.

use crate::common::answering::*;
use crate::common::dns_server::DnsServer;

/// The number of clients in sequence, and of these sequences in parallel.
const ROUNDS: usize = 4;
const SIDE_BY_SIDE: usize = 25;

#[test]
fn a_first_target_that_swallows_connects_costs_little() {
    let hole = BlackHole::start("127.0.0.1:0");
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.x.example SRV 1 1 {} a.example
         _xmpp-client._tcp.x.example SRV 2 1 {} a.example
         a.example A 127.0.0.1",
        hole.address.port(),
        one.port(),
    ));
    let daemon = daemon_asking(&dns, "domains: [x.example]\nlog_level: LOG_ERR\n");
    // The kernel would try to connect to the first address for minutes.
    let visit = |_| drop(reach(&daemon, "x.example", "one"));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| (0..ROUNDS).for_each(visit));
        }
    });
    assert_eq!(one.connections(), ROUNDS * SIDE_BY_SIDE);
    daemon.stop();
}
