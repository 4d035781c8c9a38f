//! Listening sockets, of TCP and of the unix family: bind and accept.
//!
//! Owns the sockets of a listener's places, for one process or for several, and
//! what an attempt to accept gave. TCP sockets of several processes share a port,
//! each with a queue of its own; a unix socket is one, and all take from it.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    SockaddrStorage, UnixAddr, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::peer::Peer;
use super::socket_file::SocketFile;
use super::stream::{Stream, set_patience};
use crate::config::{Listener, Place};

/// Connections the kernel may hold for us; it takes less if it is told to.
const BACKLOG: i32 = 4096;

/// A listening socket.
#[derive(Debug)]
pub enum Socket {
    /// Of TCP.
    Tcp(TcpListener),
    /// Of the unix family.
    Unix(UnixListener),
}

impl Socket {
    /// Takes a listening socket over, which must be non-blocking.
    pub fn of(fd: OwnedFd) -> Socket {
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd());
        match family.ok().and_then(|address| address.family()) {
            Some(AddressFamily::Unix) => Socket::Unix(UnixListener::from_std(fd.into())),
            _ => Socket::Tcp(TcpListener::from_std(fd.into())),
        }
    }

    /// Registers it with a poll.
    ///
    /// # Errors
    /// The kernel's.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Socket::Tcp(socket) => socket.register(registry, token, Interest::READABLE),
            Socket::Unix(socket) => socket.register(registry, token, Interest::READABLE),
        }
    }

    /// Sets how long a client accepted from here may leave data unacknowledged.
    pub fn set_patience(&self, patience: Duration) {
        if let Socket::Tcp(socket) = self {
            set_patience(socket, patience);
        }
    }

    /// Accepts one client.
    pub fn accept(&self) -> Accepted {
        use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
        let accepted = match self {
            Socket::Tcp(socket) => socket.accept().map(|(stream, peer)| {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                (stream.into(), Peer::Ip(peer))
            }),
            Socket::Unix(socket) => socket
                .accept()
                .map(|(stream, _)| (stream.into(), Peer::Unix)),
        };
        match accepted {
            Ok((stream, peer)) => Accepted::Client(stream, peer),
            Err(error) => match error.raw_os_error() {
                Some(EMFILE | ENFILE | ENOBUFS | ENOMEM) => Accepted::Exhausted(error),
                _ if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
                _ => Accepted::Left,
            },
        }
    }
}

/// Where it listens.
impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Tcp(socket) => match socket.local_addr() {
                Ok(address) => address.fmt(f),
                Err(error) => error.fmt(f),
            },
            Socket::Unix(socket) => match getsockname::<UnixAddr>(socket.as_raw_fd()) {
                Ok(address) => match (address.path(), address.as_abstract()) {
                    (Some(path), _) => write!(f, "unix:{}", path.display()),
                    (None, Some(name)) => write!(f, "unix:@{}", name.escape_ascii()),
                    (None, None) => f.write_str("unix:"),
                },
                Err(error) => error.desc().fmt(f),
            },
        }
    }
}

/// Binds a listener's places, once for each of `workers` processes; files that
/// are made go to `files`, also before an error. The kernel shares TCP's new
/// connections out among the sets, and each keeps its own queue. Nobody else
/// listens there, unless a process of the same user wants to share too. With
/// port 0 the kernel picks one for the first address; the others follow.
///
/// # Errors
/// The place that cannot be bound, and why.
pub fn bind_sets(
    rules: &Listener,
    workers: usize,
    files: &mut Vec<SocketFile>,
) -> Result<Vec<Vec<Socket>>, BindError> {
    let mut sets: Vec<Vec<Socket>> = Vec::new();
    sets.resize_with(workers, Vec::new);
    let mut add = |sockets: Vec<Socket>| {
        for (set, socket) in sets.iter_mut().zip(sockets) {
            set.push(socket);
        }
    };
    if rules.listen.is_empty() {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, rules.port));
        let sockets = bind_tcp(any, false, workers).or_else(|_| {
            // A kernel without IPv6.
            bind_tcp((Ipv4Addr::UNSPECIFIED, rules.port).into(), false, workers)
        });
        add(sockets?.0);
    }
    // Without this an IPv6 wildcard would take the port of the IPv4 one.
    let mut ips = rules.listen.iter().filter_map(Place::ip);
    let only_v6 = ips.any(|ip| ip.is_ipv4());
    let mut port = rules.port;
    for place in &rules.listen {
        add(match place {
            Place::Ip(ip) => {
                let (sockets, bound) = bind_tcp((*ip, port).into(), only_v6, workers)?;
                port = bound;
                sockets
            }
            _ => bind_unix(place, rules.socket_mode, workers, files)
                .map_err(|error| BindError::new(place, error))?,
        });
    }
    Ok(sets)
}

/// As many sockets at one address, and its port.
fn bind_tcp(
    address: SocketAddr,
    only_v6: bool,
    workers: usize,
) -> Result<(Vec<Socket>, u16), BindError> {
    let failed = |error| BindError::new(&address, error);
    let first = bind_one(address, only_v6, false).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        let failed = |error| BindError::new(&bound, error);
        // Only now: the first is to be refused where others listen.
        setsockopt(&first, sockopt::ReusePort, &true).map_err(|error| failed(error.into()))?;
        let other = bind_one(bound, only_v6, true).map_err(failed)?;
        sockets.push(Socket::Tcp(other));
    }
    sockets.insert(0, Socket::Tcp(first));
    Ok((sockets, bound.port()))
}

/// One socket, as often as there are workers.
fn bind_unix(
    place: &Place,
    mode: u32,
    workers: usize,
    files: &mut Vec<SocketFile>,
) -> io::Result<Vec<Socket>> {
    let fd = match place {
        Place::Path(path) => {
            let (fd, file) = SocketFile::bind(path, mode)?;
            files.push(file);
            fd
        }
        Place::Abstract(name) => {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
            fd
        }
        Place::Ip(_) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    listen(&fd, Backlog::new(BACKLOG)?)?;
    copies(&fd, workers)
}

fn copies(fd: &OwnedFd, workers: usize) -> io::Result<Vec<Socket>> {
    let copy = |_| fd.try_clone().map(Socket::of);
    (0..workers).map(copy).collect()
}

/// Sockets that listen already, once for each of `workers` processes: all take
/// from the same queue.
///
/// # Errors
/// No descriptors are left.
pub fn share(sockets: &[OwnedFd], workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let copy = |fd: &OwnedFd| fd.try_clone().map(Socket::of);
    let set = |_| sockets.iter().map(copy).collect();
    (0..workers).map(set).collect()
}

/// Binds each of `addresses`.
///
/// # Errors
/// The address that cannot be bound, and why.
pub fn bind_each(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let bind = |&address| {
        let bound = bind_one(address, address.is_ipv6(), false);
        bound.map_err(|error| BindError::new(&address, error))
    };
    addresses.iter().map(bind).collect()
}

/// A place that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// Which, as the log has it.
    place: String,
    /// What the kernel says.
    error: io::Error,
}

impl BindError {
    fn new(place: &impl ToString, error: io::Error) -> BindError {
        BindError {
            place: place.to_string(),
            error,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.place, self.error)
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
    Client(Stream, Peer),
    /// Nobody is waiting.
    Nobody,
    /// A client that left before it was accepted.
    Left,
    /// No descriptor or no memory is left; the client goes on waiting.
    Exhausted(io::Error),
}
