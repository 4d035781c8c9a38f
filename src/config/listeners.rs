//! The `listeners` list: ports for browsers, each with its own rules.
//!
//! Owns the keys of a listener, the reading of the list, and the pairs of certificate and
//! key. If an entry lacks a key, the top-level key with the same name applies. An unknown
//! key in an entry is an error, because it may have asked for more security. Opens no
//! certificates.

use std::path::PathBuf;

use super::listen_address::{listen, socket_mode};
use super::problem::{Place, Report};
use super::value::{Setting, YES_NO, read_entries};
use super::yaml::{Node, Value};
use super::{Config, Glob, ListenAddress, TlsVersion, tls_version};

/// The keys of an entry.
const KEYS: [&str; 11] = [
    "name",
    "port",
    "listen",
    "socket_mode",
    "tls",
    "tls_certificate",
    "tls_key",
    "tls_min_version",
    "host",
    "resource",
    "origin",
];

/// The PEM files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, followed by the certificates that signed it.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}

/// A port for browsers.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// The systemd name of its sockets (`FileDescriptorName=`).
    pub name: Option<String>,
    /// The TCP port; 0 lets the system choose.
    pub port: u16,
    /// The addresses to listen on; empty means all interfaces.
    pub listen: Vec<ListenAddress>,
    /// The file mode of unix sockets.
    pub socket_mode: u32,
    /// The required Host header; `None` accepts any.
    pub host: Option<String>,
    /// The required request target; `None` accepts any.
    pub resource: Option<String>,
    /// Lower-case patterns of accepted origins; empty accepts any. Use
    /// [`Listener::origin_allowed`].
    pub origin: Vec<Glob>,
    /// Certificates to choose from; the first is the default. Without certificates the port
    /// uses plain text.
    pub certificates: Vec<Pair>,
    /// The oldest version of TLS that is accepted.
    pub tls_min_version: TlsVersion,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            name: None,
            port: 5000,
            listen: Vec::new(),
            // The mode of the directory decides which users may connect.
            socket_mode: 0o666,
            host: None,
            resource: None,
            origin: Vec::new(),
            certificates: Vec::new(),
            tls_min_version: TlsVersion::default(),
        }
    }
}

impl Listener {
    /// Whether a request with this Origin header is accepted. A missing header is matched
    /// as an empty text.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        let origin = origin.unwrap_or_default().to_lowercase();
        self.origin.is_empty() || self.origin.iter().any(|pattern| pattern.matches(&origin))
    }

    /// Whether it has only unix sockets, so that its port does not apply.
    fn is_unix(&self) -> bool {
        !self.listen.is_empty() && self.listen.iter().all(|address| address.ip().is_none())
    }

    /// A name, socket or port that both listeners claim, if any.
    fn conflict(&self, other: &Listener) -> Option<String> {
        if let Some(name) = &self.name
            && self.name == other.name
        {
            return Some(format!("name '{name}'"));
        }
        let mut is_shared = self.listen.is_empty() || other.listen.is_empty();
        for address in &self.listen {
            if other.listen.contains(address) {
                if address.ip().is_none() {
                    return Some(address.to_string());
                }
                is_shared = true;
            }
        }
        if self.port != other.port || self.port == 0 || self.is_unix() || other.is_unix() {
            return None;
        }
        is_shared.then(|| format!("port {}", self.port))
    }

    fn socket(&self) -> (u16, &[ListenAddress], u32) {
        (self.port, &self.listen, self.socket_mode)
    }
}

/// Whether the sockets of two configurations differ although their top-level keys are the
/// same. The order of the sockets does not matter.
pub(super) fn sockets_differ(old: &Config, new: &Config) -> bool {
    if old.top.socket() != new.top.socket() {
        return false;
    }
    let is_known = |socket| new.listeners.iter().any(|other| other.socket() == socket);
    let mut sockets = old.listeners.iter().map(Listener::socket);
    old.listeners.len() != new.listeners.len() || !sockets.all(is_known)
}

/// The files of `tls_certificate` and `tls_key`, before they are joined to pairs.
#[derive(Default)]
pub(super) struct PairFiles {
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
    /// The place of the first of the two keys.
    place: Option<Place>,
    refused: bool,
}

impl PairFiles {
    fn read(&mut self, setting: &mut Setting<'_>, example: &str) -> Vec<PathBuf> {
        let files = setting.paths(example);
        self.refused |= files.len() < setting.nodes().len();
        let place = setting.node.place;
        self.place = Some(self.place.map_or(place, |first| first.min(place)));
        files
    }

    /// The pairs in the order of the file.
    pub fn pairs(self, prefix: &str, report: &mut Report) -> Vec<Pair> {
        let (certificates, keys) = (self.certificates.len(), self.keys.len());
        if let Some(place) = self.place.filter(|_| certificates != keys && !self.refused) {
            let found = format!("{certificates} file(s) here and {keys} in '{prefix}tls_key'");
            let allowed = "one key for each certificate, in the same order";
            report.not_allowed(place, &format!("{prefix}tls_certificate"), &found, allowed);
        }
        let pairs = self.certificates.into_iter().zip(self.keys);
        let pair = |(certificate, key)| Pair { certificate, key };
        pairs.map(pair).collect()
    }
}

/// Reads the value of `listeners`. Two entries must not have the same port and address.
pub(super) fn read(node: &Node, config: &Config, report: &mut Report) -> Vec<Listener> {
    let mut setting = Setting {
        key: "listeners".to_owned(),
        node,
        report,
    };
    let nodes = match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        _ => {
            let allowed = "a list of one or more, each with its keys after '- '; for a single \
                           listener the keys 'port' and 'listen' are enough";
            setting.refuse(node, allowed);
            return Vec::new();
        }
    };
    let mut listeners: Vec<Listener> = Vec::new();
    let mut places: Vec<Place> = Vec::new();
    for node in nodes {
        let Value::Mapping(_) = &node.value else {
            setting.refuse(node, "keys such as 'port: 443' after the '- '");
            continue;
        };
        let listener = entry(node, config, setting.report);
        for (other, place) in listeners.iter().zip(&places) {
            if let Some(what) = other.conflict(&listener) {
                let report = &mut *setting.report;
                let earlier = report.earlier(*place, node.place);
                let found = format!("{what}, which the entry on {earlier} already uses,");
                let allowed = "a different port, different addresses in 'listen', or another name";
                report.not_allowed(node.place, "listeners", &found, allowed);
                break;
            }
        }
        listeners.push(listener);
        places.push(node.place);
    }
    listeners
}

fn entry(node: &Node, config: &Config, report: &mut Report) -> Listener {
    const PREFIX: &str = "listeners.";
    let mut listener = config.top.clone();
    let mut files = PairFiles::default();
    let mut tls = None;
    let mut port = None;
    let entries = node.value.entries();
    read_entries(entries, PREFIX, &KEYS, report, |key, setting| {
        match key {
            _ if setting.node.value.is_absent() => return,
            "tls" => tls = Some(setting.choice(YES_NO)),
            key => set(&mut listener, key, setting, &mut files),
        }
        if key == "port" {
            port = Some(setting.node.place);
        }
    });
    let own = files.place.is_some();
    if own {
        listener.certificates = files.pairs(PREFIX, report);
    }
    match tls {
        Some(true) if !own && listener.certificates.is_empty() => {
            let allowed = "a 'tls_certificate' and a 'tls_key', here or at the top level";
            report.not_allowed(
                node.place,
                "listeners.tls",
                "TLS without a certificate",
                allowed,
            );
        }
        Some(false) if own => {
            let found = "a certificate with 'tls: false'";
            report.not_allowed(node.place, "listeners.tls", found, "one of them");
        }
        _ => {}
    }
    if tls == Some(false) {
        listener.certificates.clear();
    }
    if let Some(place) = port.filter(|_| listener.is_unix()) {
        let found = "a port where 'listen' has only Unix sockets";
        let allowed = "no port, or a 'listen' with an address in this entry";
        report.not_allowed(place, "listeners.port", found, allowed);
    }
    listener
}

/// Reads a key that both entries and the top level have.
pub(super) fn set(
    listener: &mut Listener,
    key: &str,
    setting: &mut Setting<'_>,
    files: &mut PairFiles,
) {
    match key {
        "name" => listener.name = socket_name(setting),
        "port" => listener.port = setting.whole("", &(0..=65535), "") as u16,
        "listen" => listener.listen = listen(setting),
        "socket_mode" => listener.socket_mode = socket_mode(setting),
        "tls_certificate" => {
            files.certificates = files.read(setting, "/etc/jabsocket-tls/fullchain.pem")
        }
        "tls_key" => files.keys = files.read(setting, "/etc/jabsocket-tls/privkey.pem"),
        "tls_min_version" => listener.tls_min_version = setting.choice(tls_version::NAMES),
        "host" => {
            let allowed = "the value of the Host header, such as example.com:5000";
            listener.host = setting.word(allowed);
        }
        "resource" => listener.resource = resource(setting),
        _ => listener.origin = origin(setting),
    }
}

/// Reads a name that systemd accepts for a descriptor.
fn socket_name(setting: &mut Setting<'_>) -> Option<String> {
    let allowed = "the FileDescriptorName= of a systemd.socket(5) unit, such as web";
    let name = setting.word(allowed)?;
    if name.contains(':') {
        setting.refuse(setting.node, allowed);
    }
    Some(name)
}

fn resource(setting: &mut Setting<'_>) -> Option<String> {
    let resource = setting.word("the path of the request, such as /xmpp-websocket")?;
    let reason = if !resource.starts_with('/') {
        "a path must begin with '/'"
    } else if resource.contains(['?', '#']) {
        "only the part before '?' is compared"
    } else {
        return Some(resource);
    };
    let key = &setting.key;
    let text = format!("key '{key}': no request can match '{resource}': {reason}");
    setting.report.warn(setting.node.place, text);
    Some(resource)
}

fn origin(setting: &mut Setting<'_>) -> Vec<Glob> {
    let allowed = "an origin or a pattern such as https://*.example.com, or a list of them \
                   ('' in quotes lets requests without an Origin header pass)";
    setting.list(allowed, |text| Some(Glob::new(&text.to_lowercase())))
}
