//! A socket as the TLS library sees it.
//!
//! The library asks for the header of a record, then for the rest of it, and then for the
//! next header, which has usually not arrived. Reads ahead instead: one system call takes all
//! that has arrived, and a short read tells that nothing is left. Holds memory only while it
//! holds bytes. Limits how often one call of the library may read: further reads look to it
//! as if they would block.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};

use super::byte_stream::ByteStream;

/// Maximum reads in one call of the TLS library: 32 records, since a record's header is
/// read separately.
const READS_PER_CALL: u8 = 64;

/// Size of a read ahead, in bytes.
const AHEAD: usize = 16 << 10;

/// Bytes of a record's header.
const HEADER: usize = 5;

/// Records from this size on, in bytes, are read without a copy, and the next header alone.
const LARGE: usize = AHEAD / 2;

/// Maximum number of unused buffers that a worker keeps.
const MAX_SPARE: usize = 4;

thread_local! {
    /// Unused buffers.
    static SPARE: RefCell<Vec<Box<Ahead>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that were read before the library asked for them.
#[derive(Debug)]
struct Ahead {
    bytes: [u8; AHEAD],
    start: usize,
    end: usize,
}

/// A connected socket with what was read ahead.
#[derive(Debug)]
pub struct TlsSocket {
    socket: ByteStream,
    /// Reads in the current call of the TLS library.
    reads: u8,
    /// The last read of the TLS library would have blocked.
    is_dry: bool,
    left: Left,
    asked: Asked,
    ahead: Option<Box<Ahead>>,
}

/// What a system call may still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Unknown,
    /// The last call took all bytes, and no edge has announced others.
    Nothing,
    /// An edge has announced the end, which may follow a short read.
    End,
}

/// Each TLS object has one of these on the heap.
const _: () = assert!(size_of::<TlsSocket>() <= 16);

/// What the library asked for last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Header,
    Body,
    /// A header after a large record. Another one will probably follow, for which reading
    /// ahead would only cost a copy.
    HeaderAfterLarge,
    LargeBody,
}

impl Asked {
    /// The state after it asks for `bytes` more.
    fn then(self, bytes: usize) -> Asked {
        match (self, bytes) {
            (Asked::Header | Asked::Body, 0..=HEADER) => Asked::Header,
            (_, 0..=HEADER) => Asked::HeaderAfterLarge,
            (Asked::Header | Asked::HeaderAfterLarge, LARGE..) => Asked::LargeBody,
            (Asked::Header | Asked::HeaderAfterLarge, _) => Asked::Body,
            // The rest of the same record.
            (body, _) => body,
        }
    }

    fn is_large(self) -> bool {
        matches!(self, Asked::HeaderAfterLarge | Asked::LargeBody)
    }
}

impl TlsSocket {
    pub fn new(socket: ByteStream) -> TlsSocket {
        TlsSocket {
            socket,
            reads: 0,
            is_dry: false,
            left: Left::Unknown,
            asked: Asked::Header,
            ahead: None,
        }
    }

    pub fn socket(&self) -> &ByteStream {
        &self.socket
    }

    /// Must be called before each call of the TLS library.
    pub fn begin_call(&mut self) {
        (self.reads, self.is_dry) = (0, false);
    }

    /// Whether the last call of the TLS library has read all that the socket had.
    pub fn is_dry(&self) -> bool {
        self.is_dry
    }

    /// Number of complete TLS records that the last call has read.
    pub fn records_read(&self) -> usize {
        usize::from(self.reads / 2)
    }

    /// Notes an edge: bytes may have arrived. `ending`: so may the peer's end.
    pub fn edge(&mut self, ending: bool) {
        if ending {
            self.left = Left::End;
        } else if self.left == Left::Nothing {
            self.left = Left::Unknown;
        }
    }

    /// Returns the bytes of memory held.
    pub fn memory(&self) -> usize {
        self.ahead.as_ref().map_or(0, |_| size_of::<Ahead>())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_none() {
            if self.left == Left::Nothing {
                self.left = Left::Unknown;
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.asked.is_large() {
                let n = (&self.socket).read(buffer)?;
                self.note_read(n, buffer.len());
                return Ok(n);
            }
            self.read_ahead()?;
        }
        let Some(ahead) = &mut self.ahead else {
            return Ok(0);
        };
        let n = buffer.len().min(ahead.end - ahead.start);
        buffer[..n].copy_from_slice(&ahead.bytes[ahead.start..][..n]);
        ahead.start += n;
        if ahead.start == ahead.end {
            self.ahead.take().into_iter().for_each(recycle);
        }
        Ok(n)
    }

    /// Fills a buffer from the socket. There is none at the end of the stream.
    fn read_ahead(&mut self) -> io::Result<()> {
        let mut ahead = unused();
        let read = (&self.socket).read(&mut ahead.bytes);
        let n = *read.as_ref().unwrap_or(&0);
        if n == 0 {
            recycle(ahead);
        } else {
            (ahead.start, ahead.end) = (0, n);
            self.ahead = Some(ahead);
        }
        self.note_read(n, AHEAD);
        read.map(drop)
    }

    fn note_read(&mut self, n: usize, asked: usize) {
        if (1..asked).contains(&n) && self.left == Left::Unknown {
            self.left = Left::Nothing;
        }
    }
}

/// Takes a buffer with any content.
fn unused() -> Box<Ahead> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| {
        Box::new(Ahead {
            bytes: [0; AHEAD],
            start: 0,
            end: 0,
        })
    })
}

fn recycle(ahead: Box<Ahead>) {
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAX_SPARE {
            spare.push(ahead);
        }
    });
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        self.ahead.take().into_iter().for_each(recycle);
    }
}

impl Read for TlsSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.reads == READS_PER_CALL {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.asked = self.asked.then(buffer.len());
        let done = self.fill(buffer);
        self.reads += 1;
        self.is_dry = matches!(&done, Err(error) if error.kind() == ErrorKind::WouldBlock);
        done
    }
}

impl Write for TlsSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (TlsSocket, UnixStream) {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = mio::net::UnixStream::from_std(ours);
        (TlsSocket::new(ours.into()), peer)
    }

    /// What a read of `asked` bytes gives; `None` if it would block.
    fn read(socket: &mut TlsSocket, asked: usize) -> Option<Vec<u8>> {
        socket.begin_call();
        let mut buffer = vec![0; asked];
        match socket.read(&mut buffer) {
            Ok(n) => Some(buffer[..n].to_vec()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                None
            }
        }
    }

    #[test]
    fn after_a_short_read_the_socket_is_asked_only_once_an_edge_came() {
        for asked in [5, AHEAD] {
            let (mut socket, mut peer) = pair();
            peer.write_all(b"hello").unwrap();
            assert_eq!(read(&mut socket, asked).as_deref(), Some(&b"hello"[..]));
            // Bytes that arrive from here on raise an edge.
            peer.write_all(b"again").unwrap();
            assert_eq!(read(&mut socket, asked), None);
            assert!(socket.is_dry());
            socket.edge(false);
            assert_eq!(read(&mut socket, asked).as_deref(), Some(&b"again"[..]));
            // The edge counts even if the reader has not been told before that all is read.
            peer.write_all(b"third").unwrap();
            socket.edge(false);
            assert_eq!(read(&mut socket, asked).as_deref(), Some(&b"third"[..]));
        }
    }

    #[test]
    fn the_end_is_read_if_its_edge_came_before_the_last_bytes() {
        for asked in [5, AHEAD] {
            let (mut socket, mut peer) = pair();
            peer.write_all(b"hello").unwrap();
            drop(peer);
            socket.edge(true);
            assert_eq!(read(&mut socket, asked).as_deref(), Some(&b"hello"[..]));
            assert_eq!(read(&mut socket, asked).as_deref(), Some(&b""[..]));
        }
    }

    #[test]
    fn large_records_are_not_read_ahead_of() {
        let (mut socket, mut peer) = pair();
        let mut ask = |asked: usize| {
            peer.write_all(&vec![0; AHEAD]).unwrap();
            socket.edge(false);
            assert_eq!(read(&mut socket, asked).unwrap().len(), asked);
            socket.memory() > 0
        };
        assert!(ask(HEADER), "a header is read with what follows");
        // The first part of the record is there already, the rest is read alone.
        for asked in [AHEAD - HEADER, 22, HEADER, AHEAD, HEADER] {
            assert!(!ask(asked), "{asked} bytes");
        }
        // A small one follows: from here on, everything that has arrived is read at once.
        assert!(ask(100));
    }

    #[test]
    fn what_was_read_ahead_takes_memory_only_until_it_is_asked_for() {
        let (mut socket, mut peer) = pair();
        let bytes: Vec<u8> = (0..AHEAD + 100).map(|n| n as u8).collect();
        peer.write_all(&bytes).unwrap();
        assert_eq!(read(&mut socket, 5).as_deref(), Some(&bytes[..5]));
        assert_eq!(socket.memory(), size_of::<Ahead>());
        assert_eq!(read(&mut socket, AHEAD).as_deref(), Some(&bytes[5..AHEAD]));
        assert_eq!(socket.memory(), 0);
        // That read was not short.
        assert_eq!(read(&mut socket, AHEAD).as_deref(), Some(&bytes[AHEAD..]));
        assert_eq!(read(&mut socket, 5), None);
        assert_eq!(socket.memory(), 0);
    }
}
