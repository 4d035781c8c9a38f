//! Detects changes of a file.

use std::path::{Path, PathBuf};

use crate::net::file_stamp::FileStamp;

/// Minimum time between two checks of the file, in milliseconds.
const LOOK_EVERY_MS: u64 = 1000;

/// A file that is checked from time to time.
pub struct FileWatch {
    path: PathBuf,
    /// The state at the last check; `None` if there was no file.
    stamp: Option<FileStamp>,
    next_look_ms: u64,
}

impl FileWatch {
    /// Starts to watch. Whatever is read after this call is up to date.
    pub fn new(path: PathBuf) -> FileWatch {
        FileWatch {
            stamp: FileStamp::of(&path),
            path,
            next_look_ms: 0,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file has changed or disappeared since the last check.
    pub fn has_changed(&mut self, now_ms: u64) -> bool {
        if now_ms < self.next_look_ms {
            return false;
        }
        self.next_look_ms = now_ms + LOOK_EVERY_MS;
        let found = FileStamp::of(&self.path);
        let changed = found != self.stamp;
        self.stamp = found;
        changed
    }

    /// Whether the file existed at the last check.
    pub fn exists(&self) -> bool {
        self.stamp.is_some()
    }
}
