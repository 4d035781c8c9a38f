//! Messages to systemd, by the protocol of sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Child, Command};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::common::PATIENCE;
use crate::common::background::{Background, signal_to, wait_gone};

/// A socket like systemd's, and its name for the environment.
fn notify_socket(daemon: &Background, abstract_name: bool) -> (UnixDatagram, String) {
    let path = daemon.dir.path("notify");
    let name = path.to_str().unwrap().to_owned();
    let (socket, name) = match abstract_name {
        true => {
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            (UnixDatagram::bind_addr(&address), format!("@{name}"))
        }
        false => (UnixDatagram::bind(&path), name),
    };
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (socket, name)
}

fn receive(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).expect("a message");
    String::from_utf8(message[..length].to_vec()).unwrap()
}

fn spawn(command: &mut Command, name: &str) -> Child {
    command.env("NOTIFY_SOCKET", name).spawn().unwrap()
}

#[test]
fn start_reload_and_end_are_reported() {
    for (abstract_name, workers) in [(false, 1), (true, 1), (false, 2)] {
        let daemon = Background::new(&format!("workers: {workers}\n"));
        let (socket, name) = notify_socket(&daemon, abstract_name);
        let mut child = spawn(daemon.command().arg("-n"), &name);
        let pid = child.id();
        assert_eq!(
            receive(&socket),
            format!("READY=1\nMAINPID={pid}\nSTATUS=serving")
        );
        daemon.signal(Signal::SIGHUP);
        let reloading = receive(&socket);
        let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let usec = usec.and_then(|usec| usec.parse::<u64>().ok());
        assert!(usec.is_some_and(|usec| usec > 0), "{reloading}");
        assert_eq!(receive(&socket), "READY=1\nSTATUS=serving");
        daemon.configure("port: x\n");
        daemon.signal(Signal::SIGHUP);
        assert!(receive(&socket).starts_with("RELOADING=1\n"));
        let refused = "READY=1\nSTATUS=serving; the last reload was refused, see the log";
        assert_eq!(receive(&socket), refused);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(receive(&socket), "STOPPING=1\nSTATUS=ending sessions");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn in_the_background_the_daemon_is_named_as_main_process() {
    let daemon = Background::new("");
    let (socket, name) = notify_socket(&daemon, false);
    let status = spawn(&mut daemon.command(), &name).wait().unwrap();
    assert!(status.success());
    let ready = format!("READY=1\nMAINPID={}\nSTATUS=serving", daemon.pid());
    assert_eq!(receive(&socket), ready);
    daemon.stop();
}

#[test]
fn a_start_that_fails_is_not_reported_as_ready() {
    let daemon = Background::new("user: no-such-user\n");
    let (socket, name) = notify_socket(&daemon, false);
    let status = spawn(daemon.command().arg("-n"), &name).wait().unwrap();
    assert_eq!(status.code(), Some(1));
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 10]).is_err(), "something was told");
}

#[test]
fn a_notify_socket_without_a_reader_does_no_harm() {
    let daemon = Background::new("");
    for name in ["/nonexistent/notify", "@nobody", "relative"] {
        let status = spawn(&mut daemon.command(), name).wait().unwrap();
        assert!(status.success(), "{name}");
        let pid = daemon.pid();
        daemon.signal(Signal::SIGTERM);
        wait_gone(pid);
    }
}

#[test]
fn heartbeats_are_sent_while_the_loop_turns() {
    for workers in [1, 2] {
        let daemon = Background::new(&format!("workers: {workers}\n"));
        let (socket, name) = notify_socket(&daemon, false);
        let mut command = daemon.command();
        command.arg("-n").env("WATCHDOG_USEC", "100000");
        let mut child = spawn(&mut command, &name);
        assert!(receive(&socket).starts_with("READY=1"));
        for _ in 0..5 {
            assert_eq!(receive(&socket), "WATCHDOG=1");
        }
        signal_to(child.id(), Signal::SIGSTOP);
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let mut after = 0;
        while socket.recv(&mut [0; 100]).is_ok() {
            after += 1;
            assert!(after < 1000, "signs of life of a process that hangs");
        }
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        signal_to(child.id(), Signal::SIGCONT);
        assert_eq!(receive(&socket), "WATCHDOG=1");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let daemon = Background::new("");
    let (socket, name) = notify_socket(&daemon, false);
    let mut command = daemon.command();
    command
        .arg("-n")
        .env("WATCHDOG_USEC", "20000")
        .env("WATCHDOG_PID", "1");
    let mut child = spawn(&mut command, &name);
    assert!(receive(&socket).starts_with("READY=1"));
    socket
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(socket.recv(&mut [0; 100]).is_err(), "a heartbeat");
    daemon.signal(Signal::SIGTERM);
    child.wait().unwrap();
}
