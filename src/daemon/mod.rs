//! Turns this process into a daemon.
//!
//! Owns the fork into the background, whose parent exits once the child serves or has
//! reported an error; what systemd passes (`environment`); the PID file (`pid_file`);
//! dropping root privileges (`privileges`); and local time for the log. Reads no
//! configuration and serves no clients.

pub mod environment;
pub mod pid_file;
pub mod privileges;

use std::fs::OpenOptions;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::log::Moment;
use crate::net::process_channel::{Channel, Message};
use crate::net::signals;

/// Forks. The child has copies of everything.
#[expect(unsafe_code, reason = "the crate marks fork as unsafe: see SAFETY")]
pub fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: the process has one thread, so no other thread can hold a lock that the child
    // would wait for.
    unsafe { nix::unistd::fork() }
}

/// The two processes after the fork into the background.
pub enum Process {
    /// The process that the operator started. Returned once the child serves or has ended,
    /// with the reason.
    Parent(Result<(), String>),
    /// The daemon, with a channel to its parent.
    Daemon(Channel),
}

/// Forks into the background. The daemon gets a session of its own, the root directory and
/// no terminal, and its signals are blocked. The parent returns once the child has reported
/// the result of the start. A process that replaces another generation is `in_background`
/// already: the fork only detaches it from the process that started it.
pub fn detach(in_background: bool) -> Result<Process, String> {
    let failed = |error: Errno| format!("cannot go into the background: {}", error.desc());
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| format!("/dev/null: {error}"))?;
    let (parent_end, child_end) = Channel::pair().map_err(failed)?;
    let before = signals::block().map_err(|error| format!("cannot block signals: {error}"))?;
    match fork().map_err(failed)? {
        ForkResult::Parent { child } => {
            drop(child_end);
            // The operator must be able to interrupt the parent.
            let _ = SigSet::thread_set_mask(&before);
            Ok(Process::Parent(wait_for_start(&parent_end, child)))
        }
        ForkResult::Child => {
            drop(parent_end);
            if in_background {
                return Ok(Process::Daemon(child_end));
            }
            // These cannot fail in a new child; without them the daemon still works.
            let _ = setsid();
            let _ = chdir("/");
            umask(Mode::from_bits_truncate(0o027));
            let _ = dup2_stdin(&null);
            let _ = dup2_stdout(&null);
            let _ = dup2_stderr(&null);
            Ok(Process::Daemon(child_end))
        }
    }
}

fn wait_for_start(channel: &Channel, child: Pid) -> Result<(), String> {
    let mut why = None;
    loop {
        match channel.wait() {
            Ok(Some(Message::Ready(_))) => return Ok(()),
            Ok(Some(Message::Status(status))) => why = Some(status),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    // Wait until the child has exited: only then has it removed its files.
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

/// Converts seconds since 1970 to local time.
#[expect(
    unsafe_code,
    reason = "only the C library knows time zones: see SAFETY"
)]
pub fn local_time(unix_seconds: i64) -> Option<Moment> {
    // SAFETY: all fields of `tm` are integers or a pointer, and zero is valid for these.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to local variables, which the call does not keep. It reads
    // the environment, and no other thread can change that.
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
