//! Runs the daemon in the background, or in another way in which its standard error is
//! not read.
//!
//! Owns a directory with the configuration and the PID file. Reads the state of processes
//! from /proc.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon::PROGRAM;
use super::{PATIENCE, patiently};

/// A directory for one test. Dropping it removes the directory.
pub struct TempDir(pub PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("jabsocket-test-{}-{number}.d", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory");
        TempDir(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A daemon in the background, or one that is about to go there.
pub struct Background {
    pub dir: TempDir,
    pub config: PathBuf,
    pub pid_file: PathBuf,
}

impl Background {
    /// Writes the configuration without starting the daemon. `{dir}` in it is replaced by
    /// the directory.
    pub fn new(config: &str) -> Background {
        let dir = TempDir::new();
        let background = Background {
            config: dir.path("jabsocket.conf"),
            pid_file: dir.path("pid"),
            dir,
        };
        background.configure(config);
        background
    }

    /// Replaces the configuration file.
    pub fn configure(&self, config: &str) {
        let config = config.replace("{dir}", &self.dir.0.to_string_lossy());
        let text = format!(
            "port: 0\nlisten: 127.0.0.1\npid_file: {}\ndomains: [example.org]\n{config}",
            self.pid_file.display()
        );
        fs::write(&self.config, text).expect("write a configuration file");
    }

    /// The command that starts the daemon. It ends when the daemon serves or has failed.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&self.config).stdin(Stdio::null());
        command
    }

    /// Runs the command. Fails if the command does not end or keeps its output open.
    pub fn start(&self) -> Output {
        output(self.command())
    }

    /// Starts a daemon. Fails unless it serves.
    pub fn started(config: &str) -> Background {
        let background = Background::new(config);
        let output = background.start();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{told}");
        background
    }

    /// The process ID in the PID file.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(&self.pid_file).expect("a PID file");
        text.trim().parse().expect("a number in the PID file")
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid(), signal);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        listens_at(self.pid()).expect("a listener")
    }

    /// Stops the daemon and waits for its end.
    pub fn stop(self) {
        let pid = self.pid();
        self.signal(Signal::SIGTERM);
        wait_gone(pid);
        let left = fs::read_to_string(&self.pid_file);
        assert!(left.is_err(), "the PID file is still there");
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let text = fs::read_to_string(&self.pid_file).unwrap_or_default();
        if let Ok(pid) = text.trim().parse() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A user other than root and the daemon's user.
pub const OTHER: u32 = 65534;

/// Starts a process of another user that holds a lock on a file or directory which it can
/// only read.
pub fn locked_by_another(path: &Path) -> Child {
    let line = "exec 9<\"$0\" && flock --nonblock 9 && echo locked && exec cat";
    let mut child = Command::new("/bin/sh")
        .args(["-c", line])
        .arg(path)
        .uid(OTHER)
        .gid(OTHER)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut said = [0; 7];
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut said).expect("a lock");
    assert_eq!(&said, b"locked\n");
    child
}

/// Runs a command and returns its output. Fails if the command or a child of it keeps the
/// output open.
pub fn output(mut command: Command) -> Output {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(command.output()));
    let output = receiver.recv_timeout(PATIENCE).expect("the end of it");
    output.expect("run the daemon")
}

pub fn signal_to(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("signal a process");
}

/// The state of a process as one letter; `None` if the process does not exist.
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Waits until a process has ended. A zombie has ended too: some machines do not reap
/// orphans.
pub fn wait_gone(pid: u32) {
    patiently(&format!("the end of process {pid}"), || {
        let gone = kill(Pid::from_raw(pid as i32), None) == Err(Errno::ESRCH);
        (gone || matches!(state(pid), None | Some('Z'))).then_some(())
    });
}

/// The running children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter(|pid| !matches!(state(*pid), None | Some('Z')))
        .collect()
}

/// Waits until a master has `count` workers that handle signals; returns them in the
/// order of their start.
pub fn workers(master: u32, count: usize) -> Vec<u32> {
    patiently("the workers", || {
        let workers = children(master);
        // Only a process that handles signals has a signalfd.
        let serves = |pid: &u32| {
            let entries = fs::read_dir(format!("/proc/{pid}/fd"));
            let mut links = entries.into_iter().flatten().flatten();
            links.any(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|link| link.to_string_lossy().contains("signalfd"))
            })
        };
        (workers.len() == count && workers.iter().all(serves)).then_some(workers)
    })
}

/// The number of open descriptors of a process.
pub fn descriptors(pid: u32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    entries.count()
}

/// The value of a line of /proc/PID/status.
pub fn status(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.expect("such a line").trim().to_owned()
}

/// The IPv4 address on which a process listens.
pub fn listens_at(pid: u32) -> Option<SocketAddr> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?;
            Some(link.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // State 0A is LISTEN.
        if fields[3] != "0A" || !sockets.iter().any(|inode| inode == fields[9]) {
            return None;
        }
        let port = fields[1].split(':').nth(1)?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}
