//! Locks that other users cannot take, in separate files beside the files that they guard.
//!
//! Any user who can open a file can lock it, even with read access only. If the lock were
//! on a directory, or on a file that everybody may read, any user of this host could keep
//! the daemon from starting. Owns a file that only this user and root can open, and the
//! removal of that file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::geteuid;

/// A locked file. The lock lasts until all processes with a copy have dropped it.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    /// Its descriptor holds the lock.
    file: File,
}

impl LockFile {
    /// Locks the file whose name is `path` with `.lock` appended.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds the lock. Other errors if another user can
    /// open the file, or if a system call failed.
    pub fn beside(path: &Path) -> io::Result<LockFile> {
        let path = name_beside(path);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // The file must not be a link that another user has placed in the
                // directory.
                .custom_flags(libc::O_NOFOLLOW)
                .open(&path)
                .map_err(|error| {
                    io::Error::new(error.kind(), describe(&path, &error.to_string()))
                })?;
            let data = file.metadata()?;
            if data.uid() != geteuid().as_raw() || data.mode() & 0o077 != 0 {
                let why = "other users can open it; remove it";
                return Err(io::Error::other(describe(&path, why)));
            }
            lock(&file)?;
            // Its owner may have removed the file between the two calls.
            if is_same(&path, &file) {
                return Ok(LockFile { path, file });
            }
        }
    }

    /// Takes over the lock beside `path` from another process.
    pub fn handed_over(path: &Path, file: File) -> LockFile {
        let path = name_beside(path);
        LockFile { path, file }
    }

    /// Duplicates the descriptor, to hand the lock over.
    pub fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Removes the file and releases the lock. The file stays if this user may not write
    /// to the directory.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn name_beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".lock");
    PathBuf::from(name)
}

fn describe(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}

/// Whether the file at `path` is this open one.
pub(crate) fn is_same(path: &Path, file: &File) -> bool {
    let id = |data: std::fs::Metadata| (data.dev(), data.ino());
    let there = std::fs::symlink_metadata(path).map(id).ok();
    there.is_some() && there == file.metadata().map(id).ok()
}

/// Locks the open file description instead of locking for this process, so copies of the
/// descriptor in other processes keep the lock.
fn lock(file: &File) -> io::Result<()> {
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_at_a_time_and_only_files_that_nobody_else_can_open() {
        let name = format!("jabsocket-lock-file-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let first = LockFile::beside(&path).unwrap();
        let file = first.path.clone();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        let second = LockFile::beside(&path).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        // A file that a crash has left is reused.
        LockFile::beside(&path).unwrap().remove();
        assert!(!file.exists());
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let open = LockFile::beside(&path).unwrap_err();
        assert!(
            open.to_string().contains("other users can open it"),
            "{open}"
        );
        std::fs::remove_file(&file).unwrap();
    }
}
