//! Listening sockets that another generation of this daemon hands over.
//!
//! Owns those that no listener of the configuration has got yet.

use std::io;
use std::os::fd::OwnedFd;

use super::listener::Socket;
use crate::config::ListenAddress;

/// Sockets that wait for their listener.
#[derive(Default)]
pub struct Inherited(Vec<Socket>);

impl Inherited {
    /// Adds a socket whose listener has the configured port `asked`.
    ///
    /// # Errors
    /// It is not a listening socket.
    pub fn add(&mut self, fd: OwnedFd, asked: u16) -> io::Result<()> {
        self.0.push(Socket::inherited(fd, asked)?);
        Ok(())
    }

    /// Takes the sockets that were bound to an address and port of the configuration,
    /// dealt out to `workers` processes, all of which get as many. Nothing if there are
    /// none.
    pub(super) fn deal(
        &mut self,
        address: &ListenAddress,
        port: u16,
        workers: usize,
    ) -> io::Result<Option<Vec<Vec<Socket>>>> {
        let mut taken: Vec<Socket> = Vec::new();
        for socket in std::mem::take(&mut self.0) {
            let first = taken.first().map(Socket::bound);
            match socket.bound().is_at(address, port, first) {
                true => taken.push(socket),
                false => self.0.push(socket),
            }
        }
        if taken.is_empty() {
            return Ok(None);
        }
        // Every queue needs somebody who takes clients out of it; copies share one.
        let each = taken.len().div_ceil(workers);
        let copy = |at: usize| taken[at % taken.len()].try_clone();
        let of_worker = |worker| (0..each).map(|n| copy(worker + n * workers)).collect();
        (0..workers)
            .map(of_worker)
            .collect::<io::Result<_>>()
            .map(Some)
    }
}
