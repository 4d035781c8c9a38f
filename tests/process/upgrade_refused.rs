//! Upgrades in place that do not come about, handovers that nobody has made, and files that are
//! gone when an upgrade does.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::background::{children, signal_to, wait_gone};
use crate::common::certificates::Authority;
use crate::common::daemon::{PROGRAM, TempFile};
use crate::common::patiently;
use crate::upgrade::Upgradable;

/// The workers of the new generation open the file of authorities and wait, because it is a
/// pipe that nobody writes to.
#[test]
fn a_master_that_is_stopped_before_it_serves_leaves_everything_to_the_old_one() {
    let mut all = Upgradable::start("127.0.0.1", "workers: 2\n");
    let ca_file = all.dir.path("ca.pem");
    mkfifo(&ca_file, Mode::S_IRWXU).expect("a pipe");
    let with_pipe = format!("{}server_ca_file: {}\n", all.config, ca_file.display());
    all.daemon().configure(&with_pipe);
    let old = all.main_pid();
    let workers = children(old);
    let seen = all.begin();
    let pem = Authority::new().0.certificate.to_pem().expect("PEM");
    let mut pipe = OpenOptions::new().write(true).open(&ca_file).expect("open");
    pipe.write_all(&pem).expect("write");
    drop(pipe);
    // The first process of the new generation waits for its master.
    let child = |parent, others: &[u32]| {
        children(parent)
            .into_iter()
            .find(|pid| !others.contains(pid))
    };
    let master = patiently("the new master", || child(child(old, &workers)?, &[]));
    let new = patiently("its workers", || {
        Some(children(master)).filter(|pids| pids.len() == 2)
    });
    signal_to(master, Signal::SIGTERM);
    let line = all.daemon().wait_for_line_after(seen, "upgrade failed");
    assert!(
        line.contains(&format!("jabsocket[{old}]"))
            && line.ends_with("this process continues: stopped during the start"),
        "{line}"
    );
    for pid in new.into_iter().chain([master]) {
        wait_gone(pid);
    }
    let told = fs::read_to_string(all.dir.path("pid")).expect("a PID file");
    assert_eq!(told, format!("{old}\n"));
    assert_eq!(children(old), workers);
    // It accepts clients, and the next upgrade succeeds.
    drop(all.stage.framed());
    all.daemon().configure(&all.config);
    all.upgrade();
    all.stop();
}

#[test]
fn an_upgrade_of_a_process_that_stops_is_refused_with_a_line() {
    for workers in ["", "workers: 2\n"] {
        let config = format!("{workers}close_timeout: 3600\ndrain_timeout: 3600\n");
        let all = Upgradable::start("127.0.0.1", &config);
        let (mut client, _server) = all.stage.framed();
        all.signal(Signal::SIGTERM);
        // The client keeps the daemon from ending by not answering.
        assert_eq!(client.read_close().expect("a Close frame").0, Some(1001));
        all.signal(Signal::SIGUSR2);
        let line = all.daemon().wait_for_line("no upgrade, because");
        let from = format!("jabsocket[{}]: err: ", all.main_pid());
        assert!(line.contains(&from), "{line}");
        // The second signal ends it at once.
        all.stop();
    }
}

#[test]
fn an_upgrade_names_files_that_were_removed() {
    let mut all = Upgradable::start("[127.0.0.1, \"unix:{dir}/socket\"]", "");
    all.upgrade();
    let lines = all.daemon().lines();
    let missing = |line: &&String| line.contains("was removed or replaced");
    assert_eq!(lines.iter().find(missing), None);
    for name in ["pid", "socket"] {
        fs::remove_file(all.dir.path(name)).expect("removed");
    }
    all.begin();
    for name in ["pid", "socket"] {
        let path = all.dir.path(name);
        all.daemon().wait_for_line(&format!(
            "warning: {} was removed or replaced; restart jabsocket to create it again",
            path.display()
        ));
    }
    all.wait_promoted(lines.len());
    wait_gone(all.pids[1]);
    drop(all.stage.framed());
    all.stop();
}

#[test]
fn a_forged_handover_keeps_the_daemon_from_starting() {
    let config = TempFile::new("port: 0\nlisten: 127.0.0.1\ndomains: [example.org]\n");
    // Standard input is a TCP socket that does not listen.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).expect("a socket");
    let run = |handover: &str| {
        let line = "exec 3<&0 4<&0 5</dev/null </dev/null; exec \"$0\" \"$@\"";
        let mut command = Command::new("timeout");
        command.args(["60", "sh", "-c", line, PROGRAM, "-n", "-c"]);
        command.arg(&config.0).env("JABSOCKET_HANDOVER", handover);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(
            socket.try_clone().expect("a copy"),
        )));
        let output = command.output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let damaged = "the variable JABSOCKET_HANDOVER is damaged: ";
    let refused = [
        ("rubbish", damaged),
        ("listener=3", damaged),
        ("listener=x:0", damaged),
        ("listener=-1:0", damaged),
        ("listener=2:0", damaged),
        ("listener=999:0", damaged),
        ("listener=99999999999999999999:0", damaged),
        ("listener=3:70000", damaged),
        ("status=4: status=4:", damaged),
        ("pid_file=5:7g", damaged),
        ("listener=3:0", "listener=3:0: it does not listen"),
        ("status=3:", "status=3:: it does not listen"),
        ("listener=5:0", "listener=5:0: it does not listen"),
        ("predecessor=5:1", "predecessor=5:1: it is not a channel"),
        ("older=3:1", "older=3:1: it is not a channel"),
        ("systemd=3:", "systemd=3:: it does not listen"),
    ];
    for (handover, why) in refused {
        let (status, told) = run(handover);
        assert!(
            status == Some(1) && told.contains(why),
            "{handover}: {status:?} {told}"
        );
    }
}
