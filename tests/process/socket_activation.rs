//! Listening sockets from systemd. Clients that connect while the daemon is not running
//! wait for it.

use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

use crate::common::background::{Background, signal_to};
use crate::common::certificates::Authority;
use crate::common::daemon::TempFile;
use crate::common::ws_client::WsClient;
use crate::common::{Lines, PATIENCE};

/// Starts the daemon with `socket` as descriptor 3; returns its output too.
fn start(daemon: &Background, socket: OwnedFd) -> (Child, Lines) {
    start_with(daemon, socket, None, "web")
}

/// Starts the daemon with a second socket as descriptor 4, and with names for both.
fn start_with(
    daemon: &Background,
    socket: OwnedFd,
    other: Option<OwnedFd>,
    names: &str,
) -> (Child, Lines) {
    let count = 1 + usize::from(other.is_some());
    // LISTEN_PID must be the process ID of the daemon.
    let line = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    let command = daemon.command();
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .arg(command.get_program())
        .args(command.get_args())
        .arg("-n")
        .env("LISTEN_FDS", count.to_string())
        .env("LISTEN_FDNAMES", names)
        .stdin(Stdio::from(socket))
        .stdout(other.map_or(Stdio::null(), Stdio::from))
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
                // A worker may have accepted some before it died.
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
fn descriptors_other_than_listening_stream_sockets_are_refused() {
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
            "is neither a TCP nor a Unix stream socket",
        ),
        (unix.into(), "is neither a TCP nor a Unix stream socket"),
        (
            File::open("/dev/null").unwrap().into(),
            "is neither a TCP nor a Unix stream socket",
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

/// Two sockets, and a daemon with its certificate in the top-level keys.
struct Two {
    plain: TcpListener,
    secure: TcpListener,
    daemon: Background,
    _files: (TempFile, TempFile),
}

impl Two {
    /// `{plain}` and `{secure}` in the configuration are the ports.
    fn new(config: &str) -> Two {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (plain, secure) = (bind(), bind());
        let authority = Authority::new();
        let files = authority.identity(&["example.com"]).files(&[&authority.0]);
        let port = |socket: &TcpListener| socket.local_addr().unwrap().port().to_string();
        let config = config
            .replace("{plain}", &port(&plain))
            .replace("{secure}", &port(&secure));
        let (certificate, key) = (files.0.0.display(), files.1.0.display());
        let keys = format!("tls_certificate: {certificate}\ntls_key: {key}\n");
        Two {
            plain,
            secure,
            daemon: Background::new(&format!("{keys}{config}")),
            _files: files,
        }
    }

    /// Starts the daemon with both sockets, the plain one first or last.
    fn start(&self, plain_first: bool, names: [&str; 2]) -> (Child, Lines) {
        let [plain, secure] =
            [&self.plain, &self.secure].map(|socket| OwnedFd::from(socket.try_clone().unwrap()));
        match plain_first {
            true => start_with(&self.daemon, plain, Some(secure), &names.join(":")),
            false => {
                let names = format!("{}:{}", names[1], names[0]);
                start_with(&self.daemon, secure, Some(plain), &names)
            }
        }
    }

    /// Fails unless each port has its own rules and uses TLS as configured.
    fn expect_served(&self, case: &str) {
        let status = |path| {
            let mut client = WsClient::dial(self.plain.local_addr().unwrap()).unwrap();
            client.handshake(path, &[], Some("xmpp")).unwrap().status
        };
        assert_eq!((status("/plain"), status("/secure")), (101, 404), "{case}");
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_verify(SslVerifyMode::NONE);
        let tcp = TcpStream::connect(self.secure.local_addr().unwrap()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let stream = builder.build().connect("example.com", tcp);
        let mut client = WsClient::new(stream.unwrap_or_else(|why| panic!("{case}: {why}")));
        let response = client.handshake("/secure", &[], Some("xmpp")).unwrap();
        assert_eq!(response.status, 101, "{case}");
    }
}

#[test]
fn sockets_find_their_listener_in_whatever_order_they_come() {
    let by_port = "listeners:\n- {port: {plain}, listen: 127.0.0.1, tls: off, resource: /plain}\n\
                   - {port: {secure}, resource: /secure}\n";
    let by_name = "listeners:\n- {name: safe, resource: /secure}\n\
                   - {name: open, port: 1, tls: off, resource: /plain}\n";
    let unit = ["jabsocket.socket"; 2];
    for (config, names) in [
        (by_port, ["", ""]),
        (by_port, unit),
        (by_name, ["open", "safe"]),
    ] {
        for (plain_first, workers) in [(true, 1), (false, 1), (true, 2), (false, 2)] {
            let case = format!("{config}{names:?}, {plain_first}, {workers}");
            let two = Two::new(&format!("workers: {workers}\n{config}"));
            let (mut child, mut lines) = two.start(plain_first, names);
            lines.find("listening on ");
            two.expect_served(&case);
            // A reload keeps the assignment.
            two.daemon.signal(Signal::SIGHUP);
            lines.find("configuration reloaded");
            two.expect_served(&case);
            signal_to(child.id(), Signal::SIGTERM);
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_socket_that_no_listener_is_for_keeps_the_daemon_from_starting() {
    let two = Two::new(
        "listeners:\n- {port: {plain}, tls: off}\n- {port: 1, listen: 127.0.0.1, name: x}\n",
    );
    for plain_first in [true, false] {
        let (mut child, mut lines) = two.start(plain_first, ["", "safe"]);
        let line = lines.find("no entry in 'listeners' fits the socket ");
        let (plain, secure) = (two.plain.local_addr(), two.secure.local_addr());
        let port = plain.unwrap().port();
        let told = format!(
            "{} ('safe'); the entries are: (127.0.0.1:{port}), ('x', 127.0.0.1:1)",
            secure.unwrap()
        );
        assert!(line.ends_with(&told), "{line}");
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn without_a_list_all_sockets_go_by_the_keys_at_the_top() {
    let two = Two::new("");
    two.daemon.configure("port: 1\nresource: /only\n");
    let (mut child, mut lines) = two.start(true, ["a", "b"]);
    lines.find("listening on ");
    for socket in [&two.plain, &two.secure] {
        for (path, status) in [("/only", 101), ("/", 404)] {
            let mut client = WsClient::dial(socket.local_addr().unwrap()).unwrap();
            let response = client.handshake(path, &[], Some("xmpp")).unwrap();
            assert_eq!(response.status, status);
        }
    }
    signal_to(child.id(), Signal::SIGTERM);
    child.wait().unwrap();
}

#[test]
fn a_listener_without_a_socket_is_logged() {
    let two = Two::new(
        "listeners:\n- {port: {plain}, tls: off}\n- {port: {secure}}\n- {port: 9, listen: ['::1']}\n",
    );
    let (mut child, mut lines) = two.start(true, ["", ""]);
    lines.find("warning: the listener [::1]:9 has no socket in LISTEN_FDS and is not served");
    lines.find("listening on ");
    signal_to(child.id(), Signal::SIGTERM);
    child.wait().unwrap();
}
