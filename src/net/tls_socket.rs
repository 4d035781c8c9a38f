//! A socket as the TLS library sees it.
//!
//! The library asks for the header of a record, then for the rest of it, and then for the
//! next header, which has usually not arrived. Reads ahead instead: one system call takes all
//! that has arrived, and a short read tells that nothing is left. Large records are read in
//! place, each with the next header. Holds memory only while it holds bytes. Limits how
//! often one call of the library may read: further reads look to it as if they would block.

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

/// Records from this size on, in bytes, are read without a copy.
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
    /// Another call that writes follows this one at once.
    writes_more: bool,
    left: Left,
    asked: Asked,
    next: NextHeader,
    ahead: Option<Box<Ahead>>,
}

/// The first bytes of a header that came with the record before it.
#[derive(Debug, Default)]
struct NextHeader {
    bytes: [u8; HEADER],
    len: u8,
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
const _: () = assert!(size_of::<TlsSocket>() <= 24);

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
            writes_more: false,
            left: Left::Unknown,
            asked: Asked::Header,
            next: NextHeader::default(),
            ahead: None,
        }
    }

    pub fn socket(&self) -> &ByteStream {
        &self.socket
    }

    /// Must be called before each call of the TLS library.
    pub fn begin_call(&mut self) {
        (self.reads, self.is_dry, self.writes_more) = (0, false, false);
    }

    /// Tells that another call that writes will follow this one at once.
    pub fn expect_more_writes(&mut self) {
        self.writes_more = true;
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
        if self.next.len > 0 {
            return Ok(self.next.take(buffer));
        }
        if self.ahead.is_none() {
            if self.left == Left::Nothing {
                self.left = Left::Unknown;
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.asked.is_large() {
                return self.read_large(buffer);
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

    /// Reads a large record, or the header of one, without a copy.
    fn read_large(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.asked == Asked::HeaderAfterLarge {
            let n = (&self.socket).read(buffer)?;
            self.note_read(n, buffer.len());
            return Ok(n);
        }
        let n = self.socket.read_both(buffer, &mut self.next.bytes)?;
        self.note_read(n, buffer.len() + HEADER);
        self.next.len = n.saturating_sub(buffer.len()) as u8;
        Ok(n.min(buffer.len()))
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

impl NextHeader {
    /// Moves the bytes, as far as they fit.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min(self.len.into());
        buffer[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes.rotate_left(n);
        self.len -= n as u8;
        n
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
        match self.writes_more {
            true => self.socket.write_first(bytes),
            false => (&self.socket).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
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
    fn a_write_waits_for_those_that_follow_at_once() {
        // If this thread has to wait for long, the kernel sends anyway: try again.
        let waits = (0..50).any(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut ours = TlsSocket::new(mio::net::TcpStream::from_std(ours).into());
            let (mut peer, _) = listener.accept().unwrap();
            peer.set_nonblocking(true).unwrap();
            ours.begin_call();
            ours.expect_more_writes();
            ours.write_all(b"first").unwrap();
            let waits = peer.peek(&mut [0]).is_err();
            ours.begin_call();
            ours.write_all(b"last").unwrap();
            peer.set_nonblocking(false).unwrap();
            let mut all = [0; 9];
            peer.read_exact(&mut all).unwrap();
            assert_eq!(&all, b"firstlast");
            waits
        });
        assert!(waits);
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
    fn a_large_record_is_read_with_the_next_header() {
        for arrived in 0..=HEADER {
            let (mut socket, mut peer) = pair();
            socket.asked = Asked::HeaderAfterLarge;
            peer.write_all(&vec![7; LARGE]).unwrap();
            peer.write_all(&[1, 2, 3, 4, 5][..arrived]).unwrap();
            assert_eq!(read(&mut socket, LARGE), Some(vec![7; LARGE]));
            assert!(
                socket.socket.peek(&mut [0]).is_err(),
                "{arrived} bytes left"
            );
            peer.write_all(&[1, 2, 3, 4, 5, 6][arrived..]).unwrap();
            socket.edge(false);
            let mut header = Vec::new();
            while header.len() < HEADER {
                header.extend(read(&mut socket, HEADER - header.len()).unwrap());
            }
            assert_eq!(header, [1, 2, 3, 4, 5]);
            // The first byte of a small record.
            assert_eq!(read(&mut socket, 1), Some(vec![6]));
        }
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
