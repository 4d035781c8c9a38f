//! One side of a session: a socket, its queues, and its end.
//!
//! Tracks edge-triggered readiness with a bit for each direction, which is cleared when a call
//! would block. Closes in stages: flush, end our direction, then read and drop bytes until the
//! peer ends its direction (RFC 6455, section 7.1.1; RFC 9112, section 9.6).

use std::io;
use std::net::SocketAddr;

use mio::event::Event as Edge;
use openssl::ssl::{Ssl, SslRef};

use super::Tick;
use crate::buf::Buf;
use crate::meter::Meter;
use crate::net::transport::Transport;

/// Maximum number of pieces to drop during a close. It is enough for a client to finish a
/// message that was refused for its size, so that it can read the reason.
const MAX_DROPPED: u16 = u16::MAX;
/// Bytes in a piece, for 4 MiB in all. A read counts as at least one piece.
const PIECE: usize = 64;

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// This many bytes were read.
    Bytes(usize),
    /// There are no bytes for now.
    Nothing,
    /// There were only TLS records without payload; more bytes may follow.
    Later,
    /// The peer has ended its direction, but may still read.
    End,
    /// The connection is broken.
    Broken,
}

/// How far our direction is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writing {
    #[default]
    Open,
    /// No more bytes will be queued. Once the queue is flushed, our direction ends.
    Finishing,
    /// Our direction has ended.
    Finished,
}

/// One side of a session.
#[derive(Debug, Default)]
pub struct Side {
    transport: Option<Transport>,
    /// Bytes to be written.
    pub out: Buf,
    /// Bytes that were read but not yet handled.
    pub tail: Buf,
    /// When bytes were last written, or first queued after the queue was empty.
    progress_at: Tick,
    /// The number of dropped pieces.
    dropped: u16,
    readable: bool,
    writable: bool,
    /// Whether to read on after a short read, because the peer's end was announced or may have
    /// been.
    until_dry: bool,
    /// Whether the peer's end was read.
    ended: bool,
    /// Whether a write failed; bytes received before may still be read.
    broken: bool,
    writing: Writing,
}

impl Side {
    /// Creates a side with a connected socket and empty queues. `missed`: earlier edges may
    /// have announced bytes or the end.
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

    /// Notes an edge.
    pub fn edge(&mut self, edge: &Edge) {
        let error = edge.is_error();
        self.ready(
            edge.is_readable(),
            edge.is_writable() || error,
            edge.is_read_closed() || error,
        );
    }

    /// Notes the parts of an edge. `ending`: the peer's end was announced.
    pub fn ready(&mut self, readable: bool, writable: bool, ending: bool) {
        self.until_dry |= ending;
        if let Some(transport) = &mut self.transport {
            transport.edge(ending);
        }
        // With TLS, reading may wait for a writable edge and vice versa.
        let both = self.transport.as_ref().is_some_and(Transport::is_tls);
        self.readable |= readable || self.until_dry || both;
        self.writable |= writable || both;
    }

    /// Switches to TLS.
    ///
    /// # Errors
    /// There is no socket, or OpenSSL refuses; the socket is closed.
    pub fn start_tls(&mut self, ssl: Ssl) -> io::Result<()> {
        let transport = self.transport.take().ok_or(io::ErrorKind::NotConnected)?;
        let mut transport = transport.start_tls(ssl)?;
        transport.edge(self.until_dry);
        self.transport = Some(transport);
        Ok(())
    }

    /// Continues the TLS handshake. Returns the version of TLS, or why the handshake failed.
    /// Returns `None` while it waits for the peer or, if the side is still readable, for its
    /// next turn.
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

    /// Whether the side uses TLS, or is about to.
    pub fn is_tls(&self) -> bool {
        self.transport.as_ref().is_some_and(Transport::is_tls)
    }

    /// Returns the TLS object, if there is one.
    pub fn ssl(&self) -> Option<&SslRef> {
        self.transport.as_ref()?.ssl()
    }

    /// Returns the server name that the peer sent (SNI).
    pub fn tls_name(&self) -> Option<&str> {
        self.transport.as_ref()?.tls_name()
    }

    /// Returns our own address on the socket.
    pub fn own_address(&self) -> Option<SocketAddr> {
        self.transport.as_ref()?.local_addr().ok()
    }

    /// Whether there is a socket.
    pub fn is_connected(&self) -> bool {
        self.transport.is_some()
    }

    /// Whether a read may give something.
    pub fn is_readable(&self) -> bool {
        self.readable && self.transport.is_some()
    }

    /// Whether a write failed and the end has not been read yet.
    pub fn is_broken(&self) -> bool {
        self.broken && self.is_readable()
    }

    /// Peeks at the bytes to be read.
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

    /// Reads once into `buffer`. After a read that does not fill it, nothing is readable until
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
                let more = n == buffer.len() || transport.may_have_more();
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

    /// Returns the bytes of memory in the queues, and of what was read ahead.
    pub fn memory(&self) -> usize {
        let ahead = self.transport.as_ref().map_or(0, Transport::memory);
        self.out.capacity() + self.tail.capacity() + ahead
    }

    /// Counts bytes that are dropped while the side closes. Returns false if they are too many.
    pub fn drop_bytes(&mut self, n: usize) -> bool {
        let pieces = u16::try_from(n.div_ceil(PIECE)).unwrap_or(MAX_DROPPED);
        self.dropped = self.dropped.saturating_add(pieces);
        self.dropped < MAX_DROPPED
    }

    /// Writes as much of the queue as the socket accepts. Returns true if writing must continue
    /// in the next turn without an edge. After a write error, the connection appears to end
    /// once all received bytes are read.
    pub fn flush(&mut self, meter: &mut Meter, now: Tick) -> bool {
        let Some(transport) = &mut self.transport else {
            return false;
        };
        if self.broken {
            // The rest cannot be written either. If it filled the queue, the peer would wait, and
            // its end would never be read.
            self.out.clear();
        }
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
        if self.out.is_empty() && self.writing == Writing::Finishing {
            transport.finish();
            self.writing = Writing::Finished;
        }
        false
    }

    /// Writes although no edge has announced room. The kernel announces it only once a third of
    /// its buffer is free, which may be a megabyte. Returns whether the socket took anything.
    pub fn write_unannounced(&mut self, meter: &mut Meter, now: Tick) -> bool {
        let queued = self.out.len();
        self.writable = true;
        self.flush(meter, now);
        self.out.len() < queued
    }

    /// Finishes our direction: flushes the queue, then ends it. No more bytes may be queued.
    pub fn finish(&mut self) {
        if self.writing == Writing::Open {
            self.writing = Writing::Finishing;
        }
    }

    /// Whether both directions have ended, so the socket can be closed.
    pub fn is_done(&self) -> bool {
        self.writing == Writing::Finished && self.ended
    }

    /// Whether the peer's end was read.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Closes the socket at once and drops the queues.
    pub fn close(&mut self) {
        *self = Side {
            writing: Writing::Finished,
            ..Side::default()
        };
    }

    /// Returns when the queue last made progress.
    pub fn progress_at(&self) -> Tick {
        self.progress_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::simulated::Wire;

    #[test]
    fn what_is_queued_after_a_write_error_is_dropped() {
        let wire = Wire::new(100);
        let mut side = Side::connected(Transport::Simulated(wire.clone()), true, 0);
        let mut meter = Meter::default();
        wire.send(b"before");
        wire.reset();
        for queued in [b"one", b"two"] {
            side.out.extend(queued);
            side.flush(&mut meter, 0);
            assert!(side.out.is_empty());
        }
        assert_eq!(side.read(&mut [0; 6], &mut meter), Read::Bytes(6));
        assert_eq!(side.read(&mut [0; 6], &mut meter), Read::Broken);
    }
}
