//! Standard error as a sink of the log.
//!
//! Owns the format of a line there. Never blocks.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{IDENT, Level};

/// Standard error. Written only if that does not block.
#[derive(Debug)]
pub(super) struct Stderr {
    /// Used instead, in tests and by `--try`.
    pub stand_in: Option<OwnedFd>,
}

impl Stderr {
    /// Formats a line in `line` and writes it. Returns whether it was accepted.
    pub fn send_line(&self, level: Level, text: &str, line: &mut Vec<u8>, pid: u32) -> bool {
        line.clear();
        let formatted = writeln!(line, "{IDENT}[{pid}]: {}: {text}", level.name());
        let stderr = std::io::stderr();
        let fd = match &self.stand_in {
            Some(fd) => fd.as_fd(),
            None => stderr.as_fd(),
        };
        // A writable pipe accepts at least PIPE_BUF bytes, and a line is shorter.
        formatted.is_ok() && takes_bytes(fd) && nix::unistd::write(fd, line).is_ok()
    }
}

fn takes_bytes(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0]
            .revents()
            .is_some_and(|events| events == PollFlags::POLLOUT)
}
