//! Reports the state of this process to the processes that started it.
//!
//! Owns the messages to systemd (`sd_notify(3)`: datagrams of `NAME=value` lines to the
//! socket in `NOTIFY_SOCKET`), and a channel for the same messages between our own
//! processes: from the daemon to the process that the operator started, from a worker to
//! its master, and in both directions between the generations of an upgrade. Sending never
//! blocks and never fails; a message that cannot be delivered is dropped. Reads no
//! environment and no clock.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, recv, send, sendto, socket, socketpair,
};

/// Maximum size of a message from a channel, in bytes.
const MAX_MESSAGE: usize = 4096;

enum Recipient {
    Systemd {
        socket: OwnedFd,
        address: UnixAddr,
    },
    /// Needs to know only whether the start succeeded.
    Starter(Channel),
    Master(Channel),
}

/// The receivers of reports about this process. There may be none.
#[derive(Default)]
pub struct Notify {
    recipients: Vec<Recipient>,
    /// Systemd, while another process is its main process.
    held_back: Vec<Recipient>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// Reports to nobody yet. A heartbeat is expected every `watchdog`.
    pub fn new(watchdog: Option<Duration>) -> Notify {
        Notify {
            watchdog,
            ..Notify::default()
        }
    }

    /// Adds systemd, with its socket at `address`: a path, or `@` and an abstract name.
    pub fn add_systemd(&mut self, address: &OsStr) -> Result<(), Errno> {
        let bytes = address.as_bytes();
        let address = match bytes.split_first() {
            Some((b'@', name)) => UnixAddr::new_abstract(name)?,
            Some((b'/', _)) => UnixAddr::new(bytes)?,
            _ => return Err(Errno::EINVAL),
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        self.recipients.push(Recipient::Systemd { socket, address });
        Ok(())
    }

    /// Sends nothing to systemd before `take_over`.
    pub fn hold_back(&mut self) {
        self.held_back = std::mem::take(&mut self.recipients);
    }

    /// Tells systemd that this process serves and has become the main process.
    pub fn take_over(&mut self) {
        self.recipients.append(&mut self.held_back);
        self.send_to_all("READY=1\nSTATUS=serving");
    }

    /// Makes another process the main process for systemd, and sends nothing more to it.
    pub fn hand_over(&mut self, pid: u32) {
        self.send_to_all(&format!("MAINPID={pid}"));
        self.recipients
            .retain(|recipient| !matches!(recipient, Recipient::Systemd { .. }));
        self.watchdog = None;
    }

    /// Adds the process at the other end of `channel`, which waits until the start is
    /// complete.
    pub fn add_starter(&mut self, channel: Channel) {
        self.recipients.push(Recipient::Starter(channel));
    }

    /// Reports to a master, which expects a heartbeat every `watchdog`.
    pub fn to_master(channel: Channel, watchdog: Option<Duration>) -> Notify {
        Notify {
            recipients: vec![Recipient::Master(channel)],
            held_back: Vec::new(),
            watchdog,
        }
    }

    /// Time between heartbeats, if they are expected.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Reports that the process serves.
    pub fn ready(&mut self, pid: u32) {
        self.send_to_all(&format!("READY=1\nMAINPID={pid}\nSTATUS=serving"));
        self.recipients
            .retain(|recipient| !matches!(recipient, Recipient::Starter(_)));
    }

    /// Reports why the process could not start.
    pub fn failed(&self, why: &str) {
        self.send_to_all(&format!("STATUS={}", why.replace('\n', " ")));
    }

    /// Reports that a reload has begun. Must be followed by `reloaded`.
    pub fn reloading(&self, monotonic_us: u64) {
        self.send_to_all(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}"));
    }

    /// Reports the end of a reload, and whether the new configuration is active.
    pub fn reloaded(&self, taken: bool) {
        let status = match taken {
            true => "serving",
            false => "serving; the last reload was refused, see the log",
        };
        self.send_to_all(&format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that the process is about to end.
    pub fn stopping(&self, status: &str) {
        self.send_to_all(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Sends a heartbeat to systemd. Must be called after `ready` only.
    pub fn alive(&self) {
        self.send_to_all("WATCHDOG=1");
    }

    fn send_to_all(&self, message: &str) {
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

/// A message from a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The other process, with this number, serves.
    Ready(Option<u32>),
    Order(Order),
    /// Any other status. If the process never served, this is the reason.
    Status(String),
}

/// An order from one generation of the daemon to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The older generation has stopped accepting: become the main process.
    TakeOver,
    /// End the sessions.
    Stop,
    /// End at once.
    Leave,
    /// Write a status line to the log.
    Report,
}

/// Each order with its text on the channel.
const ORDERS: [(Order, &str); 4] = [
    (Order::TakeOver, "TAKEOVER=1"),
    (Order::Stop, "STOP=1"),
    (Order::Leave, "LEAVE=1"),
    (Order::Report, "REPORT=1"),
];

/// One end of a channel between two processes.
pub struct Channel(OwnedFd);

impl Channel {
    pub fn handed_over(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    pub fn try_clone(&self) -> std::io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Sends an order. Does nothing if the other process has gone.
    pub fn order(&self, order: Order) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        for (_, text) in ORDERS.iter().filter(|(known, _)| *known == order) {
            let _ = send(self.0.as_raw_fd(), text.as_bytes(), flags);
        }
    }

    /// Returns the next message; `None` once the other process has gone.
    ///
    /// # Errors
    /// `EAGAIN` if there is no message yet and `wait` is false.
    pub fn next(&self, wait: bool) -> Result<Option<Message>, Errno> {
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
                Some(Message::Ready(pid.and_then(|pid| pid.parse().ok())))
            }
            Some(first) => Some(match ORDERS.iter().find(|(_, text)| *text == first) {
                Some((order, _)) => Message::Order(*order),
                None => {
                    let status = text.lines().find_map(|line| line.strip_prefix("STATUS="));
                    Message::Status(status.unwrap_or_default().to_owned())
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

/// Creates a channel and returns its two ends.
pub fn channel() -> Result<(Channel, Channel), Errno> {
    // This type keeps messages apart and reports when the other end closes.
    let flags = SockFlag::SOCK_CLOEXEC;
    let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((Channel(one), Channel(other)))
}
