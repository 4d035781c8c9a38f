//! The daemon gives up root for good. If it was not started as root, it refuses the keys.

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};

use crate::common::background::{Background, children, status, wait_gone};
use crate::common::daemon::Daemon;

fn nobody() -> User {
    User::from_name("nobody").unwrap().expect("the user nobody")
}

#[test]
fn only_root_can_change_its_user() {
    if geteuid().is_root() {
        return root_becomes_nobody_for_good();
    }
    let daemon = Background::new("user: nobody\n");
    let output = daemon.start();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("only root can change user or group"),
        "{told}"
    );
    // The present user is always allowed.
    let own = geteuid();
    Background::started(&format!("user: {own}\n")).stop();
}

fn root_becomes_nobody_for_good() {
    let nobody = nobody();
    for config in [
        "user: nobody\n".to_owned(),
        format!("user: {}\n", nobody.uid),
        "user: nobody\nworkers: 2\n".to_owned(),
        "user: nobody\ngroup: daemon\n".to_owned(),
    ] {
        let daemon = Background::started(&config);
        let pid = daemon.pid();
        let group = match config.contains("group") {
            true => {
                nix::unistd::Group::from_name("daemon")
                    .unwrap()
                    .unwrap()
                    .gid
            }
            false => nobody.gid,
        };
        let mut all = children(pid);
        assert_eq!(all.len(), if config.contains("workers") { 2 } else { 0 });
        all.push(pid);
        for pid in all {
            let uids = vec![nobody.uid.to_string(); 4].join("\t");
            let gids = vec![group.to_string(); 4].join("\t");
            assert_eq!(status(pid, "Uid:"), uids, "{config}");
            assert_eq!(status(pid, "Gid:"), gids, "{config}");
            assert_eq!(status(pid, "Groups:"), group.to_string(), "{config}");
            for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
                assert_eq!(status(pid, set).trim_start_matches('0'), "", "{set}");
            }
            assert_eq!(status(pid, "NoNewPrivs:"), "1");
        }
        daemon.signal(Signal::SIGTERM);
        wait_gone(pid);
        // The directory belongs to root, so the daemon cannot remove the file and empties
        // it.
        let left = std::fs::read_to_string(&daemon.pid_file).unwrap();
        assert_eq!(left, "", "a number of nobody");
        assert_eq!(daemon.start().status.code(), Some(0), "it can start again");
        daemon.signal(Signal::SIGTERM);
    }
}

#[test]
fn a_file_that_the_user_cannot_read_ends_the_start() {
    if !geteuid().is_root() {
        return;
    }
    for workers in [1, 2] {
        let config = "user: nobody\nserver_ca_file: {dir}/ca.pem\n";
        let daemon = Background::new(&format!("{config}workers: {workers}\n"));
        let authority = crate::common::certificates::Authority::new();
        let file = daemon.dir.path("ca.pem");
        std::fs::copy(&authority.ca_file().0, &file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let output = daemon.start();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("ca.pem: Permission denied"), "{told}");
    }
}

#[test]
fn serving_as_root_causes_a_warning() {
    let warning = "serving as root; set 'user'";
    let daemon = Daemon::start("");
    let told = daemon.lines().iter().any(|line| line.contains(warning));
    assert_eq!(told, geteuid().is_root());
    daemon.stop();
    let daemon = Daemon::start(&format!("user: {}\n", geteuid()));
    assert!(!daemon.lines().iter().any(|line| line.contains(warning)));
    daemon.stop();
}

#[test]
fn a_file_that_the_user_cannot_read_is_warned_of() {
    if !geteuid().is_root() {
        return;
    }
    let daemon = Background::new("user: nobody\n");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&daemon.config, mode).unwrap();
    let mut child = daemon
        .command()
        .arg("-n")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = crate::common::Lines::of(child.stderr.take().unwrap());
    let warning = lines.find("a reload will fail");
    assert!(warning.contains("as user 'nobody': "), "{warning}");
    lines.find("listening on");
    daemon.signal(Signal::SIGHUP);
    lines.find("cannot be read: Permission denied");
    lines.find("must be readable by user id");
    child.kill().unwrap();
    child.wait().unwrap();
}
