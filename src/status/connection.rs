//! One connection to the status port: one request and its response (RFC 9112).

use std::io::{ErrorKind, Read, Write};

use super::sessions::{Job, Sessions, Slice};
use crate::buf::Buf;
use crate::net::byte_stream::ByteStream;
use crate::proto::http::{Head, Limits, Refusal, worth_parsing};

/// Maximum lifetime of a connection, except while it takes a long list.
const DEADLINE_MS: u64 = 5_000;
/// How long a connection may be idle while another client waits for its place.
const IDLE_MS: u64 = 50;
/// Maximum lifetime of a connection that takes a long list.
const LAST_DEADLINE_MS: u64 = 60_000;
const LIMITS: Limits = Limits {
    head_size: 4 << 10,
    lines: 64,
};
/// Maximum number of bytes after the head to read and drop, so that the client can read the
/// response.
const MAX_DROPPED: usize = 64 << 10;

pub(super) struct Connection {
    socket: ByteStream,
    /// Whether the client is connected over a Unix socket.
    pub is_local: bool,
    head: Vec<u8>,
    out: Buf,
    answered: bool,
    /// The rest of the response that is still to be made.
    job: Option<Job>,
    /// Whether our direction has ended.
    ended: bool,
    dropped: usize,
    /// When the connection is closed.
    pub deadline: u64,
    accepted_at: u64,
    /// Whether there was an edge, or work is left.
    pub ready: bool,
}

impl Connection {
    pub(super) fn new(socket: ByteStream, is_local: bool, now: u64) -> Connection {
        Connection {
            socket,
            is_local,
            head: Vec::new(),
            out: Buf::new(),
            answered: false,
            job: None,
            ended: false,
            dropped: 0,
            deadline: now + DEADLINE_MS,
            accepted_at: now,
            // The registration causes an edge for bytes that are already there.
            ready: false,
        }
    }

    /// Reads and writes as far as possible; returns true when the connection is over. `answer`
    /// appends the response to a request, or the beginning of it.
    pub(super) fn turn(
        &mut self,
        now: u64,
        mut answer: impl FnMut(&Head<'_>, &mut Buf) -> Option<Job>,
    ) -> bool {
        self.ready = false;
        let alive = self.read(&mut answer).and_then(|()| self.write(now));
        if alive.is_none() {
            return true;
        }
        // The end of the client's direction may already have been read, and causes no other
        // edge.
        self.is_written() && self.read(&mut answer).is_none()
    }

    /// Continues a response that is made in slices, if the client has taken what there is.
    /// Returns the slot of a session that is to be closed.
    pub(super) fn work(&mut self, sessions: &dyn Sessions) -> Option<usize> {
        if !self.out.is_empty() {
            return None;
        }
        let slice = self.job.as_mut()?.slice(sessions, &mut self.out);
        // The next turn writes.
        self.ready = true;
        match slice {
            Slice::Unfinished => None,
            Slice::Finished(to_close) => {
                self.job = None;
                to_close
            }
        }
    }

    /// When its place may be given to another client: it has sent no whole request, or only has
    /// to end. `None` while it is answered.
    pub(super) fn yields_at(&self) -> Option<u64> {
        let is_idle = !self.answered || self.is_written();
        is_idle.then_some(self.accepted_at + IDLE_MS)
    }

    fn is_written(&self) -> bool {
        self.answered && self.out.is_empty() && self.job.is_none()
    }

    /// Reads all available bytes. Returns `None` when the connection is over.
    fn read(&mut self, answer: &mut impl FnMut(&Head<'_>, &mut Buf) -> Option<Job>) -> Option<()> {
        let mut piece = [0; 2048];
        loop {
            let bytes = match (&self.socket).read(&mut piece) {
                // A client that has ended its direction may still read.
                Ok(0) if self.answered && !self.is_written() => return Some(()),
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
                    Ok(Some(head)) => self.job = answer(&head, &mut self.out),
                    Err(refusal) => Refusal::write(refusal, &mut self.out),
                }
                self.answered = true;
                self.head = Vec::new();
            }
        }
    }

    /// Writes as much as the socket accepts. Returns `None` if the connection is broken.
    fn write(&mut self, now: u64) -> Option<()> {
        while !self.out.is_empty() {
            match (&self.socket).write(self.out.as_slice()) {
                Ok(n) => {
                    self.out.consume(n);
                    if self.job.is_some() {
                        let last = self.accepted_at + LAST_DEADLINE_MS;
                        self.deadline = (now + DEADLINE_MS).min(last);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        // The connection is over once the client has ended its direction. Each call causes an
        // edge, even if our direction has ended already.
        if self.is_written() && !std::mem::replace(&mut self.ended, true) {
            let _ = self.socket.shutdown();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};

    use super::*;

    #[test]
    fn a_client_that_stays_after_the_response_causes_few_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket: ByteStream = mio::net::TcpStream::from_std(socket).into();
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1));
        let (source, both) = (socket.as_raw_fd(), Interest::READABLE | Interest::WRITABLE);
        let registry = poll.registry();
        registry
            .register(&mut SourceFd(&source), Token(0), both)
            .unwrap();
        let mut connection = Connection::new(socket, false, 0);
        let mut turn = || {
            let is_over = connection.turn(0, |_, out| {
                out.extend(b"response");
                None
            });
            assert!(!is_over);
            connection.is_written()
        };
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut response = String::new();
        while !turn() {
            poll.poll(&mut events, None).unwrap();
        }
        client.read_to_string(&mut response).unwrap();
        assert_eq!(response, "response");
        for turns in 0.. {
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            if events.is_empty() {
                break;
            }
            turn();
            assert!(turns < 5, "the loop turns without work");
        }
    }
}
