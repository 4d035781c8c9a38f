//! A connected stream socket, of TCP or of the unix family.
//!
//! Owns the descriptor and its calls: read, write, peek, end. Both kinds are
//! non-blocking and tell readiness by edges. Knows neither TLS nor deadlines.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::AsRawFd;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{MsgFlags, recv};

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// By TCP.
    Tcp(TcpStream),
    /// By a unix socket: the peer is on this machine, and has no address.
    Unix(UnixStream),
}

impl Stream {
    /// Looks at the bytes there are without taking them.
    ///
    /// # Errors
    /// `WouldBlock` when there are none; any other is final.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => socket.peek(buffer),
            Stream::Unix(socket) => Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?),
        }
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.shutdown(how),
            Stream::Unix(socket) => socket.shutdown(how),
        }
    }

    /// The error that waits on the socket, which is taken.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            Stream::Tcp(socket) => socket.take_error(),
            Stream::Unix(socket) => socket.take_error(),
        }
    }

    /// Whether there is a peer.
    ///
    /// # Errors
    /// `NotConnected` while there is none.
    pub fn has_peer(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.peer_addr().map(drop),
            Stream::Unix(socket) => socket.peer_addr().map(drop),
        }
    }

    /// Our own address, which a unix socket does not have.
    ///
    /// # Errors
    /// There is none, or the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Stream::Tcp(socket) => socket.local_addr(),
            Stream::Unix(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Switches Nagle's algorithm off, where there is one.
    pub fn hurry(&self) {
        if let Stream::Tcp(socket) = self {
            // Only a matter of speed: a socket that dies at once may refuse.
            let _ = socket.set_nodelay(true);
        }
    }
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream::Tcp(socket)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&*socket).read(buffer),
            Stream::Unix(socket) => (&*socket).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(socket) => (&*socket).write(bytes),
            Stream::Unix(socket) => (&*socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for Stream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.register(registry, token, interests),
            Stream::Unix(socket) => socket.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.reregister(registry, token, interests),
            Stream::Unix(socket) => socket.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Stream::Tcp(socket) => socket.deregister(registry),
            Stream::Unix(socket) => socket.deregister(registry),
        }
    }
}
