//! Starting in the background: the first process exits with 0 when the daemon serves, and
//! otherwise with 1 and an error message.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::libc::O_NONBLOCK;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::common::background::{Background, OTHER, children, locked_by_another, output};
use crate::common::background::{state, status, wait_gone};
use crate::common::daemon::PROGRAM;
use crate::common::patiently;
use crate::common::ws_client::WsClient;

#[test]
fn clients_that_connect_after_the_start_are_served() {
    for workers in ["", "workers: 3\n"] {
        let daemon = Background::started(workers);
        let opened = WsClient::connect(daemon.address(), "/", &[], Some("xmpp"));
        assert!(opened.is_ok(), "{workers}{:?}", opened.err());
        daemon.stop();
    }
}

/// The authorities are a pipe that nobody writes to, so the start waits for them.
#[test]
fn clients_can_connect_before_the_authorities_are_read() {
    let config = "listen: unix:{dir}/ws.sock\nserver_ca_file: {dir}/ca.pem\n";
    let daemon = Background::new(config);
    mkfifo(&daemon.dir.path("ca.pem"), Mode::S_IRWXU).unwrap();
    let mut command = daemon.command();
    // If the test fails, the process must not hold the test's own output open.
    let mut start = command.stderr(Stdio::null()).spawn().unwrap();
    let path = daemon.dir.path("ws.sock");
    patiently("a listener", || UnixStream::connect(&path).ok());
    assert!(start.try_wait().unwrap().is_none(), "it did not wait");
    start.kill().unwrap();
    start.wait().unwrap();
}

#[test]
fn the_daemon_leaves_its_terminal_and_directory() {
    let daemon = Background::started("");
    let pid = daemon.pid();
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    assert_eq!(link("cwd").to_str(), Some("/"));
    for fd in ["fd/0", "fd/1", "fd/2"] {
        assert_eq!(link(fd).to_str(), Some("/dev/null"), "{fd}");
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    // Session and terminal, fields 6 and 7 of proc(5).
    assert_eq!((fields[3], fields[4]), (&pid.to_string()[..], "0"));
    assert_eq!(children(pid), [0; 0], "one worker has no master");
    assert_eq!(status(pid, "NoNewPrivs:"), "1");
    assert_eq!(status(pid, "Umask:"), "0027");
    daemon.stop();
}

#[test]
fn standard_error_is_closed_when_the_start_is_over() {
    // Otherwise `start`, which reads until the end, would wait forever.
    let daemon = Background::started("");
    assert!(state(daemon.pid()).is_some());
    daemon.stop();
}

#[test]
fn the_reason_for_a_failed_start_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (config, why) in [
        (format!("port: {port}\n"), "in use"),
        (format!("port: {port}\nworkers: 2\n"), "in use"),
        (
            "server_ca_file: /nonexistent/ca.pem\n".to_owned(),
            "/nonexistent/ca.pem: No such file",
        ),
        (
            "server_ca_file: {dir}/jabsocket.conf\n".to_owned(),
            "contains no PEM certificate",
        ),
        (
            "user: no-such-user\n".to_owned(),
            "key 'user': 'no-such-user': there is no such user",
        ),
        (
            "group: no-such-group\n".to_owned(),
            "'no-such-group': there is no such group",
        ),
        (
            "pid_file: /nonexistent/pid\n".to_owned(),
            "key 'pid_file': /nonexistent/pid.lock: No such file",
        ),
        (
            "workers: 0\n".to_owned(),
            "key 'workers': '0' is not allowed",
        ),
        (
            "pid_file: here\n".to_owned(),
            "key 'pid_file': 'here' is not allowed",
        ),
    ] {
        let daemon = Background::new(&config);
        let output = daemon.start();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{config}{told}");
        assert!(told.contains(why), "{config}{told}");
        let left = std::fs::read_to_string(&daemon.pid_file).unwrap_or_default();
        assert_eq!(left, "", "{config}: a PID file");
    }
}

#[test]
fn failures_after_the_fork_are_reported_too() {
    for workers in [1, 2] {
        // So few descriptors that none is left for the event loop.
        let daemon = Background::new(&format!("workers: {workers}\n"));
        let closed: String = (3..10).map(|fd| format!(" {fd}>&-")).collect();
        let files = 7 + workers;
        let line = format!("exec{closed}; ulimit -n {files}; exec \"$0\" \"$@\"");
        let command = daemon.command();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &line]).arg(command.get_program());
        shell.args(command.get_args());
        let output = output(shell);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("Too many open files"), "{told}");
        assert!(!daemon.pid_file.exists());
    }
}

#[test]
fn a_relative_path_is_found_again_by_a_reload() {
    let daemon = Background::new("log_level: LOG_DEBUG\n");
    let mut command = Command::new(PROGRAM);
    command.args(["-c", "jabsocket.conf"]);
    command.current_dir(&daemon.dir.0);
    let output = output(command);
    assert_eq!(output.status.code(), Some(0));
    let address = daemon.address();
    daemon.configure("resource: /only\n");
    daemon.signal(Signal::SIGHUP);
    crate::common::patiently("the new configuration", || {
        WsClient::connect(address, "/", &[], Some("xmpp")).err()
    });
    assert!(WsClient::connect(address, "/only", &[], Some("xmpp")).is_ok());
    daemon.stop();
}

#[test]
fn the_pid_file_keeps_a_second_daemon_away_and_goes_with_the_first() {
    for workers in ["", "workers: 2\n"] {
        let first = Background::started(workers);
        let pid = first.pid();
        let output = first.start();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let why = format!("jabsocket is already running, process {pid}");
        assert!(told.contains(&why), "{told}");
        assert_eq!(first.pid(), pid);
        // A crash leaves the file behind, but the next start succeeds.
        first.signal(Signal::SIGKILL);
        wait_gone(pid);
        assert!(first.pid_file.exists());
        let output = crate::common::patiently("the workers' end", || {
            let output = first.start();
            output.status.success().then_some(output)
        });
        assert_eq!(output.status.code(), Some(0));
        assert_ne!(first.pid(), pid);
        first.stop();
    }
}

#[test]
fn no_other_user_can_keep_it_from_starting() {
    if !geteuid().is_root() {
        return;
    }
    let daemon = Background::started("");
    let pid = daemon.pid();
    daemon.signal(Signal::SIGKILL);
    wait_gone(pid);
    let mut locked = locked_by_another(&daemon.pid_file);
    let output = daemon.start();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert_eq!(
        fs::metadata(&daemon.pid_file).unwrap().mode() & 0o777,
        0o644
    );
    let lock = daemon.dir.path("pid.lock");
    assert_eq!(fs::metadata(&lock).unwrap().mode() & 0o777, 0o600);
    locked.kill().unwrap();
    locked.wait().unwrap();
    // A user with write access to the directory cannot replace the lock file.
    daemon.signal(Signal::SIGKILL);
    wait_gone(daemon.pid());
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "").unwrap();
    chown(&lock, Some(OTHER), Some(OTHER)).unwrap();
    let output = daemon.start();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("pid.lock: other users can open it"), "{told}");
}

#[test]
fn descriptors_that_it_was_started_with_are_closed() {
    for workers in ["", "workers: 2\n"] {
        let daemon = Background::new(workers);
        let line = "exec 3<\"$1\" 7>\"$1.out\" 9<&3; shift; exec \"$@\"";
        let command = daemon.command();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", line, "sh"]).arg(daemon.dir.path("held"));
        shell.arg(command.get_program()).args(command.get_args());
        fs::write(daemon.dir.path("held"), "").unwrap();
        assert_eq!(output(shell).status.code(), Some(0));
        for pid in children(daemon.pid()).into_iter().chain([daemon.pid()]) {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
                let link = fs::read_link(entry.unwrap().path()).unwrap_or_default();
                let link = link.to_string_lossy();
                assert!(!link.contains("/held"), "{workers}{link}");
            }
        }
        daemon.stop();
    }
}

#[test]
fn a_pid_file_is_no_way_to_write_elsewhere() {
    let daemon = Background::new("");
    let target = daemon.dir.path("target");
    std::fs::write(&target, "precious").unwrap();
    symlink(&target, &daemon.pid_file).unwrap();
    let output = daemon.start();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
}

#[test]
fn what_is_not_a_pid_file_stays() {
    let make_text = |path: &Path| fs::write(path, "precious ".repeat(4)).unwrap();
    let make_pipe = |path: &Path| mkfifo(path, Mode::S_IRWXU).unwrap();
    let make_pipe_with_reader = |path: &Path| {
        make_pipe(path);
        let mut options = fs::OpenOptions::new();
        let reader = options.read(true).custom_flags(O_NONBLOCK).open(path);
        std::mem::forget(reader.unwrap());
    };
    let make: [&dyn Fn(&Path); 3] = [&make_text, &make_pipe, &make_pipe_with_reader];
    for make in make {
        let daemon = Background::new("");
        make(&daemon.pid_file);
        let before = daemon.pid_file.metadata().unwrap();
        let told = daemon.start().stderr;
        let told = String::from_utf8_lossy(&told);
        assert!(told.contains("key 'pid_file': "), "{told}");
        let after = daemon.pid_file.metadata().unwrap();
        assert_eq!(
            (after.ino(), after.len(), after.mtime_nsec()),
            (before.ino(), before.len(), before.mtime_nsec())
        );
        // Reading a pipe would wait.
        fs::remove_file(&daemon.pid_file).unwrap();
    }
}
