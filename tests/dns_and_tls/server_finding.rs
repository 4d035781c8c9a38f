//! How the server of a domain is found: SRV records of both services, their order, and
//! the domain's own address if there are no records (RFC 2782; RFC 6120, section 3.2;
//! XEP-0368). For a DNS that does not answer see `silent_dns`.

use std::fs;

use crate::common::answering::*;
use crate::common::dns_server::{A, AAAA, DnsServer, SRV};

/// A domain that the operator has listed may lead to loopback.
pub(super) const LISTED: &str = "domains: [x.example]\n";

pub(super) const CLEAR: &str = "_xmpp-client._tcp.x.example";
pub(super) const DIRECT: &str = "_xmpps-client._tcp.x.example";

/// Fails if the addresses of the domain itself were asked for.
pub(super) fn expect_no_fallback(dns: &DnsServer) {
    for kind in [A, AAAA] {
        assert_eq!(dns.asked("x.example", kind), 0, "{:?}", dns.all_asked());
    }
}

#[test]
fn host_and_port_of_the_record_are_used() {
    let one = Answering::start_at((own_address(), 0), "one");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A {}
         x.example A 127.0.0.1",
        one.port(),
        one.address.ip(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let _client = reach(&daemon, "x.example", "one");
    // The stream names the domain, not the server's host.
    let said = one.wait_received(0, b">");
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("to=\"x.example\""), "{said}");
    for service in [CLEAR, DIRECT] {
        assert_eq!(dns.asked(service, SRV), 1, "{service}");
    }
    expect_no_fallback(&dns);
    daemon.stop();
}

#[test]
fn an_alias_as_host_is_tolerated() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example CNAME b.example
         b.example A 127.0.0.1",
        one.port(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let _client = reach(&daemon, "x.example", "one");
    daemon.stop();
}

#[test]
fn the_services_are_one_list_by_priority() {
    let (clear, direct) = (Answering::start("clear"), Answering::start("direct"));
    let zone = |clear_priority: u16, direct_priority: u16| {
        format!(
            "{CLEAR} SRV {clear_priority} 1 {} a.example
             {DIRECT} SRV {direct_priority} 1 {} a.example
             a.example A 127.0.0.1",
            clear.port(),
            direct.port(),
        )
    };
    let dns = DnsServer::start(&zone(1, 2));
    let daemon = daemon_asking(&dns, LISTED);
    drop(reach(&daemon, "x.example", "clear"));
    assert_eq!(direct.connections(), 0);
    daemon.stop();

    // In the reverse order jabsocket tries direct TLS first: it sends a ClientHello with
    // the domain and the protocol.
    let dns = DnsServer::start(&zone(2, 1));
    let daemon = daemon_asking(&dns, LISTED);
    drop(reach(&daemon, "x.example", "clear"));
    let hello = direct.wait_received(0, b"x.example");
    assert_eq!(hello[0], 0x16, "a TLS handshake record");
    direct.wait_received(0, b"\x0bxmpp-client");
    daemon.stop();
}

#[test]
fn weights_are_shares_of_a_priority() {
    let (heavy, light) = (Answering::start("heavy"), Answering::start("light"));
    let backup = Answering::start("backup");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 2 1000 {} a.example
         {CLEAR} SRV 1 10 {} a.example
         {CLEAR} SRV 1 90 {} a.example
         a.example A 127.0.0.1",
        backup.port(),
        light.port(),
        heavy.port(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    for _ in 0..300 {
        let mut client = opening(&daemon, "x.example");
        read_id(&mut client, "x.example");
    }
    // Expected are 270 and 30, with a standard deviation of 5. The probability of a value
    // outside these bounds is below one in a billion.
    let shares = (heavy.connections(), light.connections());
    assert!((235..=297).contains(&shares.0), "{shares:?}");
    assert_eq!(shares.0 + shares.1, 300);
    assert_eq!(backup.connections(), 0);
    daemon.stop();
}

#[test]
fn a_target_that_refuses_is_followed_by_the_next() {
    let (closed, two) = (closed(), Answering::start("two"));
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} b.example
         {CLEAR} SRV 2 1 {} missing.example
         {CLEAR} SRV 3 1 {} a.example
         a.example A {}
         a.example A 127.0.0.1
         b.example A {}",
        closed.port(),
        two.port(),
        two.port(),
        own_address(),
        closed.ip(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let _client = reach(&daemon, "x.example", "two");
    daemon.stop();
}

#[test]
fn records_that_lead_nowhere_are_no_reason_to_fall_back() {
    let (own, closed) = (own_address(), closed());
    let standard = Answering::start_at((own, PORT), "standard");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A {}
         x.example A {own}",
        closed.port(),
        closed.ip(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.wait_for_line(&format!("cannot reach the server of x.example: {closed}:"));
    daemon.stop();
    expect_no_fallback(&dns);
    assert_eq!(standard.connections(), 0);
}

#[test]
fn a_server_whose_host_does_not_exist_cannot_be_reached() {
    // The domain exists, so it is not unknown.
    let records = |hosts: [&str; 2]| {
        let record = |host| format!("{CLEAR} SRV 1 0 {PORT} {host}.example\n");
        hosts.map(record).concat()
    };
    for zone in [
        records(["missing", "missing"]),
        records(["failing", "missing"]),
        records(["missing", "failing"]),
    ] {
        let dns = DnsServer::start(&format!(
            "{zone}
             failing.example A SERVFAIL
             failing.example AAAA SERVFAIL
             x.example A 127.0.0.1",
        ));
        let daemon = daemon_asking(&dns, LISTED);
        reach_nothing(&daemon, "x.example", "remote-connection-failed");
        expect_no_fallback(&dns);
        daemon.stop();
    }
    let dns = DnsServer::start("");
    let config = "domains:\n  - name: x.example\n    server: missing.example:5222\n";
    let daemon = daemon_asking(&dns, config);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.stop();
}

#[test]
fn a_dot_says_that_there_is_no_service() {
    let own = own_address();
    let standard = Answering::start_at((own, PORT), "standard");
    for declined in [[CLEAR].as_slice(), &[DIRECT], &[CLEAR, DIRECT]] {
        let dns = DnsServer::start(&format!("x.example A {own}"));
        for service in declined {
            dns.add(&format!("{service} SRV 0 0 0 ."));
        }
        let daemon = daemon_asking(&dns, LISTED);
        reach_nothing(&daemon, "x.example", "host-unknown");
        daemon.wait_for_line("no such service");
        expect_no_fallback(&dns);
        daemon.stop();
    }
    assert_eq!(standard.connections(), 0);
}

#[test]
fn a_dot_for_one_service_leaves_the_other() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "{DIRECT} SRV 0 0 0 .
         {CLEAR} SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        one.port(),
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let _client = reach(&daemon, "x.example", "one");
    daemon.stop();
}

#[test]
fn without_records_the_domain_itself_is_used() {
    let own = own_address();
    let _standard = Answering::start_at((own, PORT), "standard");
    for (case, zone) in [
        ("the names do not exist", String::new()),
        (
            "they have no such record",
            format!("{CLEAR} SRV NODATA\n{DIRECT} SRV NODATA"),
        ),
        ("one of each", format!("{DIRECT} SRV NODATA")),
    ] {
        println!("{case}");
        let dns = DnsServer::start(&format!("x.example A {own}\n{zone}"));
        let daemon = daemon_asking(&dns, LISTED);
        drop(reach(&daemon, "x.example", "standard"));
        daemon.stop();
    }
}

#[test]
fn a_failure_of_the_dns_is_not_the_lack_of_a_record() {
    let own = own_address();
    let standard = Answering::start_at((own, PORT), "standard");
    for zone in [
        format!("{CLEAR} SRV SERVFAIL\n{DIRECT} SRV SERVFAIL"),
        format!("{CLEAR} SRV SERVFAIL"),
        format!("{DIRECT} SRV SERVFAIL"),
    ] {
        let dns = DnsServer::start(&format!("x.example A {own}\n{zone}"));
        let daemon = daemon_asking(&dns, LISTED);
        reach_nothing(&daemon, "x.example", "remote-connection-failed");
        daemon.wait_for_line("cannot reach the server of x.example: DNS look-up failed");
        expect_no_fallback(&dns);
        daemon.stop();
    }
    // The same applies to a failed address look-up.
    let dns = DnsServer::start("x.example A SERVFAIL\nx.example AAAA SERVFAIL");
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.stop();
    assert_eq!(standard.connections(), 0);
}

#[test]
fn a_domain_that_does_not_exist_is_unknown() {
    let dns = DnsServer::start("");
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "host-unknown");
    let asked: Vec<_> = dns
        .all_asked()
        .into_iter()
        .map(|(name, kind, _)| (name, kind))
        .collect();
    let expected = [
        (CLEAR, SRV),
        (DIRECT, SRV),
        ("x.example", A),
        ("x.example", AAAA),
    ];
    assert_eq!(asked, expected.map(|(name, kind)| (name.to_owned(), kind)));
    daemon.stop();
}

#[test]
fn a_name_in_another_script_is_asked_as_a_labels() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.xn--bcher-kva.example SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        one.port(),
    ));
    let daemon = daemon_asking(&dns, "domains: [bücher.example]\n");
    for domain in ["bücher.example", "BÜCHER.example."] {
        let mut client = opening(&daemon, domain);
        let open = client.read_text().unwrap();
        assert!(open.contains(" id=\"one\""), "{domain}: {open}");
    }
    daemon.stop();
}

#[test]
fn the_hosts_file_comes_before_the_dns() {
    let one = Answering::start("one");
    let dns = DnsServer::start("");
    // A machine without a hosts file knows this name too.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or("127.0.0.1 localhost".to_owned());
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap());
    let names: Vec<&str> = lines
        .filter(|line| line.split_whitespace().next() == Some("127.0.0.1"))
        .flat_map(|line| line.split_whitespace().skip(1))
        .collect();
    assert!(names.contains(&"localhost"), "{hosts}");
    for (at, name) in names.iter().enumerate() {
        dns.add(&format!(
            "_xmpp-client._tcp.x{at}.example SRV 1 1 {} {name}
             {name} A 127.255.255.254",
            one.port()
        ));
    }
    let daemon = daemon_asking(&dns, "domains: ['*.example']\n");
    for (at, name) in names.iter().enumerate() {
        drop(reach(&daemon, &format!("x{at}.example"), "one"));
        assert_eq!(dns.asked(name, A), 0, "{name}");
    }
    daemon.stop();
}

#[test]
fn a_configured_server_is_not_looked_for() {
    let one = Answering::start("one");
    let closed = closed();
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {} wrong.example
         wrong.example A {}
         a.example A 127.0.0.1",
        closed.port(),
        closed.ip(),
    ));
    let config = format!(
        "domains:\n  - name: x.example\n    server: a.example:{}\n",
        one.port()
    );
    let daemon = daemon_asking(&dns, &config);
    let _client = reach(&daemon, "x.example", "one");
    for service in [CLEAR, DIRECT] {
        assert_eq!(dns.asked(service, SRV), 0, "{service}");
    }
    daemon.stop();
}

#[test]
fn only_services_that_the_policy_allows_are_asked_for() {
    let one = Answering::start("one");
    let zone = format!(
        "{CLEAR} SRV 1 1 {0} a.example
         {DIRECT} SRV 1 1 {0} a.example
         a.example A 127.0.0.1",
        one.port(),
    );
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, &format!("{LISTED}server_tls: none\n"));
    drop(reach(&daemon, "x.example", "one"));
    assert_eq!(dns.asked(DIRECT, SRV), 0);
    daemon.stop();
    let dns = DnsServer::start(&zone);
    let daemon = daemon_asking(&dns, &format!("{LISTED}server_tls: direct\n"));
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    assert_eq!(one.wait_received(1, b"x.example")[0], 0x16);
    assert_eq!(dns.asked(CLEAR, SRV), 0);
    // There is no standard port for TLS from the first byte.
    dns.remove(DIRECT);
    dns.add("x.example A 127.0.0.1");
    let other = daemon_asking(&dns, &format!("{LISTED}server_tls: direct\n"));
    reach_nothing(&other, "x.example", "host-unknown");
    expect_no_fallback(&dns);
    daemon.stop();
    other.stop();
}
