//! One connection to the status port: one request and its response (RFC 9112).

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::buf::Buf;
use crate::proto::http::{Head, Limits, Refusal, worth_parsing};

/// From the accepted connection to its end.
const DEADLINE_MS: u64 = 5_000;
const LIMITS: Limits = Limits {
    head_size: 4 << 10,
    lines: 64,
};
/// Bytes after the head that are dropped at most, so that the response is read.
const MAX_DROPPED: usize = 64 << 10;

/// A connection.
pub(super) struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    out: Buf,
    answered: bool,
    dropped: usize,
    /// When it is cut.
    pub deadline: u64,
    /// There was an edge.
    pub ready: bool,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, now: u64) -> Connection {
        Connection {
            socket,
            head: Vec::new(),
            out: Buf::new(),
            answered: false,
            dropped: 0,
            deadline: now + DEADLINE_MS,
            // The registration brings an edge for what is there already.
            ready: false,
        }
    }

    /// Reads and writes as far as possible; true when the connection is over. `answer`
    /// appends the response to a request.
    pub(super) fn turn(&mut self, mut answer: impl FnMut(&Head<'_>, &mut Buf)) -> bool {
        self.ready = false;
        let alive = self.read(&mut answer).and_then(|()| self.write());
        if alive.is_none() {
            return true;
        }
        // The client's end may have been read already, and raises no other edge.
        self.answered && self.out.is_empty() && self.read(&mut answer).is_none()
    }

    /// Reads until there is nothing; `None` when the connection is over.
    fn read(&mut self, answer: &mut impl FnMut(&Head<'_>, &mut Buf)) -> Option<()> {
        let mut piece = [0; 2048];
        loop {
            let bytes = match self.socket.read(&mut piece) {
                // A client that ended its direction may still read.
                Ok(0) if !self.out.is_empty() => return Some(()),
                Ok(0) => return None,
                Ok(n) => &piece[..n],
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            if self.answered {
                self.dropped += bytes.len();
                if self.dropped > MAX_DROPPED {
                    return None;
                }
                continue;
            }
            let old_len = self.head.len();
            self.head.extend_from_slice(bytes);
            if worth_parsing(&self.head, old_len, &LIMITS) {
                match Head::parse(&self.head, &LIMITS) {
                    Ok(None) => continue,
                    Ok(Some(head)) => answer(&head, &mut self.out),
                    Err(refusal) => Refusal::write(refusal, &mut self.out),
                }
                self.answered = true;
                self.head = Vec::new();
            }
        }
    }

    /// Writes until there is no room; `None` when the connection is broken.
    fn write(&mut self) -> Option<()> {
        while !self.out.is_empty() {
            match self.socket.write(self.out.as_slice()) {
                Ok(n) => self.out.consume(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.out.is_empty() {
                // It is over once the client's end was read.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
        }
        Some(())
    }
}
