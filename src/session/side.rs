//! One side of a session: its socket, what waits for it, how it ends.
//!
//! Owns edge-triggered readiness (a bit each way, cleared by the call that
//! finds nothing) and the staged close: flush, end our direction, read and drop
//! until the peer ends its own (RFC 6455, section 7.1.1; RFC 9112, section 9.6).

use std::fmt::{self, Display};
use std::io;

use mio::event::Event as Edge;
use openssl::ssl::Ssl;

use super::Tick;
use crate::buf::Buf;
use crate::meter::Meter;
use crate::net::transport::Transport;

/// What is dropped at most while a close is under way, in pieces: enough for a
/// client to finish a message that was refused for its size, so that it reads why.
const MAX_DROPPED: u16 = u16::MAX;
/// Bytes of a piece: 4 MiB in all. A read counts as one at least.
const PIECE: usize = 64;

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// Only TLS records without payload so far; there may be more.
    Later,
    /// The peer has ended its direction; it may still read.
    End,
    /// The connection is broken.
    Broken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Course {
    #[default]
    Open,
    /// No more will be queued: once flushed, our direction ends.
    Finishing,
    /// Our direction has ended.
    Finished,
}

struct OwnAddress<'a>(Option<&'a Transport>);

impl Display for OwnAddress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.map(Transport::local_addr) {
            Some(Ok(address)) => address.fmt(f),
            _ => f.write_str("nowhere"),
        }
    }
}

/// One side of a session.
#[derive(Debug, Default)]
pub struct Side {
    transport: Option<Transport>,
    /// Bytes to be written.
    pub out: Buf,
    /// Bytes read that nobody has worked off.
    pub tail: Buf,
    /// When bytes were last written, or first queued.
    progress_at: Tick,
    /// Pieces of [`PIECE`] bytes.
    dropped: u16,
    readable: bool,
    writable: bool,
    /// A short read is not the last: the peer's end was announced, or may have been.
    until_dry: bool,
    /// The peer's end was read.
    ended: bool,
    /// A write failed; what was received before may still be read.
    broken: bool,
    course: Course,
}

impl Side {
    /// A side with a connected socket and empty queues. `missed`: edges may have
    /// told of bytes or of the end already, before the side was there to note them.
    pub fn connected(transport: Transport, missed: bool, now: Tick) -> Side {
        Side {
            transport: Some(transport),
            readable: missed,
            writable: true,
            until_dry: missed,
            progress_at: now,
            ..Side::default()
        }
    }

    /// Notes what the poll said.
    pub fn edge(&mut self, edge: &Edge) {
        let error = edge.is_error();
        self.ready(
            edge.is_readable(),
            edge.is_writable() || error,
            edge.is_read_closed() || error,
        );
    }

    /// The same in parts; `ending`: the peer's end was announced.
    pub fn ready(&mut self, readable: bool, writable: bool, ending: bool) {
        self.until_dry |= ending;
        // Under TLS either direction may wait for the other's edge.
        let both = self.transport.as_ref().is_some_and(Transport::is_tls);
        self.readable |= readable || self.until_dry || both;
        self.writable |= writable || both;
    }

    /// Goes over to TLS.
    ///
    /// # Errors
    /// There is no socket, or OpenSSL refuses; the socket is closed.
    pub fn start_tls(&mut self, ssl: Ssl) -> io::Result<()> {
        let transport = self.transport.take().ok_or(io::ErrorKind::NotConnected)?;
        self.transport = Some(transport.start_tls(ssl)?);
        Ok(())
    }

    /// Continues the TLS handshake. Returns the version of TLS, or why it failed; `None`
    /// while it waits for the peer or, if it is still readable, for its next turn.
    pub fn shake_hands(&mut self, meter: &mut Meter) -> Option<io::Result<&'static str>> {
        let transport = self.transport.as_mut()?;
        match transport.shake_hands(meter) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            done => {
                self.readable = true;
                self.writable = true;
                Some(done.map(|()| transport.tls_version().unwrap_or("no TLS")))
            }
        }
    }

    /// Whether TLS is spoken, or about to be.
    pub fn is_tls(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_tls)
    }

    /// The name of this machine that the peer asked for by SNI.
    pub fn tls_name(&self) -> Option<&str> {
        self.transport.as_ref()?.tls_name()
    }

    /// Our own address on the socket, asked of the kernel when it is written.
    pub fn own_address(&self) -> impl Display {
        OwnAddress(self.transport.as_ref())
    }

    /// Whether there is a socket.
    pub fn is_connected(&self) -> bool {
        self.transport.is_some()
    }

    /// Whether it is worth reading.
    pub fn is_readable(&self) -> bool {
        self.readable && self.transport.is_some()
    }

    /// Whether a write failed and the end has not been read yet.
    pub fn is_broken(&self) -> bool {
        self.broken && self.is_readable()
    }

    /// Looks at what there is to be read, and leaves it there.
    pub fn peek(&mut self, buffer: &mut [u8]) -> Read {
        match self
            .transport
            .as_ref()
            .map(|transport| transport.peek(buffer))
        {
            None => Read::Nothing,
            Some(Ok(0)) => {
                self.readable = false;
                self.ended = true;
                Read::End
            }
            Some(Ok(n)) => Read::Bytes(n),
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Read::Nothing
            }
            Some(Err(_)) => {
                self.readable = false;
                Read::Broken
            }
        }
    }

    /// Reads once into `buffer`. A read that does not fill it was the last until
    /// the next edge.
    pub fn read(&mut self, buffer: &mut [u8], meter: &mut Meter) -> Read {
        let Some(transport) = &mut self.transport else {
            return Read::Nothing;
        };
        match transport.read(buffer, meter) {
            Ok(0) => {
                self.readable = false;
                self.ended = true;
                Read::End
            }
            Ok(n) => {
                let more = n == buffer.len() || transport.is_tls();
                self.readable = more || self.until_dry || self.broken;
                Read::Bytes(n)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Read::Later,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.broken => {
                self.readable = false;
                self.until_dry = false;
                Read::Nothing
            }
            Err(_) => {
                self.readable = false;
                Read::Broken
            }
        }
    }

    /// Bytes of memory in its queues.
    pub fn memory(&self) -> usize {
        self.out.capacity() + self.tail.capacity()
    }

    /// Counts bytes that are dropped while the side closes; false when it was
    /// more than a peer may expect of us.
    pub fn drop_bytes(&mut self, n: usize) -> bool {
        let pieces = u16::try_from(n.div_ceil(PIECE)).unwrap_or(MAX_DROPPED);
        self.dropped = self.dropped.saturating_add(pieces);
        self.dropped < MAX_DROPPED
    }

    /// Writes as much of the queue as the socket accepts; true if writing must go on in the
    /// next turn without an edge. A write error appears as the connection's end once all
    /// received bytes were read.
    pub fn flush(&mut self, meter: &mut Meter, now: Tick) -> bool {
        let Some(transport) = &mut self.transport else {
            return false;
        };
        if self.out.is_empty() {
            self.progress_at = now;
        }
        while self.writable && !self.out.is_empty() {
            match transport.write(self.out.as_slice(), meter) {
                Ok(n) => {
                    self.writable = n == self.out.len() || transport.is_tls();
                    self.out.consume(n);
                    self.progress_at = now;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(_) => {
                    self.writable = false;
                    self.broken = true;
                    self.readable = true;
                    self.out.clear();
                }
            }
        }
        if self.out.is_empty() && self.course == Course::Finishing {
            transport.finish();
            self.course = Course::Finished;
        }
        false
    }

    /// No more will be queued: flush, then end our direction.
    pub fn finish(&mut self) {
        if self.course == Course::Open {
            self.course = Course::Finishing;
        }
    }

    /// Whether both directions are at their end and the socket can go.
    pub fn is_done(&self) -> bool {
        self.course == Course::Finished && self.ended
    }

    /// Whether the peer's end was read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Closes the socket at once and forgets what is queued.
    pub fn close(&mut self) {
        *self = Side {
            course: Course::Finished,
            ..Side::default()
        };
    }

    /// Since when the queue has made no progress.
    pub fn progress_at(&self) -> Tick {
        self.progress_at
    }
}
