//! Which certificates are accepted for a domain: signed by an authority in the domain's
//! file, valid at present, with the domain as a DNS name. With any other certificate the
//! session ends before it begins, and the log says why.

use std::process::Command;

use crate::common::certificates::{Authority, Content, Identity, self_signed};
use crate::common::daemon::{Daemon, PROGRAM, TempFile};
use crate::common::stage::*;
use crate::common::tls_server::*;
use crate::common::ws_client::WsClient;

/// A client that opens a stream to `domain`.
fn client(daemon: &Daemon, domain: &str) -> WsClient {
    let mut client = daemon.client();
    let open = OPEN.replace("example.org", domain);
    client.send_text(&open).unwrap();
    client
}

/// Does the server's part up to the TLS handshake; returns the outcome.
fn handshake(server: &TlsServer, name: &str) -> Result<TlsConnection, String> {
    let mut connection = server.tcp.accept();
    connection.expect(&OPEN_UP.replace("example.org", name));
    connection.send(&format!("{CLEAR_HEADER}{OFFER}"));
    connection.expect(STARTTLS);
    server.try_proceed(connection)
}

/// Fails unless a session for `domain` works; `name` is the domain in A-labels.
fn expect_served(daemon: &Daemon, server: &TlsServer, (domain, name): (&str, &str)) {
    let mut client = client(daemon, domain);
    let mut connection = handshake(server, name).unwrap_or_else(|why| panic!("{domain}: {why}"));
    assert_eq!(server.hello().sni.as_deref(), Some(name));
    connection.greet(&OPEN_UP.replace("example.org", name));
    expect_greeted(&mut client);
}

/// Fails unless the session for `domain` is refused, with `cause` in one line of the log.
fn expect_refused(daemon: &Daemon, server: &TlsServer, domain: &str, cause: &str) {
    let mut client = client(daemon, domain);
    match handshake(server, domain) {
        Err(_) => {}
        // In TLS 1.3 the server sees the refusal only after it has completed the
        // handshake.
        Ok(mut connection) => {
            let said = connection.read_end().1;
            assert_eq!(said, "", "{domain}: nothing is told to a stranger");
        }
    }
    expect_no_way(&mut client, domain);
    let peer = client.stream.local_addr().unwrap();
    let start = format!(" {peer}: cannot reach the server of {domain}: ");
    let line = daemon.wait_for_line(&start);
    let address = server.tcp.address.to_string();
    let told = line.contains(&address) && line.contains(cause);
    assert!(told, "{cause:?} for {domain} in {line}");
    let lines = daemon.lines();
    let count = lines.iter().filter(|line| line.contains(&start)).count();
    assert_eq!(count, 1, "{lines:#?}");
}

/// Starts a daemon with `server` for all of `names`.
fn daemon(server: &TlsServer, ca_file: &TempFile, names: &[&str], more: &[&str]) -> Daemon {
    let address = server.tcp.address.to_string();
    let entries = names.iter();
    let entries = entries.map(|name| entry(name, &address, Some(ca_file), more));
    Daemon::start(&format!("domains:\n{}", entries.collect::<String>()))
}

/// Certificates that must be refused for `example.org`, and why.
fn bad_ones(authority: &Authority) -> Vec<(&'static str, Identity, &'static str)> {
    let own = |dns| authority.identity(dns);
    let mismatch = "hostname mismatch";
    let no_authority = "unable to get local issuer certificate";
    vec![
        ("wrong name", own(&["example.com"]), mismatch),
        ("longer", own(&["www.example.org"]), mismatch),
        ("shorter", own(&["org"]), mismatch),
        ("wildcard below", own(&["*.example.org"]), mismatch),
        ("wildcard within a label", own(&["ex*.org"]), mismatch),
        ("wildcard of all", own(&["*", "*.*"]), mismatch),
        (
            "common name only",
            authority.sign(&Content {
                common_name: "example.org",
                ..Content::default()
            }),
            mismatch,
        ),
        (
            "common name beside another",
            authority.sign(&Content {
                common_name: "example.org",
                dns: &["example.com"],
                ..Content::default()
            }),
            mismatch,
        ),
        (
            "expired",
            authority.sign(&Content {
                dns: &["example.org"],
                not_after: "20210101000000Z",
                ..Content::default()
            }),
            "certificate has expired",
        ),
        ("self-signed", self_signed(&["example.org"]), "self-signed"),
        (
            "unknown authority",
            Authority::new_named("another").identity(&["example.org"]),
            no_authority,
        ),
    ]
}

#[test]
fn a_bad_certificate_ends_the_session() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    for (case, identity, cause) in bad_ones(&authority) {
        println!("{case}");
        let server = TlsServer::start(&identity);
        let daemon = daemon(&server, &ca_file, &["example.org"], &["tls: required"]);
        expect_refused(&daemon, &server, "example.org", cause);
        daemon.stop();
    }
}

#[test]
fn a_bad_certificate_ends_the_session_in_direct_tls() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["example.com"]));
    let ca_file = authority.ca_file();
    let daemon = daemon(&server, &ca_file, &["example.org"], &["tls: direct"]);
    let mut client = client(&daemon, "example.org");
    if let Ok(mut connection) = server.try_handshake(server.tcp.accept().stream) {
        assert_eq!(connection.read_end().1, "");
    }
    expect_no_way(&mut client, "direct TLS");
    daemon.wait_for_line("hostname mismatch");
    daemon.stop();
}

/// jabsocket does not use plain text with a server that offers TLS with a bad
/// certificate.
#[test]
fn a_bad_certificate_is_no_reason_for_plain_text() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["example.com"]));
    let ca_file = authority.ca_file();
    let daemon = daemon(&server, &ca_file, &["example.org"], &["tls: auto"]);
    expect_refused(&daemon, &server, "example.org", "hostname mismatch");
    assert!(server.tcp.is_alone(), "another connection");
    daemon.stop();
}

#[test]
fn a_wildcard_stands_for_one_label() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["*.example.org"]));
    let ca_file = authority.ca_file();
    let names = ["*.example.org", "example.org"];
    let daemon = daemon(&server, &ca_file, &names, &["tls: required"]);
    for domain in ["a.example.org", "long-label.example.org"] {
        expect_served(&daemon, &server, (domain, domain));
    }
    for domain in ["b.a.example.org", "example.org"] {
        expect_refused(&daemon, &server, domain, "hostname mismatch");
    }
    daemon.stop();
}

#[test]
fn names_are_compared_as_dns_names() {
    let authority = Authority::new();
    let names = ["other.example", "EXAMPLE.Org", "xn--bcher-kva.example"];
    let server = TlsServer::start(&authority.identity(&names));
    let ca_file = authority.ca_file();
    let domains = ["example.org", "b\u{fc}cher.example"];
    let daemon = daemon(&server, &ca_file, &domains, &["tls: required"]);
    expect_served(&daemon, &server, ("example.org", "example.org"));
    let mut client = client(&daemon, domains[1]);
    let mut connection = server.tcp.accept();
    connection.expect(&OPEN_UP.replace("example.org", domains[1]));
    connection.send(&format!("{CLEAR_HEADER}{OFFER}"));
    connection.expect(STARTTLS);
    let mut connection = server.try_proceed(connection).expect("TLS");
    assert_eq!(server.hello().sni.as_deref(), Some(names[2]));
    connection.greet(&OPEN_UP.replace("example.org", domains[1]));
    expect_greeted(&mut client);
    daemon.stop();
}

/// The address of a server does not matter for its certificate.
#[test]
fn the_name_of_the_host_is_not_enough() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["localhost", "127.0.0.1"]));
    let ca_file = authority.ca_file();
    let host = format!("localhost:{}", server.tcp.address.port());
    let entry = entry("example.org", &host, Some(&ca_file), &["tls: required"]);
    let daemon = Daemon::start(&format!("domains:\n{entry}"));
    expect_refused(&daemon, &server, "example.org", "hostname mismatch");
    daemon.stop();
}

#[test]
fn each_domain_trusts_its_own_file_only() {
    let [one, other] = ["one", "other"].map(Authority::new_named);
    let [one_file, other_file] = [&one, &other].map(Authority::ca_file);
    let names = ["example.org", "example.net", "example.com"];
    let server = TlsServer::start(&one.identity(&names));
    let address = server.tcp.address.to_string();
    let tls = &["tls: required"];
    let config = format!(
        "server_ca_file: {}\ndomains:\n{}{}{}",
        one_file.0.display(),
        entry(names[0], &address, Some(&one_file), tls),
        entry(names[1], &address, Some(&other_file), tls),
        entry(names[2], &address, None, tls),
    );
    let daemon = Daemon::start(&config);
    expect_served(&daemon, &server, (names[0], names[0]));
    let cause = "unable to get local issuer certificate";
    expect_refused(&daemon, &server, names[1], cause);
    expect_served(&daemon, &server, (names[2], names[2]));
    // A ticket from another domain does not help.
    expect_refused(&daemon, &server, names[1], cause);
    daemon.stop();
}

#[test]
fn the_authorities_of_the_system_do_not_know_ours() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority.identity(&["example.org"]));
    let address = server.tcp.address.to_string();
    let entry = entry("example.org", &address, None, &["tls: required"]);
    let daemon = Daemon::start(&format!("domains:\n{entry}"));
    expect_refused(&daemon, &server, "example.org", "issuer certificate");
    daemon.stop();
}

#[test]
fn a_file_may_hold_several_authorities() {
    let authorities = ["one", "other"].map(Authority::new_named);
    let pem = authorities.each_ref().map(|authority| {
        let pem = authority.0.certificate.to_pem().expect("PEM");
        String::from_utf8(pem).expect("text")
    });
    let ca_file = TempFile::new(&pem.concat());
    for authority in &authorities {
        let server = TlsServer::start(&authority.identity(&["example.org"]));
        let daemon = daemon(&server, &ca_file, &["example.org"], &["tls: required"]);
        expect_served(&daemon, &server, ("example.org", "example.org"));
        daemon.stop();
    }
}

/// Each costs a tenth of a millisecond, whether it is needed or not.
#[test]
fn a_server_must_not_send_many_certificates() {
    let authority = Authority::new();
    let identity = authority.identity(&["example.org"]);
    let size = identity.certificate.to_der().expect("DER").len();
    for (bytes, is_served) in [(25_000, true), (40_000, false)] {
        let server = TlsServer::start_with(&identity, |builder| {
            for _ in 0..bytes / size {
                let copy = identity.certificate.clone();
                builder.add_extra_chain_cert(copy).expect("it");
            }
        });
        let ca_file = authority.ca_file();
        let daemon = daemon(&server, &ca_file, &["example.org"], &["tls: required"]);
        match is_served {
            true => expect_served(&daemon, &server, ("example.org", "example.org")),
            false => expect_refused(&daemon, &server, "example.org", "excessive message size"),
        }
        daemon.stop();
    }
}

#[test]
fn without_verification_all_pass() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    for (case, identity, _) in bad_ones(&authority) {
        println!("{case}");
        let server = TlsServer::start(&identity);
        let more = ["tls: required", "verify: false"];
        let daemon = daemon(&server, &ca_file, &["example.org"], &more);
        expect_served(&daemon, &server, ("example.org", "example.org"));
        daemon.stop();
    }
}

/// The log warns about a domain without verification.
#[test]
fn verification_that_is_off_is_in_the_log() {
    let authority = Authority::new();
    let server = TlsServer::start(&self_signed(&["example.org"]));
    let more = ["tls: required", "verify: false"];
    let ca_file = authority.ca_file();
    let daemon = daemon(&server, &ca_file, &["example.org"], &more);
    expect_served(&daemon, &server, ("example.org", "example.org"));
    let lines = daemon.lines();
    daemon.stop();
    let warned = |line: &&String| line.contains("example.org") && line.contains("verif");
    assert!(lines.iter().any(|line| warned(&line)), "{lines:#?}");
}

/// Starts the daemon with this `ca_file`; returns what it says when it fails.
fn refused_start(key: &str, ca_file: &str) -> String {
    let config = match key {
        "ca_file" => format!("domains:\n  - name: example.org\n    ca_file: {ca_file}\n"),
        _ => format!("{key}: {ca_file}\n"),
    };
    let config = TempFile::new(&format!("port: 0\nlisten: 127.0.0.1\n{config}"));
    let output = Command::new(PROGRAM)
        .args(["-n", "-c"])
        .arg(&config.0)
        .output()
        .expect("run the daemon");
    assert_ne!(output.status.code(), Some(0), "{key}: {ca_file}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_file_without_authorities_keeps_the_daemon_from_starting() {
    let key = Authority::new().identity(&["example.org"]).key;
    let key = key.private_key_to_pem_pkcs8().expect("PEM");
    let begun = "-----BEGIN CERTIFICATE-----\nMIIB\n";
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let texts = [
        "",
        "garbage\n",
        begun,
        broken,
        std::str::from_utf8(&key).expect("text"),
    ];
    let missing = "/nowhere/ca.pem".to_owned();
    for name in ["ca_file", "server_ca_file"] {
        for text in texts {
            let file = TempFile::new(text);
            let path = file.0.display().to_string();
            let said = refused_start(name, &path);
            let told = said.contains(&path) && said.contains("PEM certificate");
            assert!(told, "{name} {text:?}: {said}");
        }
        let said = refused_start(name, &missing);
        let told = said.contains(&missing) && said.contains("No such file");
        assert!(told, "{name}: {said}");
        let said = refused_start(name, "/tmp");
        assert!(said.contains("/tmp: Is a directory"), "{name}: {said}");
    }
}
