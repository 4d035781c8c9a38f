//! Binds the addresses of listeners, for one process or several.
//!
//! The TCP sockets of several processes share a port, and each has its own queue: the kernel
//! distributes new connections among them. A unix socket has a single queue, from which all
//! processes accept. Nobody else can listen at an address, unless a process of the same user
//! wants to share it too.

use std::fmt::Display;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use mio::net::TcpListener;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, bind, listen,
    setsockopt, socket, sockopt,
};

use super::inherited::Inherited;
use super::listener::Socket;
use super::socket_file::{SocketFile, stream_socket};
use crate::config::{ListenAddress, Listener, StatusAddress};

/// Maximum number of connections in the kernel's queue; the kernel's own limit may be
/// lower.
const BACKLOG: i32 = 4096;

/// Whoever may write to the socket of `status_listen` may close sessions.
const STATUS_MODE: u32 = 0o660;

/// Binds a listener's addresses, once for each process, and adds the sockets to its set. Adds
/// the files that it creates to `files`, even if it fails later. With port 0 the kernel chooses
/// a port for the first address, and the others use the same one. Uses `inherited` sockets where
/// they fit.
pub fn bind_sets(
    rules: &Listener,
    sets: &mut [Vec<Socket>],
    files: &mut Vec<SocketFile>,
    inherited: &mut Inherited,
) -> Result<(), String> {
    let workers = sets.len();
    let only_v6 = has_v4(rules);
    let mut port = rules.port;
    let mut add = |address: &ListenAddress| {
        let inherited = inherited.deal(address, rules.port, workers);
        let dealt = match (inherited.map_err(failed(address))?, address) {
            (Some(dealt), _) => dealt,
            (None, ListenAddress::Ip(ip)) => {
                bind_tcp((*ip, port).into(), rules.port, only_v6, workers)?
            }
            (None, _) => {
                let bound = bind_unix(address, rules.socket_mode, workers, files);
                bound.map_err(failed(address))?
            }
        };
        if address.ip().is_some() {
            port = dealt[0][0].bound().port();
        }
        for (set, sockets) in sets.iter_mut().zip(dealt) {
            set.extend(sockets);
        }
        Ok(())
    };
    if rules.listen.is_empty() {
        // The kernel may have no IPv6.
        add(&ListenAddress::Ip(Ipv6Addr::UNSPECIFIED.into()))
            .or_else(|_: String| add(&ListenAddress::Ip(Ipv4Addr::UNSPECIFIED.into())))?;
    }
    rules.listen.iter().try_for_each(add)
}

fn failed(address: impl Display) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot listen on {address}: {error}")
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

/// Binds a socket for each worker to one address.
fn bind_tcp(
    address: SocketAddr,
    configured_port: u16,
    only_v6: bool,
    workers: usize,
) -> Result<Vec<Vec<Socket>>, String> {
    let first = bind_one(address, only_v6, false).map_err(failed(address))?;
    let bound = first.local_addr().map_err(failed(address))?;
    let more = |_| {
        // Only after the first is bound, because that must fail if another process listens
        // there.
        setsockopt(&first, sockopt::ReusePort, &true)?;
        bind_one(bound, only_v6, true)
    };
    let others: io::Result<Vec<_>> = (1..workers).map(more).collect();
    let others = others.map_err(failed(bound))?;
    let all = std::iter::once(first).chain(others);
    let sets = all.map(|socket| Ok(vec![Socket::ours(socket.into(), configured_port)?]));
    sets.collect::<io::Result<_>>().map_err(failed(bound))
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
            let fd = stream_socket()?;
            bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
            fd
        }
        ListenAddress::Ip(_) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    listen(&fd, Backlog::new(BACKLOG)?)?;
    let copy = |_| Ok(vec![Socket::ours(fd.try_clone()?, 0)?]);
    (0..workers).map(copy).collect()
}

/// Binds an address of `status_listen` for one process. Adds the file that it creates to
/// `files`, even if it fails later.
pub fn bind_status(address: &StatusAddress, files: &mut Vec<SocketFile>) -> Result<Socket, String> {
    let bound = match address {
        StatusAddress::Tcp(address) => {
            let socket = bind_one(*address, address.is_ipv6(), false);
            socket.and_then(|socket| Socket::ours(socket.into(), address.port()))
        }
        StatusAddress::Unix(path) => SocketFile::bind(path, STATUS_MODE).and_then(|(fd, file)| {
            files.push(file);
            listen(&fd, Backlog::new(BACKLOG)?)?;
            Socket::ours(fd, 0)
        }),
    };
    bound.map_err(failed(address))
}

/// Returns copies of listening sockets for each of `workers` processes. All processes
/// accept from the same queue.
pub fn share(sockets: &[(OwnedFd, String)], workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let copy = |(fd, name): &(OwnedFd, String)| Socket::from_systemd(fd.try_clone()?, name);
    let set = |_| sockets.iter().map(copy).collect();
    (0..workers).map(set).collect()
}

/// Creates a listening socket. With `shared`, other sockets of this user may listen at the
/// same address.
fn bind_one(address: SocketAddr, only_v6: bool, shared: bool) -> io::Result<TcpListener> {
    let fd = bound(address, only_v6, shared)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(fd.into())
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
