//! A connection without a socket, for tests that decide what its peer does.
//!
//! Owns the bytes under way in both directions and gives what a non-blocking
//! TCP socket would: as much as there is, as much as fits, `WouldBlock`, the
//! end, an error. It raises no edge: that is its test's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;

/// The address of all simulated peers.
pub const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));

/// Both ends of a simulated connection, shared.
#[derive(Clone, Debug)]
pub struct Wire(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    /// Sent by the peer and not read yet.
    incoming: VecDeque<u8>,
    /// The peer has ended its direction.
    ended: bool,
    /// The peer has reset the connection.
    reset: bool,
    /// Written and not taken by the peer yet.
    outgoing: VecDeque<u8>,
    /// What fits into `outgoing`.
    room: usize,
    /// Not all that was to be written did fit.
    full: bool,
    /// Our direction has ended.
    finished: bool,
}

impl Wire {
    /// A connection that holds `room` bytes which the peer has not taken.
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

    /// The peer sends.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.0.borrow_mut();
        assert!(!state.ended, "sent behind the end");
        state.incoming.extend(bytes);
    }

    /// The peer ends its direction.
    pub fn end(&self) {
        self.0.borrow_mut().ended = true;
    }

    /// The peer resets the connection.
    pub fn reset(&self) {
        self.0.borrow_mut().reset = true;
    }

    /// The peer takes up to `n` bytes.
    pub fn take(&self, n: usize) -> Vec<u8> {
        let mut state = self.0.borrow_mut();
        let n = n.min(state.outgoing.len());
        state.outgoing.drain(..n).collect()
    }

    /// Whether an edge tells that there is room, which there was not: once.
    pub fn has_room_again(&self) -> bool {
        let mut state = self.0.borrow_mut();
        state.outgoing.len() < state.room && std::mem::take(&mut state.full)
    }

    /// Whether our direction has ended, or nobody holds our end any more.
    pub fn is_finished(&self) -> bool {
        self.0.borrow().finished || Rc::strong_count(&self.0) == 1
    }

    /// As read(2).
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let n = buffer.len().min(state.incoming.len());
        // A queue of bytes reads as one.
        io::Read::read_exact(&mut state.incoming, &mut buffer[..n])?;
        match n {
            0 if state.reset => Err(io::ErrorKind::ConnectionReset.into()),
            0 if !state.ended => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(n),
        }
    }

    /// As write(2).
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.borrow_mut();
        let n = bytes.len().min(state.room - state.outgoing.len());
        state.full |= n < bytes.len();
        if state.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        assert!(!state.finished, "written behind our own end");
        if n == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.outgoing.extend(&bytes[..n]);
        Ok(n)
    }

    /// As shutdown(2) of our direction.
    pub fn finish(&self) {
        self.0.borrow_mut().finished = true;
    }
}
