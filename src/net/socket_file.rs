//! Creates, replaces and removes the files of unix sockets.
//!
//! Owns the creation of a bound socket at a path, with the right mode from the start, and
//! the file while the daemon lives. Replaces a socket that a dead process left, but never a
//! socket on which a process listens, or any other file. The file is removed with the
//! daemon, unless another process has replaced it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc::{O_NOFOLLOW, O_PATH, S_ISGID};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};

use super::lock_file::{LockFile, is_same};

/// The file of a socket that this daemon has created.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Keeps the inode in use, so no other file can get its number.
    file: File,
}

impl SocketFile {
    /// Binds a socket to `path`, and replaces a socket that a dead process left there. The
    /// socket does not listen yet.
    ///
    /// # Errors
    /// A process listens there, the path is another kind of file, or a system call failed.
    pub fn bind(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
        let fd = stream_socket()?;
        let address = UnixAddr::new(path)?;
        let bind = || {
            // More users must not have access to the file, even for a moment.
            let before = umask(Mode::from_bits_truncate(!mode & 0o777));
            let bound = bind(fd.as_raw_fd(), &address);
            umask(before);
            bound
        };
        match bind() {
            Err(Errno::EADDRINUSE) => {
                // Keeps other daemons from replacing or removing the file at the same time.
                let lock = LockFile::beside(path).map_err(in_use)?;
                let bound = remove_stale(path, &address).and_then(|()| Ok(bind()?));
                lock.remove();
                bound?;
            }
            done => done?,
        }
        let file = open(path)?;
        let path = path.to_owned();
        Ok((fd, SocketFile { path, file }))
    }

    /// Makes a user and a group the owners of the file. In a directory with the
    /// set-group-ID bit the group stays.
    pub fn give_to(&self, user: Option<Uid>, group: Option<Gid>) -> io::Result<()> {
        let inherited = directory(&self.path).metadata()?.mode() & S_ISGID != 0;
        let group = group.filter(|_| !inherited);
        // By descriptor, because the path may lead to another file by now.
        let flags = AtFlags::AT_EMPTY_PATH;
        Ok(fchownat(self.file.as_fd(), "", user, group, flags)?)
    }

    /// Takes over the file from another generation of this daemon.
    pub fn handed_over(path: PathBuf, file: File) -> SocketFile {
        SocketFile { path, file }
    }

    /// Duplicates the descriptor, to hand the file over.
    pub fn try_clone(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is no longer at its path.
    pub fn is_missing(&self) -> bool {
        !is_same(&self.path, &self.file)
    }

    /// Removes the file, unless another process has replaced it. If this user may not write
    /// to the directory, the file stays, and the next start replaces it.
    pub fn remove(self) {
        if let Ok(lock) = LockFile::beside(&self.path) {
            if is_same(&self.path, &self.file) {
                let _ = std::fs::remove_file(&self.path);
            }
            lock.remove();
        }
    }
}

/// If another process holds the lock, it is about to listen there.
fn in_use(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => Errno::EADDRINUSE.into(),
        _ => error,
    }
}

/// Creates a unix socket that is not bound.
pub(super) fn stream_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Removes the socket at `path` if no process listens on it.
fn remove_stale(path: &Path, address: &UnixAddr) -> io::Result<()> {
    let file = open(path)?;
    match connect(stream_socket()?.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) if is_same(path, &file) => std::fs::remove_file(path),
        Err(error @ Errno::EACCES) => Err(error.into()),
        _ => Err(Errno::EADDRINUSE.into()),
    }
}

/// Opens the socket at `path`, only to identify it later.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH | O_NOFOLLOW)
        .open(path)?;
    match file.metadata()?.file_type().is_socket() {
        true => Ok(file),
        false => Err(io::Error::other("path exists and is not a socket")),
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let name = format!("jabsocket-socket-file-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn only_the_owner_removes_a_file() {
        let directory = directory("own");
        let path = directory.join("s");
        let (fd, old) = SocketFile::bind(&path, 0o700).unwrap();
        assert_eq!(old.file.metadata().unwrap().mode() & 0o777, 0o700);
        // The first daemon dies, and another replaces its socket.
        drop(fd);
        let (_fd, new) = SocketFile::bind(&path, 0o700).unwrap();
        old.remove();
        assert!(path.exists(), "removed by the wrong one");
        new.remove();
        assert!(!path.exists());
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_locked_path_is_in_use() {
        let directory = directory("lock");
        let path = directory.join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let lock = LockFile::beside(&path).unwrap();
        let error = SocketFile::bind(&path, 0o700).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        lock.remove();
        SocketFile::bind(&path, 0o700).unwrap().1.remove();
        assert!(!path.exists());
        std::fs::remove_dir(&directory).unwrap();
    }
}
