//! One connected socket, non-blocking and registered once with the poll.
//!
//! Owns the socket's life: registration for both directions at birth, half
//! close, close. Readiness is edge-triggered: its owner tries again only after
//! an edge.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// A connection to a client or a server.
#[derive(Debug)]
pub struct Transport {
    socket: TcpStream,
}

impl Transport {
    /// Takes over a connected or connecting socket: registers it for both
    /// directions and switches Nagle's algorithm off.
    ///
    /// # Errors
    /// The registration failed; the socket is closed.
    pub fn register(mut socket: TcpStream, registry: &Registry, token: Token) -> io::Result<Self> {
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        // Only a matter of speed: a socket that dies at once may refuse.
        let _ = socket.set_nodelay(true);
        Ok(Transport { socket })
    }

    /// Reads once.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing to read now; any other is final.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.socket).read(buffer))
    }

    /// Writes once.
    ///
    /// # Errors
    /// `WouldBlock` when nothing can be written now; any other is final.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| (&self.socket).write(bytes))
    }

    /// Ends our direction: the peer reads the end of the stream.
    pub fn finish(&mut self) {
        // Fails only when the connection is gone already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// How a connect went; `None` while it is under way.
    pub fn connected(&self) -> Option<io::Result<()>> {
        match self.socket.take_error() {
            Ok(Some(error)) | Err(error) => return Some(Err(error)),
            Ok(None) => {}
        }
        match self.socket.peer_addr() {
            Ok(_) => Some(Ok(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => None,
            Err(error) => Some(Err(error)),
        }
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
