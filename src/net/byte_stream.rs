//! A connected stream socket, TCP or unix.
//!
//! Owns the descriptor and its calls: read, write, peek, shutdown. The socket is
//! non-blocking, and its readiness is edge-triggered. Has no deadlines.

use std::io::{self, IoSliceMut, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::net::{TcpStream, UnixStream};
use nix::errno::Errno;
use nix::libc::MSG_MORE;
use nix::sys::socket::{
    MsgFlags, Shutdown, SockaddrStorage, getpeername, getsockname, getsockopt, recv, send,
    setsockopt, shutdown, sockopt,
};
use nix::sys::uio::readv;

/// Maximum time that a host may leave the kernel's probes unanswered.
const MAX_SILENCE: Duration = Duration::from_secs(180);
/// The session should notice a stuck queue before the kernel does, because it reports
/// more about it.
const HEAD_START: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub struct ByteStream(OwnedFd);

impl ByteStream {
    /// Reads bytes and leaves them on the socket.
    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.as_raw_fd(), buffer, MsgFlags::MSG_PEEK)?)
    }

    /// Fills `first`, then `second`, as far as bytes have arrived.
    pub(super) fn read_both(&self, first: &mut [u8], second: &mut [u8]) -> io::Result<usize> {
        let mut both = [IoSliceMut::new(first), IoSliceMut::new(second)];
        Ok(readv(&self.0, &mut both)?)
    }

    /// Writes bytes. More must follow at once: the kernel may wait for them, to send all together.
    pub(super) fn write_first(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(MSG_MORE);
        Ok(send(self.as_raw_fd(), bytes, flags)?)
    }

    /// Ends the direction to the peer.
    pub fn shutdown(&self) -> io::Result<()> {
        Ok(shutdown(self.as_raw_fd(), Shutdown::Write)?)
    }

    /// The result of a connect; `None` while it is in progress.
    pub(super) fn connected(&self) -> Option<io::Result<()>> {
        match getpeername::<SockaddrStorage>(self.as_raw_fd()) {
            Ok(_) => return Some(Ok(())),
            Err(Errno::ENOTCONN) => {}
            Err(error) => return Some(Err(error.into())),
        }
        match getsockopt(&self.0, sockopt::SocketError) {
            Ok(0) => None,
            Ok(code) => Some(Err(io::Error::from_raw_os_error(code))),
            Err(error) => Some(Err(error.into())),
        }
    }

    /// Our own address. A unix socket has none.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        let address: SockaddrStorage = getsockname(self.as_raw_fd())?;
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddrV4::from(*v4).into());
        let v6 = || {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddrV6::from(*v6).into())
        };
        v4.or_else(v6)
            .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Does what [`set_send_timeout`] does, and makes the kernel probe a silent host: if the
    /// host answers no probe for `timeout`, or for [`MAX_SILENCE`], the connection breaks.
    pub(super) fn watch(&self, timeout: Duration) {
        let silence = timeout.min(MAX_SILENCE);
        set_send_timeout(&self.0, silence);
        // With a user timeout the kernel checks only the time, not the number of probes.
        // Three probes are sent before that.
        let seconds = |part: u32| (silence / part).as_secs().max(1) as u32;
        // The calls may fail if the connection is already gone; a read will soon report that.
        let _ = setsockopt(&self.0, sockopt::TcpKeepIdle, &seconds(2));
        let _ = setsockopt(&self.0, sockopt::TcpKeepInterval, &seconds(6));
        let _ = setsockopt(&self.0, sockopt::KeepAlive, &true);
    }
}

/// Disables Nagle's algorithm on a TCP socket, and makes the connection break if the peer
/// does not acknowledge or accept data for a little more than `timeout`. Sockets accepted
/// from a listening socket inherit both settings.
pub(super) fn set_send_timeout(socket: &impl AsFd, timeout: Duration) {
    let millis = (timeout + HEAD_START).as_millis();
    let millis = u32::try_from(millis).unwrap_or(u32::MAX);
    // The call may fail if the connection is already gone; a read will soon report that.
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &millis);
}

/// Whether a socket could not be made because this process or host has no descriptor or memory
/// left.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    let code = error.raw_os_error();
    matches!(code, Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

impl From<TcpStream> for ByteStream {
    fn from(socket: TcpStream) -> ByteStream {
        ByteStream(socket.into())
    }
}

impl From<UnixStream> for ByteStream {
    fn from(socket: UnixStream) -> ByteStream {
        ByteStream(socket.into())
    }
}

impl AsRawFd for ByteStream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Read for &ByteStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.as_raw_fd(), buffer, MsgFlags::empty())?)
    }
}

impl Write for &ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
