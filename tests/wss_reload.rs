//! Certificates are read again at SIGHUP: the next browser gets the new one, those
//! that are there notice nothing, and one that cannot be used changes nothing.

mod common;

use std::fs;

use common::stage::*;
use common::wss_stage::{VERSIONS, WssStage, first_name};
use nix::sys::signal::Signal;

/// Puts a certificate for `names` where the stage's first one stood.
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
        let mut server = stage.server.accept();
        server.expect(OPEN_UP);
        server.send(HEADER);
        expect_text(&mut client, HEADER_DOWN);

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
            "holds no PEM certificate",
        ),
        (&whole.0, b"no key", "not a PEM key"),
        (&whole.0, &other_key, "not the key of the certificate"),
        (&whole.0[..whole.0.len() / 4], &whole.1, "PEM"),
    ] {
        fs::write(certificate, bad_certificate).unwrap();
        fs::write(key, bad_key).unwrap();
        let seen = stage.daemon.lines().len();
        stage.daemon.signal(Signal::SIGHUP);
        let line = stage.daemon.wait_for_line_behind(seen, "the old one stays");
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
