//! Listening sockets that are handed over, as by systemd: clients that come
//! while the daemon is away wait for it.

mod common;

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use common::Lines;
use common::background::{Background, signal_to};
use common::ws_client::WsClient;

/// The daemon with `socket` as its descriptor 3, and what it says.
fn start(daemon: &Background, socket: OwnedFd) -> (Child, Lines) {
    // Only the process itself knows the number it will have.
    let line =
        "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" \"$@\"";
    let command = daemon.command();
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .arg(command.get_program())
        .args(command.get_args())
        .arg("-n")
        .stdin(Stdio::from(socket))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Lines::of(child.stderr.take().unwrap());
    (child, lines)
}

#[test]
fn a_restart_loses_no_connect() {
    for workers in [1, 2] {
        let daemon = Background::new(&format!("workers: {workers}\n"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let dial = || WsClient::dial(address).expect("no connect is refused");
        let mut waiting: Vec<WsClient> = (0..10).map(|_| dial()).collect();
        for how in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
            let (mut child, mut lines) = start(&daemon, listener.try_clone().unwrap().into());
            lines.find(&format!("listening on {address}"));
            for mut client in waiting.drain(..) {
                client.handshake("/", &[], Some("xmpp")).expect("an answer");
            }
            signal_to(child.id(), how);
            waiting = (0..10).map(|_| dial()).collect();
            child.wait().unwrap();
            if how == Signal::SIGKILL {
                // A worker may have taken some before it noticed.
                drop(lines);
                waiting.clear();
            }
            waiting.extend((0..10).map(|_| dial()));
        }
    }
}

#[test]
fn a_unix_socket_is_served_and_left_where_it_is() {
    for workers in [1, 2] {
        let daemon = Background::new(&format!("workers: {workers}\n"));
        let path = daemon.dir.path("socket");
        let socket = UnixListener::bind(&path).unwrap();
        let (mut child, mut lines) = start(&daemon, socket.into());
        lines.find(&format!("listening on unix:{}", path.display()));
        for _ in 0..4 {
            let mut client = WsClient::new(UnixStream::connect(&path).unwrap());
            let response = client.handshake("/", &[], Some("xmpp")).expect("an answer");
            assert_eq!(response.status, 101);
        }
        signal_to(child.id(), Signal::SIGTERM);
        child.wait().unwrap();
        assert!(path.exists(), "it is its maker's to remove");
    }
}

#[test]
fn what_is_no_listening_stream_socket_is_refused() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let daemon = Background::new("");
    let unix = UnixDatagram::bind(daemon.dir.path("socket")).unwrap();
    let cases: [(OwnedFd, &str); 4] = [
        (
            connected.into(),
            "descriptor 3 (web) of LISTEN_FDS does not listen",
        ),
        (
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            "is neither a TCP nor a unix stream socket",
        ),
        (unix.into(), "is neither a TCP nor a unix stream socket"),
        (
            File::open("/dev/null").unwrap().into(),
            "is neither a TCP nor a unix stream socket",
        ),
    ];
    for (socket, why) in cases {
        let (mut child, mut lines) = start(&daemon, socket);
        lines.find(why);
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let daemon = Background::new("");
    let mut child = daemon
        .command()
        .arg("-n")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "5")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = Lines::of(child.stderr.take().unwrap());
    lines.find("listening on 127.0.0.1:");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
