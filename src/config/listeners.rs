//! The `listeners` list: ports for browsers, each with rules of its own.
//!
//! Owns the reading of the list, the pairs of certificate and key, and the one
//! listener of a file without the list. What an entry does not say, the
//! top-level keys say. A key of an entry that is not known is an error: it may
//! have asked for more security. Opens no certificate.

use std::path::PathBuf;

use super::problem::{Report, What, meant};
use super::server_access::YES_NO;
use super::setting::{self, Setting};
use super::value::{choice, file, last_of_each, refuse};
use super::yaml::{Entry, Node, Value};
use super::{Config, Glob, ListenAddress, listen_address};

/// The keys of an entry: alone, and as messages name them.
const INNER_KEYS: [(&str, &str); 10] = [
    ("name", "listeners.name"),
    ("port", "listeners.port"),
    ("listen", "listeners.listen"),
    ("socket_mode", "listeners.socket_mode"),
    ("tls", "listeners.tls"),
    ("tls_certificate", "listeners.tls_certificate"),
    ("tls_key", "listeners.tls_key"),
    ("host", "listeners.host"),
    ("resource", "listeners.resource"),
    ("origin", "listeners.origin"),
];

pub(super) const PORT_ALLOWED: &str = "a whole number from 0 to 65535";
pub(super) const HOST_ALLOWED: &str = "what the Host header must say, such as example.com:5000";

/// A certificate, with its chain, and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The file of the certificate, followed by those that sign it.
    pub certificate: PathBuf,
    /// The file of its key.
    pub key: PathBuf,
}

/// A port for browsers.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The name of its sockets in systemd (`FileDescriptorName=`).
    pub name: Option<String>,
    /// The TCP port; 0 lets the system choose.
    pub port: u16,
    /// Where to listen; empty means all interfaces.
    pub listen: Vec<ListenAddress>,
    /// The mode of the files of unix sockets.
    pub socket_mode: u32,
    /// What the Host header must say; `None` is not checked.
    pub host: Option<String>,
    /// What the request target must be; `None` is not checked.
    pub resource: Option<String>,
    /// Lower-cased patterns of acceptable origins; empty accepts any.
    /// Ask [`Listener::origin_allowed`].
    pub origin: Vec<Glob>,
    /// Certificates to choose from, the first being the default; without any
    /// the port is in plain text.
    pub certificates: Vec<Pair>,
}

impl Listener {
    /// Whether a request with this Origin header may pass. A missing header is
    /// matched as the empty text.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        if self.origin.is_empty() {
            return true;
        }
        let origin = origin.unwrap_or_default().to_lowercase();
        self.origin.iter().any(|pattern| pattern.matches(&origin))
    }

    /// What the top-level keys say.
    pub(super) fn of_top_level(config: &Config) -> Listener {
        Listener {
            name: None,
            port: config.port,
            listen: config.listen.clone(),
            socket_mode: config.socket_mode,
            host: config.host.clone(),
            resource: config.resource.clone(),
            origin: config.origin.clone(),
            certificates: config.certificates.clone(),
        }
    }

    /// Whether it has nothing but unix sockets, so that its port counts for
    /// nothing.
    fn is_unix(&self) -> bool {
        !self.listen.is_empty() && self.listen.iter().all(|place| place.ip().is_none())
    }

    /// What of both cannot be bound, if anything.
    fn meets(&self, other: &Listener) -> Option<String> {
        let shared = |place: &&ListenAddress| other.listen.contains(place);
        if let Some(name) = self.name.as_ref().filter(|_| self.name == other.name) {
            return Some(format!("name '{name}'"));
        }
        let mut unix = self.listen.iter().filter(|place| place.ip().is_none());
        if let Some(place) = unix.find(shared) {
            return Some(place.to_string());
        }
        if self.port != other.port || self.port == 0 || self.is_unix() || other.is_unix() {
            return None;
        }
        let anywhere = self.listen.is_empty() || other.listen.is_empty();
        let mut ips = self.listen.iter().filter(|place| place.ip().is_some());
        (anywhere || ips.any(|place| shared(&place))).then(|| format!("port {}", self.port))
    }
}

/// Files named by `tls_certificate` and `tls_key`, and the line of the first
/// that was named.
#[derive(Default)]
pub(super) struct Named {
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    line: Option<usize>,
    refused: bool,
}

impl Named {
    /// Takes the value of `tls_certificate` or `tls_key`; `key` is its name for
    /// messages.
    pub(super) fn take(&mut self, name: &str, key: &str, node: &Node, report: &mut Report) {
        let nodes = match &node.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let files: Vec<_> = nodes
            .iter()
            .filter_map(|node| file(key, node, report))
            .collect();
        self.refused |= files.len() < nodes.len();
        self.line = Some(self.line.map_or(node.line, |line| line.min(node.line)));
        match name {
            "tls_key" => self.keys = files,
            _ => self.certificates = files,
        }
    }

    /// The pairs, in the order of the file; as many keys as certificates.
    pub(super) fn pairs(self, prefix: &str, report: &mut Report) -> Vec<Pair> {
        let (certificates, keys) = (self.certificates.len(), self.keys.len());
        if certificates != keys && !self.refused {
            report.add(
                self.line,
                What::NotAllowed {
                    key: format!("{prefix}tls_certificate"),
                    found: format!("{certificates} of it beside {keys} of '{prefix}tls_key'"),
                    allowed: "a key for each certificate, in the same order".to_owned(),
                },
            );
        }
        let pairs = self.certificates.into_iter().zip(self.keys);
        let pair = |(certificate, key)| Pair { certificate, key };
        pairs.map(pair).collect()
    }
}

/// Reads the value of `listeners`. What it says may not stand beside the same
/// port and address again.
pub(super) fn read(node: &Node, config: &Config, report: &mut Report) -> Vec<Listener> {
    let nodes = match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        _ => {
            let allowed = "a list of one or more, each with its keys behind '- '; without the \
                           key, port and listen say it all";
            refuse("listeners", node, allowed, report);
            return Vec::new();
        }
    };
    let mut listeners: Vec<(Listener, usize)> = Vec::new();
    for node in nodes {
        let Some(listener) = listener(node, config, report) else {
            continue;
        };
        let met = listeners
            .iter()
            .find_map(|(known, line)| Some((known.meets(&listener)?, line)));
        if let Some((what, line)) = met {
            report.add(
                node.line,
                What::NotAllowed {
                    key: "listeners".to_owned(),
                    found: format!("{what} of line {line} again"),
                    allowed: "another port, other addresses in 'listen', or another name"
                        .to_owned(),
                },
            );
        }
        listeners.push((listener, node.line));
    }
    listeners
        .into_iter()
        .map(|(listener, _)| listener)
        .collect()
}

fn listener(node: &Node, config: &Config, report: &mut Report) -> Option<Listener> {
    let Value::Mapping(entries) = &node.value else {
        let allowed = "keys such as 'port: 443' behind the '- '";
        refuse("listeners", node, allowed, report);
        return None;
    };
    let last = last_of_each(entries, "listeners.", report);
    let mut listener = Listener::of_top_level(config);
    let mut named = Named::default();
    let mut tls = None;
    for (index, entry) in entries.iter().enumerate() {
        let Some((name, key)) = INNER_KEYS.iter().find(|(name, _)| *name == entry.key) else {
            report.add(
                entry.line,
                What::UnknownInnerKey {
                    key: format!("listeners.{}", entry.key),
                    allowed: INNER_KEYS.map(|(name, _)| name).join(", "),
                    meant: meant(&entry.key, INNER_KEYS.map(|(name, _)| name)),
                },
            );
            continue;
        };
        let absent = matches!(entry.node.value, Value::Null | Value::Refused);
        if last[entry.key.as_str()] != index || absent {
            continue;
        }
        match *name {
            "tls" => tls = choice(key, &entry.node, YES_NO, report),
            "tls_certificate" | "tls_key" => named.take(name, key, &entry.node, report),
            _ => take(name, key, entry, &mut listener, report),
        }
    }
    let own = named.line.is_some();
    if own {
        listener.certificates = named.pairs("listeners.", report);
    }
    let contradiction = match tls {
        Some(true) if !own && listener.certificates.is_empty() => Some((
            "TLS without a certificate",
            "a 'tls_certificate' and a 'tls_key', here or at the top",
        )),
        Some(false) if own => Some(("a certificate beside 'tls: false'", "one of them")),
        _ => None,
    };
    if let Some((found, allowed)) = contradiction {
        report.add(
            node.line,
            What::NotAllowed {
                key: "listeners.tls".to_owned(),
                found: found.to_owned(),
                allowed: allowed.to_owned(),
            },
        );
    }
    if tls == Some(false) {
        listener.certificates.clear();
    }
    let port = entries.iter().find(|entry| entry.key == "port");
    if let Some(port) = port.filter(|_| listener.is_unix()) {
        report.add(
            port.line,
            What::NotAllowed {
                key: "listeners.port".to_owned(),
                found: "a port where 'listen' has only unix sockets".to_owned(),
                allowed: "no port, or a 'listen' with an address in this entry".to_owned(),
            },
        );
    }
    Some(listener)
}

/// A name that systemd accepts for a descriptor.
fn socket_name(setting: &mut Setting<'_>) -> Option<String> {
    let allowed = "the FileDescriptorName= of a systemd.socket(5) unit, such as web";
    let name = setting.word(allowed)?;
    if name.contains(':') {
        setting.refuse(allowed);
        return None;
    }
    Some(name)
}

/// Takes the value of any other key.
fn take(
    name: &str,
    key: &'static str,
    entry: &Entry,
    listener: &mut Listener,
    report: &mut Report,
) {
    let mut setting = Setting {
        key,
        node: &entry.node,
        report,
    };
    match name {
        "name" => listener.name = socket_name(&mut setting),
        "port" => {
            if let Some(port) = setting.whole(0..=65535, PORT_ALLOWED) {
                listener.port = port;
            }
        }
        "listen" => listener.listen = listen_address::listen(&mut setting),
        "socket_mode" => {
            if let Some(mode) = listen_address::socket_mode(&mut setting) {
                listener.socket_mode = mode;
            }
        }
        "host" => listener.host = setting.word(HOST_ALLOWED),
        "resource" => listener.resource = setting::resource(&mut setting),
        _ => listener.origin = setting::origin(&mut setting),
    }
}
