//! A connected stream socket, of TCP or of the unix family.
//!
//! Owns the descriptor and its calls: read, write, peek, end. Both kinds are
//! non-blocking and report readiness by edges. Knows no deadlines. Limits how often one
//! call of the TLS library may read: beyond that, reads look to the library as if they
//! would block.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};

/// Reads in one call of the TLS library: 32 records, since the head of a record
/// is read before the rest of it.
const READS_PER_CALL: u8 = 64;

/// How long a host may leave the kernel's probes unanswered.
const MAX_SILENCE: Duration = Duration::from_secs(180);
/// The session should notice a stuck queue before the kernel does, because it reports
/// more about it.
const HEAD_START: Duration = Duration::from_secs(2);

/// A connection of either kind.
#[derive(Debug)]
pub enum ByteStream {
    /// By TCP.
    Tcp(TcpStream, Ration),
    /// By a unix socket: the peer is on this machine, and has no address.
    Unix(UnixStream, Ration),
}

/// A TLS object has one of these on the heap, in 8 bytes with all that is here.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<ByteStream>() <= 8);

/// What one call of the TLS library has read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ration {
    reads: u8,
    /// The socket had nothing more.
    dry: bool,
}

impl ByteStream {
    /// Begins a call of the TLS library.
    pub fn begin_call(&mut self) {
        *self.ration_mut() = Ration::default();
    }

    /// Whether the socket had nothing more for the last call.
    pub fn is_dry(&self) -> bool {
        self.ration().dry
    }

    /// TLS records that the last call read, those cut short left out.
    pub fn records_read(&self) -> usize {
        usize::from(self.ration().reads / 2)
    }

    fn ration(&self) -> Ration {
        match self {
            ByteStream::Tcp(_, ration) | ByteStream::Unix(_, ration) => *ration,
        }
    }

    fn ration_mut(&mut self) -> &mut Ration {
        match self {
            ByteStream::Tcp(_, ration) | ByteStream::Unix(_, ration) => ration,
        }
    }

    /// Looks at the bytes there are without taking them.
    ///
    /// # Errors
    /// `WouldBlock` when there are none; any other is final.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ByteStream::Tcp(socket, _) => socket.peek(buffer),
            ByteStream::Unix(socket, _) => {
                Ok(recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?)
            }
        }
    }

    /// Ends one direction or both.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            ByteStream::Tcp(socket, _) => socket.shutdown(how),
            ByteStream::Unix(socket, _) => socket.shutdown(how),
        }
    }

    /// The error that waits on the socket, which is taken.
    ///
    /// # Errors
    /// It cannot be asked for.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        match self {
            ByteStream::Tcp(socket, _) => socket.take_error(),
            ByteStream::Unix(socket, _) => socket.take_error(),
        }
    }

    /// Whether there is a peer.
    ///
    /// # Errors
    /// `NotConnected` while there is none.
    pub fn has_peer(&self) -> io::Result<()> {
        match self {
            ByteStream::Tcp(socket, _) => socket.peer_addr().map(drop),
            ByteStream::Unix(socket, _) => socket.peer_addr().map(drop),
        }
    }

    /// Our own address, which a unix socket does not have.
    ///
    /// # Errors
    /// There is none, or the connection is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            ByteStream::Tcp(socket, _) => socket.local_addr(),
            ByteStream::Unix(..) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// Does what [`set_patience`] does, and makes the kernel probe a silent host: if the
    /// host answers no probe for `patience`, or for [`MAX_SILENCE`], the connection breaks.
    pub fn watch(&self, patience: Duration) {
        let ByteStream::Tcp(socket, _) = self else {
            return;
        };
        let silence = patience.min(MAX_SILENCE);
        set_patience(socket, silence);
        // With a user timeout the kernel checks only the time, not the number of
        // probes: three are lost before that.
        let seconds = |part: u32| (silence / part).as_secs().max(1) as u32;
        // As above: the call may fail if the connection is already gone.
        let _ = setsockopt(socket, sockopt::TcpKeepIdle, &seconds(2));
        let _ = setsockopt(socket, sockopt::TcpKeepInterval, &seconds(6));
        let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    }
}

/// Switches Nagle's algorithm off on a TCP socket, and makes the connection break if the
/// peer does not acknowledge or accept data for a little more than `patience`. Sockets
/// accepted from a listening socket inherit both.
pub fn set_patience(socket: &impl AsFd, patience: Duration) {
    let millis = (patience + HEAD_START).as_millis();
    let millis = u32::try_from(millis).unwrap_or(u32::MAX);
    // The call may fail if the connection is already gone; its end is read soon.
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &millis);
}

impl From<TcpStream> for ByteStream {
    fn from(socket: TcpStream) -> ByteStream {
        ByteStream::Tcp(socket, Ration::default())
    }
}

impl From<UnixStream> for ByteStream {
    fn from(socket: UnixStream) -> ByteStream {
        ByteStream::Unix(socket, Ration::default())
    }
}

impl Read for &ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ByteStream::Tcp(socket, _) => (&*socket).read(buffer),
            ByteStream::Unix(socket, _) => (&*socket).read(buffer),
        }
    }
}

impl Write for &ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            ByteStream::Tcp(socket, _) => (&*socket).write(bytes),
            ByteStream::Unix(socket, _) => (&*socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// For the TLS library, which keeps reading while records bring no data.
impl Read for ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ration().reads == READS_PER_CALL {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let done = (&*self).read(buffer);
        let ration = self.ration_mut();
        ration.reads += 1;
        ration.dry = matches!(&done, Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        done
    }
}

impl Write for ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for ByteStream {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            ByteStream::Tcp(socket, _) => socket.register(registry, token, interests),
            ByteStream::Unix(socket, _) => socket.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            ByteStream::Tcp(socket, _) => socket.reregister(registry, token, interests),
            ByteStream::Unix(socket, _) => socket.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            ByteStream::Tcp(socket, _) => socket.deregister(registry),
            ByteStream::Unix(socket, _) => socket.deregister(registry),
        }
    }
}
