//! Code that several integration tests share.
#![allow(dead_code)]

pub mod answering;
pub mod background;
pub mod certificates;
pub mod chop;
pub mod daemon;
pub mod deflate;
pub mod dns_server;
pub mod documents;
pub mod looking_up;
pub mod prometheus;
pub mod stage;
pub mod tls_records;
pub mod tls_server;
pub mod ws_client;
pub mod wss_stage;
pub mod xmpp_server;

use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};

/// How long a test waits before it fails, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// If a socket is not writable for so long, its reader is regarded as stalled.
const STALL_MS: u16 = 300;

/// Calls `ask` repeatedly until it returns a value; fails after a time limit.
#[allow(clippy::disallowed_methods)]
pub fn patiently<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `error` means that the peer reset the connection.
pub fn is_reset(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// Closes `stream` with a reset.
pub fn reset(stream: TcpStream) {
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

/// Waits until `socket` is ready; returns false after `wait_ms`.
pub fn wait_for(socket: &impl AsFd, what: PollFlags, wait_ms: u16) -> bool {
    let mut fds = [PollFd::new(socket.as_fd(), what)];
    loop {
        match poll(&mut fds, PollTimeout::from(wait_ms)) {
            Err(Errno::EINTR) => {}
            result => return result.expect("poll") > 0,
        }
    }
}

/// Writes pieces to `stream` until all are written (true) or the reader stalls (false).
/// The rest of a piece that is written in part stays in `pending`.
///
/// # Errors
/// The peer reset the connection.
pub fn try_write_until_stalled(
    stream: &TcpStream,
    pending: &mut Vec<u8>,
    mut next: impl FnMut() -> Option<Vec<u8>>,
) -> Result<bool, Errno> {
    loop {
        if pending.is_empty() {
            match next() {
                Some(piece) => *pending = piece,
                None => return Ok(true),
            }
        }
        match send(stream.as_raw_fd(), pending, MsgFlags::MSG_DONTWAIT) {
            Ok(n) => drop(pending.drain(..n)),
            Err(Errno::EAGAIN) => {
                if !wait_for(stream, PollFlags::POLLOUT, STALL_MS) {
                    return Ok(false);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Like [`try_write_until_stalled`], but fails if the peer resets the connection.
pub fn write_until_stalled(
    stream: &TcpStream,
    pending: &mut Vec<u8>,
    next: impl FnMut() -> Option<Vec<u8>>,
) -> bool {
    try_write_until_stalled(stream, pending, next).expect("write")
}

/// Writes all pieces, even if the reader stalls now and then.
pub fn write_to_the_end(
    stream: &TcpStream,
    pending: &mut Vec<u8>,
    mut next: impl FnMut() -> Option<Vec<u8>>,
) {
    let stalls = PATIENCE.as_millis() / u128::from(STALL_MS);
    let done = (0..stalls).any(|_| write_until_stalled(stream, pending, &mut next));
    assert!(done, "nobody reads");
}

/// The lines that come through a pipe.
pub struct Lines(Receiver<String>);

impl Lines {
    pub fn of(pipe: impl Read + Send + 'static) -> Lines {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Lines(receiver)
    }

    /// Waits for the next line with `text`; fails at the end of the pipe or after a time
    /// limit.
    pub fn find(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.0.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with {text:?} in {seen:#?}")
    }
}
