//! Signals as readiness: a signalfd in the poll instead of handlers.

use std::io;
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals of the daemon, blocked and read from a descriptor.
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the daemon's signals and registers their descriptor.
    ///
    /// # Errors
    /// The kernel gives no descriptor.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Signals { fd })
    }

    /// The next signal that arrived, if any.
    pub fn take(&mut self) -> Option<Signal> {
        let info = self.fd.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}
