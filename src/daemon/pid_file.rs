//! The PID file: who runs, and that nobody else does.
//!
//! Owns the file's lock, which no second daemon gets while any process of the
//! first is left that did not let go of it; the number in the file; and its
//! removal. A file that a crash left behind is taken over: the lock counts, not
//! the file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A PID file that this process has locked.
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Opens and locks the file, and leaves what it says.
    ///
    /// # Errors
    /// Another daemon has it, or it cannot be written: in words.
    pub fn lock(path: &Path) -> Result<PidFile, String> {
        let words = |why: String| format!("key 'pid_file': {}: {why}", path.display());
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                // Whoever may write to the directory does not choose our target.
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(path)
                .map_err(|error| words(error.to_string()))?;
            match super::lock(&file) {
                Ok(true) => {}
                Ok(false) => {
                    let mut text = String::new();
                    let _ = file.read_to_string(&mut text);
                    let by = match text.trim() {
                        "" => String::new(),
                        pid => format!(", process {pid}"),
                    };
                    return Err(words(format!("jabsocket is running already{by}")));
                }
                Err(error) => return Err(words(format!("cannot be locked: {}", error.desc()))),
            }
            // Its owner may have removed it between the two calls.
            let ours = file.metadata().map(|data| (data.dev(), data.ino())).ok();
            let there = std::fs::symlink_metadata(path);
            if ours.is_some() && ours == there.map(|data| (data.dev(), data.ino())).ok() {
                return Ok(PidFile {
                    path: path.to_owned(),
                    file,
                });
            }
        }
    }

    /// Writes the number of this process.
    ///
    /// # Errors
    /// It cannot be written: in words.
    pub fn write(&mut self) -> Result<(), String> {
        let result = self
            .file
            .set_len(0)
            .and_then(|()| writeln!(self.file, "{}", std::process::id()));
        result.map_err(|error| format!("key 'pid_file': {}: {error}", self.path.display()))
    }

    /// Removes the file. Where the directory does not let this user do so, an
    /// empty file stays.
    pub fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}
