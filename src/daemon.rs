//! What a process does to become a daemon.
//!
//! Owns the fork into the background, whose parent ends only when the child
//! serves or has said why not; what systemd hands over in the environment; the
//! PID file (`pid_file`) and the step down from root (`privileges`); local time
//! for the log. The only room beside `expat` that may hold `unsafe`: fork, the
//! environment and descriptors by number are what it is for. Serves nobody and
//! reads no configuration.

pub mod pid_file;
pub mod privileges;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockname, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::log::Moment;
use crate::net::notify::{self, Channel, Word};
use crate::net::signals;

/// The first descriptor that systemd hands over.
const FIRST_INHERITED: RawFd = 3;

/// The variable by which one generation of the daemon hands descriptors over to the next.
pub const HANDOVER: &str = "JABSOCKET_HANDOVER";

/// Forks. The child has a copy of everything.
///
/// # Errors
/// The kernel's: no memory, or too many processes.
#[expect(unsafe_code, reason = "the crate marks it so: see SAFETY")]
pub fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: there is one thread, so no lock is held that the child would wait
    // for, and it may go on as its parent would.
    unsafe { nix::unistd::fork() }
}

/// Which side of the fork into the background this is.
pub enum Process {
    /// The process that the operator started, after the child has served or
    /// ended; why it ended.
    Parent(Result<(), String>),
    /// The daemon; the channel to tell the parent by.
    Daemon(Channel),
}

/// Forks into the background: a session of its own, in the root directory,
/// without terminal. The parent comes back when the child has told it how the
/// start went. The daemon's signals are blocked in the child. A process that takes the
/// place of another generation `has_background` already: the fork only frees it from
/// the process that has started it.
///
/// # Errors
/// What could not be done, before the fork.
pub fn detach(has_background: bool) -> Result<Process, String> {
    let words = |error: Errno| format!("cannot go into the background: {}", error.desc());
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| format!("/dev/null: {error}"))?;
    let (listening, telling) = notify::channel().map_err(words)?;
    let before = signals::block().map_err(|error| format!("cannot block signals: {error}"))?;
    match fork().map_err(words)? {
        ForkResult::Parent { child } => {
            drop(telling);
            // Who waits at a terminal may give up.
            let _ = SigSet::thread_set_mask(&before);
            Ok(Process::Parent(wait_for_start(&listening, child)))
        }
        ForkResult::Child => {
            drop(listening);
            if has_background {
                return Ok(Process::Daemon(telling));
            }
            // Neither can fail in a fresh child; without them it serves as well.
            let _ = setsid();
            let _ = chdir("/");
            umask(Mode::from_bits_truncate(0o027));
            let _ = dup2_stdin(&null);
            let _ = dup2_stdout(&null);
            let _ = dup2_stderr(&null);
            Ok(Process::Daemon(telling))
        }
    }
}

fn wait_for_start(listening: &Channel, child: Pid) -> Result<(), String> {
    let mut why = None;
    loop {
        match listening.next(true) {
            Ok(Some(Word::Ready(_))) => return Ok(()),
            Ok(Some(Word::Status(status))) => why = Some(status),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    // What it leaves behind it has cleared away when it has ended.
    let end = waitpid(child, None);
    Err(why.unwrap_or_else(|| match end {
        Ok(WaitStatus::Signaled(_, signal, _)) => {
            format!("the daemon was killed by {signal} while it started")
        }
        Ok(WaitStatus::Exited(_, code)) => {
            format!("the daemon ended with status {code} while it started")
        }
        _ => "the daemon ended while it started".to_owned(),
    }))
}

/// What systemd, or the generation before, hands over in the environment.
#[derive(Default)]
pub struct Environment {
    /// Where it wants to be told, `NOTIFY_SOCKET`.
    pub notify_socket: Option<OsString>,
    /// How often it wants a sign of life: half of `WATCHDOG_USEC`.
    pub watchdog: Option<Duration>,
    /// Number of listening sockets, from descriptor 3 on.
    inherited: RawFd,
    /// Their names.
    names: Vec<String>,
    /// What the generation before describes.
    pub handover: Option<String>,
}

impl Environment {
    /// Takes what is meant for this process out of the environment.
    #[expect(unsafe_code, reason = "the environment is the process's: see SAFETY")]
    pub fn take() -> Environment {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let own = u64::from(std::process::id());
        let mut environment = Environment {
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            handover: text(HANDOVER),
            ..Environment::default()
        };
        if number("WATCHDOG_PID").is_none_or(|pid| pid == own) {
            let period = number("WATCHDOG_USEC").filter(|period| *period > 1);
            environment.watchdog = period.map(|period| Duration::from_micros(period / 2));
        }
        if number("LISTEN_PID") == Some(own) {
            let count = number("LISTEN_FDS").unwrap_or_default();
            environment.inherited = RawFd::try_from(count).unwrap_or(0);
            let names = text("LISTEN_FDNAMES").unwrap_or_default();
            environment.names = names.split(':').map(str::to_owned).collect();
        }
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            HANDOVER,
        ] {
            // SAFETY: there is one thread, so nobody else reads the environment.
            unsafe { std::env::remove_var(name) };
        }
        environment
    }

    /// What the next generation has to find in its environment to tell systemd.
    pub fn for_systemd(&self) -> Vec<(&'static str, OsString)> {
        let socket = self.notify_socket.clone();
        let watchdog = self.watchdog.map(|half| half.as_micros() * 2);
        let watchdog = watchdog.map(|usec| ("WATCHDOG_USEC", usec.to_string().into()));
        let socket = socket.map(|socket| ("NOTIFY_SOCKET", socket));
        socket.into_iter().chain(watchdog).collect()
    }

    /// A descriptor from the generation before, by its number. Call this once for each
    /// number, before opening any descriptor that might be closed again.
    #[expect(unsafe_code, reason = "descriptors by number: see SAFETY")]
    pub fn claim(&self, fd: RawFd) -> Option<OwnedFd> {
        // SAFETY: asks the kernel about a number; any number will do.
        let is_open = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } >= 0;
        // SAFETY: it is open, and the generation before names each descriptor once, for
        // this process to own.
        (fd >= FIRST_INHERITED && is_open).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Closes all inherited descriptors above standard error, except sockets from systemd:
    /// the parent may wait for the end of a pipe, or for a lock. Call this before anything
    /// else.
    #[expect(unsafe_code, reason = "descriptors by number: see SAFETY")]
    pub fn close_others(&self) {
        if self.handover.is_some() {
            // The generation before hands over nothing else.
            return;
        }
        let first = FIRST_INHERITED.saturating_add(self.inherited);
        let first = libc::c_uint::try_from(first).unwrap_or(libc::c_uint::MAX);
        // SAFETY: nothing was opened so far, so this process owns none of them. Kernels
        // before 5.9 do not have the call; the descriptors stay open.
        unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    }

    /// The listening sockets from systemd, with their names, which may be empty. Call this
    /// once, before opening any descriptor that might be closed again.
    ///
    /// # Errors
    /// The descriptor that is none, and its name.
    #[expect(unsafe_code, reason = "descriptors by number: see SAFETY")]
    pub fn listeners(&mut self) -> Result<Vec<(OwnedFd, String)>, String> {
        let count = std::mem::take(&mut self.inherited);
        let mut listeners = Vec::new();
        for at in 0..count {
            let fd = FIRST_INHERITED + at;
            let name = usize::try_from(at).ok().and_then(|at| self.names.get(at));
            let name = name.map_or("", String::as_str);
            let refused = |why: &str| Err(format!("descriptor {fd} ({name}) of LISTEN_FDS {why}"));
            // SAFETY: asks the kernel about a number; any number will do.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
                return refused("is not open");
            }
            // SAFETY: it is open, as was just seen, and by the protocol of
            // sd_listen_fds(3) it is handed over to this process, which takes it
            // here and, by the count being taken, only once.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            let family = getsockname::<SockaddrStorage>(fd.as_raw_fd());
            let family = family.ok().and_then(|address| address.family());
            use AddressFamily::{Inet, Inet6, Unix};
            let stream = matches!(family, Some(Inet | Inet6 | Unix))
                && getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream);
            if !stream {
                return refused("is neither a TCP nor a unix stream socket");
            }
            if getsockopt(&fd, sockopt::AcceptConn) != Ok(true) {
                return refused(
                    "does not listen (ListenStream= with Accept=no makes one that does)",
                );
            }
            if let Err(error) = fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
                return refused(error.desc());
            }
            listeners.push((fd, name.to_owned()));
        }
        Ok(listeners)
    }
}

/// The local time, as C has it.
#[expect(
    unsafe_code,
    reason = "only the C library knows time zones: see SAFETY"
)]
pub fn local_time(unix_seconds: i64) -> Option<Moment> {
    // SAFETY: all fields of `tm` are integers or a pointer, for which zero is
    // a value.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to variables of this function, which the call does not
    // keep; it reads the environment, which one thread has to itself.
    let done = unsafe { libc::localtime_r(&unix_seconds, &mut tm) };
    let part = |number: libc::c_int| u8::try_from(number).ok();
    if done.is_null() {
        return None;
    }
    Some(Moment {
        month: part(tm.tm_mon)?,
        day: part(tm.tm_mday)?,
        hour: part(tm.tm_hour)?,
        minute: part(tm.tm_min)?,
        second: part(tm.tm_sec)?,
    })
}

/// Whether standard error leads to systemd's journal, which has what goes to
/// syslog too.
pub fn stderr_is_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = nix::sys::stat::fstat(std::io::stderr());
    stat.is_ok_and(|stat| told == format!("{}:{}", stat.st_dev, stat.st_ino))
}
