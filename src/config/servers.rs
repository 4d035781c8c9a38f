//! The addresses of XMPP servers: the key `server` at the top level and in a `domains`
//! entry.
//!
//! Owns the reading of one server or a list of servers. Resolves no names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::listen_address::ListenAddress;
use super::value::{Setting, YES_NO, host_name, read_entries, whole};
use super::yaml::{Entry, Node, Value};

/// Maximum number of servers in a list.
const MAX_SERVERS: usize = 32;

const ALLOWED: &str = "host:port, such as xmpp.example.com:5222, 192.0.2.1:5222 or \
                       '[2001:db8::1]:5222' in quotes, unix:PATH, or a list of these";
const KEYS: [&str; 3] = ["address", "weight", "backup"];

/// An XMPP server in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: ServerAddress,
    /// The text of its address, for metrics and log.
    pub name: Arc<str>,
    /// The server's share of the sessions, relative to the other weights.
    pub weight: u16,
    /// Used only while all other servers fail.
    pub backup: bool,
}

/// The address of a server. A host name is not resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// A host and a TCP port.
    Tcp {
        /// The part before the colon.
        host: Host,
        /// The part after the colon; never 0.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(Arc<Path>),
}

/// A host: a DNS name or a numeric address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// A numeric address.
    Address(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(address) => address.fmt(f),
        }
    }
}

impl From<ServerAddress> for Server {
    fn from(address: ServerAddress) -> Server {
        Server {
            name: address.to_string().into(),
            address,
            weight: 1,
            backup: false,
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerAddress::Tcp { host, port } => match host {
                Host::Name(name) => write!(f, "{name}:{port}"),
                Host::Address(address) => SocketAddr::new(*address, *port).fmt(f),
            },
            ServerAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads one server or a list of servers.
pub(super) fn read(setting: &mut Setting<'_>) -> Vec<Server> {
    let nodes = setting.nodes();
    let servers = nodes.iter().filter_map(|node| server(node, setting));
    let servers: Vec<_> = servers.collect();
    let found = match &setting.node.value {
        Value::List(nodes) if nodes.is_empty() => "an empty list",
        Value::List(nodes) if nodes.len() > MAX_SERVERS => "more than 32 servers",
        _ if !servers.is_empty() && servers.iter().all(|server| server.backup) => "only backups",
        _ => return servers,
    };
    let allowed = "1 to 32 servers, one of them without 'backup: true'";
    setting.not_allowed(found, allowed);
    servers
}

/// Reads an address, or a mapping with an address.
fn server(node: &Node, setting: &mut Setting<'_>) -> Option<Server> {
    let mut setting = Setting {
        key: setting.key.clone(),
        node,
        report: setting.report,
    };
    match &node.value {
        Value::Mapping(entries) => mapping(entries, &mut setting),
        _ => setting.one(ALLOWED, parse).map(Server::from),
    }
}

fn mapping(entries: &[Entry], setting: &mut Setting<'_>) -> Option<Server> {
    let (mut address, mut weight, mut backup) = (None, 1, false);
    let prefix = format!("{}.", setting.key);
    read_entries(
        entries,
        &prefix,
        &KEYS,
        setting.report,
        |key, inner| match key {
            _ if inner.node.value.is_absent() => {}
            "address" => address = inner.one(ALLOWED, parse),
            "weight" => weight = inner.whole("", &(1..=65_535), "") as u16,
            _ => backup = inner.choice(YES_NO),
        },
    );
    if !entries.iter().any(|entry| entry.key == "address") {
        let allowed = format!("an 'address' with {ALLOWED}");
        setting.not_allowed("an entry without 'address'", &allowed);
    }
    Some(Server {
        weight,
        backup,
        ..Server::from(address?)
    })
}

fn parse(text: &str) -> Option<ServerAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match ListenAddress::unix(path)? {
            ListenAddress::Path(path) => Some(ServerAddress::Unix(path.into())),
            _ => None,
        };
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = whole(port).and_then(|port| u16::try_from(port).ok())?;
    let host = match host.strip_prefix('[') {
        Some(host) => {
            let address: Ipv6Addr = host.strip_suffix(']')?.parse().ok()?;
            Host::Address(address.into())
        }
        None => match host.parse() {
            Ok(address) => Host::Address(IpAddr::V4(address)),
            Err(_) => Host::Name(host_name(host)?),
        },
    };
    (port != 0).then_some(ServerAddress::Tcp { host, port })
}
