//! The PID file: who runs, and that nobody else does.
//!
//! Owns the number in the file, which everybody may read; the lock file beside it, which
//! a second daemon cannot lock while a process of the first still holds the lock; and
//! the removal of both. Files left by a crash are reused: only the lock matters.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::net::lock_file::LockFile;

/// Writes the number of this process into the file. Not at its end: other generations have
/// written there through the same description.
///
/// # Errors
/// The kernel's.
pub fn write(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

/// A PID file that this process has locked.
pub struct PidFile {
    path: PathBuf,
    file: File,
    lock: LockFile,
}

impl PidFile {
    /// Locks and opens the file, without changing its content.
    ///
    /// # Errors
    /// Another daemon has it, or it cannot be written: in words.
    pub fn lock(path: &Path) -> Result<PidFile, String> {
        let words = |why: String| format!("key 'pid_file': {}: {why}", path.display());
        let lock = LockFile::beside(path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let by = match text.trim() {
                    "" => String::new(),
                    pid => format!(", process {pid}"),
                };
                words(format!("jabsocket is running already{by}"))
            }
            _ => format!("key 'pid_file': {error}"),
        })?;
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            // Others who may write to the directory must not choose our target.
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path);
        match opened {
            Ok(file) => Ok(PidFile {
                path: path.to_owned(),
                file,
                lock,
            }),
            Err(error) => {
                lock.remove();
                Err(words(error.to_string()))
            }
        }
    }

    /// Writes the number of this process.
    ///
    /// # Errors
    /// It cannot be written: in words.
    pub fn write(&mut self) -> Result<(), String> {
        let result = write(&self.file);
        result.map_err(|error| format!("key 'pid_file': {}: {error}", self.path.display()))
    }

    /// The file that another generation of this daemon hands over, with its lock.
    pub fn handed_over(path: PathBuf, file: File, lock: File) -> PidFile {
        let lock = LockFile::handed_over(&path, lock);
        PidFile { path, file, lock }
    }

    /// The path, and descriptors of the file and of its lock, to hand over.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn to_hand_over(&self) -> io::Result<(&Path, File, File)> {
        Ok((&self.path, self.file.try_clone()?, self.lock.try_clone()?))
    }

    /// Removes the file. Where the directory does not let this user do so, an
    /// empty file stays.
    pub fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
        self.lock.remove();
    }
}
