//! The PID file: names the running process and prevents a second one.
//!
//! Owns the number in the file, which everybody may read; the lock file beside it, which a
//! second daemon cannot lock while a process of the first holds the lock; and the removal
//! of both. Files left by a crash are reused, because only the lock matters.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::net::lock_file::{LockFile, is_same};

/// Maximum size of a PID file in bytes. Its content does not matter: a crash may have damaged it.
const MAX_BYTES: u64 = 32;

/// Writes this process's number at the start of the file. The position of the descriptor is
/// not used, because other generations share it and have moved it.
pub fn write(file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
}

/// Refuses a file that cannot be a PID file. It would be overwritten, and removed at the end:
/// even `/dev/null`, if the daemon runs as root.
fn refuse_others(file: File) -> io::Result<File> {
    let data = file.metadata()?;
    match data.is_file() && data.len() <= MAX_BYTES {
        true => Ok(file),
        false => Err(io::Error::other("exists and is not a PID file")),
    }
}

pub struct PidFile {
    path: PathBuf,
    file: File,
    lock: LockFile,
}

impl PidFile {
    /// Locks and opens the file, without changing its content.
    ///
    /// # Errors
    /// Another daemon has locked it, or it cannot be written.
    pub fn lock(path: &Path) -> Result<PidFile, String> {
        let describe = |why: String| format!("key 'pid_file': {}: {why}", path.display());
        let lock = LockFile::beside(path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                let by = match text.trim() {
                    "" => String::new(),
                    pid => format!(", process {pid}"),
                };
                describe(format!("jabsocket is already running{by}"))
            }
            _ => format!("key 'pid_file': {error}"),
        })?;
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            // The file must not be a link that another user has placed in the directory. A pipe
            // without a reader must not block.
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(path);
        match opened.and_then(refuse_others) {
            Ok(file) => Ok(PidFile {
                path: path.to_owned(),
                file,
                lock,
            }),
            Err(error) => {
                lock.remove();
                Err(describe(error.to_string()))
            }
        }
    }

    pub fn write(&mut self) -> Result<(), String> {
        let result = write(&self.file);
        result.map_err(|error| format!("key 'pid_file': {}: {error}", self.path.display()))
    }

    /// Takes over the file and its lock from another generation.
    pub fn handed_over(path: PathBuf, file: File, lock: File) -> PidFile {
        let lock = LockFile::handed_over(&path, lock);
        PidFile { path, file, lock }
    }

    pub fn copy_of_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Returns the path, and copies of the descriptors of the file and its lock.
    pub fn to_hand_over(&self) -> io::Result<(&Path, File, File)> {
        Ok((&self.path, self.file.try_clone()?, self.lock.try_clone()?))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is no longer at its path.
    pub fn is_missing(&self) -> bool {
        !is_same(&self.path, &self.file)
    }

    /// Removes the file. If this user may not write to the directory, an empty file stays.
    pub fn remove(self) {
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
        self.lock.remove();
    }
}
