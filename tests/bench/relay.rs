//! The measured processes: how they start and what they cost.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::load::{DOMAIN, Load};

/// The core of the clients and the server, and the core of the relays.
const GENERATOR_CORE: &str = "0";
const RELAY_CORE: &str = "1";

/// Where TLS is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    /// By the clients.
    Wss,
    /// By the clients, and from the relay to the server.
    Tls,
}

impl Form {
    /// The beginning of the names of its rows.
    pub fn prefix(self) -> &'static str {
        match self {
            Form::Plain => "",
            Form::Wss => "wss: ",
            Form::Tls => "wss and TLS to the server: ",
        }
    }

    /// The word that selects its parts.
    pub fn word(self) -> &'static str {
        match self {
            Form::Plain => "plain",
            Form::Wss => "wss",
            Form::Tls => "tls",
        }
    }
}

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
    pub form: Form,
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
    /// Starts HAProxy with one thread that copies bytes to the server. Each form has a
    /// process of its own, so that nothing is shared.
    pub fn haproxy(form: Form, load: &Load) -> Relay {
        let program = Path::new("/usr/sbin/haproxy");
        // HAProxy does not report its port.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a free port");
        let (server, files) = (load.server_address(form), load.files());
        let client_tls = match form {
            Form::Plain => String::new(),
            Form::Wss | Form::Tls => format!(" ssl crt {}", files.both.0.display()),
        };
        let server_tls = match form {
            Form::Plain | Form::Wss => String::new(),
            Form::Tls => format!(
                " ssl verify required ca-file {} sni str({DOMAIN}) verifyhost {DOMAIN}",
                files.ca.0.display()
            ),
        };
        let config = config_file(
            &format!("{}-haproxy.cfg", form.word()),
            &format!(
                "global\n  nbthread 1\n  noreuseport\n\ndefaults\n  mode tcp\n  \
                 timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n\n\
                 listen relay\n  bind {address}{client_tls}\n  \
                 server one {server}{server_tls}\n"
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
            form,
            address,
            child,
            config,
        }
    }

    /// Starts jabsocket with the server of the one domain.
    pub fn jabsocket(program: &Path, form: Form, load: &Load) -> Relay {
        let (server, files) = (load.server_address(form), load.files());
        let client_tls = match form {
            Form::Plain => String::new(),
            Form::Wss | Form::Tls => format!(
                "tls_certificate: {}\ntls_key: {}\n",
                files.certificate.0.display(),
                files.key.0.display()
            ),
        };
        let server_tls = match form {
            Form::Plain | Form::Wss => "none".to_owned(),
            Form::Tls => format!("direct\n    ca_file: {}", files.ca.0.display()),
        };
        let config = config_file(
            &format!("{}.conf", form.word()),
            &format!(
                "port: 0\nlisten: 127.0.0.1\nping_interval: 0\nlog_level: LOG_ERR\n\
                 {client_tls}domains:\n  - name: {DOMAIN}\n    server: {server}\n    \
                 tls: {server_tls}\n"
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
            form,
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
