//! jabsocket uses only the servers in resolv.conf and follows changes to them. It ignores
//! search domains and other settings of the file and the environment that would change
//! the name in a question.

use std::fs;
use std::net::Ipv4Addr;

use crate::common::answering::*;
use crate::common::daemon::{Daemon, TempFile};
use crate::common::dns_server::{A, AAAA, DnsServer, SRV};
use crate::common::looking_up::LookingUp;
use jabsocket::net::source::Source;
use nix::unistd::geteuid;

const CLEAR: &str = "_xmpp-client._tcp.x.example";
const DIRECT: &str = "_xmpps-client._tcp.x.example";

/// A server at the standard port, because resolv.conf cannot name another. `None` for
/// users other than root.
fn standard_server(zone: &str) -> Option<(Ipv4Addr, DnsServer)> {
    if !geteuid().is_root() {
        return None;
    }
    let own = own_address();
    Some((own, DnsServer::start_at((own, 53), zone)))
}

/// Fails unless exactly these questions were asked.
fn expect_asked(dns: &DnsServer, expected: &[(&str, u16)]) {
    let all = dns.all_asked();
    let all: Vec<_> = all
        .iter()
        .map(|(name, kind, _)| (name.as_str(), *kind))
        .collect();
    assert_eq!(all, expected);
}

#[test]
fn the_environment_does_not_lead_to_other_names() {
    let stranger = Answering::start("stranger");
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.x.example.evil.example SRV 1 1 {} x.example.evil.example
         x.example.evil.example A 127.0.0.1
         c.example.evil.example A 127.0.0.1",
        stranger.port()
    ));
    let config = format!(
        "dns_servers: {}
domains:
  - x.example
  - name: y.example
    server: c.example:{}
",
        dns.address,
        stranger.port()
    );
    let environment = [("LOCALDOMAIN", "evil.example"), ("RES_OPTIONS", "ndots:5")];
    let daemon = Daemon::start_in("127.0.0.1", &config, &environment);
    reach_nothing(&daemon, "x.example", "host-unknown");
    reach_nothing(&daemon, "y.example", "remote-connection-failed");
    expect_asked(
        &dns,
        &[
            (CLEAR, SRV),
            (DIRECT, SRV),
            ("c.example", A),
            ("c.example", AAAA),
            ("x.example", A),
            ("x.example", AAAA),
        ],
    );
    assert_eq!(stranger.connections(), 0);
    daemon.stop();
}

#[test]
fn search_domains_are_not_used() {
    let Some((own, dns)) = standard_server(
        "x.example.evil.example A 192.0.2.66
         a.example.evil.example A 192.0.2.66",
    ) else {
        return;
    };
    dns.add(&format!("{CLEAR} SRV 1 1 5269 a.example"));
    let words = "options ndots:5 rotate";
    for search in ["search evil.example other.example", "domain evil.example"] {
        let file = TempFile::new(&format!("{search}\nnameserver {own}\n{words}\n"));
        let mut looking_up = LookingUp::following(file.0.clone());
        looking_up.look_up(1, "x.example", Source::Unix, 0);
        let answer = looking_up.answer(1, 0);
        assert!(answer.targets.is_err(), "{answer:?}");
        expect_asked(
            &dns,
            &[
                (CLEAR, SRV),
                (DIRECT, SRV),
                ("a.example", A),
                ("a.example", AAAA),
            ],
        );
    }
}

#[test]
fn other_servers_are_asked_once_the_file_has_changed() {
    let zone = |address: &str| format!("{CLEAR} 0 SRV 1 1 5269 a.example\na.example 0 A {address}");
    let Some((old_address, old)) = standard_server(&zone("192.0.2.1")) else {
        return;
    };
    let Some((new_address, new)) = standard_server(&zone("192.0.2.2")) else {
        return;
    };
    let file = TempFile::new(&format!("nameserver {old_address}\n"));
    let mut looking_up = LookingUp::following(file.0.clone());
    looking_up.look_up(1, "x.example", Source::Unix, 0);
    assert_eq!(looking_up.address(1, 0), "192.0.2.1:5269");
    // In progress during the change.
    old.say_nothing_on("silent.example");
    new.add("silent.example A 192.0.2.3");
    looking_up.look_up(2, "silent.example", Source::Unix, 500);
    looking_up.turn(500);
    fs::write(&file.0, format!("nameserver {new_address}\n")).unwrap();
    // At most one look per second.
    looking_up.look_up(3, "x.example", Source::Unix, 999);
    assert_eq!(looking_up.address(3, 999), "192.0.2.1:5269");
    looking_up.look_up(4, "x.example", Source::Unix, 1000);
    assert_eq!(looking_up.address(4, 1000), "192.0.2.2:5269");
    assert_eq!(looking_up.address(2, 1000), "192.0.2.3:5222");
    let note = looking_up.locator.resolver.next_note().expect("a note");
    assert!(note.ends_with("has changed and was read again"), "{note}");
    // While the file is missing, the old servers stay in use.
    fs::remove_file(&file.0).unwrap();
    looking_up.look_up(5, "x.example", Source::Unix, 2000);
    assert_eq!(looking_up.address(5, 2000), "192.0.2.2:5269");
    fs::write(&file.0, format!("nameserver {old_address}\n")).unwrap();
    looking_up.look_up(6, "x.example", Source::Unix, 3000);
    assert_eq!(looking_up.address(6, 3000), "192.0.2.1:5269");
}
