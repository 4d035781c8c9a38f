//! Listening sockets: bind and accept.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::net::{TcpListener, TcpStream};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt,
    socket, sockopt,
};

/// Connections the kernel may hold for us; it takes less if it is told to.
const BACKLOG: i32 = 4096;

/// Binds `port` on each of `addresses`, or on all interfaces if there are none.
/// With port 0 the kernel picks one for the first address; the others follow.
///
/// # Errors
/// The address that cannot be bound, and why.
pub fn bind_all(addresses: &[IpAddr], port: u16) -> Result<Vec<TcpListener>, BindError> {
    if addresses.is_empty() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        return match bind_one(any, false, false) {
            Ok(listener) => Ok(vec![listener]),
            // A kernel without IPv6.
            Err(_) => bind_all(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)], port),
        };
    }
    // Without this an IPv6 wildcard would take the port of the IPv4 one.
    let only_v6 = addresses.iter().any(IpAddr::is_ipv4);
    let mut port = port;
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let address = SocketAddr::from((address, port));
        let failed = |error| BindError { address, error };
        let listener = bind_one(address, only_v6, false).map_err(failed)?;
        port = listener.local_addr().map_err(failed)?.port();
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The same once for each of `workers` processes: the kernel shares new
/// connections out among the sets, and each keeps its own queue. Nobody else
/// listens there, unless a process of the same user wants to share too.
///
/// # Errors
/// The address that cannot be bound, and why.
pub fn bind_sets(
    addresses: &[IpAddr],
    port: u16,
    workers: usize,
) -> Result<Vec<Vec<TcpListener>>, BindError> {
    let mut sets = vec![bind_all(addresses, port)?];
    let only_v6 = addresses.iter().any(IpAddr::is_ipv4);
    for _ in 1..workers {
        let mut set = Vec::with_capacity(sets[0].len());
        for first in &sets[0] {
            let address = first.local_addr().unwrap_or_else(|_| ([0; 4], port).into());
            let failed = |error| BindError { address, error };
            // Only now: the first is to be refused where others listen.
            setsockopt(first, sockopt::ReusePort, &true).map_err(|error| failed(error.into()))?;
            set.push(bind_one(address, only_v6, true).map_err(failed)?);
        }
        sets.push(set);
    }
    Ok(sets)
}

/// Sockets that listen already, once for each of `workers` processes: all take
/// from the same queue.
///
/// # Errors
/// No descriptors are left.
pub fn share(
    sockets: &[std::net::TcpListener],
    workers: usize,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let set = || {
        let copies = sockets.iter().map(std::net::TcpListener::try_clone);
        copies.map(|copy| copy.map(TcpListener::from_std)).collect()
    };
    (0..workers).map(|_| set()).collect()
}

/// Binds each of `addresses`.
///
/// # Errors
/// The address that cannot be bound, and why.
pub fn bind_each(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let bind = |&address| {
        let bound = bind_one(address, address.is_ipv6(), false);
        bound.map_err(|error| BindError { address, error })
    };
    addresses.iter().map(bind).collect()
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel says.
    pub error: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

fn bind_one(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    if shared {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    match address {
        SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address))?,
        SocketAddr::V6(address) => {
            setsockopt(&fd, sockopt::Ipv6V6Only, &only_v6)?;
            bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?;
        }
    }
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from_std(fd.into()))
}

/// What an attempt to accept gave.
pub enum Accepted {
    /// A client. An IPv4 client of an IPv6 listener has its IPv4 address.
    Client(TcpStream, SocketAddr),
    /// Nobody is waiting.
    Nobody,
    /// A client that left before it was accepted.
    Left,
    /// No descriptor or no memory is left; the client goes on waiting.
    Exhausted(io::Error),
}

/// Accepts one client.
pub fn accept(listener: &TcpListener) -> Accepted {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    match listener.accept() {
        Ok((socket, peer)) => {
            let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            Accepted::Client(socket, peer)
        }
        Err(error) => match error.raw_os_error() {
            Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => Accepted::Exhausted(error),
            _ if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            _ => Accepted::Left,
        },
    }
}
