//! A channel for messages between our own processes: from the daemon to the process that the
//! operator started, from a worker to its master, and in both directions between the
//! generations of an upgrade.
//!
//! The messages look like those to systemd, of which `notify` sends some to both.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

/// Maximum size of a message, in bytes.
const MAX_MESSAGE: usize = 4096;

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
    /// Creates a channel and returns its two ends.
    pub fn pair() -> Result<(Channel, Channel), Errno> {
        // This type keeps messages apart and reports when the other end closes.
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Channel(one), Channel(other)))
    }

    pub fn handed_over(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    pub fn try_clone(&self) -> std::io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// Sends an order. Does nothing if the other process has gone.
    pub fn order(&self, order: Order) {
        for (_, text) in ORDERS.iter().filter(|(known, _)| *known == order) {
            self.send(text.as_bytes());
        }
    }

    /// Sends a message. It is dropped if it cannot be delivered at once.
    pub(super) fn send(&self, message: &[u8]) {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(self.0.as_raw_fd(), message, flags);
    }

    /// Returns the next message; `None` once the other process has gone.
    ///
    /// # Errors
    /// `EAGAIN` if there is no message yet.
    pub fn next(&self) -> Result<Option<Message>, Errno> {
        self.receive(MsgFlags::MSG_DONTWAIT)
    }

    /// Waits for the next message; returns `None` once the other process has gone.
    pub fn wait(&self) -> Result<Option<Message>, Errno> {
        self.receive(MsgFlags::empty())
    }

    fn receive(&self, flags: MsgFlags) -> Result<Option<Message>, Errno> {
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
