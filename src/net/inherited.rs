//! Listening sockets from another generation of this daemon.
//!
//! Owns the sockets that have not been assigned to a listener of the configuration.

use std::io;
use std::os::fd::OwnedFd;

use super::listener::Socket;
use crate::config::ListenAddress;

#[derive(Default)]
pub struct Inherited(Vec<Socket>);

impl Inherited {
    /// Adds a socket that was bound for `configured_port`.
    pub fn add(&mut self, fd: OwnedFd, configured_port: u16) -> io::Result<()> {
        self.0.push(Socket::ours(fd, configured_port)?);
        Ok(())
    }

    /// Takes the sockets that were bound to an address and port of the configuration, and
    /// distributes them among `workers` processes, the same number to each. Returns `None`
    /// if there are no such sockets.
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
        // Each queue needs a worker that accepts its clients; copies share a queue.
        let each = taken.len().div_ceil(workers);
        let copy = |at: usize| {
            let socket = &taken[at % taken.len()];
            Socket::ours(socket.to_hand_over()?, socket.bound().configured_port())
        };
        let of_worker = |worker| (0..each).map(|n| copy(worker + n * workers)).collect();
        (0..workers)
            .map(of_worker)
            .collect::<io::Result<_>>()
            .map(Some)
    }
}
