//! A connection without a socket, for tests that control its peer.
//!
//! Owns the bytes in transit in both directions, and behaves like a non-blocking TCP
//! socket: it reads what has arrived and writes what fits, and returns `WouldBlock`, the
//! end of the stream or an error. It raises no edges; the test must do that.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

/// The address of all simulated peers.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));

/// A simulated connection. Both ends share it.
#[derive(Clone, Debug)]
pub struct Wire(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    /// Bytes from the peer that have not been read yet.
    incoming: VecDeque<u8>,
    /// The peer has ended its direction.
    ended: bool,
    /// The peer has reset the connection.
    reset: bool,
    /// Bytes for the peer that it has not taken yet.
    outgoing: VecDeque<u8>,
    room: usize,
    /// A write did not fit completely.
    full: bool,
    /// Our direction has ended.
    finished: bool,
}

impl Wire {
    /// Creates a connection that holds at most `room` bytes for the peer.
    pub fn new(room: usize) -> Wire {
        Wire(Rc::new(RefCell::new(State {
            incoming: VecDeque::new(),
            ended: false,
            reset: false,
            outgoing: VecDeque::new(),
            room,
            full: false,
            finished: false,
        })))
    }

    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        assert!(!state.ended, "sent after the end");
        append(&mut state.incoming, bytes);
    }

    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    pub fn reset(&self) {
        self.0.borrow_mut().reset = true;
    }

    /// Takes up to `n` bytes as the peer.
    pub fn take(&self, n: usize) -> Vec<u8> {
        let mut state = self.0.borrow_mut();
        let n = n.min(state.outgoing.len());
        let taken = state.outgoing.drain(..n).collect();
        put_away_if_empty(&mut state.outgoing);
        taken
    }

    /// Whether a full connection has room again. Returns true once, like an edge.
    pub fn has_room_again(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.outgoing.len() < state.room && std::mem::take(&mut state.full)
    }

    /// Whether our direction has ended, or our end has been dropped.
    pub fn is_finished(&self) -> bool {
        self.0.borrow().finished || Rc::strong_count(&self.0) == 1
    }

    /// Works like read(2).
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        note(Call::Read);
        let mut state = self.0.borrow_mut();
        let n = buffer.len().min(state.incoming.len());
        // `VecDeque` may have two parts; `read_exact` reads both.
        io::Read::read_exact(&mut state.incoming, &mut buffer[..n])?;
        put_away_if_empty(&mut state.incoming);
        match n {
            0 if state.reset => Err(io::ErrorKind::ConnectionReset.into()),
            0 if !state.ended => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(n),
        }
    }

    /// Works like write(2).
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        note(Call::Write);
        let mut state = self.0.borrow_mut();
        let n = bytes.len().min(state.room - state.outgoing.len());
        state.full |= n < bytes.len();
        if state.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(!state.finished, "written after our own end");
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        append(&mut state.outgoing, &bytes[..n]);
        Ok(n)
    }

    /// Works like shutdown(2) for our direction.
    pub fn finish(&self) {
        self.0.borrow_mut().finished = true;
    }
}

/// A system call, if the connection had a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    Write,
}

/// Runs `work`. Returns the calls on all connections meanwhile, in their order.
pub fn calls(work: impl FnOnce()) -> Vec<Call> {
    CALLS.set(Some(Vec::new()));
    work();
    CALLS.take().unwrap_or_default()
}

fn note(call: Call) {
    CALLS.with_borrow_mut(|calls| calls.iter_mut().for_each(|calls| calls.push(call)));
}

thread_local! {
    /// The calls, while [`calls`] runs.
    static CALLS: RefCell<Option<Vec<Call>>> = const { RefCell::new(None) };
    /// Buffers for reuse. An idle connection holds none, and tests may have a million of them:
    /// the work of the allocator would hide that of the code under test.
    static SPARE: RefCell<Vec<VecDeque<u8>>> = const { RefCell::new(Vec::new()) };
}

fn append(queue: &mut VecDeque<u8>, bytes: &[u8]) {
    if queue.capacity() == 0 {
        *queue = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    }
    queue.extend(bytes);
}

fn put_away_if_empty(queue: &mut VecDeque<u8>) {
    if queue.is_empty() && queue.capacity() > 0 {
        SPARE.with_borrow_mut(|spare| spare.push(std::mem::take(queue)));
    }
}
