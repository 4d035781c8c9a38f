//! What systemd, or the previous generation of this daemon, passes to this process:
//! variables, and descriptors by number.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage};
use nix::sys::socket::{getsockname, getsockopt, sockopt};

/// The variable that describes the descriptors for the next generation.
pub const HANDOVER: &str = "JABSOCKET_HANDOVER";

/// The first descriptor that systemd passes.
const FIRST_INHERITED: RawFd = 3;

/// What systemd or the previous generation passes in the environment.
#[derive(Default)]
pub struct Environment {
    /// The socket for notifications, from `NOTIFY_SOCKET`.
    pub notify_socket: Option<OsString>,
    /// Time between heartbeats: half of `WATCHDOG_USEC`.
    pub watchdog: Option<Duration>,
    /// Number of listening sockets, starting at descriptor 3.
    sockets: RawFd,
    socket_names: Vec<String>,
    /// The description of the descriptors from the previous generation.
    pub handover: Option<String>,
}

/// Returns the time between heartbeats if systemd waits this long for one: half of it, but no
/// less than a timer of the event loop takes. 0: systemd does not wait for any.
fn heartbeat(watchdog_usec: u64) -> Option<Duration> {
    let half = Duration::from_micros(watchdog_usec / 2);
    (watchdog_usec > 0).then_some(half.max(Duration::from_millis(1)))
}

impl Environment {
    /// Reads the variables that are meant for this process, and removes them.
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
            environment.watchdog = number("WATCHDOG_USEC").and_then(heartbeat);
        }
        if number("LISTEN_PID") == Some(own) {
            let count = number("LISTEN_FDS").unwrap_or_default();
            environment.sockets = RawFd::try_from(count).unwrap_or(0);
            let names = text("LISTEN_FDNAMES").unwrap_or_default();
            environment.socket_names = names.split(':').map(str::to_owned).collect();
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
            // SAFETY: there is one thread, so no other thread reads the environment.
            unsafe { std::env::remove_var(name) };
        }
        environment
    }

    /// The variables that the next generation needs to notify systemd.
    pub fn for_systemd(&self) -> Vec<(&'static str, OsString)> {
        let socket = self.notify_socket.clone();
        let watchdog = self.watchdog.map(|half| half.as_micros() * 2);
        let watchdog = watchdog.map(|usec| ("WATCHDOG_USEC", usec.to_string().into()));
        let socket = socket.map(|socket| ("NOTIFY_SOCKET", socket));
        socket.into_iter().chain(watchdog).collect()
    }

    /// Takes ownership of a descriptor that systemd or the previous generation passed by
    /// number; `None` if it is not open. Must be called only once per number, before this
    /// process opens a descriptor that it might close again.
    #[expect(unsafe_code, reason = "descriptors by number: see SAFETY")]
    pub fn claim(&self, fd: RawFd) -> Option<OwnedFd> {
        // SAFETY: the call takes a number, and an invalid one is only an error.
        let is_open = || unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } >= 0;
        // SAFETY: it is open, and the caller claims each descriptor once, for this process
        // to own.
        (fd >= FIRST_INHERITED && is_open()).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Closes all inherited descriptors above standard error, except sockets from systemd.
    /// Otherwise the parent might wait forever for the end of a pipe or for a lock. Must be
    /// called before anything else.
    #[expect(unsafe_code, reason = "descriptors by number: see SAFETY")]
    pub fn close_others(&self) {
        if self.handover.is_some() {
            // The previous generation passes nothing else.
            return;
        }
        let first = FIRST_INHERITED.saturating_add(self.sockets);
        let first = libc::c_uint::try_from(first).unwrap_or(libc::c_uint::MAX);
        // SAFETY: this process has opened nothing so far, so it owns none of them. Kernels
        // before 5.9 lack the call; the descriptors then stay open.
        unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    }

    /// Returns the listening sockets from systemd, with their names, which may be empty.
    /// Must be called before this process opens a descriptor that it might close again.
    ///
    /// # Errors
    /// Names the descriptor that is not a listening socket.
    pub fn listeners(&mut self) -> Result<Vec<(OwnedFd, String)>, String> {
        let count = std::mem::take(&mut self.sockets);
        let mut listeners = Vec::new();
        for at in 0..count {
            let fd = FIRST_INHERITED + at;
            let name = usize::try_from(at)
                .ok()
                .and_then(|at| self.socket_names.get(at));
            let name = name.map_or("", String::as_str);
            let refused = |why: &str| Err(format!("descriptor {fd} ({name}) of LISTEN_FDS {why}"));
            // By the protocol of sd_listen_fds(3) it belongs to this process. It is claimed
            // only once, because the count is reset.
            let Some(fd) = self.claim(fd) else {
                return refused("is not open");
            };
            let family = getsockname::<SockaddrStorage>(fd.as_raw_fd());
            let family = family.ok().and_then(|address| address.family());
            use AddressFamily::{Inet, Inet6, Unix};
            let stream = matches!(family, Some(Inet | Inet6 | Unix))
                && getsockopt(&fd, sockopt::SockType) == Ok(SockType::Stream);
            if !stream {
                return refused("is neither a TCP nor a Unix stream socket");
            }
            if getsockopt(&fd, sockopt::AcceptConn) != Ok(true) {
                return refused("does not listen (use ListenStream= with Accept=no)");
            }
            if let Err(error) = fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
                return refused(error.desc());
            }
            listeners.push((fd, name.to_owned()));
        }
        Ok(listeners)
    }
}

/// Whether standard error goes to systemd's journal, which also receives all lines for
/// syslog.
pub fn stderr_is_journal() -> bool {
    let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stat = nix::sys::stat::fstat(std::io::stderr());
    stat.is_ok_and(|stat| journal == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_no_more_frequent_than_timers() {
        let micros = |usec| heartbeat(usec).map(|time| time.as_micros());
        let periods = [0, 1, 2, 1999, 3000, 30_000_000].map(micros);
        let expected = [0, 1000, 1000, 1000, 1500, 15_000_000];
        assert_eq!(periods.map(Option::unwrap_or_default), expected);
        assert_eq!(periods[0], None);
    }
}
