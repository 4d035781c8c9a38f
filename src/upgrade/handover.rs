//! What a new generation receives from the previous one.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::Older;
use super::handover_item::{
    LISTENER, OLDER, PID_FILE, PID_LOCK, PREDECESSOR, SOCKET_FILE, STATUS, SYSTEMD, TICKET_KEYS,
    from_hex,
};
use crate::daemon::environment::{Environment, HANDOVER};
use crate::daemon::pid_file::PidFile;
use crate::net::inherited::Inherited;
use crate::net::listener::Socket;
use crate::net::process_channel::Channel;
use crate::net::socket_file::SocketFile;
use crate::net::ticket_keys;

/// Everything that the previous generation has handed over; empty in the first one.
#[derive(Default)]
pub struct Handover {
    /// Older generations, the most recent one first.
    pub older: Vec<Older>,
    /// Sockets that the daemon has bound.
    pub listeners: Inherited,
    /// Sockets from systemd, with their names.
    pub from_systemd: Vec<(OwnedFd, String)>,
    pub status: Vec<Socket>,
    pub socket_files: Vec<SocketFile>,
    pub pid_file: Option<PidFile>,
}

impl Handover {
    /// Takes over the descriptors that the environment describes.
    ///
    /// # Errors
    /// The description is damaged, or a descriptor is not open.
    pub fn take(environment: &mut Environment) -> Result<Handover, String> {
        let mut handover = Handover::default();
        let (mut pid_file, mut pid_lock) = (None, None);
        let text = environment.handover.take().unwrap_or_default();
        let mut seen = HashSet::new();
        for word in text.split_whitespace() {
            let bad = |why: &str| format!("the variable {HANDOVER} is damaged: {word}{why}");
            let damaged = || bad("");
            let (kind, rest) = word.split_once('=').ok_or_else(damaged)?;
            let (fd, detail) = rest.split_once(':').ok_or_else(damaged)?;
            let fd = fd.parse::<RawFd>().map_err(|_| damaged())?;
            let fd = Some(fd).filter(|fd| seen.insert(*fd));
            let fd = fd.and_then(|fd| environment.claim(fd));
            let fd = fd.ok_or_else(damaged)?;
            check(kind, &fd).map_err(bad)?;
            let number = || detail.parse().map_err(|_| damaged());
            let path = || {
                let bytes = from_hex(detail).ok_or_else(damaged)?;
                Ok::<_, String>(PathBuf::from(OsString::from_vec(bytes)))
            };
            match kind {
                PREDECESSOR => handover.older.insert(0, older(fd, number()?)),
                OLDER => handover.older.push(older(fd, number()?)),
                LISTENER => {
                    let port = detail.parse().map_err(|_| damaged())?;
                    let added = handover.listeners.add(fd, port);
                    added.map_err(|error| bad(&format!(": {error}")))?;
                }
                SYSTEMD => {
                    let name = from_hex(detail).and_then(|name| String::from_utf8(name).ok());
                    handover.from_systemd.push((fd, name.ok_or_else(damaged)?));
                }
                STATUS => {
                    let socket = Socket::ours(fd, 0);
                    let socket = socket.map_err(|error| bad(&format!(": {error}")))?;
                    handover.status.push(socket);
                }
                SOCKET_FILE => {
                    let file = SocketFile::handed_over(path()?, fd.into());
                    handover.socket_files.push(file);
                }
                PID_FILE => pid_file = Some((path()?, File::from(fd))),
                PID_LOCK => pid_lock = Some(File::from(fd)),
                TICKET_KEYS => take_ticket_keys(&File::from(fd)).ok_or_else(damaged)?,
                // A newer version may hand over more; it is not needed here.
                _ => {}
            }
        }
        if let Some((path, file)) = pid_file
            && let Some(lock) = pid_lock
        {
            handover.pid_file = Some(PidFile::handed_over(path, file, lock));
        }
        Ok(handover)
    }

    /// The number of this generation.
    pub fn generation(&self) -> u32 {
        self.older
            .first()
            .map_or(1, |before| before.number.saturating_add(1))
    }

    pub fn predecessor(&self) -> Option<&Channel> {
        self.older.first().map(|before| &before.channel)
    }
}

/// Whether a descriptor is what its kind says; if not, the end of a sentence about it.
fn check(kind: &str, fd: &OwnedFd) -> Result<(), &'static str> {
    match kind {
        LISTENER | SYSTEMD | STATUS if getsockopt(fd, sockopt::AcceptConn) != Ok(true) => {
            Err(": it does not listen")
        }
        PREDECESSOR | OLDER if getsockopt(fd, sockopt::SockType) != Ok(SockType::SeqPacket) => {
            Err(": it is not a channel")
        }
        _ => Ok(()),
    }
}

/// Takes over the keys of tickets; `None` if the file has none.
fn take_ticket_keys(file: &File) -> Option<()> {
    let mut keys = [0; ticket_keys::EXPORTED];
    file.read_exact_at(&mut keys, 0).ok()?;
    ticket_keys::import(&keys).then_some(())
}

fn older(fd: OwnedFd, number: u32) -> Older {
    let channel = Channel::handed_over(fd);
    Older { number, channel }
}
