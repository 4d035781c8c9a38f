//! Standard error as a sink of the log.
//!
//! Owns the format of a line there, and the count of lines that were not written. Never
//! blocks: a line that standard error does not accept is counted, and the next line that
//! gets through reports the count.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{IDENT, Level, send_after_losses};

/// Standard error. Written only if that does not block.
#[derive(Debug)]
pub(super) struct Stderr {
    stand_in: Option<OwnedFd>,
    lost_lines: u64,
}

impl Stderr {
    /// Standard error, or its replacement in a test.
    pub fn new(stand_in: Option<OwnedFd>) -> Stderr {
        Stderr {
            stand_in,
            lost_lines: 0,
        }
    }

    /// Writes a line, which is formatted in `line`.
    pub fn write(&mut self, level: Level, text: &str, line: &mut Vec<u8>, pid: u32) {
        let mut lost_lines = self.lost_lines;
        send_after_losses(&mut lost_lines, (level, text), |level, text| {
            self.write_line(level, text, line, pid)
        });
        self.lost_lines = lost_lines;
    }

    fn write_line(&self, level: Level, text: &str, line: &mut Vec<u8>, pid: u32) -> bool {
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
