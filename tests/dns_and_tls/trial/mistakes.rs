//! What a trial says of typical mistakes.

use super::{LOGIN, Trial, certificate_at, listing};
use crate::common::answering::{Answering, BlackHole, closed};
use crate::common::certificates::{Authority, Content, Identity, self_signed};
use crate::common::dns_server::DnsServer;
use crate::common::tls_server::{TlsServer, entry};
use crate::common::xmpp_server::XmppServer;

#[test]
fn no_record_leads_to_a_server() {
    let dns = DnsServer::start("");
    let config = format!("dns_servers: {}\n", dns.address);
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: neither the hosts file nor the DNS has a server for it \
         (_xmpp-client._tcp.example.org SRV, _xmpps-client._tcp.example.org SRV, example.org A, \
         example.org AAAA); create the records, or name its server in the configuration \
         ('server').",
    );
    let server = listing("a.b.example:5222", &[]);
    Trial::start("example.org", &format!("{config}{server}")).expect_failure(
        "example.org does not work: the name of its server has no address (a.b.example A, \
         a.b.example AAAA); correct the SRV record or the configuration ('server').",
    );
    dns.add("_xmpp-client._tcp.example.org SRV 0 0 0 .");
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: its SRV records say that it offers no XMPP service ('.'); \
         correct them, or name its server in the configuration ('server').",
    );
}

#[test]
fn a_port_without_a_server() {
    let address = closed();
    let refused = format!("no server listens at {address} (Connection refused (os error 111))");
    let config = listing(address, &[]);
    Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {refused}; start the server, or correct 'server' in the \
         configuration."
    ));
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.example.org SRV 5 6 {} a.example.org
         a.example.org A {}",
        address.port(),
        address.ip()
    ));
    let config = format!("dns_servers: {}\ndomains: [example.org]\n", dns.address);
    let printed = Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {refused}; start the server, or correct the SRV record."
    ));
    printed.expect_step("hosts", "example.org: none");
    let record = format!(
        "SRV: a.example.org:{} (priority 5, weight 6)",
        address.port()
    );
    printed.expect_step("dns", &format!("_xmpp-client._tcp.example.org {record}"));
    printed.expect_step("dns", "_xmpps-client._tcp.example.org SRV: none");
    printed.expect_step("dns", &format!("a.example.org A: {}", address.ip()));
    printed.expect_step("addresses", &address.to_string());
    printed.expect_step("connect", &format!("{address}: Connection refused"));
}

#[test]
fn a_host_that_does_not_answer() {
    let hole = BlackHole::start("127.0.0.1:0");
    let config = format!("connect_timeout: 1\n{}", listing(hole.address, &[]));
    Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: nothing answers at {}; check that the host is up and that \
         no firewall drops the packets.",
        hole.address
    ));
}

#[test]
fn a_server_that_says_nothing() {
    let server = XmppServer::start();
    for tls in ["tls: required", "tls: none", "tls: direct"] {
        let config = format!("connect_timeout: 1\n{}", listing(server.address, &[tls]));
        let printed = Trial::start("example.org", &config).end();
        let start = format!(
            "example.org does not work: {} accepts the connection and then does not answer; ",
            server.address
        );
        assert!(printed.verdict.starts_with(&start), "{}", printed.verdict);
        assert_eq!(printed.status, 1);
    }
}

/// After the stream header no deadline of the session runs.
#[test]
fn a_server_without_features_is_named() {
    // Long enough for a stream header on a slow machine.
    let limits = "connect_timeout: 5\nping_interval: 0\n";
    let trials = [String::new(), "<a/>".repeat(1 << 20)].map(|said| {
        let server = Answering::saying("127.0.0.1:0", "s", &said);
        let config = format!("{limits}{}", listing(server.address, &["tls: none"]));
        (Trial::start("example.org", &config), server)
    });
    for (trial, server) in trials {
        let printed = trial.expect_failure(&format!(
            "example.org does not work: {} offers no usable stream (it sends no features); check \
             that this is the client port of an XMPP server, and see its log.",
            server.address
        ));
        printed.expect_step("stream", "version 1.0, id s");
    }
}

#[test]
fn a_dns_that_does_not_answer() {
    let dns = DnsServer::start("");
    dns.say_nothing_on("example.org");
    let config = format!("dns_servers: {}\n", dns.address);
    let limited = format!("connect_timeout: 1\n{config}");
    Trial::start("example.org", &limited).expect_failure(&format!(
        "example.org does not work: the DNS does not answer (asked DNS server {} for \
         example.org); check 'dns_servers' or /etc/resolv.conf, and that these servers can be \
         reached.",
        dns.address
    ));
    dns.add(
        "_xmpp-client._tcp.example.org SRV SERVFAIL\n_xmpps-client._tcp.example.org SRV SERVFAIL",
    );
    let printed = Trial::start("example.org", &config).end();
    let start = "example.org does not work: the DNS does not answer (DNS look-up failed: ";
    assert!(printed.verdict.starts_with(start), "{}", printed.verdict);
}

#[test]
fn certificates_are_refused_with_a_remedy() {
    let (authority, other) = (Authority::new(), Authority::new_named("another"));
    let ca_file = authority.ca_file();
    let expired = Content {
        dns: &["example.org"],
        not_after: "20210101000000Z",
        ..Content::default()
    };
    let cases: [(Identity, &str, &str); 4] = [
        (
            authority.identity(&["example.com", "a\x1b[2J"]),
            "is for example.com, a\\x1b[2J, not for example.org; install one there that has this \
             domain as a DNS name",
            "expires Dec 31 00:00:00 2099 GMT",
        ),
        (
            authority.sign(&expired),
            "has expired: Jan  1 00:00:00 2021 GMT; renew it",
            "for example.org; issued by CN=an authority of the tests; expired Jan  1 00:00:00 2021 \
             GMT (",
        ),
        (
            self_signed(&["example.org"]),
            "is self-signed; install one of an authority, or name this one in 'ca_file'",
            "for example.org; issued by CN=a server",
        ),
        (
            other.identity(&["example.org"]),
            "was issued by CN=another, which is not trusted; let the server send the whole \
             chain, or name the authority in 'ca_file'",
            "for example.org; issued by CN=another",
        ),
    ];
    for (identity, sentence, step) in cases {
        let server = TlsServer::start(&identity);
        let address = server.tcp.address;
        for tls in ["tls: required", "tls: direct"] {
            let entry = entry("example.org", &address.to_string(), Some(&ca_file), &[tls]);
            let trial = Trial::start("example.org", &format!("domains:\n{entry}"));
            let connection = match tls {
                "tls: direct" => server.try_handshake(server.tcp.accept().stream),
                _ => server.try_proceed(server.asked()),
            };
            // In TLS 1.3 the server sees the refusal only later.
            drop(connection);
            let printed = trial.expect_failure(&certificate_at(address, sentence));
            printed.expect_step("certificate", step);
        }
    }
}

#[test]
fn a_server_without_starttls_is_named() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: required"]);
    let printed = Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {} offers no STARTTLS, and plain text is not allowed; enable \
         TLS there, or set 'tls: direct' if it expects TLS at once.",
        server.address
    ));
    printed.expect_step("starttls", "not offered, but asked for");
}

#[test]
fn a_server_that_does_not_serve_the_domain() {
    let error = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        </stream:error></stream:stream>";
    let server = Answering::saying("127.0.0.1:0", "s", error);
    for tls in ["tls: required", "tls: none", "tls: auto"] {
        let config = listing(server.address, &[tls]);
        Trial::start("example.org", &config).expect_failure(&format!(
            "example.org does not work: the server at {} does not serve it (host-unknown); add \
             this domain as a virtual host there, or correct the address.",
            server.address
        ));
    }
}

#[test]
fn a_domain_that_is_not_listed() {
    let printed = Trial::start("example.org", "domains: [example.com]\n").expect_failure(
        "example.org does not work: the configuration does not list it; add it to 'domains'.",
    );
    printed.expect_step("rule", "example.org is not in 'domains'");
    let verdict = Trial::start("a@b", "").end().verdict;
    assert!(
        verdict.starts_with("a@b does not work: the 'to' must be a domain"),
        "{verdict}"
    );
}

#[test]
fn an_internal_address_is_named() {
    let dns =
        DnsServer::start("_xmpp-client._tcp.example.org SRV 5 6 7 a.example\na.example A 10.0.0.1");
    let printed = Trial::start("example.org", &format!("dns_servers: {}\n", dns.address))
        .expect_failure(
            "example.org does not work: it leads to 10.0.0.1:7, an internal address; add it to \
             'domains', or see 'private_addresses'.",
        );
    printed.expect_step(
        "rule",
        "there is no 'domains' list, any domain may be reached",
    );
    printed.expect_step("addresses", "10.0.0.1:7: refused as internal addresses");
}
