//! What a trial says of servers that work, at least in part.

use super::{LOGIN, Trial, certificate_at, listing};
use crate::common::answering::{Answering, FEATURES, closed};
use crate::common::certificates::{Authority, self_signed};
use crate::common::stage::{END, HEADER, OPEN_UP};
use crate::common::tls_server::{TlsServer, entry};

#[test]
fn a_server_that_works_with_tls() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    let server = TlsServer::start(&authority.identity(&["example.org", "*.example.org"]));
    let address = server.tcp.address;
    for (tls, by) in [("tls: required", "by STARTTLS"), ("tls: direct", "at once")] {
        let entry = entry("example.org", &address.to_string(), Some(&ca_file), &[tls]);
        let trial = Trial::start("example.org", &format!("domains:\n{entry}"));
        let mut connection = match tls {
            "tls: direct" => server.direct(),
            _ => server.starttls(),
        };
        connection.expect(OPEN_UP);
        connection.send(HEADER);
        connection.send(LOGIN);
        connection.expect(END);
        let printed = trial.end();
        let verdict = format!("example.org works: {address}, TLSv1.3, login by PLAIN.");
        assert_eq!(
            (printed.verdict.as_str(), printed.status),
            (&verdict[..], 0)
        );
        printed.expect_step(
            "rule",
            &format!("'example.org' in 'domains'; server: {address}"),
        );
        printed.expect_step("connected", &format!("to {address} from 127.0.0.1:"));
        printed.expect_step("tls", &format!("TLSv1.3, TLS_AES_256_GCM_SHA384, {by}"));
        printed.expect_step(
            "certificate",
            "for example.org, *.example.org; issued by CN=an auth",
        );
        printed.expect_step("stream", "from example.org, version 1.0, id s1");
        printed.expect_step("features", "mechanisms: PLAIN; SASL2: none");
        printed.expect_step("removed", "SCRAM-SHA-1-PLUS: not relayed to web pages");
    }
}

/// Some servers work, but not as the operator may think.
#[test]
fn a_server_that_works_in_part() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: none"]);
    let printed = Trial::start("example.org", &config).end();
    let verdict = format!(
        "example.org works: {}, plain text, login by PLAIN.",
        server.address
    );
    assert_eq!((printed.verdict, printed.status), (verdict, 0));
    let server = Answering::saying("127.0.0.1:0", "s", FEATURES);
    let config = listing(server.address, &["tls: none"]);
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: the server offers no way to log in; enable a mechanism \
         there, and see whether it requires TLS for the login.",
    );
    let server = TlsServer::start(&self_signed(&[]));
    let more = ["tls: required", "verify: false"];
    let trial = Trial::start("example.org", &listing(server.tcp.address, &more));
    let mut connection = server.starttls();
    connection.greet(OPEN_UP);
    let printed = trial.end();
    let end = "login by PLAIN, but its certificate is not verified ('verify: false').";
    assert!(printed.verdict.ends_with(end), "{}", printed.verdict);
    assert_eq!(printed.status, 0);
}

/// Of two servers, the one that a session comes closest to using counts.
#[test]
fn several_servers_that_do_not_work() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    let server = TlsServer::start(&self_signed(&["example.org"]));
    let (address, closed) = (server.tcp.address, closed());
    let config = format!(
        "domains:\n  - name: example.org\n    tls: required\n    ca_file: {}\n    server:\n      \
         - {address}\n      - address: {closed}\n        backup: true\n",
        ca_file.0.display()
    );
    let trial = Trial::start("example.org", &config);
    drop(server.try_proceed(server.asked()));
    let sentence = "is self-signed; install one of an authority, or name this one in 'ca_file'";
    let printed = trial.expect_failure(&certificate_at(address, sentence));
    printed.expect_step("connect", &format!("{closed}: Connection refused"));
}

#[test]
fn a_redirect_is_followed() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let error = format!(
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{}\
         </see-other-host></stream:error>",
        server.address
    );
    let first = Answering::saying("127.0.0.1:0", "f", &error);
    let config = listing(first.address, &["tls: none"]);
    let printed = Trial::start("example.org", &config).end();
    let verdict = format!(
        "example.org works: {}, plain text, login by PLAIN.",
        server.address
    );
    assert_eq!(printed.verdict, verdict);
    printed.expect_step("redirect", &server.address.to_string());
}
