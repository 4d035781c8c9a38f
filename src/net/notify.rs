//! Reports the state of this process: to systemd (`sd_notify(3)`: datagrams of `NAME=value`
//! lines to the socket in `NOTIFY_SOCKET`), and by a `process_channel` to the process that the
//! operator started, the master, or the generation before.
//!
//! Sending never blocks and never fails; a message that cannot be delivered is dropped. Reads
//! no environment and no clock.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};

use super::process_channel::Channel;

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
            ..Notify::new(watchdog)
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
            match recipient {
                Recipient::Systemd { socket, address } => {
                    let _ = sendto(socket.as_raw_fd(), bytes, address, flags);
                }
                Recipient::Starter(channel) | Recipient::Master(channel) => channel.send(bytes),
            }
        }
    }
}
