//! Where a listener is bound: `127.0.0.1`, `::1`, `unix:/run/jabsocket/ws.sock`,
//! `unix:@name`.
//!
//! Owns the reading of such an address and of the mode of a socket's file. Looks
//! at no file: whether a path can be bound is seen when that is done.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::problem::What;
use super::setting::Setting;
use super::value::refuse;

/// Bytes of a path, or of a name in the abstract namespace (`sun_path`, with a
/// zero byte behind or before).
const MAX_NAME_BYTES: usize = 107;

/// The mode of a socket's file where none is configured: who may connect is
/// the directory's business.
pub(super) const DEFAULT_MODE: u32 = 0o666;

/// An address of a listener; its port stands elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A numeric address.
    Ip(IpAddr),
    /// A unix socket with a file.
    Path(PathBuf),
    /// A unix socket in Linux's abstract namespace, without the `@`.
    Abstract(String),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Ip(address) => address.fmt(f),
            ListenAddress::Path(path) => write!(f, "unix:{}", path.display()),
            ListenAddress::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

impl ListenAddress {
    /// The address, unless it is a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            ListenAddress::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// The file, if it is a unix socket with one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ListenAddress::Path(path) => Some(path),
            _ => None,
        }
    }

    /// What stands behind `unix:`.
    fn unix(name: &str) -> Option<ListenAddress> {
        let fits = |bytes: &str| {
            (1..=MAX_NAME_BYTES).contains(&bytes.len()) && !bytes.contains(char::is_control)
        };
        match name.strip_prefix('@') {
            Some(name) => fits(name).then(|| ListenAddress::Abstract(name.to_owned())),
            None => (fits(name) && name.starts_with('/')).then(|| ListenAddress::Path(name.into())),
        }
    }

    fn address(text: &str) -> Option<ListenAddress> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address = match bare {
            Some(bare) => bare.parse().map(IpAddr::V6),
            None => text.parse(),
        };
        address.ok().map(ListenAddress::Ip)
    }
}

/// The value of `listen`.
pub(super) fn listen(setting: &mut Setting<'_>) -> Vec<ListenAddress> {
    let allowed = "a numeric IPv4 or IPv6 address such as 127.0.0.1 or ::1, a unix socket such \
                   as unix:/run/jabsocket/ws.sock, or a list of them";
    let unix_allowed = "unix: and a path from the root, as in unix:/run/jabsocket/ws.sock, or \
                        unix:@ and a name, of at most 107 bytes";
    let mut addresses: Vec<(ListenAddress, usize)> = Vec::new();
    for (node, text) in setting.texts(allowed) {
        let (address, allowed) = match text.strip_prefix("unix:") {
            Some(name) => (ListenAddress::unix(name), unix_allowed),
            None => (ListenAddress::address(text), allowed),
        };
        let Some(address) = address else {
            refuse(setting.key, node, allowed, setting.report);
            continue;
        };
        match addresses.iter_mut().find(|(known, _)| *known == address) {
            Some((_, line)) => {
                let first_line = std::mem::replace(line, node.line);
                setting.report.add(
                    node.line,
                    What::Repeated {
                        key: setting.key.to_owned(),
                        value: Some(text.to_owned()),
                        first_line,
                    },
                );
            }
            None => addresses.push((address, node.line)),
        }
    }
    addresses.into_iter().map(|(address, _)| address).collect()
}

/// The value of `socket_mode`: octal, as chmod(1) takes it.
pub(super) fn socket_mode(setting: &mut Setting<'_>) -> Option<u32> {
    let allowed = "a mode in octal from 000 to 777, such as 0660";
    let text = setting.text(allowed)?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| octal && *mode <= 0o777);
    if mode.is_none() {
        setting.refuse(allowed);
    }
    mode
}
