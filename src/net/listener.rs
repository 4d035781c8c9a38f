//! Listening sockets, TCP and unix.
//!
//! Owns a socket that `bind` has bound, or that systemd or another generation of this daemon
//! has handed over, and the result of an attempt to accept.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use mio::net::{TcpListener, UnixListener};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, UnixAddr, getsockname};

use super::byte_stream::{ByteStream, is_exhausted, set_send_timeout};
use super::listener_choice::Bound;
use super::peer::Peer;
use crate::config::ListenAddress;

#[derive(Debug)]
pub struct Socket {
    listening: Listening,
    bound: Bound,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Takes a non-blocking listening socket and its name from systemd.
    pub(super) fn from_systemd(fd: OwnedFd, name: &str) -> io::Result<Socket> {
        Socket::new(fd, |address, port| Bound::from_systemd(address, port, name))
    }

    /// Takes a non-blocking listening socket that this daemon, or another generation of it, has
    /// bound for `configured_port`.
    pub fn ours(fd: OwnedFd, configured_port: u16) -> io::Result<Socket> {
        Socket::new(fd, |address, port| {
            Bound::here(address, configured_port, port)
        })
    }

    fn new(fd: OwnedFd, bound: impl FnOnce(ListenAddress, u16) -> Bound) -> io::Result<Socket> {
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())?.family();
        let (listening, address, port) = if family == Some(AddressFamily::Unix) {
            let address = unix_address(fd.as_raw_fd())?;
            (Listening::Unix(fd.into()), address, 0)
        } else {
            let socket = TcpListener::from(fd);
            let address = socket.local_addr()?;
            let ip = ListenAddress::Ip(address.ip());
            (Listening::Tcp(socket), ip, address.port())
        };
        let bound = bound(address, port);
        Ok(Socket { listening, bound })
    }

    /// Returns a descriptor for the next generation of this daemon.
    pub fn to_hand_over(&self) -> io::Result<OwnedFd> {
        self.fd().try_clone_to_owned()
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.listening {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket) => socket.as_fd(),
        }
    }

    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.listening, Listening::Unix(_))
    }

    /// Whether each worker has its own socket for this address.
    pub fn is_one_of_several(&self) -> bool {
        matches!(self.listening, Listening::Tcp(_)) && !self.bound.is_from_systemd()
    }

    /// Address, port and name, which identify the socket.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    pub fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let fd = self.fd().as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
    }

    /// Removes the socket from a poll. Closing it would not be enough if another process
    /// has a copy.
    pub fn deregister(&self, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&self.fd().as_raw_fd()));
    }

    /// Sets how long clients of this socket may leave data unacknowledged.
    pub fn set_send_timeout(&self, timeout: Duration) {
        if let Listening::Tcp(socket) = &self.listening {
            set_send_timeout(socket, timeout);
        }
    }

    pub fn accept(&self) -> Accepted {
        let accepted = match &self.listening {
            Listening::Tcp(socket) => socket.accept().map(|(stream, peer)| {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                (stream.into(), Peer::Ip(peer))
            }),
            Listening::Unix(socket) => {
                let accepted = socket.accept();
                accepted.map(|(stream, _)| (stream.into(), Peer::Unix))
            }
        };
        match accepted {
            Ok((stream, peer)) => Accepted::Client(stream, peer),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Accepted::Nobody,
                io::ErrorKind::InvalidInput => Accepted::Exhausted(error),
                _ if is_exhausted(&error) => Accepted::Exhausted(error),
                _ => Accepted::Left,
            },
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.listening {
            Listening::Tcp(socket) => socket.local_addr().map(|address| address.to_string()),
            Listening::Unix(socket) => {
                unix_address(socket.as_raw_fd()).map(|address| address.to_string())
            }
        };
        f.write_str(&address.unwrap_or_else(|error| error.to_string()))
    }
}

/// The address of a unix socket; an empty path if it is unnamed.
fn unix_address(fd: RawFd) -> io::Result<ListenAddress> {
    let address = getsockname::<UnixAddr>(fd)?;
    Ok(match (address.path(), address.as_abstract()) {
        (None, Some(name)) => match str::from_utf8(name) {
            Ok(name) => ListenAddress::Abstract(name.to_owned()),
            Err(_) => ListenAddress::Abstract(name.escape_ascii().to_string()),
        },
        (path, _) => ListenAddress::Path(path.unwrap_or(Path::new("")).to_owned()),
    })
}

#[derive(Debug)]
pub enum Accepted {
    /// An IPv4 client of an IPv6 listener has its IPv4 address.
    Client(ByteStream, Peer),
    Nobody,
    /// The client left before it was accepted.
    Left,
    /// No descriptor or memory is left, so the client keeps waiting; or another process that has
    /// this socket has shut it down.
    Exhausted(io::Error),
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Shutdown, shutdown};

    use super::*;

    /// Otherwise the loop would try again at once, forever.
    #[test]
    fn a_socket_that_was_shut_down_is_exhausted() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = Socket::ours(listener.into(), 0).unwrap();
        assert!(matches!(socket.accept(), Accepted::Nobody));
        let Listening::Tcp(listener) = &socket.listening else {
            panic!("a unix socket");
        };
        shutdown(listener.as_raw_fd(), Shutdown::Both).unwrap();
        assert!(matches!(socket.accept(), Accepted::Exhausted(_)));
    }
}
