//! The last lines of a log, which one process writes and others read.
//!
//! The lines are a ring. A reader discards a line that is overwritten while it is read.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use super::{Words, read_bytes, words_for, write_bytes};

/// Maximum number of lines that a reader gets.
pub(crate) const LINES: usize = 50;
/// Another line may be written meanwhile.
const ENTRIES: usize = LINES + 1;
/// Maximum length of a text in bytes.
const MAX_TEXT: usize = 1 << 10;
/// Time, level and text.
const ENTRY: usize = 2 + words_for(MAX_TEXT);

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Milliseconds since the epoch.
    pub at_ms: u64,
    pub level: u64,
    pub text: String,
}

/// The last lines of one process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecentLines(Words);

impl RecentLines {
    /// The number of words that the lines need: how many there were, and the ring.
    pub(crate) const WORDS: usize = 1 + ENTRIES * ENTRY;

    /// Uses `words`, which are zero or have lines already.
    pub(crate) fn new(words: Words) -> RecentLines {
        debug_assert_eq!(words.len(), Self::WORDS);
        RecentLines(words)
    }

    fn entry(self, number: u64) -> Words {
        let at = (number % ENTRIES as u64) as usize;
        &self.0[1 + at * ENTRY..][..ENTRY]
    }

    /// Adds a line. A text that is too long is left out.
    pub(crate) fn push(self, line: &Line) {
        let number = self.0[0].load(Relaxed);
        // A reader that sees a word written below also sees this number, and so notices that
        // the oldest line is being overwritten.
        fence(Release);
        let entry = self.entry(number);
        entry[0].store(line.at_ms, Relaxed);
        entry[1].store(line.level, Relaxed);
        if write_bytes(&entry[2..], line.text.as_bytes()) {
            self.0[0].store(number + 1, Release);
        }
    }

    /// Returns the lines, the oldest first.
    pub(crate) fn read(self) -> Vec<Line> {
        let end = self.0[0].load(Acquire);
        let numbers = end.saturating_sub(LINES as u64)..end;
        let read = |number| {
            let entry = self.entry(number);
            let line = Line {
                at_ms: entry[0].load(Relaxed),
                level: entry[1].load(Relaxed),
                text: String::from_utf8_lossy(&read_bytes(&entry[2..])).into_owned(),
            };
            fence(Acquire);
            (self.0[0].load(Relaxed) < number + ENTRIES as u64).then_some(line)
        };
        numbers.filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::map;
    use super::*;

    fn line(n: u64) -> Line {
        Line {
            at_ms: n,
            level: n % 8,
            text: format!("{n} ").repeat(100),
        }
    }

    #[test]
    fn the_last_lines_are_kept_in_their_order() {
        let lines = RecentLines::new(map(RecentLines::WORDS).unwrap());
        assert_eq!(lines.read(), []);
        for n in 0..120 {
            lines.push(&line(n));
            let first = (n + 1).saturating_sub(LINES as u64);
            assert!(lines.read().into_iter().eq((first..=n).map(line)), "{n}");
        }
        let long = "x".repeat(MAX_TEXT + 1);
        lines.push(&Line {
            text: long,
            ..line(1)
        });
        assert_eq!(lines.read().last(), Some(&line(119)));
    }

    #[test]
    fn a_reader_gets_whole_lines_while_others_are_written() {
        const LAST: u64 = 20_000;
        let lines = RecentLines::new(map(RecentLines::WORDS).unwrap());
        let writer = std::thread::spawn(move || (0..=LAST).for_each(|n| lines.push(&line(n))));
        loop {
            let read = lines.read();
            for read in &read {
                assert_eq!(*read, line(read.at_ms));
            }
            if read.last().is_some_and(|read| read.at_ms == LAST) {
                break;
            }
        }
        writer.join().unwrap();
    }
}
