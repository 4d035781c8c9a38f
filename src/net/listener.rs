//! Listening sockets, TCP and unix: bind and accept.
//!
//! Owns the sockets of a listener's addresses, for one process or several, and the result
//! of an attempt to accept. The TCP sockets of several processes share a port, and each has
//! its own queue. A unix socket has a single queue, from which all processes accept.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    SockaddrStorage, UnixAddr, bind, getsockname, listen, setsockopt, socket, sockopt,
};

use super::byte_stream::{ByteStream, set_send_timeout};
use super::inherited::Inherited;
use super::listener_choice::Bound;
use super::peer::Peer;
use super::socket_file::SocketFile;
use crate::config::{ListenAddress, Listener};

/// Maximum number of connections in the kernel's queue; the kernel's own limit may be
/// lower.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub struct Socket {
    listening: Listening,
    bound: Bound,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    /// Takes ownership of a non-blocking listening socket and its name.
    fn handed_over(fd: OwnedFd, name: &str) -> io::Result<Socket> {
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd())?.family();
        let (listening, address, port) = if family == Some(AddressFamily::Unix) {
            let address = unix_address(fd.as_raw_fd())?;
            let socket = UnixListener::from_std(fd.into());
            (Listening::Unix(socket), address, 0)
        } else {
            let socket = TcpListener::from_std(fd.into());
            let address = socket.local_addr()?;
            let ip = ListenAddress::Ip(address.ip());
            (Listening::Tcp(socket), ip, address.port())
        };
        let bound = Bound::handed_over(address, port, name);
        Ok(Socket { listening, bound })
    }

    /// Takes ownership of a socket that another generation of this daemon has bound for the
    /// configured port `asked`.
    pub(super) fn inherited(fd: OwnedFd, asked: u16) -> io::Result<Socket> {
        let mut socket = Socket::handed_over(fd, "")?;
        socket.bound = socket.bound.inherited(asked);
        Ok(socket)
    }

    /// Duplicates the descriptor.
    pub(super) fn try_clone(&self) -> io::Result<Socket> {
        let fd = self.to_hand_over()?;
        let listening = match &self.listening {
            Listening::Tcp(_) => Listening::Tcp(TcpListener::from_std(fd.into())),
            Listening::Unix(_) => Listening::Unix(UnixListener::from_std(fd.into())),
        };
        let bound = self.bound.clone();
        Ok(Socket { listening, bound })
    }

    /// Returns a descriptor for the next generation of this daemon.
    pub fn to_hand_over(&self) -> io::Result<OwnedFd> {
        match &self.listening {
            Listening::Tcp(socket) => socket.as_fd().try_clone_to_owned(),
            Listening::Unix(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }

    /// Whether each worker has its own socket for this address.
    pub fn is_one_of_several(&self) -> bool {
        matches!(self.listening, Listening::Tcp(_)) && !self.bound.is_handed_over()
    }

    /// Address, port and name, which identify the socket.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.listening {
            Listening::Tcp(socket) => socket.register(registry, token, Interest::READABLE),
            Listening::Unix(socket) => socket.register(registry, token, Interest::READABLE),
        }
    }

    /// Removes the socket from a poll. Closing it would not be enough if another process
    /// has a copy.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = match &mut self.listening {
            Listening::Tcp(socket) => socket.deregister(registry),
            Listening::Unix(socket) => socket.deregister(registry),
        };
    }

    /// Sets how long clients of this socket may leave data unacknowledged.
    pub fn set_send_timeout(&self, timeout: Duration) {
        if let Listening::Tcp(socket) = &self.listening {
            set_send_timeout(socket, timeout);
        }
    }

    pub fn accept(&self) -> Accepted {
        use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
        let accepted = match &self.listening {
            Listening::Tcp(socket) => socket.accept().map(|(stream, peer)| {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                (stream.into(), Peer::Ip(peer))
            }),
            Listening::Unix(socket) => {
                let accepted = socket.accept();
                accepted.map(|(stream, _)| (stream.into(), Peer::Unix))
            }
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

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match &self.listening {
            Listening::Tcp(socket) => socket.local_addr().map(|address| address.to_string()),
            Listening::Unix(socket) => {
                let address = unix_address(socket.as_raw_fd());
                address.map(|address| address.to_string())
            }
        };
        f.write_str(&address.unwrap_or_else(|error| error.to_string()))
    }
}

/// The address of a unix socket; an empty path if it is unnamed.
fn unix_address(fd: RawFd) -> io::Result<ListenAddress> {
    let address = getsockname::<UnixAddr>(fd)?;
    Ok(match (address.path(), address.as_abstract()) {
        (None, Some(name)) => match str::from_utf8(name) {
            Ok(name) => ListenAddress::Abstract(name.to_owned()),
            Err(_) => ListenAddress::Abstract(name.escape_ascii().to_string()),
        },
        (path, _) => ListenAddress::Path(path.unwrap_or(Path::new("")).to_owned()),
    })
}

/// Binds a listener's addresses, once for each of `workers` processes. Adds the files that
/// it creates to `files`, even if it fails later. The kernel distributes new TCP
/// connections among the sets, and each socket has its own queue. Nobody else can listen
/// there, unless a process of the same user wants to share too. With port 0 the kernel
/// chooses a port for the first address, and the others use the same one. Uses `inherited`
/// sockets where they fit.
pub fn bind_sets(
    rules: &Listener,
    workers: usize,
    files: &mut Vec<SocketFile>,
    inherited: &mut Inherited,
) -> Result<Vec<Vec<Socket>>, BindError> {
    let mut sets: Vec<Vec<Socket>> = Vec::new();
    sets.resize_with(workers, Vec::new);
    let mut add = |dealt: Vec<Vec<Socket>>| {
        for (set, sockets) in sets.iter_mut().zip(dealt) {
            set.extend(sockets);
        }
    };
    let only_v6 = has_v4(rules);
    let mut port = rules.port;
    let mut bind = |address: &ListenAddress| {
        let failed = |error| BindError::new(address, error);
        let dealt = inherited
            .deal(address, rules.port, workers)
            .map_err(failed)?;
        let dealt = match (dealt, address) {
            (Some(dealt), _) => dealt,
            (None, ListenAddress::Ip(ip)) => {
                bind_tcp((*ip, port).into(), rules.port, only_v6, workers)?
            }
            (None, _) => bind_unix(address, rules.socket_mode, workers, files).map_err(failed)?,
        };
        if address.ip().is_some() {
            port = dealt[0][0].bound.port();
        }
        Ok(dealt)
    };
    if rules.listen.is_empty() {
        let any = |ip| ListenAddress::Ip(ip);
        let v6 = bind(&any(Ipv6Addr::UNSPECIFIED.into()));
        // The kernel may have no IPv6.
        add(v6.or_else(|_| bind(&any(Ipv4Addr::UNSPECIFIED.into())))?);
    }
    for address in &rules.listen {
        add(bind(address)?);
    }
    Ok(sets)
}

/// Whether IPv6 sockets must be limited to IPv6. Otherwise the IPv6 wildcard address would
/// also take the port for IPv4.
fn has_v4(rules: &Listener) -> bool {
    let mut ips = rules.listen.iter().filter_map(ListenAddress::ip);
    ips.any(|ip| ip.is_ipv4())
}

/// The TCP addresses of a listener, for trying to bind them, and whether each is for IPv6
/// only.
pub fn addresses(rules: &Listener) -> Vec<(SocketAddr, bool)> {
    let ips = rules.listen.iter().filter_map(ListenAddress::ip);
    let address = |ip| (SocketAddr::new(ip, rules.port), has_v4(rules));
    let mut addresses: Vec<_> = ips.map(address).collect();
    if rules.listen.is_empty() {
        addresses.push(((Ipv6Addr::UNSPECIFIED, rules.port).into(), false));
    }
    addresses
}

/// Checks that an address can be bound, without listening there.
pub fn try_bind(address: SocketAddr, only_v6: bool) -> io::Result<()> {
    match bound(address, only_v6, false) {
        // The kernel may have no IPv6.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED && !only_v6 => {
            bound((Ipv4Addr::UNSPECIFIED, address.port()).into(), false, false).map(drop)
        }
        result => result.map(drop),
    }
}

/// Binds a socket for each worker to one address, whose configured port is `asked`.
fn bind_tcp(
    address: SocketAddr,
    asked: u16,
    only_v6: bool,
    workers: usize,
) -> Result<Vec<Vec<Socket>>, BindError> {
    let failed = |error| BindError::new(&address, error);
    let first = bind_one(address, only_v6, false).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let socket = |socket| Socket {
        listening: Listening::Tcp(socket),
        bound: Bound::here(ListenAddress::Ip(address.ip()), asked, bound.port()),
    };
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        let failed = |error| BindError::new(&bound, error);
        // Only after the first is bound, because that must fail if another process listens
        // there.
        setsockopt(&first, sockopt::ReusePort, &true).map_err(|error| failed(error.into()))?;
        let other = bind_one(bound, only_v6, true).map_err(failed)?;
        sockets.push(vec![socket(other)]);
    }
    sockets.insert(0, vec![socket(first)]);
    Ok(sockets)
}

/// Binds one socket and returns a copy for each worker.
fn bind_unix(
    address: &ListenAddress,
    mode: u32,
    workers: usize,
    files: &mut Vec<SocketFile>,
) -> io::Result<Vec<Vec<Socket>>> {
    let fd = match address {
        ListenAddress::Path(path) => {
            let (fd, file) = SocketFile::bind(path, mode)?;
            files.push(file);
            fd
        }
        ListenAddress::Abstract(name) => {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
            fd
        }
        ListenAddress::Ip(_) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    listen(&fd, Backlog::new(BACKLOG)?)?;
    let copy = |_| {
        Ok(vec![Socket {
            listening: Listening::Unix(UnixListener::from_std(fd.try_clone()?.into())),
            bound: Bound::here(address.clone(), 0, 0),
        }])
    };
    (0..workers).map(copy).collect()
}

/// Returns copies of listening sockets for each of `workers` processes. All processes
/// accept from the same queue.
pub fn share(sockets: &[(OwnedFd, String)], workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let copy = |(fd, name): &(OwnedFd, String)| Socket::handed_over(fd.try_clone()?, name);
    let set = |_| sockets.iter().map(copy).collect();
    (0..workers).map(set).collect()
}

#[derive(Debug)]
pub struct BindError {
    address: String,
    error: io::Error,
}

impl BindError {
    fn new(address: &impl ToString, error: io::Error) -> BindError {
        let address = address.to_string();
        BindError { address, error }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}: {}", self.address, self.error)
    }
}

/// Creates a listening socket. With `shared`, other sockets of this user may listen at the
/// same address.
pub fn bind_one(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<TcpListener> {
    let fd = bound(address, only_v6, shared)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from_std(fd.into()))
}

/// Creates a bound socket that does not listen.
fn bound(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<OwnedFd> {
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
    Ok(fd)
}

pub enum Accepted {
    /// An IPv4 client of an IPv6 listener has its IPv4 address.
    Client(ByteStream, Peer),
    Nobody,
    /// The client left before it was accepted.
    Left,
    /// No descriptor or memory is left; the client keeps waiting.
    Exhausted(io::Error),
}
