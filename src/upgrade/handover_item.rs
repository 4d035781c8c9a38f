//! A descriptor that one generation hands over to the next, with its description.
//!
//! A description is one word, `KIND=DESCRIPTOR:DETAIL`. A detail that is text is
//! hex-encoded. A generation that does not know a kind closes the descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::daemon::pid_file::PidFile;
use crate::net::listener::Socket;
use crate::net::process_channel::Channel;
use crate::net::socket_file::SocketFile;
use crate::net::ticket_keys;

pub(super) const PREDECESSOR: &str = "predecessor";
pub(super) const OLDER: &str = "older";
pub(super) const LISTENER: &str = "listener";
pub(super) const SYSTEMD: &str = "systemd";
pub(super) const STATUS: &str = "status";
pub(super) const SOCKET_FILE: &str = "socket_file";
pub(super) const PID_FILE: &str = "pid_file";
pub(super) const PID_LOCK: &str = "pid_lock";
pub(super) const TICKET_KEYS: &str = "ticket_keys";

/// A descriptor, its kind, and what else the next generation needs to know about it.
pub struct HandoverItem {
    kind: &'static str,
    fd: OwnedFd,
    detail: String,
}

impl HandoverItem {
    pub(super) fn predecessor(channel: Channel, number: u32) -> HandoverItem {
        HandoverItem::new(PREDECESSOR, channel, number.to_string())
    }

    pub(super) fn older(channel: Channel, number: u32) -> HandoverItem {
        HandoverItem::new(OLDER, channel, number.to_string())
    }

    /// The keys of browsers' tickets. Without them, browsers only need a full handshake.
    pub(super) fn ticket_keys() -> Option<HandoverItem> {
        let keys = ticket_keys::export()?;
        let file = File::from(memfd_create(c"ticket_keys", MFdFlags::MFD_CLOEXEC).ok()?);
        file.write_all_at(&keys, 0).ok()?;
        Some(HandoverItem::new(TICKET_KEYS, file, String::new()))
    }

    /// The listeners; `sets` and `status` have those of each worker.
    pub fn of_listeners(
        sets: &[Vec<Socket>],
        status: &[Vec<Socket>],
    ) -> io::Result<Vec<HandoverItem>> {
        let mut items = Vec::new();
        for (worker, set) in sets.iter().enumerate() {
            // Only TCP sockets that the daemon has bound differ between workers.
            for socket in set.iter().filter(|s| worker == 0 || s.is_one_of_several()) {
                let fd = socket.to_hand_over()?;
                let bound = socket.bound();
                items.push(match bound.name() {
                    Some(name) => HandoverItem::new(SYSTEMD, fd, hex(name.as_bytes())),
                    None => HandoverItem::new(LISTENER, fd, bound.configured_port().to_string()),
                });
            }
        }
        for listener in status.iter().flatten() {
            let fd = listener.to_hand_over()?;
            items.push(HandoverItem::new(STATUS, fd, String::new()));
        }
        Ok(items)
    }

    /// The PID file and the files of unix sockets.
    pub fn of_files(
        pid_file: Option<&PidFile>,
        sockets: &[SocketFile],
    ) -> io::Result<Vec<HandoverItem>> {
        let name = |path: &Path| hex(path.as_os_str().as_bytes());
        let mut items = Vec::new();
        for file in sockets {
            items.push(HandoverItem::new(
                SOCKET_FILE,
                file.try_clone()?,
                name(file.path()),
            ));
        }
        if let Some((path, file, lock)) = pid_file.map(PidFile::to_hand_over).transpose()? {
            items.push(HandoverItem::new(PID_FILE, file, name(path)));
            items.push(HandoverItem::new(PID_LOCK, lock, String::new()));
        }
        Ok(items)
    }

    fn new(kind: &'static str, fd: impl Into<OwnedFd>, detail: String) -> HandoverItem {
        let fd = fd.into();
        HandoverItem { kind, fd, detail }
    }

    /// Sets whether programs that this process executes inherit the descriptor.
    pub(super) fn set_inheritable(&self, inheritable: bool) -> Result<(), Errno> {
        let flags = match inheritable {
            true => FdFlag::empty(),
            false => FdFlag::FD_CLOEXEC,
        };
        fcntl(&self.fd, FcntlArg::F_SETFD(flags)).map(drop)
    }

    pub(super) fn description(&self) -> String {
        format!("{}={}:{}", self.kind, self.fd.as_raw_fd(), self.detail)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes the text of [`hex`].
pub(super) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_back_from_hexadecimal_digits() {
        for text in [&b""[..], b"/run/a b:c", b"\xff\x00"] {
            assert_eq!(from_hex(&hex(text)).as_deref(), Some(text));
        }
        for bad in ["0", "0g", "\u{e9}"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
    }
}
