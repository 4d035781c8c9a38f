//! How long clients wait for their stream when the first address of their server never
//! answers a connect. Clients give up 2 s after their `<open/>`, so none of 1,000 may
//! wait longer.
//!
//! `cargo bench --bench opening` exits with status 1 if a client waited longer.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark has no clock of the reactor"
)]

#[path = "../common/mod.rs"]
mod common;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::answering::{Answering, BlackHole, daemon_asking, reach};
use common::dns_server::DnsServer;

/// Clients give up so long after their `<open/>`.
const LIMIT: Duration = Duration::from_secs(2);

/// The number of clients in sequence, and of these sequences in parallel.
const ROUNDS: usize = 40;
const SIDE_BY_SIDE: usize = 25;

fn main() -> ExitCode {
    // These are for the other benchmarks.
    let others = ["--only", "--help", "scale"];
    if std::env::args().any(|arg| others.contains(&&arg[..])) {
        return ExitCode::SUCCESS;
    }
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
    // Measured from the first byte of the opening handshake. Real clients start their
    // clocks later.
    let time = |_| {
        let began = Instant::now();
        let client = reach(&daemon, "x.example", "one");
        let took = began.elapsed();
        drop(client);
        took
    };
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SIDE_BY_SIDE)
            .map(|_| scope.spawn(|| (0..ROUNDS).map(time).collect::<Vec<_>>()))
            .collect();
        let times = threads.into_iter().map(|thread| thread.join());
        times.flat_map(|times| times.expect("a client")).collect()
    });
    all.sort();
    let late = all.iter().filter(|took| **took > LIMIT).count();
    println!(
        "{} streams opened: median {:?}, worst {:?}, {late} after more than {LIMIT:?}",
        all.len(),
        all[all.len() / 2],
        all[all.len() - 1],
    );
    daemon.stop();
    ExitCode::from(u8::from(late > 0))
}
