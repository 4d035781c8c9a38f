//! The address of a listener: `127.0.0.1`, `::1`, `unix:/run/jabsocket/ws.sock`,
//! `unix:@name`.
//!
//! Owns the reading of such an address and of the mode of a socket's file. Accesses no
//! file.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::value::Setting;
use super::yaml::Value;

/// Maximum length of a path or of a name in the abstract namespace, in bytes (`sun_path`
/// without its zero byte).
const MAX_NAME_BYTES: usize = 107;

/// The address of a listener, without the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A numeric IPv4 or IPv6 address.
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
    /// The IP address; `None` for a unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            ListenAddress::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// The path; `None` if the socket has no file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            ListenAddress::Path(path) => Some(path),
            _ => None,
        }
    }

    /// Reads the text after `unix:`.
    pub(super) fn unix(name: &str) -> Option<ListenAddress> {
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

/// Reads the value of `listen`.
pub(super) fn listen(setting: &mut Setting<'_>) -> Vec<ListenAddress> {
    let allowed = "a numeric IPv4 or IPv6 address such as 127.0.0.1 or ::1, a Unix socket such \
                   as unix:/run/jabsocket/ws.sock, or a list of them";
    let unix_allowed = "unix: and a path from the root, as in unix:/run/jabsocket/ws.sock, or \
                        unix:@ and a name, of at most 107 bytes";
    let mut addresses = Vec::new();
    let mut places = Vec::new();
    for node in setting.nodes() {
        let address = match &node.value {
            Value::Text(text) if text.starts_with("unix:") => {
                setting.read(node, unix_allowed, |text| ListenAddress::unix(&text[5..]))
            }
            _ => setting.read(node, allowed, ListenAddress::address),
        };
        let Some(address) = address else {
            continue;
        };
        match addresses.iter().position(|known| *known == address) {
            Some(at) => {
                let earlier = setting.report.earlier(places[at], node.place);
                let text = format!(
                    "key '{}': '{address}' is already listed on {earlier}",
                    setting.key
                );
                setting.report.warn(node.place, text);
            }
            None => {
                addresses.push(address);
                places.push(node.place);
            }
        }
    }
    addresses
}

/// Reads the value of `socket_mode`: octal digits, as for chmod(1).
pub(super) fn socket_mode(setting: &mut Setting<'_>) -> u32 {
    let octal = |text: &str| {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok()?;
        ((3..=4).contains(&text.len()) && digits && mode <= 0o777).then_some(mode)
    };
    let mode = setting.one("a mode in octal from 000 to 777, such as 0660", octal);
    mode.unwrap_or_default()
}
