//! The configuration: a file in, plain immutable data out.
//!
//! Owns [`Config`], its defaults and the look-ups on it. `yaml` reads the text,
//! `keys` knows the keys, `setting` and `value` what they take, `domains` the
//! `domains` list and `access` how its servers are reached, `listeners` the
//! ports and `place` where they are bound, `glob` the origin patterns,
//! `network` ranges of addresses, `forwarded_header` the header with a client's
//! address, `problem` the wording of errors. A file is accepted as a whole or not at
//! all, and all its errors are reported at once. Never changes after it was read,
//! looks up no name, and opens no other file.

mod domains;
mod forwarded_header;
mod glob;
mod keys;
mod listen_address;
mod listeners;
mod network;
mod problem;
pub mod server_access;
mod setting;
mod value;
mod yaml;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::log::Level;

pub use domains::{Domain, DomainRule, Domains, Host, ServerAddress};
pub use forwarded_header::ForwardedHeader;
pub use glob::Glob;
pub use keys::names as key_names;
pub use listen_address::ListenAddress;
pub use listeners::{Listener, Pair};
pub use network::Network;
pub use problem::{Problem, What};

use problem::Report;

/// The largest file that is read.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// What the operator has decided. [`Config::default`] is an empty file.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The TCP port for browsers; 0 lets the system choose.
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
    /// Ask [`Config::origin_allowed`].
    pub origin: Vec<Glob>,
    /// The least important lines that are logged.
    pub log_level: Level,
    /// The largest message taken from a browser; `usize::MAX` is no limit.
    pub max_message_bytes: usize,
    /// The largest first message taken from a browser, the one that opens its stream.
    pub max_first_message_bytes: usize,
    /// The largest frame taken from a browser; `usize::MAX` is no limit.
    pub max_frame_bytes: usize,
    /// The largest stanza taken from a server.
    pub max_stanza_bytes: usize,
    /// The domains that browsers may reach; `None` means any.
    /// Ask [`Config::domain`].
    pub domains: Option<Domains>,
    /// Encryption towards servers whose domain does not say.
    pub server_tls: server_access::Tls,
    /// Certificate authorities for servers whose domain does not say; `None`
    /// is the system's.
    pub server_ca_file: Option<PathBuf>,
    /// Where domains that no list has may lead.
    pub private_addresses: server_access::PrivateAddresses,
    /// DNS servers; empty leaves it to /etc/resolv.conf.
    pub dns_servers: Vec<SocketAddr>,
    /// From the accepted connection to the end of the opening handshake.
    pub handshake_timeout: Duration,
    /// From the opening handshake to the browser's stream header.
    pub open_timeout: Duration,
    /// From the browser's stream header to a usable stream with the server.
    pub connect_timeout: Duration,
    /// How long a browser may be silent before it is pinged; `None`: no pings.
    pub ping_interval: Option<Duration>,
    /// How long a full queue may stand still before its session is dropped.
    pub write_timeout: Duration,
    /// How long a closing handshake may take.
    pub close_timeout: Duration,
    /// How long sessions have to end after SIGTERM.
    pub drain_timeout: Duration,
    /// The most sessions at a time; `None` derives it from RLIMIT_NOFILE.
    pub max_connections: Option<usize>,
    /// The most connections of one client address at a time; `None`: any number.
    pub max_connections_per_address: Option<u32>,
    /// The most connections that one client address may begin in a second;
    /// `None`: any number.
    pub max_handshakes_per_address: Option<u32>,
    /// The longest header block of an opening handshake.
    pub max_request_bytes: usize,
    /// The most header lines of an opening handshake.
    pub max_request_lines: usize,
    /// The most fragments of a message.
    pub max_fragments: u32,
    /// The deepest nesting of XML elements, the root being 1.
    pub max_depth: u32,
    /// The most attributes of an XML element, declarations among them.
    pub max_attributes: u32,
    /// The most namespace declarations of an XML element.
    pub max_namespaces: u32,
    /// Above this many queued bytes on a side nothing more is read for it.
    pub max_queue_bytes: usize,
    /// The most memory that a worker may hold for all its sessions, without the fixed
    /// cost of a connection; `usize::MAX` is no limit.
    pub max_total_memory_bytes: usize,
    /// Whether messages are compressed with browsers that offer it.
    pub compression: bool,
    /// The endpoints that host-meta names; empty: it is not served.
    pub host_meta: Vec<String>,
    /// Where clients are sent that are not wanted here.
    pub see_other_uri: Option<String>,
    /// New sessions beyond so many are sent to `see_other_uri`.
    pub see_other_above: Option<usize>,
    /// Whose word on the address of a client is believed.
    pub trusted_proxies: Vec<Network>,
    /// Whether that of whoever comes by a unix socket is.
    pub trusts_unix: bool,
    /// The only header from which their report is taken; `None`: X-Forwarded-For, else
    /// Forwarded.
    pub forwarded_header: Option<ForwardedHeader>,
    /// Certificates of listeners that name none; the first is the default.
    pub certificates: Vec<Pair>,
    /// The ports for browsers, one at least. The keys that are theirs stand
    /// above only as their defaults.
    pub listeners: Vec<Listener>,
    /// Processes that serve.
    pub workers: usize,
    /// The user to become; `None` stays the one that started the daemon.
    pub user: Option<String>,
    /// The group to become; `None` is the user's.
    pub group: Option<String>,
    /// Where the process id stands.
    pub pid_file: Option<PathBuf>,
    /// Where the first worker tells metrics and health; empty: nowhere.
    /// Ask [`Config::status_addresses`].
    pub status_listen: Vec<SocketAddr>,
    /// Host names that requests for them may use, in lower case.
    pub status_hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        let mut config = Config {
            port: 5000,
            listen: Vec::new(),
            socket_mode: listen_address::DEFAULT_MODE,
            host: None,
            resource: None,
            origin: Vec::new(),
            log_level: Level::Err,
            max_message_bytes: MIB,
            max_first_message_bytes: 8 * 1024,
            max_frame_bytes: MIB,
            max_stanza_bytes: MIB,
            domains: None,
            server_tls: server_access::Tls::Auto,
            server_ca_file: None,
            private_addresses: server_access::PrivateAddresses::StandardPort,
            dns_servers: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(20),
            ping_interval: Some(Duration::from_secs(30)),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            max_connections: None,
            max_connections_per_address: None,
            max_handshakes_per_address: None,
            max_request_bytes: 16 * 1024,
            max_request_lines: 100,
            max_fragments: 131_072,
            max_depth: 512,
            max_attributes: 256,
            max_namespaces: 64,
            max_queue_bytes: 64 * 1024,
            max_total_memory_bytes: 256 * MIB,
            compression: false,
            host_meta: Vec::new(),
            see_other_uri: None,
            see_other_above: None,
            trusted_proxies: Vec::new(),
            trusts_unix: false,
            forwarded_header: None,
            status_listen: Vec::new(),
            status_hosts: Vec::new(),
            workers: 1,
            user: None,
            group: None,
            pid_file: None,
            certificates: Vec::new(),
            listeners: Vec::new(),
        };
        config.listeners = vec![Listener::of_top_level(&config)];
        config
    }
}

impl Config {
    /// What the `domains` list says about an XMPP domain, the `to` of a stream.
    /// An exact name wins over patterns, and the longest pattern over others.
    pub fn domain(&self, domain: &str) -> DomainRule<'_> {
        match &self.domains {
            None => DomainRule::Any,
            Some(domains) => domains
                .find(domain)
                .map_or(DomainRule::Unlisted, DomainRule::Listed),
        }
    }

    /// Whether this is the address of a proxy whose word on the client's address
    /// is believed.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies
            .iter()
            .any(|network| network.contains(address))
    }

    /// The configuration of one of `workers`, with its share of the limits that apply to
    /// all of them together.
    pub fn share(&self, worker: usize, workers: usize) -> Config {
        let share = |all: usize| {
            let rest = usize::from(worker < all % workers);
            (all / workers + rest).max(1)
        };
        Config {
            max_connections: self.max_connections.map(share),
            ..self.clone()
        }
    }

    /// The keys that `new` changes and that count only when the daemon starts.
    pub fn start_keys_changed(&self, new: &Config) -> Vec<&'static str> {
        // Without `listeners` the sockets are those of the first three.
        let default = (self.port, &self.listen) != (new.port, &new.listen)
            || self.socket_mode != new.socket_mode;
        let changes = [
            ("port", self.port != new.port),
            ("listen", self.listen != new.listen),
            ("socket_mode", self.socket_mode != new.socket_mode),
            ("listeners", !default && !self.has_sockets_of(new)),
            ("workers", self.workers != new.workers),
            ("user", self.user != new.user),
            ("group", self.group != new.group),
            ("pid_file", self.pid_file != new.pid_file),
            ("status_listen", self.status_listen != new.status_listen),
        ];
        let changed = changes.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(key, _)| key).collect()
    }

    /// Whether `other` has the same sockets, in any order.
    fn has_sockets_of(&self, other: &Config) -> bool {
        let of = |l: &Listener| (l.port, l.listen.clone(), l.socket_mode);
        let theirs: Vec<_> = other.listeners.iter().map(of).collect();
        self.listeners.len() == theirs.len()
            && self.listeners.iter().all(|own| theirs.contains(&of(own)))
    }

    /// Whether only the rules of the top-level keys exist.
    pub fn has_one_rule(&self) -> bool {
        self.listeners == [Listener::of_top_level(self)]
    }

    /// Files of certificate authorities that are named anywhere in it.
    pub fn ca_files(&self) -> impl Iterator<Item = &Path> {
        let domains = self.domains.iter().flat_map(|domains| domains.iter());
        let files = domains.filter_map(|domain| domain.access.ca_file.as_deref());
        files.chain(self.server_ca_file.as_deref())
    }

    /// Where a worker tells metrics and health: the first (0) at the port that is
    /// configured, each other at one port more than the one before.
    pub fn status_addresses(&self, worker: u16) -> Vec<SocketAddr> {
        let place = |address: &SocketAddr| {
            let port = match address.port() {
                0 => 0,
                port => port.saturating_add(worker),
            };
            SocketAddr::new(address.ip(), port)
        };
        self.status_listen.iter().map(place).collect()
    }

    /// Whether a request with this Origin header may pass. A missing header is
    /// matched as the empty text.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        Listener::of_top_level(self).origin_allowed(origin)
    }
}

/// A configuration file that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What the operator should know about it, in the order of lines.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file. A refusal has at least one error, and the
/// warnings too, in the order of their lines.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    judge(path, &read(path)?)
}

/// Checks the text of the file at `path`.
pub fn judge(path: &Path, text: &str) -> Result<Loaded, Vec<Problem>> {
    let mut judged = parse(&path.to_string_lossy(), text);
    if !text.is_empty() && !text.ends_with('\n') {
        let (Ok(Loaded { warnings, .. }) | Err(warnings)) = &mut judged;
        warnings.push(Problem {
            file: path.to_string_lossy().into_owned(),
            line: Some(text.lines().count()),
            what: What::NoNewline,
        });
    }
    judged
}

/// Reads the text of a configuration file while another configuration is in force. An
/// empty file is an error then, because another program may be about to write it.
pub fn read_again(path: &Path) -> Result<String, Vec<Problem>> {
    let text = read(path)?;
    match text.trim().is_empty() {
        true => refuse(path, None, What::Empty),
        false => Ok(text),
    }
}

fn refuse<T>(path: &Path, line: Option<usize>, what: What) -> Result<T, Vec<Problem>> {
    let file = path.to_string_lossy().into_owned();
    Err(vec![Problem { file, line, what }])
}

/// Reads the text of a configuration file.
fn read(path: &Path) -> Result<String, Vec<Problem>> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return refuse(path, None, What::Unreadable(error.to_string()));
    }
    if bytes.len() > MAX_FILE_BYTES {
        return refuse(path, None, What::TooLarge(MAX_FILE_BYTES));
    }
    String::from_utf8(bytes).or_else(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        refuse(path, Some(line), What::NotUtf8)
    })
}

/// Checks the text of a configuration file; messages use `file_name`.
pub fn parse(file_name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    let mut report = Report::new(file_name);
    let mut config = Config::default();
    if text.len() > MAX_FILE_BYTES {
        report.add(None, What::TooLarge(MAX_FILE_BYTES));
    } else {
        let entries = yaml::entries(text, &mut report);
        keys::apply(&entries, &mut config, &mut report);
    }
    match report.finish() {
        (problems, true) => Err(problems),
        (warnings, false) => Ok(Loaded { config, warnings }),
    }
}
