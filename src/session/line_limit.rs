//! Limits how many log lines of one kind peers can cause in a second.

use std::fmt;

use super::Tick;
use crate::log::Log;

/// Maximum number of lines per second; the others are only counted.
pub(super) const LINES_PER_SECOND: u32 = 10;

/// The lines of one kind in the current second.
#[derive(Debug, Default)]
pub(super) struct LineLimit {
    second: Tick,
    lines: u32,
    left_out: u64,
}

impl LineLimit {
    /// Counts a line. Returns whether it may be written.
    pub fn admits(&mut self, now: Tick) -> bool {
        let second = now / 1000;
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        let admits = self.lines < LINES_PER_SECOND;
        match admits {
            true => self.lines += 1,
            false => self.left_out += 1,
        }
        admits
    }

    /// Writes a warning, unless there were too many. The number of those that were left out
    /// precedes the next one, with the name of their `kind`.
    pub fn warn(&mut self, log: &Log, kind: &str, line: fmt::Arguments<'_>, now: Tick) {
        if !self.admits(now) {
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            log.warning(format_args!(
                "{kind}: {left_out} more lines were suppressed"
            ));
        }
        log.warning(line);
    }
}
