//! One connection to the status port: one request and its response (RFC 9112).

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::buf::Buf;
use crate::proto::http::{Head, Limits, Refusal, worth_parsing};

/// Maximum lifetime of a connection.
const DEADLINE_MS: u64 = 5_000;
const LIMITS: Limits = Limits {
    head_size: 4 << 10,
    lines: 64,
};
/// Maximum number of bytes after the head to read and drop, so that the client can read the
/// response.
const MAX_DROPPED: usize = 64 << 10;

pub(super) struct Connection {
    socket: TcpStream,
    head: Vec<u8>,
    out: Buf,
    answered: bool,
    dropped: usize,
    /// When the connection is closed.
    pub deadline: u64,
    /// Whether there was an edge.
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
            // The registration causes an edge for bytes that are already there.
            ready: false,
        }
    }

    /// Reads and writes as far as possible; returns true when the connection is over. `answer`
    /// appends the response to a request.
    pub(super) fn turn(&mut self, mut answer: impl FnMut(&Head<'_>, &mut Buf)) -> bool {
        self.ready = false;
        let alive = self.read(&mut answer).and_then(|()| self.write());
        if alive.is_none() {
            return true;
        }
        // The end of the client's direction may already have been read, and causes no other
        // edge.
        self.answered && self.out.is_empty() && self.read(&mut answer).is_none()
    }

    /// Reads all available bytes. Returns `None` when the connection is over.
    fn read(&mut self, answer: &mut impl FnMut(&Head<'_>, &mut Buf)) -> Option<()> {
        let mut piece = [0; 2048];
        loop {
            let bytes = match self.socket.read(&mut piece) {
                // A client that has ended its direction may still read.
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

    /// Writes as much as the socket accepts. Returns `None` if the connection is broken.
    fn write(&mut self) -> Option<()> {
        while !self.out.is_empty() {
            match self.socket.write(self.out.as_slice()) {
                Ok(n) => self.out.consume(n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
            if self.out.is_empty() {
                // The connection is over once the client has ended its direction.
                let _ = self.socket.shutdown(Shutdown::Write);
            }
        }
        Some(())
    }
}
