//! Runs the daemon itself, in the foreground, on a port that the kernel picks.
//!
//! Owns the process, its configuration file and what it says on standard error.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PATIENCE;
use super::ws_client::WsClient;

/// The daemon's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_jabsocket");

/// Size of the pipe for the daemon's log: the most that a user who is not root may have.
const PIPE_BYTES: i32 = 1 << 20;

/// A file for one test, removed with it.
pub struct TempFile(pub PathBuf);

impl TempFile {
    pub fn new(text: &str) -> TempFile {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "jabsocket-test-{}-{}.conf",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).expect("write a configuration file");
        TempFile(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What the daemon said so far.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// Keys that a test's configuration gets unless it has them: all is logged, and however
/// slow the machine is, no Ping comes and no time is up.
const DEFAULTS: [(&str, &str); 6] = [
    ("log_level:", "LOG_DEBUG"),
    ("ping_interval:", "0"),
    ("handshake_timeout:", "3600"),
    ("open_timeout:", "3600"),
    ("connect_timeout:", "3600"),
    ("write_timeout:", "3600"),
];

fn with_defaults(ports: &str, config: &str) -> String {
    let missing = DEFAULTS.iter().filter(|(key, _)| !config.contains(key));
    let missing: String = missing
        .map(|(key, value)| format!("{key} {value}\n"))
        .collect();
    format!("{ports}{missing}{config}")
}

type Shared = Arc<(Mutex<Said>, Condvar)>;

/// A daemon under test.
pub struct Daemon {
    child: Child,
    said: Shared,
    /// Where it listens: the first address, unless that is a unix socket.
    pub address: SocketAddr,
    config: TempFile,
    /// The keys of its ports, as they were at the start.
    ports: String,
}

impl Daemon {
    /// Starts a daemon on 127.0.0.1 and waits until it listens.
    pub fn start(config: &str) -> Daemon {
        Daemon::start_on("127.0.0.1", config)
    }

    /// The same on other addresses: a value of the key `listen`.
    pub fn start_on(listen: &str, config: &str) -> Daemon {
        Daemon::start_in(listen, config, &[])
    }

    /// The same with variables in its environment.
    pub fn start_in(listen: &str, config: &str, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start_program(Path::new(PROGRAM), listen, config, environment)
    }

    /// The same with the program at another path.
    pub fn start_program(
        program: &Path,
        listen: &str,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Daemon {
        // Both ends of all connections of all tests are in this process.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit on files");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a higher limit on files");
        let ports = format!("port: 0\nlisten: {listen}\n");
        let config = TempFile::new(&with_defaults(&ports, config));
        let mut child = Command::new(program)
            .arg("-n")
            .arg("-c")
            .arg(&config.0)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        let stderr = child.stderr.take().expect("a pipe");
        // The daemon drops lines that do not fit, and this process may be slow to read.
        // Whoever has many pipes may have no larger one.
        let _ = fcntl(&stderr, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        let said = Shared::default();
        let shared = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { break };
                shared.0.lock().unwrap().lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().unwrap().ended = true;
            shared.1.notify_all();
        });
        let mut daemon = Daemon {
            child,
            said,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            config,
            ports,
        };
        let line = daemon.wait_for_line("listening on ");
        let address = line.rsplit(' ').next().unwrap_or_default();
        if !address.starts_with("unix:") {
            daemon.address = address.parse().expect("an address in the log");
        }
        daemon
    }

    /// Writes the configuration anew, with the same port and addresses. Nothing
    /// reads it before a signal.
    pub fn configure(&self, config: &str) {
        self.write_config(&with_defaults(&self.ports, config));
    }

    /// The same, and waits until the daemon goes by it.
    pub fn reload(&self, config: &str) {
        self.configure(config);
        let seen = self.lines().len();
        self.signal(Signal::SIGHUP);
        self.wait_for_line_behind(seen, "configuration reloaded");
    }

    /// Writes a configuration file with only this text.
    pub fn write_config(&self, text: &str) {
        fs::write(&self.config.0, text).expect("write a configuration file");
    }

    /// Waits for as many lines with `text`.
    pub fn wait_for_lines(&self, text: &str, count: usize) {
        let found = |said: &Said| {
            let lines = said.lines.iter().filter(|line| line.contains(text));
            lines.count() >= count
        };
        let said = self.wait_until(|said| found(said) || said.ended);
        assert!(
            found(&said),
            "{count} lines with {text:?} in {:#?}",
            said.lines
        );
    }

    /// The first line that contains `text`, there already or still to come.
    pub fn wait_for_line(&self, text: &str) -> String {
        let found = |said: &Said| said.lines.iter().any(|line| line.contains(text));
        drop(self.wait_until(|said| found(said) || said.ended));
        let lines = self.lines();
        match lines.iter().find(|line| line.contains(text)) {
            Some(line) => line.clone(),
            None => panic!("no line with {text:?} in {lines:#?}"),
        }
    }

    /// The same among the lines behind the first `seen`.
    pub fn wait_for_line_behind(&self, seen: usize, text: &str) -> String {
        let find = |said: &Said| {
            let mut lines = said.lines.iter().skip(seen);
            lines.find(|line| line.contains(text)).cloned()
        };
        drop(self.wait_until(|said| find(said).is_some() || said.ended));
        let said = self.said.0.lock().unwrap();
        find(&said).unwrap_or_else(|| panic!("no line with {text:?} in {:#?}", said.lines))
    }

    fn wait_until(&self, mut done: impl FnMut(&Said) -> bool) -> MutexGuard<'_, Said> {
        let said = self.said.0.lock().unwrap();
        let waited = self
            .said
            .1
            .wait_timeout_while(said, PATIENCE, |said| !done(said));
        waited.unwrap().0
    }

    /// All lines that were written before this call. The answer to a signal comes behind
    /// them.
    pub fn all_lines(&self) -> Vec<String> {
        let seen = self.lines().len();
        self.signal(Signal::SIGUSR1);
        self.wait_for_line_behind(seen, ": status: ");
        self.lines()
    }

    /// All lines read so far. Others may have been written.
    pub fn lines(&self) -> Vec<String> {
        self.said.0.lock().unwrap().lines.clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, signal).expect("signal the daemon");
    }

    /// Waits until the daemon has ended by itself.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let ended = self.wait_until(|said| said.ended).ended;
        assert!(ended, "the daemon goes on: {:#?}", self.lines());
        self.child.wait().expect("wait for the daemon")
    }

    /// Ends the daemon: by two signals, so that it does not wait for clients
    /// that the test has left connected.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGINT);
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{:#?}", self.lines());
    }

    /// A client that has done the opening handshake.
    pub fn client(&self) -> WsClient {
        WsClient::connect(self.address, "/", &[], Some("xmpp")).expect("opening handshake")
    }

    /// The daemon's open descriptors.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        fs::read_dir(path)
            .expect("the daemon's descriptors")
            .count()
    }

    /// Waits until the daemon has so many descriptors again.
    pub fn wait_for_descriptors(&self, count: usize) {
        let end = std::time::SystemTime::now() + PATIENCE;
        while self.descriptors() != count {
            let late = std::time::SystemTime::now() > end;
            assert!(!late, "{} descriptors, not {count}", self.descriptors());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// The daemon's memory in use, in bytes; always 0 in tests/memcheck.sh, where
    /// it is the checker's.
    pub fn resident(&self) -> usize {
        if std::env::var_os("MEMCHECK").is_some() {
            return 0;
        }
        // VmRSS of /proc/PID/status may be wrong by a few dozen pages for each processor.
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = fs::read_to_string(path).expect("the daemon's memory");
        let line = rollup.lines().find(|line| line.starts_with("Rss:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("Rss in kB")
            * 1024
    }
}

/// A bound on the memory of a session with TLS. It depends on the OpenSSL of the daemon
/// and its tests: since 3.5 a connection needs up to twice as much, partly for the keys
/// of its post-quantum group.
pub fn by_openssl(before_3_5: usize, from_3_5: usize) -> usize {
    if openssl::version::number() < 0x3050_0000 {
        before_3_5
    } else {
        from_3_5
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
