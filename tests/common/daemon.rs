//! Runs the daemon in the foreground, on a port that the kernel picks.
//!
//! Owns the process, its configuration file and its standard error.

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

use super::background::descriptors;
use super::ws_client::WsClient;
use super::{PATIENCE, patiently};

/// The daemon's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_jabsocket");

/// Size of the pipe for the daemon's log: the maximum for users other than root.
const PIPE_BYTES: i32 = 1 << 20;

/// A file for one test. Dropping it removes the file.
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

/// What the daemon has logged so far.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

/// Keys that are added to a test's configuration if it lacks them. The daemon then logs
/// everything. However slow the machine is, it sends no Pings and no deadline passes.
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
    /// The first address on which it listens, unless that is a unix socket.
    pub address: SocketAddr,
    config: TempFile,
    /// The keys for its ports, as at startup.
    ports: String,
}

impl Daemon {
    /// Starts a daemon on 127.0.0.1 and waits until it listens.
    pub fn start(config: &str) -> Daemon {
        Daemon::start_on("127.0.0.1", config)
    }

    /// Starts a daemon on other addresses, given as a value for the key `listen`.
    pub fn start_on(listen: &str, config: &str) -> Daemon {
        Daemon::start_in(listen, config, &[])
    }

    /// Starts a daemon with variables in its environment.
    pub fn start_in(listen: &str, config: &str, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start_program(Path::new(PROGRAM), listen, config, environment)
    }

    /// Starts the program at another path.
    pub fn start_program(
        program: &Path,
        listen: &str,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Daemon {
        // This process has both ends of all connections of all tests.
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
        // The daemon drops lines that do not fit, and this process may be slow to read. A
        // user with many pipes may not get a larger one.
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

    /// Replaces the configuration, with the same ports and addresses. The daemon reads it
    /// after a signal.
    pub fn configure(&self, config: &str) {
        self.write_config(&with_defaults(&self.ports, config));
    }

    /// Replaces the configuration and waits until the daemon uses it.
    pub fn reload(&self, config: &str) {
        self.configure(config);
        let seen = self.lines().len();
        self.signal(Signal::SIGHUP);
        self.wait_for_line_after(seen, "configuration reloaded");
    }

    /// Replaces the configuration by this text alone.
    pub fn write_config(&self, text: &str) {
        fs::write(&self.config.0, text).expect("write a configuration file");
    }

    /// Waits until at least `count` lines contain `text`.
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

    /// Waits for the first line with `text`, unless it was logged before.
    pub fn wait_for_line(&self, text: &str) -> String {
        self.wait_for_line_after(0, text)
    }

    /// Waits for a line with `text` after the first `seen` lines.
    pub fn wait_for_line_after(&self, seen: usize, text: &str) -> String {
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

    /// Returns all lines that the daemon wrote before this call, by waiting for its
    /// answer to a signal.
    pub fn all_lines(&self) -> Vec<String> {
        let seen = self.lines().len();
        self.signal(Signal::SIGUSR1);
        self.wait_for_line_after(seen, ": status: ");
        self.lines()
    }

    /// The lines that have been read so far. The daemon may have written more.
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

    /// Waits until the daemon exits.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let ended = self.wait_until(|said| said.ended).ended;
        assert!(ended, "the daemon goes on: {:#?}", self.lines());
        self.child.wait().expect("wait for the daemon")
    }

    /// Stops the daemon. The second signal ends the wait for clients that are still
    /// connected.
    pub fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.signal(Signal::SIGINT);
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{:#?}", self.lines());
    }

    /// A client after its opening handshake.
    pub fn client(&self) -> WsClient {
        WsClient::connect(self.address, "/", &[], Some("xmpp")).expect("opening handshake")
    }

    /// The number of the daemon's open descriptors.
    pub fn descriptors(&self) -> usize {
        descriptors(self.pid())
    }

    /// Waits until the daemon has `count` descriptors.
    pub fn wait_for_descriptors(&self, count: usize) {
        patiently(&format!("{count} descriptors"), || {
            (self.descriptors() == count).then_some(())
        });
    }

    /// The daemon's resident memory in bytes. Always 0 in tests/memcheck.sh, because the
    /// checker needs memory too.
    pub fn resident(&self) -> usize {
        if std::env::var_os("MEMCHECK").is_some() {
            return 0;
        }
        // VmRSS in /proc/PID/status may be wrong by a few dozen pages per processor.
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = fs::read_to_string(path).expect("the daemon's memory");
        let line = rollup.lines().find(|line| line.starts_with("Rss:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("Rss in kB")
            * 1024
    }
}

/// Returns the bound for the OpenSSL in use. Since version 3.5 a connection needs up to
/// twice as much memory, partly for the keys of its post-quantum group.
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
