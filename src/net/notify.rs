//! Telling whoever started this process how it fares.
//!
//! Owns the way to systemd (`sd_notify(3)`: datagrams of `NAME=value` lines to
//! the socket that `NOTIFY_SOCKET` names), and a channel of the same words
//! between processes of our own: from the daemon to the process that the
//! operator started, from a worker to its master. Never waits and never fails:
//! what nobody takes is dropped. Reads no environment and no clock.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, recv, send, sendto, socket, socketpair,
};

/// The longest message taken from a channel, in bytes.
const MAX_MESSAGE: usize = 4096;

/// One that wants to know.
enum Recipient {
    Systemd {
        socket: OwnedFd,
        address: UnixAddr,
    },
    /// Wants to know whether the start succeeded, and no more.
    Starter(OwnedFd),
    Master(OwnedFd),
}

/// Those who are told how this process fares; maybe nobody.
#[derive(Default)]
pub struct Notify {
    recipients: Vec<Recipient>,
    /// How often a sign of life is due.
    watchdog: Option<Duration>,
}

impl Notify {
    /// Systemd is told by the socket at `address`: a path, or an abstract name
    /// behind `@`. A sign of life is due every `watchdog`.
    ///
    /// # Errors
    /// No such address, or no socket.
    pub fn add_systemd(
        &mut self,
        address: &OsStr,
        watchdog: Option<Duration>,
    ) -> Result<(), Errno> {
        let bytes = address.as_bytes();
        let address = match bytes.split_first() {
            Some((b'@', name)) => UnixAddr::new_abstract(name)?,
            Some((b'/', _)) => UnixAddr::new(bytes)?,
            _ => return Err(Errno::EINVAL),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        self.recipients.push(Recipient::Systemd { socket, address });
        self.watchdog = watchdog;
        Ok(())
    }

    /// The process that the operator started waits at the other end.
    pub fn add_starter(&mut self, channel: OwnedFd) {
        self.recipients.push(Recipient::Starter(channel));
    }

    /// Tells a master, with a sign of life every `watchdog`.
    pub fn to_master(channel: OwnedFd, watchdog: Option<Duration>) -> Notify {
        Notify {
            recipients: vec![Recipient::Master(channel)],
            watchdog,
        }
    }

    /// How often a sign of life is due, if anybody wants one.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The process serves.
    pub fn ready(&mut self, pid: u32) {
        self.say(&format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
        self.recipients
            .retain(|ear| !matches!(ear, Recipient::Starter(_)));
    }

    /// The process ends before it served, and why.
    pub fn failed(&self, why: &str) {
        self.say(&format!("STATUS={}", why.replace('\n', " ")));
    }

    /// The configuration is read again; to be followed by `reloaded`.
    pub fn reloading(&self, monotonic_us: u64) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}"));
    }

    /// That is done, well (`taken`) or not.
    pub fn reloaded(&self, taken: bool) {
        let status = match taken {
            true => "serving",
            false => "serving; the last reload was refused, see the log",
        };
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The process is about to end.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, message: &str) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let bytes = message.as_bytes();
        for ear in &self.recipients {
            let _ = match ear {
                Recipient::Systemd { socket, address } => {
                    sendto(socket.as_raw_fd(), bytes, address, flags)
                }
                Recipient::Starter(channel) | Recipient::Master(channel) => {
                    send(channel.as_raw_fd(), bytes, flags)
                }
            };
        }
    }
}

/// What came through a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// The other process serves.
    Ready,
    /// A sign of life.
    Alive,
    /// Anything else; why it failed, if it never served.
    Status(String),
}

/// The end of a channel where the words arrive.
pub struct Listening(OwnedFd);

impl Listening {
    /// The next word; none after the other process has gone.
    ///
    /// # Errors
    /// `EAGAIN` if there is none yet and `wait` is not wanted.
    pub fn next(&self, wait: bool) -> Result<Option<Word>, Errno> {
        let flags = match wait {
            true => MsgFlags::empty(),
            false => MsgFlags::MSG_DONTWAIT,
        };
        let mut message = [0; MAX_MESSAGE];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut message, flags) {
                Err(Errno::EINTR) => {}
                result => break result?,
            }
        };
        let text = String::from_utf8_lossy(&message[..length]);
        let mut lines = text.lines();
        Ok(match lines.next() {
            None => None,
            Some("READY=1") => Some(Word::Ready),
            Some("WATCHDOG=1") => Some(Word::Alive),
            _ => {
                let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
                Some(Word::Status(status.unwrap_or_default().to_owned()))
            }
        })
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A channel: where words arrive, and where they are put in.
///
/// # Errors
/// No descriptors are left.
pub fn channel() -> Result<(Listening, OwnedFd), Errno> {
    // Keeps messages apart and tells of the other end's end.
    let flags = SockFlag::SOCK_CLOEXEC;
    let (listening, telling) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((Listening(listening), telling))
}
