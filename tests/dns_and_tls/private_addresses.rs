//! Where the DNS of an unlisted domain may lead: not to internal addresses, except for
//! the domain's own address at the standard port.

use std::process::Command;

use nix::unistd::geteuid;

use crate::common::answering::*;
use crate::common::daemon::Daemon;
use crate::common::dns_server::{A, DnsServer};
use crate::common::patiently;

const CLEAR: &str = "_xmpp-client._tcp.x.example";

/// Fails unless the session ends because `address` is internal.
fn expect_refused(daemon: &Daemon, address: &str) {
    let line = refused(daemon);
    assert!(line.contains(&format!(": {address} ")), "{line}");
}

/// The log line that says why the session ended. Fails unless the reason is an internal
/// address.
fn refused(daemon: &Daemon) -> String {
    reach_nothing(daemon, "x.example", "remote-connection-failed");
    let line = daemon.wait_for_line("cannot reach the server of x.example");
    assert!(line.contains("'private_addresses'"), "{line}");
    line
}

/// A zone with an SRV record that leads to loopback.
fn by_record(server: &Answering) -> String {
    format!(
        "{CLEAR} SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        server.port(),
    )
}

#[test]
fn the_domain_s_own_address_at_the_standard_port_is_allowed() {
    let own = own_address();
    let _one = Answering::start_at((own, PORT), "one");
    let dns = DnsServer::start(&format!("x.example A {own}"));
    for config in ["", "private_addresses: standard-port\n"] {
        let daemon = daemon_asking(&dns, config);
        drop(reach(&daemon, "x.example", "one"));
        daemon.stop();
    }
}

#[test]
fn a_record_must_not_lead_to_an_internal_address() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&by_record(&one));
    let daemon = daemon_asking(&dns, "");
    expect_refused(&daemon, &one.address.to_string());
    assert_eq!(one.connections(), 0);
    daemon.stop();
    // Not even at the standard port, because the domain's owner chose the host.
    let own = own_address();
    let standard = Answering::start_at((own, PORT), "standard");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 5222 x.example\nx.example A {own}"
    ));
    let daemon = daemon_asking(&dns, "");
    expect_refused(&daemon, &standard.address.to_string());
    assert_eq!(standard.connections(), 0);
    daemon.stop();
}

#[test]
fn no_record_leads_to_an_internal_address_by_any_name() {
    let one = Answering::start("one");
    for (host, address) in [
        ("a.example", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("b.example", "[::1]"),
        ("c.example", "[::ffff:127.0.0.1]"),
        ("d.example", "0.0.0.0"),
        ("e.example", "[::]"),
        ("f.example", "10.0.0.1"),
        ("g.example", "169.254.169.254"),
        ("h.example", "[64:ff9b::7f00:1]"),
        ("alias.example", "127.0.0.1"),
    ] {
        let dns = DnsServer::start(&format!(
            "{CLEAR} SRV 1 1 {} {host}
             a.example A 127.0.0.1
             b.example AAAA ::1
             c.example AAAA ::ffff:127.0.0.1
             d.example A 0.0.0.0
             e.example AAAA ::
             f.example A 10.0.0.1
             g.example A 169.254.169.254
             h.example AAAA 64:ff9b::7f00:1
             alias.example CNAME a.example",
            one.port()
        ));
        let daemon = daemon_asking(&dns, "");
        let line = refused(&daemon);
        let either = host == "localhost" && line.contains(": [::1]:");
        let named = line.contains(&format!(": {address}:{} ", one.port()));
        assert!(named || either, "{host}: {line}");
        daemon.stop();
    }
    assert_eq!(one.connections(), 0);
}

#[test]
fn all_internal_addresses_are_refused_if_so_configured() {
    let own = own_address();
    let one = Answering::start_at((own, PORT), "one");
    for (zone, address) in [
        (format!("x.example A {own}"), format!("{own}:5222")),
        (
            format!("x.example AAAA ::ffff:{own}"),
            format!("[::ffff:{own}]:5222"),
        ),
        (
            format!("{CLEAR} SRV 1 1 5222 a.example\na.example A {own}"),
            format!("{own}:5222"),
        ),
    ] {
        let dns = DnsServer::start(&zone);
        let daemon = daemon_asking(&dns, "private_addresses: refuse\n");
        expect_refused(&daemon, &address);
        daemon.stop();
    }
    assert_eq!(one.connections(), 0);
}

#[test]
fn all_internal_addresses_are_allowed_if_so_configured() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&by_record(&one));
    let daemon = daemon_asking(&dns, "private_addresses: allow\n");
    drop(reach(&daemon, "x.example", "one"));
    daemon.stop();
}

#[test]
fn a_listed_domain_may_lead_anywhere() {
    let own = own_address();
    let (one, _standard) = (
        Answering::start("one"),
        Answering::start_at((own, PORT), "standard"),
    );
    let dns = DnsServer::start(&format!("{}\ny.x.example A {own}", by_record(&one)));
    for policy in ["standard-port", "refuse"] {
        let config = format!("domains: [x.example, '*.x.example']\nprivate_addresses: {policy}\n");
        let daemon = daemon_asking(&dns, &config);
        drop(reach(&daemon, "x.example", "one"));
        drop(reach(&daemon, "y.x.example", "standard"));
        daemon.stop();
    }
}

#[test]
fn an_address_refused_does_not_keep_from_the_next() {
    let own = own_address();
    let (inside, one) = (
        Answering::start("inside"),
        Answering::start_at((own, PORT), "one"),
    );
    // The record is skipped. The domain's own address is not used either, because it only
    // applies without records.
    let dns = DnsServer::start(&format!("{}\nx.example A {own}", by_record(&inside)));
    let daemon = daemon_asking(&dns, "");
    expect_refused(&daemon, &inside.address.to_string());
    assert_eq!(dns.asked("x.example", A), 0);
    assert_eq!((inside.connections(), one.connections()), (0, 0));
    daemon.stop();
}

#[test]
fn a_server_must_not_redirect_to_an_internal_address() {
    let own = own_address();
    let (inside, inside_standard) = (
        Answering::start("inside"),
        Answering::start_at((own_address(), PORT), "inside"),
    );
    for (place, address) in [
        (inside.address.to_string(), inside.address),
        (format!("a.example:{}", inside.port()), inside.address),
        (
            inside_standard.address.ip().to_string(),
            inside_standard.address,
        ),
    ] {
        let said = format!(
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{place}\
             </see-other-host></stream:error></stream:stream>"
        );
        let first = Answering::saying(&format!("{own}:5222"), "first", &said);
        let dns = DnsServer::start(&format!("x.example A {own}\na.example A 127.0.0.1"));
        let daemon = daemon_asking(&dns, "");
        expect_refused(&daemon, &address.to_string());
        assert_eq!(first.connections(), 1, "{place}");
        daemon.stop();
    }
    let connections = (inside.connections(), inside_standard.connections());
    assert_eq!(connections, (0, 0));
}

/// Set if a test runs in its own network namespace.
const OWN_NETWORK: &str = "JABSOCKET_OWN_NETWORK";

/// Runs a test of this program again, in a network namespace whose loopback interface
/// has another `address`.
fn in_own_network(test: &str, address: &str) {
    let namespaces: &[&str] = match geteuid().is_root() {
        true => &["--net"],
        false => &["--user", "--map-root-user", "--net"],
    };
    let prepare = format!("ip link set lo up && ip address add {address} dev lo && exec \"$@\"");
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-c", &prepare, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(OWN_NETWORK, "1")
        .output()
        .expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{why}");
    assert!(said.contains("1 passed"), "{said}{why}");
}

#[test]
fn a_public_address_of_this_host_is_internal() {
    let [first, later] = ["198.51.100.7", "198.51.100.8"];
    if std::env::var_os(OWN_NETWORK).is_none() {
        let test = "private_addresses::a_public_address_of_this_host_is_internal";
        return in_own_network(test, first);
    }
    let one = Answering::saying(&format!("{first}:0"), "one", FEATURES);
    let standard = Answering::saying(&format!("{first}:5222"), "standard", FEATURES);
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV 1 1 {port} a.example
         a.example A {first}
         _xmpp-client._tcp.z.example SRV 1 1 {port} b.example
         b.example AAAA 64:ff9b::{first}
         y.example A {first}
         _xmpp-client._tcp.w.example SRV 1 1 {port} c.example
         c.example A {later}",
        port = one.port()
    ));
    let tls = "server_tls: none\n";
    let daemon = daemon_asking(&dns, tls);
    expect_refused(&daemon, &one.address.to_string());
    reach_nothing(&daemon, "z.example", "remote-connection-failed");
    let line = daemon.wait_for_line("cannot reach the server of z.example");
    assert!(line.contains("'private_addresses'"), "{line}");
    drop(reach(&daemon, "y.example", "standard"));
    // The daemon notices an address that is added later.
    let command = format!("ip address add {later} dev lo");
    let added = Command::new("sh").args(["-c", &command]).status().unwrap();
    assert!(added.success());
    patiently("the new address", || {
        let seen = daemon.lines().len();
        reach_nothing(&daemon, "w.example", "remote-connection-failed");
        let line = daemon.wait_for_line_after(seen, "cannot reach the server of w.example");
        line.contains("'private_addresses'").then_some(())
    });
    daemon.stop();
    let daemon = daemon_asking(&dns, &format!("{tls}private_addresses: refuse\n"));
    expect_refused(&daemon, &one.address.to_string());
    reach_nothing(&daemon, "y.example", "remote-connection-failed");
    daemon.stop();
    assert_eq!((one.connections(), standard.connections()), (0, 1));
    let daemon = daemon_asking(&dns, &format!("{tls}private_addresses: allow\n"));
    drop(reach(&daemon, "x.example", "one"));
    daemon.stop();
}

#[test]
fn a_stranger_chooses_nothing_of_a_header_in_clear_text() {
    let framed = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='x.example' \
                  version='1.0' from='u@x.example' odd='CHOSEN'/>";
    // If jabsocket rewrites the header, the prefix differs. This server expects the
    // rewritten one.
    let draft = |prefix: &str| {
        format!(
            "<{prefix}:stream to='x.example' xmlns='jabber:client' version='1.0' odd='CHOSEN' \
             xmlns:{prefix}='http://etherx.jabber.org/streams'><message id='REST'/>"
        )
    };
    let own = own_address();
    let server = Answering::start_at((own, PORT), "one");
    let dns = DnsServer::start(&format!("x.example A {own}"));
    let mut connections = 0;
    for (config, is_listed) in [
        ("", false),
        ("server_tls: none\n", false),
        ("domains: [x.example]\nserver_tls: none\n", true),
    ] {
        let daemon = daemon_asking(&dns, config);
        let draft = draft(if is_listed { "stream" } else { "s" });
        for first in [framed, draft.as_str()] {
            let mut client = daemon.client();
            client.send_text(first).unwrap();
            let header = client.read_text().expect("a header");
            assert!(header.contains("id="), "{header}");
            client
                .send_text("<presence xmlns='jabber:client'/>")
                .unwrap();
            let bytes = server.wait_received(connections, b"<presence");
            let text = String::from_utf8(bytes).unwrap();
            assert_eq!(
                text.contains("CHOSEN"),
                is_listed,
                "{config}{first}: {text}"
            );
            assert_eq!(text.contains("u@x"), is_listed && first == framed, "{text}");
            assert_eq!(text.contains("REST"), first != framed, "{text}");
            connections += 1;
        }
        daemon.stop();
    }
}
