//! What a trial prints, what ends it, and what it leaves alone.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use super::{LOGIN, Trial, listing};
use crate::common::answering::Answering;
use crate::common::background::{OTHER, output, signal_to};
use crate::common::certificates::{Authority, self_signed};
use crate::common::daemon::{Daemon, PROGRAM, TempFile};
use crate::common::tls_server::{PROCEED, TlsServer};
use crate::common::xmpp_server::XmppServer;

/// Escaped, the second one is longer than the buffer of a socket.
#[test]
fn a_domain_that_is_far_too_long() {
    for domain in ["a".repeat(1024), "\"".repeat(100_000)] {
        let sentence = "the domain was not tried: it is longer than 1023 bytes.";
        Trial::start(&domain, "").expect_failure(sentence);
    }
}

/// A server cannot send a terminal or a script anything but text.
#[test]
fn what_a_server_sends_is_escaped() {
    let evil = "\u{9b}2J\u{202e}\"\\";
    let long = "x".repeat(50_000);
    let features = LOGIN.replace("PLAIN", &format!("{evil}{long}"));
    let server = Answering::saying("127.0.0.1:0", evil, &features.replace("SCRAM", evil));
    let config = listing(server.address, &["tls: none"]);
    for arguments in [
        &["--try", "example.org"][..],
        &["--json", "--try", "example.org"],
    ] {
        let printed = Trial::start_with(arguments, &config).end();
        assert_eq!(printed.status, 0);
        for line in printed.steps.iter().chain([&printed.verdict]) {
            assert!(
                line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line}"
            );
            assert!(line.len() < 10_000, "{}", line.len());
        }
    }
}

#[test]
fn json_has_an_object_for_each_step() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: none"]);
    let printed = Trial::start_with(&["--try", "example.org", "--json"], &config).end();
    let steps = printed.steps.join("\n");
    for part in [
        "{\"step\":\"rule\",\"ms\":",
        "\"step\":\"features\"",
        "\"mechanisms\":[\"PLAIN\"]",
        "\"removed\":[\"SCRAM-SHA-1-PLUS\"]",
    ] {
        assert!(steps.contains(part), "{part} in {steps}");
    }
    assert_eq!(
        printed.verdict,
        format!(
            "{{\"step\":\"verdict\",\"ok\":true,\"text\":\"example.org works: {}, plain text, login \
             by PLAIN.\",\"domain\":\"example.org\"}}",
            server.address
        )
    );
}

/// The files and ports of a daemon are left alone, and the log too.
#[test]
fn a_daemon_is_not_disturbed() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let domains = listing(server.address, &["tls: none"]);
    let pid_file = TempFile::new("");
    let keys = format!("pid_file: {}\n{domains}", pid_file.0.display());
    let daemon = Daemon::start(&keys);
    let port = daemon.address.port();
    let before = fs::read(&pid_file.0).expect("a PID file");
    let config = format!("port: {port}\nlisten: 127.0.0.1\nuser: nobody\n{keys}");
    assert_eq!(Trial::start("example.org", &config).end().status, 0);
    assert_eq!(fs::read(&pid_file.0).expect("a PID file"), before);
    drop(daemon.client());
    let lines = daemon.all_lines();
    let is_trial = |line: &&String| line.contains("domain=example.org");
    assert_eq!(lines.iter().find(is_trial), None);
    daemon.stop();
}

#[test]
fn a_bad_configuration_is_not_tried() {
    let config = TempFile::new("port: x\n");
    let run = |option: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let command = command.args(option).arg("-c").arg(&config.0);
        command.output().expect("run it")
    };
    let (check, trial) = (run(&["--check-config"]), run(&["--try", "example.org"]));
    assert_eq!(check.stderr, trial.stderr);
    assert_eq!(trial.status.code(), Some(1));
    let verdict = "example.org was not tried; correct the errors in the configuration first.\n";
    assert_eq!(String::from_utf8_lossy(&trial.stdout), verdict);
}

/// A file that cannot be read matters only to domains that need it.
#[test]
fn a_file_that_cannot_be_read() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let other = "  - name: example.com\n    ca_file: /nowhere/ca.pem\n";
    let config = format!("{}{other}", listing(server.address, &["tls: none"]));
    let printed = Trial::start("example.org", &config).end();
    assert_eq!(printed.status, 0, "{}", printed.verdict);
    printed.expect_step("file", "/nowhere/ca.pem: No such file");
    let tls = TlsServer::start(&self_signed(&["example.org"]));
    let more = ["tls: required", "ca_file: /nowhere/ca.pem"];
    let trial = Trial::start("example.org", &listing(tls.tcp.address, &more));
    let mut connection = tls.asked();
    connection.send(PROCEED);
    trial.expect_failure(&format!(
        "example.org does not work: {}: /nowhere/ca.pem was not read; see which files cannot be \
         used, and try as a user who may read them.",
        tls.tcp.address
    ));
}

/// Not SIGINT: shells make the processes that they start in the background ignore it.
#[test]
fn a_signal_ends_a_trial() {
    let server = XmppServer::start();
    let config = listing(server.address, &["tls: none"]);
    let config = TempFile::new(&format!("connect_timeout: 3600\n{config}"));
    let mut command = Command::new(PROGRAM);
    let command = command.args(["--try", "example.org", "-c"]).arg(&config.0);
    let mut child = command.stdout(Stdio::null()).spawn().expect("a trial");
    let mut connection = server.accept();
    signal_to(child.id(), Signal::SIGTERM);
    connection.read_end();
    let status = child.wait().expect("the end of it");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}

/// A user without privileges may try too, as far as this user can read the files.
#[test]
fn a_user_who_may_not_read_a_file() {
    if !geteuid().is_root() {
        println!("skipped: only root can start a trial as another user");
        return;
    }
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let ca_file = Authority::new().ca_file();
    let secret = Permissions::from_mode(0o600);
    fs::set_permissions(&ca_file.0, secret).expect("chmod");
    let more = ["tls: none", &format!("ca_file: {}", ca_file.0.display())];
    let config = TempFile::new(&listing(server.address, &more));
    // The other user may not be allowed to reach the program where it was built.
    let program = TempFile::new("");
    fs::copy(PROGRAM, &program.0).expect("copy the program");
    fs::set_permissions(&program.0, Permissions::from_mode(0o755)).expect("chmod");
    let mut command = Command::new(&program.0);
    command.args(["--try", "example.org", "-c"]).arg(&config.0);
    command.current_dir("/").uid(OTHER).gid(OTHER);
    let output = output(command);
    let printed = String::from_utf8(output.stdout).expect("text");
    let denied = format!("{}: Permission denied", ca_file.0.display());
    assert!(printed.contains(&denied), "{printed}");
    assert_eq!(output.status.code(), Some(0), "{printed}");
}

/// Colours are for terminals.
#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let config = TempFile::new("domains: [example.com]\n");
    let on_a_terminal = |no_color: &str| {
        let line = format!("{PROGRAM} --try example.org -c {}", config.0.display());
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("NO_COLOR", no_color);
        let output = command.env("TERM", "xterm").output().expect("script");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).expect("text")
    };
    let red = "\u{1b}[1;31mexample.org does not work: ";
    assert!(on_a_terminal("").contains(red));
    assert!(!on_a_terminal("1").contains('\u{1b}'));
    let printed = Trial::start("example.org", "domains: [example.com]\n").end();
    assert!(
        printed.verdict.starts_with("example.org does"),
        "{}",
        printed.verdict
    );
}
