//! An address of `status_listen`, and what becomes of it in each worker.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::listen_address::ListenAddress;

/// Room in the path of a socket for the number of a worker.
const SUFFIX_BYTES: usize = "-255".len();

/// An address at which a worker serves metrics and health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusAddress {
    /// An address and port.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for StatusAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusAddress::Tcp(address) => address.fmt(f),
            StatusAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl StatusAddress {
    pub(super) fn read(text: &str) -> Option<StatusAddress> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().ok().map(StatusAddress::Tcp);
        };
        let longest = format!("{path}{}", "-".repeat(SUFFIX_BYTES));
        ListenAddress::unix(&longest)?.path()?;
        Some(StatusAddress::Unix(path.into()))
    }

    /// Returns the address of a worker. The first worker (0) uses the configured one. Each
    /// further worker uses the next port, or its number in the name: `status-1.sock`.
    pub(super) fn of_worker(&self, worker: usize) -> StatusAddress {
        match self {
            StatusAddress::Tcp(address) if address.port() != 0 => {
                let mut address = *address;
                let worker = u16::try_from(worker).unwrap_or(u16::MAX);
                address.set_port(address.port().saturating_add(worker));
                StatusAddress::Tcp(address)
            }
            StatusAddress::Unix(path) if worker > 0 => {
                let mut name = OsString::from(path.file_stem().unwrap_or_default());
                name.push(format!("-{worker}"));
                if let Some(extension) = path.extension() {
                    name.push(".");
                    name.push(extension);
                }
                StatusAddress::Unix(path.with_file_name(name))
            }
            address => address.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_own_address() {
        for (address, second) in [
            ("127.0.0.1:9150", "127.0.0.1:9151"),
            ("[::1]:0", "[::1]:0"),
            ("unix:/run/status.sock", "unix:/run/status-1.sock"),
            ("unix:/run/a.b/status", "unix:/run/a.b/status-1"),
        ] {
            let read = StatusAddress::read(address).unwrap();
            assert_eq!(read.of_worker(0).to_string(), address);
            assert_eq!(read.of_worker(1).to_string(), second);
        }
        let long = format!("unix:/{}", "x".repeat(102));
        assert!(StatusAddress::read(&long).is_some());
        for bad in [
            &format!("{long}x"),
            "unix:",
            "unix:@x",
            "unix:x",
            "127.0.0.1",
        ] {
            assert_eq!(StatusAddress::read(bad), None, "{bad}");
        }
    }
}
