//! The daemon as process 1 of its PID namespace, as in a container: it waits for orphans,
//! drains on SIGTERM, and refuses an upgrade.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::common::background::{TempDir, children, signal_to, state};
use crate::common::daemon::{Daemon, PROGRAM};
use crate::common::patiently;
use crate::common::stage::*;
use crate::common::xmpp_server::XmppServer;

/// Starts an orphan in the daemon's namespace; returns its process ID here. Its parent ends
/// at once.
fn orphan(daemon: u32) -> u32 {
    let before = children(daemon);
    let started = Command::new("nsenter")
        .args(["--target", &daemon.to_string(), "--pid", "sh", "-c"])
        .arg("sleep 3600 </dev/null >/dev/null 2>&1 &")
        .status();
    assert!(started.expect("nsenter runs").success());
    patiently("an orphan", || {
        children(daemon)
            .into_iter()
            .find(|pid| !before.contains(pid))
    })
}

#[test]
fn process_1_waits_for_orphans_and_drains_on_sigterm() {
    let probe = Command::new("unshare")
        .args(["--pid", "--fork", "true"])
        .output();
    if !probe.expect("unshare runs").status.success() {
        eprintln!("skipped: no PID namespace is permitted");
        return;
    }
    for workers in ["", "workers: 2\n"] {
        let server = XmppServer::start();
        let directory = TempDir::new();
        let program = directory.path("jabsocket");
        let script =
            format!("#!/bin/sh\nexec unshare --pid --fork --kill-child {PROGRAM} \"$@\"\n");
        fs::write(&program, script).expect("a script");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
        let config = format!(
            "domains: [example.org]\nserver: {}\n{workers}",
            server.address
        );
        let daemon = Daemon::start_program(Path::new(&program), "127.0.0.1", &config, &[]);
        let pid = children(daemon.pid())[0];
        let own = children(pid);
        let mut stage = Stage { server, daemon };
        let (mut client, mut connection) = stage.framed();
        for _ in 0..3 {
            let orphan = orphan(pid);
            signal_to(orphan, Signal::SIGKILL);
            // A zombie would still be there.
            patiently("the end of an orphan", || {
                state(orphan).is_none().then_some(())
            });
        }
        assert_eq!(children(pid), own);
        signal_to(pid, Signal::SIGUSR2);
        stage.daemon.wait_for_line("process 1 cannot be replaced");
        signal_to(pid, Signal::SIGTERM);
        expect_close(&mut client, 1001, "shutting down");
        connection.expect_cut();
        assert_eq!(stage.daemon.wait_exit().code(), Some(0));
    }
}
