//! The measured processes: how they start and what they cost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The core of the clients and the server, and the core of the relays.
const GENERATOR_CORE: &str = "0";
const RELAY_CORE: &str = "1";

/// How bytes reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unchanged: the server receives the clients' frames.
    Tcp,
    /// As an XMPP stream: the relay uses RFC 7395 with the clients.
    Xmpp,
}

/// A relay under measurement.
pub struct Relay {
    pub name: String,
    pub version: String,
    pub kind: Kind,
    pub address: SocketAddr,
    child: Child,
    config: PathBuf,
}

/// Pins this process to its core.
pub fn pin_generator() {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset")
        .args(["-cp", GENERATOR_CORE, &pid])
        .stdout(Stdio::null())
        .status();
    assert!(done.is_ok_and(|status| status.success()), "taskset");
}

/// Raises the limit on open files for this process and its children.
pub fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit on files");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit on files");
}

/// The first line of a program's version.
fn version(program: &Path, option: &str) -> String {
    let output = Command::new(program).arg(option).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let line = text
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned));
    line.unwrap_or_default()
}

fn config_file(name: &str, text: &str) -> PathBuf {
    let file = format!("jabsocket-bench-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(file);
    fs::write(&path, text).expect("write a configuration file");
    path
}

fn on_its_core(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", RELAY_CORE]).arg(program);
    command.stdin(Stdio::null());
    command
}

impl Relay {
    /// Starts HAProxy with one thread that copies bytes to `server`.
    pub fn haproxy(server: SocketAddr) -> Relay {
        let program = Path::new("/usr/sbin/haproxy");
        // HAProxy does not report its port.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a free port");
        let config = config_file(
            "haproxy.cfg",
            &format!(
                "global\n  nbthread 1\n\ndefaults\n  mode tcp\n  timeout connect 10s\n  \
                 timeout client 1h\n  timeout server 1h\n\nlisten relay\n  bind {address}\n  \
                 server one {server}\n"
            ),
        );
        let child = on_its_core(program)
            .args(["-db", "-f"])
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .expect("start HAProxy (apt-get install haproxy)");
        let listening = (0..100).any(|_| {
            sleep(Duration::from_millis(50));
            TcpStream::connect(address).is_ok()
        });
        assert!(listening, "HAProxy does not listen");
        Relay {
            name: "HAProxy".to_owned(),
            version: version(program, "-v"),
            kind: Kind::Tcp,
            address,
            child,
            config,
        }
    }

    /// jabsocket, with `server` as the server of the one domain.
    pub fn jabsocket(program: &Path, server: SocketAddr) -> Relay {
        let config = config_file(
            &format!("{}.conf", server.port()),
            &format!(
                "port: 0\nlisten: 127.0.0.1\nping_interval: 0\nlog_level: LOG_ERR\ndomains:\n  \
                 - name: example.org\n    server: {server}\n    tls: none\n"
            ),
        );
        let mut child = on_its_core(program)
            .args(["-n", "-c"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start jabsocket");
        let stderr = child.stderr.take().expect("a pipe");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on "));
        let line = line.expect("jabsocket listens");
        // Reads on, because further output must not fill the pipe.
        std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
        let address = line.rsplit(' ').next().unwrap_or_default();
        Relay {
            name: program
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            version: version(program, "-v"),
            kind: Kind::Xmpp,
            address: address.parse().expect("an address in the log"),
            child,
            config,
        }
    }

    /// CPU time used so far, in nanoseconds.
    pub fn cpu_ns(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = fs::read_to_string(path).expect("the relay's schedstat");
        let first = text.split_whitespace().next();
        first.and_then(|n| n.parse().ok()).expect("a number")
    }

    /// Memory in use, in bytes.
    pub fn resident(&self) -> usize {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the relay's status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("VmRSS")
            * 1024
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}
