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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::log::Level;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time of log lines")]
    fn lines_that_were_left_out_are_counted_before_the_next() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (path, now) = ("/nonexistent".as_ref(), std::time::Instant::now());
        let log = Log::with_sinks(path, Some(writer.into()), now);
        log.set_stderr(true);
        log.set_level(Level::Warning);
        let mut limit = LineLimit::default();
        for (now, text) in [(1999, "a"), (2000, "b"), (2999, "c"), (3000, "d")] {
            for _ in 0..LINES_PER_SECOND + 2 {
                limit.warn(&log, "kind", format_args!("{text}"), now);
            }
        }
        drop(log);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        let count = |text: &str| said.matches(&format!("warning: {text}\n")).count();
        assert_eq!(["a", "b", "c", "d"].map(count), [10, 10, 0, 10]);
        assert_eq!(count("kind: 2 more lines were suppressed"), 1);
        assert_eq!(count("kind: 14 more lines were suppressed"), 1);
    }
}
