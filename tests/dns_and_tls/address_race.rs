//! Slow parts do not delay a connection: DNS questions without an answer, addresses that
//! never answer a connect, IPv6 and IPv4 in parallel (RFC 8305).
#![allow(
    clippy::disallowed_methods,
    reason = "tests have no clock of the reactor"
)]

use std::time::{Duration, Instant};

use crate::common::answering::*;
use crate::common::dns_server::{A, AAAA, DnsServer};
use crate::common::looking_up::LookingUp;
use jabsocket::net::source::Source;

const LISTED: &str = "domains: [x.example]\n";

const CLEAR: &str = "_xmpp-client._tcp.x.example";
const DIRECT: &str = "_xmpps-client._tcp.x.example";

/// How long a look-up delays its results to wait for better ones, in milliseconds.
const HELD_BACK_MS: u64 = 200;

/// The first address that a look-up finds in time, by the test's own clock. An earlier
/// look-up has filled the cache, so only the unanswered questions are open.
fn found_in_time(dns: &DnsServer) -> String {
    let mut looking_up = LookingUp::asking(dns);
    looking_up.look_up(1, "x.example", Source::Unix, 0);
    let mut clock = (0..100_000).step_by(50);
    let now_ms = clock.find(|now_ms| {
        looking_up.turn(*now_ms);
        !looking_up.answers.is_empty()
    });
    let now_ms = now_ms.expect("an answer");
    looking_up.look_up(2, "x.example", Source::Unix, now_ms);
    looking_up.turn(now_ms);
    looking_up.turn(now_ms + HELD_BACK_MS);
    let mut found = looking_up.answers.iter().filter(|answer| answer.id == 2);
    let targets = found.next().expect("an answer in time").targets.as_ref();
    targets.expect("a place")[0].address.to_string()
}

#[test]
fn one_service_without_an_answer_does_not_delay_the_other() {
    for (answered, silent) in [(CLEAR, DIRECT), (DIRECT, CLEAR)] {
        let dns = DnsServer::start(&format!(
            "{answered} SRV 1 1 5269 a.example
             {silent} SRV SILENCE
             a.example A 192.0.2.7"
        ));
        assert_eq!(found_in_time(&dns), "192.0.2.7:5269");
    }
}

#[test]
fn one_target_without_an_address_yet_does_not_delay_the_others() {
    for (silent, answered) in [("b", "a"), ("a", "b")] {
        let dns = DnsServer::start(&format!(
            "{CLEAR} SRV 1 1 5269 a.example
             {CLEAR} SRV 2 1 5269 b.example
             {silent}.example A SILENCE
             {silent}.example AAAA SILENCE
             {answered}.example A 192.0.2.7"
        ));
        assert_eq!(found_in_time(&dns), "192.0.2.7:5269");
    }
}

#[test]
fn a_target_that_comes_late_is_not_forgotten() {
    let (closed, two) = (closed(), Answering::start("two"));
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         {CLEAR} SRV 2 1 {} b.example
         a.example A {}
         b.example A HELD
         b.example AAAA HELD",
        closed.port(),
        two.port(),
        closed.ip(),
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
    for (zone, place) in [
        ("A 192.0.2.7\na.example AAAA SILENCE", "192.0.2.7:5269"),
        (
            "A SILENCE\na.example AAAA 2001:db8::7",
            "[2001:db8::7]:5269",
        ),
    ] {
        let dns = DnsServer::start(&format!("{CLEAR} SRV 1 1 5269 a.example\na.example {zone}"));
        assert_eq!(found_in_time(&dns), place);
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
        drop(reach(&daemon, "x.example", id));
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
    drop(reach(&daemon, "x.example", "v6"));
    assert_eq!(v4.connections(), 0, "both were dialled at once");
    drop(v6);
    drop(reach(&daemon, "x.example", "v4"));
    daemon.stop();
}

#[test]
fn a_family_that_swallows_connects_does_not_hold_up_the_other() {
    let hole = BlackHole::start("[::1]:0");
    let own = own_address();
    let v4 = Answering::start_at((own, hole.address.port()), "v4");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A {own}
         a.example AAAA ::1",
        v4.port()
    ));
    let daemon = daemon_asking(&dns, LISTED);
    // The kernel would try to connect for minutes.
    let began = Instant::now();
    drop(reach(&daemon, "x.example", "v4"));
    let took = began.elapsed();
    // The first address had its head start (RFC 8305, section 8).
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
    drop(reach(&daemon, "x.example", "one"));
    daemon.stop();
}
