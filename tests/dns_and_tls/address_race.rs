//! What is slow does not hold up what is there: questions that stay without an
//! answer, addresses that swallow connects, IPv6 and IPv4 side by side (RFC
//! 8305).
#![allow(
    clippy::disallowed_methods,
    reason = "tests have no clock of the reactor"
)]

use std::time::{Duration, Instant};

use crate::common::answering::*;
use crate::common::daemon::Daemon;
use crate::common::dns_server::{A, AAAA, DnsServer};

const LISTED: &str = "domains: [x.example]\n";

const CLEAR: &str = "_xmpp-client._tcp.x.example";
const DIRECT: &str = "_xmpps-client._tcp.x.example";

/// Clients give up that long after their `<open/>`.
const LIMIT: Duration = Duration::from_secs(2);

/// How long the daemon took to reach the server with this id.
fn reach_in_time(daemon: &Daemon, id: &str) -> Duration {
    let began = Instant::now();
    drop(reach(daemon, "x.example", id));
    let took = began.elapsed();
    assert!(took < LIMIT, "{id}: {took:?}");
    took
}

#[test]
fn one_service_without_an_answer_does_not_delay_the_other() {
    let (one, two) = (Answering::start("one"), Answering::start("two"));
    // Nobody speaks TLS here: the record of direct TLS has one of plain text
    // behind it, but both are of the same question.
    let zone = format!(
        "{CLEAR} SRV 1 1 {} a.example
         {DIRECT} SRV SILENCE
         a.example A 127.0.0.1",
        one.port()
    );
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, LISTED);
    reach_in_time(&daemon, "one");
    daemon.stop();

    let zone = format!(
        "{CLEAR} SRV SILENCE
         {DIRECT} SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        two.port()
    );
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, LISTED);
    let began = Instant::now();
    // It has no TLS: that it was asked for it is enough.
    let client = opening(&daemon, "x.example");
    assert_eq!(two.wait_received(0, b"x.example")[0], 0x16);
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    drop(client);
    daemon.stop();
}

#[test]
fn one_target_without_an_address_yet_does_not_delay_the_others() {
    let (one, two) = (Answering::start("one"), Answering::start("two"));
    let zone = format!(
        "{CLEAR} SRV 1 1 {} a.example
         {CLEAR} SRV 2 1 {} b.example",
        one.port(),
        two.port()
    );
    for (silent, answering, id) in [("b", "a", "one"), ("a", "b", "two")] {
        let dns = DnsServer::start(&format!(
            "{zone}
             {silent}.example A SILENCE
             {silent}.example AAAA SILENCE
             {answering}.example A 127.0.0.1",
        ));
        let daemon = daemon_asking(&dns, LISTED);
        reach_in_time(&daemon, id);
        daemon.stop();
    }
}

#[test]
fn a_target_that_comes_late_is_not_forgotten() {
    let two = Answering::start("two");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         {CLEAR} SRV 2 1 {} b.example
         a.example A 127.0.0.1
         b.example A HELD
         b.example AAAA HELD",
        closed_port(),
        two.port()
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let mut client = opening(&daemon, "x.example");
    dns.wait_asked("b.example", A);
    dns.wait_asked("b.example", AAAA);
    dns.release("b.example A 127.0.0.1");
    assert_eq!(read_id(&mut client, "x.example"), "two");
    daemon.stop();
}

#[test]
fn one_family_without_an_answer_does_not_delay_the_other() {
    let (_v4, v6) = twins("v4", "v6");
    for (zone, id) in [
        ("a.example A 127.0.0.1\na.example AAAA SILENCE", "v4"),
        ("a.example A SILENCE\na.example AAAA ::1", "v6"),
    ] {
        let dns = DnsServer::start(&format!("{CLEAR} SRV 1 1 {} a.example\n{zone}", v6.port()));
        let daemon = daemon_asking(&dns, LISTED);
        reach_in_time(&daemon, id);
        daemon.stop();
    }
}

#[test]
fn one_family_that_fails_leaves_the_other() {
    let (_v4, v6) = twins("v4", "v6");
    for (zone, id) in [
        ("a.example A 127.0.0.1\na.example AAAA SERVFAIL", "v4"),
        ("a.example A SERVFAIL\na.example AAAA ::1", "v6"),
        ("a.example A 127.0.0.1\na.example AAAA NODATA", "v4"),
        ("a.example A NODATA\na.example AAAA ::1", "v6"),
    ] {
        let dns = DnsServer::start(&format!("{CLEAR} SRV 1 1 {} a.example\n{zone}", v6.port()));
        let daemon = daemon_asking(&dns, LISTED);
        reach_in_time(&daemon, id);
        daemon.stop();
    }
}

#[test]
fn ipv6_goes_first_and_ipv4_is_there_if_it_fails() {
    let (v4, v6) = twins("v4", "v6");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A 127.0.0.1
         a.example AAAA ::1",
        v6.port()
    ));
    let daemon = daemon_asking(&dns, LISTED);
    reach_in_time(&daemon, "v6");
    assert_eq!(v4.connections(), 0, "both were dialled at once");
    drop(v6);
    reach_in_time(&daemon, "v4");
    daemon.stop();
}

#[test]
fn a_family_that_swallows_connects_does_not_hold_up_the_other() {
    // A free port on both is needed: the black hole takes that of ::1.
    let (hole, v4) = loop {
        let hole = BlackHole::start("[::1]:0");
        if let Ok(free) = std::net::TcpListener::bind(("127.0.0.1", hole.address.port())) {
            drop(free);
            let v4 = Answering::start_at(([127, 0, 0, 1], hole.address.port()), "v4");
            break (hole, v4);
        }
    };
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A 127.0.0.1
         a.example AAAA ::1",
        v4.port()
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let took = reach_in_time(&daemon, "v4");
    // It was given a start (RFC 8305, section 8).
    assert!(took >= Duration::from_millis(100), "{took:?}");
    drop(hole);
    daemon.stop();
}

#[test]
fn several_addresses_that_swallow_connects_are_passed_by() {
    let holes: Vec<_> = (0..4).map(|_| BlackHole::start("127.0.0.1:0")).collect();
    let one = Answering::start("one");
    let dns = DnsServer::start("a.example A 127.0.0.1");
    for (priority, hole) in holes.iter().enumerate() {
        let port = hole.address.port();
        dns.add(&format!("{CLEAR} SRV {priority} 1 {port} a.example"));
    }
    dns.add(&format!("{CLEAR} SRV 9 1 {} a.example", one.port()));
    let daemon = daemon_asking(&dns, LISTED);
    reach_in_time(&daemon, "one");
    daemon.stop();
}
