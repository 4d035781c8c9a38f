//! The last important lines of this process, for the status page.
//!
//! Keeps them whatever the log's level is. They are in the memory of this process until it
//! has memory that it shares with others.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Level;
use crate::shared_memory::recent_lines::{LINES, Line, RecentLines};

#[derive(Debug)]
pub(super) enum Recent {
    Own(VecDeque<Line>),
    Shared(RecentLines),
}

impl Recent {
    pub fn push(&mut self, level: Level, text: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let line = Line {
            at_ms: now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0)),
            level: level as u64,
            text: text.to_owned(),
        };
        match self {
            Recent::Shared(lines) => lines.push(&line),
            Recent::Own(lines) => {
                if lines.len() == LINES {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        }
    }

    /// Moves the lines to shared memory. A worker leaves earlier lines to its master.
    pub fn share(&mut self, shared: RecentLines) {
        if let Recent::Own(lines) = std::mem::replace(self, Recent::Shared(shared)) {
            lines.iter().for_each(|line| shared.push(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared_memory::map;

    #[test]
    fn the_last_lines_move_to_shared_memory_in_their_order() {
        let mut recent = Recent::Own(VecDeque::new());
        for n in 0..60 {
            recent.push(Level::Warning, &n.to_string());
        }
        let shared = RecentLines::new(map(RecentLines::WORDS).unwrap());
        recent.share(shared);
        recent.push(Level::Err, "more");
        let lines = shared.read();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!((texts.len(), texts[0], texts[49]), (50, "11", "more"));
        assert_eq!(lines[49].level, Level::Err as u64);
        assert!(lines[49].at_ms > 1_600_000_000_000);
    }
}
