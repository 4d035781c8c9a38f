//! Detects changes of a file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Minimum time between two checks of the file, in milliseconds.
const LOOK_EVERY_MS: u64 = 1000;

/// Values that change with a file's contents: device, inode, size, and the times of the
/// last change of contents and inode, to the nanosecond.
type Stamp = [i64; 7];

/// A file that is checked from time to time.
pub struct FileWatch {
    path: PathBuf,
    /// The state at the last check; `None` if there was no file.
    stamp: Option<Stamp>,
    next_look_ms: u64,
}

impl FileWatch {
    /// Starts to watch. Whatever is read after this call is up to date.
    pub fn new(path: PathBuf) -> FileWatch {
        FileWatch {
            stamp: stamp(&path),
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
        let found = stamp(&self.path);
        let changed = found != self.stamp;
        self.stamp = found;
        changed
    }

    /// Whether the file existed at the last check.
    pub fn exists(&self) -> bool {
        self.stamp.is_some()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some([
        file.dev().cast_signed(),
        file.ino().cast_signed(),
        file.size().cast_signed(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}
