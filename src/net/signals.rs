//! Signals as readiness of a descriptor: a signalfd instead of signal handlers.
//!
//! Owns the set of signals that the daemon handles. They are blocked before the first fork,
//! so none is lost before the descriptor is opened, which happens after the last fork.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// The signals that the daemon's processes handle.
const HANDLED: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

/// Blocks the signals and returns the previous mask.
pub fn block() -> io::Result<SigSet> {
    let before = SigSet::thread_get_mask()?;
    HANDLED.iter().copied().collect::<SigSet>().thread_block()?;
    Ok(before)
}

pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals and opens a descriptor for them.
    pub fn open() -> io::Result<Signals> {
        block()?;
        let set: SigSet = HANDLED.iter().copied().collect();
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd })
    }

    /// Does what [`Signals::open`] does, and registers the descriptor with a poll.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let signals = Signals::open()?;
        let fd = signals.fd.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(signals)
    }

    /// Returns the next signal, if any, and the process that sent it.
    pub fn take(&mut self) -> Option<(Signal, Pid)> {
        let info = self.fd.read_signal().ok().flatten()?;
        let signal = Signal::try_from(info.ssi_signo as i32).ok()?;
        Some((signal, Pid::from_raw(info.ssi_pid as i32)))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
