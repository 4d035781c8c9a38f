//! Telling whoever started this process how it fares.
//!
//! Owns the way to systemd (`sd_notify(3)`: datagrams of `NAME=value` lines to
//! the socket that `NOTIFY_SOCKET` names), and a channel of the same words
//! between processes of our own: from the daemon to the process that the
//! operator started, from a worker to its master, and both ways between the
//! generations of an upgrade. Never waits and never fails: what nobody takes is
//! dropped. Reads no environment and no clock.

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
    Starter(Channel),
    Master(Channel),
}

/// Those who are told how this process fares; maybe nobody.
#[derive(Default)]
pub struct Notify {
    recipients: Vec<Recipient>,
    /// Systemd, while it takes another process for the main one.
    held_back: Vec<Recipient>,
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

    /// Says nothing to systemd before `take_over`.
    pub fn hold_back(&mut self) {
        self.held_back = std::mem::take(&mut self.recipients);
    }

    /// Systemd takes this process for the main one from here on.
    pub fn take_over(&mut self) {
        self.recipients.append(&mut self.held_back);
        self.say("READY=1\nSTATUS=serving");
    }

    /// Makes another process the main one for systemd, and says nothing to it any more.
    pub fn hand_over(&mut self, pid: u32) {
        self.say(&format!("MAINPID={pid}"));
        self.recipients
            .retain(|recipient| !matches!(recipient, Recipient::Systemd { .. }));
    }

    /// The process at the other end waits for the end of the start.
    pub fn add_starter(&mut self, channel: Channel) {
        self.recipients.push(Recipient::Starter(channel));
    }

    /// Tells a master, with a sign of life every `watchdog`.
    pub fn to_master(channel: Channel, watchdog: Option<Duration>) -> Notify {
        Notify {
            recipients: vec![Recipient::Master(channel)],
            held_back: Vec::new(),
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
            .retain(|recipient| !matches!(recipient, Recipient::Starter(_)));
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
        for recipient in &self.recipients {
            let _ = match recipient {
                Recipient::Systemd { socket, address } => {
                    sendto(socket.as_raw_fd(), bytes, address, flags)
                }
                Recipient::Starter(channel) | Recipient::Master(channel) => {
                    send(channel.0.as_raw_fd(), bytes, flags)
                }
            };
        }
    }
}

/// What came through a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// The other process, which has this number, serves.
    Ready(Option<u32>),
    /// A sign of life.
    Alive,
    /// What one generation asks of another.
    Order(Order),
    /// Anything else; why it failed, if it never served.
    Status(String),
}

/// What one generation of the daemon asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The older one has stopped accepting: be the main process.
    TakeOver,
    /// End the sessions.
    Stop,
    /// End at once.
    Leave,
    /// Write a status line to the log.
    Report,
}

/// Each order as it is sent.
const ORDERS: [(Order, &str); 4] = [
    (Order::TakeOver, "TAKEOVER=1"),
    (Order::Stop, "STOP=1"),
    (Order::Leave, "LEAVE=1"),
    (Order::Report, "REPORT=1"),
];

/// One end of a channel between two processes.
pub struct Channel(OwnedFd);

impl Channel {
    /// The end that a descriptor from another process is.
    pub fn handed_over(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// Another descriptor of the same end.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn try_clone(&self) -> std::io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Asks something of the other process, if it is there.
    pub fn order(&self, order: Order) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        for (_, text) in ORDERS.iter().filter(|(known, _)| *known == order) {
            let _ = send(self.0.as_raw_fd(), text.as_bytes(), flags);
        }
    }

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
            Some("READY=1") => {
                let pid = lines.find_map(|line| line.strip_prefix("MAINPID="));
                Some(Word::Ready(pid.and_then(|pid| pid.parse().ok())))
            }
            Some("WATCHDOG=1") => Some(Word::Alive),
            Some(first) => Some(match ORDERS.iter().find(|(_, text)| *text == first) {
                Some((order, _)) => Word::Order(*order),
                None => {
                    let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
                    Word::Status(status.unwrap_or_default().to_owned())
                }
            }),
        })
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A channel: its two ends.
///
/// # Errors
/// No descriptors are left.
pub fn channel() -> Result<(Channel, Channel), Errno> {
    // Keeps messages apart and tells of the other end's end.
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((Channel(one), Channel(other)))
}
