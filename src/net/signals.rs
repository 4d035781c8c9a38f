//! Signals as readiness: a signalfd in the poll instead of handlers.
//!
//! Owns which signals the daemon takes. They are blocked before the first fork,
//! so none is lost on the way to the descriptor, which is opened after the last.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a process that serves takes.
pub const OF_WORKER: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
];

/// What the master of workers takes.
pub const OF_MASTER: &[Signal] = &[
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGCHLD,
];

/// Blocks `signals` and gives the mask that was before.
///
/// # Errors
/// The kernel's.
pub fn block(signals: &[Signal]) -> io::Result<SigSet> {
    let before = SigSet::thread_get_mask()?;
    signals.iter().copied().collect::<SigSet>().thread_block()?;
    Ok(before)
}

/// The signals of the daemon, blocked and read from a descriptor.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks `signals` and opens a descriptor for them.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn open(signals: &[Signal]) -> io::Result<Signals> {
        block(signals)?;
        let set: SigSet = signals.iter().copied().collect();
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Signals { fd })
    }

    /// The same for a process that serves, with the descriptor in its poll.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let signals = Signals::open(OF_WORKER)?;
        let fd = signals.fd.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        Ok(signals)
    }

    /// The next signal that arrived, if any.
    pub fn take(&mut self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
