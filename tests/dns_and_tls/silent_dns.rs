//! How long SRV answers are waited for, and when the domain's own address is used without them.

use std::time::Duration;

use jabsocket::net::source::Source;

use crate::common::answering::*;
use crate::common::dns_server::{A, AAAA, DnsServer, SRV};
use crate::common::looking_up::LookingUp;
use crate::server_finding::{CLEAR, DIRECT, LISTED, expect_no_fallback};

#[test]
fn a_silent_dns_is_not_the_lack_of_a_record() {
    let zone = format!(
        "{CLEAR} SRV SILENCE
         {DIRECT} SRV SILENCE
         x.example A SILENCE
         x.example AAAA SILENCE"
    );
    // The connect timeout expires first.
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, &format!("{LISTED}connect_timeout: 0.5\n"));
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.stop();

    // The resolver gives up first.
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, &format!("{LISTED}connect_timeout: 60\n"));
    let mut client = opening(&daemon, "x.example");
    let timeout = Some(Duration::from_secs(60));
    client.stream.set_read_timeout(timeout).unwrap();
    expect_no_way(&mut client, "x.example", "remote-connection-failed");
    daemon.wait_for_line("cannot reach the server of x.example: DNS look-up failed");
    daemon.stop();
}

#[test]
fn the_domain_itself_is_used_when_services_stay_unanswered() {
    let own = own_address();
    let _standard = Answering::start_at((own, PORT), "standard");
    for zone in [
        format!("{CLEAR} SRV SILENCE\n{DIRECT} SRV SILENCE"),
        format!("{CLEAR} SRV SILENCE"),
        format!("{DIRECT} SRV SILENCE"),
    ] {
        let dns = DnsServer::start(&format!("x.example A {own}\n{zone}"));
        let daemon = daemon_asking(&dns, LISTED);
        drop(reach(&daemon, "x.example", "standard"));
        daemon.stop();
    }
}

#[test]
fn a_lost_packet_is_not_silence() {
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 5269 a.example
         a.example A 192.0.2.7
         x.example A 192.0.2.9"
    ));
    for service in [CLEAR, DIRECT] {
        dns.lose(service, 1);
    }
    let mut looking_up = LookingUp::asking(&dns);
    looking_up.look_up(1, "x.example", Source::Unix, 0);
    assert_eq!(looking_up.address(1, 1499), "192.0.2.7:5269");
}

/// A server without answers for both services. The domain itself has an address.
fn swallowing() -> DnsServer {
    DnsServer::start(&format!(
        "{CLEAR} SRV HELD\n{DIRECT} SRV HELD\nx.example A 192.0.2.9"
    ))
}

#[test]
fn the_domain_itself_is_asked_for_meanwhile_and_used_after_a_second_and_a_half() {
    let dns = swallowing();
    let mut looking_up = LookingUp::asking(&dns);
    looking_up.look_up(1, "x.example", Source::Unix, 0);
    let asked = |name, kind| dns.asked(name, kind) > 0;
    looking_up.until("SRV questions", 499, |_| {
        (asked(CLEAR, SRV) && asked(DIRECT, SRV)).then_some(())
    });
    expect_no_fallback(&dns);
    looking_up.until("address questions", 500, |_| {
        (asked("x.example", A) && asked("x.example", AAAA)).then_some(())
    });
    for _ in 0..10 {
        looking_up.turn(1499);
    }
    assert!(looking_up.answers.is_empty(), "{:?}", looking_up.answers);
    assert_eq!(looking_up.address(1, 1500), "192.0.2.9:5222");
    assert_eq!(looking_up.locator.due_ms(), None, "nothing is to come");
}

#[test]
fn late_records_come_before_the_domain_itself() {
    let dns = swallowing();
    let mut looking_up = LookingUp::asking(&dns);
    looking_up.look_up(1, "x.example", Source::Unix, 0);
    looking_up.until("address questions", 500, |_| {
        (dns.asked("x.example", A) > 0).then_some(())
    });
    for _ in 0..10 {
        looking_up.turn(1499);
    }
    dns.release(&format!(
        "{CLEAR} SRV 1 1 5269 a.example\na.example A 192.0.2.7"
    ));
    assert_eq!(looking_up.address(1, 1499), "192.0.2.7:5269");
}

#[test]
fn services_that_wait_for_their_turn_are_not_silent() {
    let dns = swallowing();
    dns.add("_xmpp-client._tcp.y.example SRV 1 1 5269 x.example");
    dns.say_nothing_on("dead.example");
    let mut looking_up = LookingUp::asking(&dns);
    // Another look-up has cached the address.
    looking_up.look_up(0, "y.example", Source::Unix, 0);
    assert_eq!(looking_up.address(0, 0), "192.0.2.9:5269");
    for id in 1..100 {
        let domain = format!("x{id}.dead.example");
        looking_up.look_up(id, &domain, Source::Unix, 0);
    }
    looking_up.look_up(200, "x.example", Source::Unix, 0);
    looking_up.answers.clear();
    for now_ms in [500, 1500, 2000] {
        looking_up.turn(now_ms);
    }
    assert_eq!(dns.asked(CLEAR, SRV), 0);
    for id in 1..100 {
        looking_up.locator.forget(id);
    }
    looking_up.until("SRV questions", 2000, |_| {
        (dns.asked(DIRECT, SRV) > 0).then_some(())
    });
    for _ in 0..10 {
        looking_up.turn(3499);
    }
    assert!(looking_up.answers.is_empty(), "{:?}", looking_up.answers);
    assert_eq!(looking_up.address(200, 3500), "192.0.2.9:5222");
}
