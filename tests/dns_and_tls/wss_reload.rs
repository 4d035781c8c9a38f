//! SIGHUP reloads the certificates. New browsers get the new certificate, connected
//! browsers notice nothing, and an invalid certificate changes nothing.

use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::common::certificates::{Authority, Content};
use crate::common::daemon::Daemon;
use crate::common::patiently;
use crate::common::stage::*;
use crate::common::ws_client::WsClient;
use crate::common::wss_stage::{VERSIONS, WssStage, connected, first_name, keys};

/// Replaces the stage's first certificate by one for `names`.
fn replace(stage: &WssStage, names: &[&str]) {
    let new = stage.authority.identity(names);
    let (certificate, key) = new.files(&[&stage.authority.0]);
    fs::copy(&certificate.0, &stage.files[0].0.0).unwrap();
    fs::copy(&key.0, &stage.files[0].1.0).unwrap();
}

#[test]
fn the_next_browser_gets_the_new_certificate() {
    for version in VERSIONS {
        let stage = WssStage::set(&[&["example.com"]], "");
        let mut client = stage.client(version);
        client.send_text(OPEN).unwrap();
        let mut server = both_headers(&mut client, &stage.server);

        replace(&stage, &["renewed.example.com", "example.com"]);
        assert_eq!(
            first_name(&stage.tls("example.com", version)),
            "example.com"
        );
        stage.daemon.signal(Signal::SIGHUP);
        stage.daemon.wait_for_line("configuration reloaded");
        let renewed = stage.tls("renewed.example.com", version);
        assert_eq!(first_name(&renewed), "renewed.example.com");

        client.send_text(PRESENCE).unwrap();
        server.expect(PRESENCE);
        server.send(PRESENCE);
        expect_text(&mut client, PRESENCE);
        stage.daemon.stop();
    }
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing() {
    let stage = WssStage::set(&[&["example.com"]], "");
    let version = VERSIONS[1];
    let (certificate, key) = (&stage.files[0].0.0, &stage.files[0].1.0);
    let whole = (fs::read(certificate).unwrap(), fs::read(key).unwrap());
    let other = stage.authority.identity(&["example.com"]);
    let (_, other_key) = other.files(&[]);
    let other_key = fs::read(&other_key.0).unwrap();
    for (bad_certificate, bad_key, why) in [
        (
            &b"no certificate"[..],
            &whole.1[..],
            "contains no PEM certificate",
        ),
        (&whole.0, b"no key", "not a PEM key"),
        (&whole.0, &other_key, "not the key of the certificate"),
        (&whole.0[..whole.0.len() / 4], &whole.1, "PEM"),
    ] {
        fs::write(certificate, bad_certificate).unwrap();
        fs::write(key, bad_key).unwrap();
        let seen = stage.daemon.lines().len();
        stage.daemon.signal(Signal::SIGHUP);
        let line = stage
            .daemon
            .wait_for_line_after(seen, "keeping the old one: ");
        assert!(line.contains("err: "), "{line}");
        let told = stage.daemon.lines()[seen..]
            .iter()
            .any(|line| line.contains(why));
        assert!(told, "{why}: {:?}", &stage.daemon.lines()[seen..]);
        assert_eq!(
            first_name(&stage.tls("example.com", version)),
            "example.com"
        );
    }
    fs::write(certificate, &whole.0).unwrap();
    fs::write(key, &whole.1).unwrap();
    stage.daemon.signal(Signal::SIGHUP);
    stage.daemon.wait_for_line("configuration reloaded");
    stage.daemon.stop();
}

/// The status of a request for `path`; `None` if the port uses plain text instead of TLS,
/// or the reverse.
fn status(address: SocketAddr, tls: bool, path: &str) -> Option<u16> {
    let tcp = connected(address);
    let response = match tls {
        true => {
            let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
            builder.set_verify(SslVerifyMode::NONE);
            let stream = builder.build().connect("example.com", tcp).ok()?;
            WsClient::new(stream).handshake(path, &[], Some("xmpp"))
        }
        false => WsClient::new(tcp).handshake(path, &[], Some("xmpp")),
    };
    // In plain text on a TLS port: 400.
    Some(response.ok()?.status).filter(|status| *status != 400)
}

/// A daemon with two listeners, one for TLS, and where they are.
fn with_two_listeners(workers: usize) -> (WssStage, SocketAddr, SocketAddr) {
    let stage = WssStage::set(
        &[&["example.com"]],
        &format!("workers: {workers}\nlisteners:\n- {SECURE}\n- {PLAIN}\n"),
    );
    let line = stage.daemon.wait_for_line("listening on 127.0.0.2:");
    let plain = line.rsplit(' ').next().unwrap().parse().unwrap();
    let secure = stage.daemon.address;
    (stage, secure, plain)
}

const SECURE: &str = "{port: 0, listen: 127.0.0.1, resource: /secure}";
const PLAIN: &str = "{port: 0, listen: 127.0.0.2, tls: off, resource: /plain}";

#[test]
fn listeners_in_another_order_stay_what_they_are() {
    for workers in [1, 2] {
        let (stage, secure, plain) = with_two_listeners(workers);
        let keys = keys(&stage.files);
        let changed = |rules: &str| rules.replace("resource: /", "resource: /new-");
        let list = format!("{}\n- {}", changed(PLAIN), changed(SECURE));
        let config = format!("workers: {workers}\n{keys}listeners:\n- {list}\n");
        stage.daemon.configure(&config);
        stage.daemon.signal(Signal::SIGHUP);
        let line = stage.daemon.wait_for_line("configuration reloaded");
        assert!(line.ends_with("configuration reloaded"), "{line}");
        // Each worker reloads in its own time.
        patiently("the new rules", || {
            let all = (0..10).all(|_| status(secure, true, "/new-secure") == Some(101));
            all.then_some(())
        });
        for (address, tls, path, expected) in [
            (secure, true, "/new-plain", Some(404)),
            (secure, false, "/new-secure", None),
            (plain, false, "/new-plain", Some(101)),
            (plain, false, "/new-secure", Some(404)),
            (plain, true, "/new-plain", None),
        ] {
            assert_eq!(status(address, tls, path), expected, "{path} {tls}");
        }
        stage.daemon.stop();
    }
}

#[test]
fn a_socket_without_a_listener_keeps_its_rules_and_is_named() {
    for workers in [1, 2] {
        let (stage, secure, plain) = with_two_listeners(workers);
        let keys = keys(&stage.files);
        let moved = PLAIN.replace("127.0.0.2", "127.0.0.3");
        for (list, left) in [
            (format!("listeners:\n- {moved}\n- {SECURE}\n"), vec![plain]),
            // One set of rules for plain text, which fits neither socket.
            ("listen: 127.0.0.9\n".to_owned(), vec![secure, plain]),
        ] {
            let keys = if left.len() == 1 { &keys[..] } else { "" };
            stage
                .daemon
                .write_config(&format!("port: 0\nworkers: {workers}\n{keys}{list}"));
            let seen = stage.daemon.lines().len();
            stage.daemon.signal(Signal::SIGHUP);
            for address in left {
                let text = format!(
                    "warning: the socket {address} has no listener in the new configuration; it \
                     keeps its old rules and certificates until a restart"
                );
                stage.daemon.wait_for_line_after(seen, &text);
            }
            assert_eq!(status(secure, true, "/secure"), Some(101));
            assert_eq!(status(secure, false, "/secure"), None);
            assert_eq!(status(plain, false, "/plain"), Some(101));
        }
        stage.daemon.stop();
    }
}

#[test]
fn an_expired_certificate_is_logged_at_the_start_and_at_each_reload() {
    for workers in [1, 2] {
        let authority = Authority::new();
        let expired = Content {
            dns: &["old.example"],
            not_after: "20200201000000Z",
            ..Content::default()
        };
        let files = authority.sign(&expired).files(&[]);
        let (certificate, key) = (files.0.0.display(), files.1.0.display());
        // Both listeners use it. The log mentions it once.
        let config = format!(
            "workers: {workers}\ntls_certificate: {certificate}\ntls_key: {key}\n\
             listeners: [{{port: 0}}, {{port: 0}}]\n"
        );
        let daemon = Daemon::start(&config);
        let text = format!("warning: {certificate}: the certificate for old.example has expired");
        daemon.wait_for_lines(&text, 1);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_lines(&text, 2);
        let (good, good_key) = authority.identity(&["new.example"]).files(&[]);
        fs::copy(&good.0, &files.0.0).unwrap();
        fs::copy(&good_key.0, &files.1.0).unwrap();
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_lines("configuration reloaded", 2);
        let told = daemon.lines();
        assert_eq!(told.iter().filter(|line| line.contains(&text)).count(), 2);
        daemon.stop();
    }
}
