//! The promise that a client's stream opens in time even if the first place of
//! its server swallows connects: within 2 s, in 1,000 of 1,000.
#![allow(
    clippy::disallowed_methods,
    reason = "tests have no clock of the reactor"
)]

use std::time::{Duration, Instant};

use crate::common::answering::*;
use crate::common::dns_server::DnsServer;

/// Clients give up that long after their `<open/>`.
const LIMIT: Duration = Duration::from_secs(2);

/// So many clients one after the other, and so many of those side by side.
const ROUNDS: usize = 40;
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
    // From the first byte of the opening handshake on, which is before the
    // clients' own clocks start.
    let times = |rounds: usize| -> Vec<Duration> {
        (0..rounds)
            .map(|_| {
                let began = Instant::now();
                let client = reach(&daemon, "x.example", "one");
                let took = began.elapsed();
                drop(client);
                took
            })
            .collect()
    };
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|_| scope.spawn(|| times(ROUNDS)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a client"))
            .collect()
    });
    all.sort();
    let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
    println!(
        "{} streams opened: median {median:?}, worst {worst:?}",
        all.len()
    );
    let late = all.iter().filter(|took| **took > LIMIT).count();
    assert_eq!((all.len(), late), (1000, 0), "worst {worst:?}");
    assert_eq!(one.connections(), all.len());
    daemon.stop();
}
