//! The configuration: files in, plain immutable data out.
//!
//! Owns [`Config`], its defaults and the look-ups on it. `sources` reads the files
//! and `yaml` their text, `keys` has the table of keys, `value` reads values,
//! `domains` the `domains` list, `servers` where its servers are and `server_access` how
//! they are reached, `listeners` the ports and `listen_address` where they are bound,
//! `addresses` other addresses, `network` ranges of them, `forwarded_header` the header
//! with a client's address, `glob` patterns, `problem` the messages. A configuration is
//! accepted as a whole or not at all, and all its errors are reported at once. Never
//! changes after it was read, looks up no name, and opens no certificate.

mod addresses;
mod domains;
mod forwarded_header;
mod glob;
mod keys;
mod listen_address;
mod listeners;
mod network;
mod problem;
pub mod server_access;
mod servers;
mod sources;
mod value;
mod yaml;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::log::Level;

pub use domains::{Domain, DomainRule, Domains};
pub use forwarded_header::ForwardedHeader;
pub use glob::Glob;
pub use keys::{KEYS, Key};
pub use listen_address::ListenAddress;
pub use listeners::{Listener, Pair};
pub use network::Network;
pub use problem::{Problem, What};
pub use servers::{Host, Server, ServerAddress};
pub use sources::Sources;

/// A configuration. jabsocket.conf(5) explains the keys. [`Config::default`] is an empty
/// file.
#[expect(missing_docs, reason = "the name of a field is that of its key")]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The top-level keys that are the defaults of `listeners`.
    pub top: Listener,
    /// At least one.
    pub listeners: Vec<Listener>,
    pub log_level: Level,
    /// `usize::MAX` is no limit.
    pub max_message_bytes: usize,
    pub max_first_message_bytes: usize,
    /// `usize::MAX` is no limit.
    pub max_frame_bytes: usize,
    pub max_stanza_bytes: usize,
    /// `None` allows any. [`Config::domain`] looks a domain up.
    pub domains: Option<Domains>,
    /// Of domains that name none; if empty, DNS is asked.
    pub servers: Arc<[Server]>,
    pub max_connecting_per_server: usize,
    pub server_tls: server_access::Tls,
    /// `None` is the system's.
    pub server_ca_file: Option<PathBuf>,
    pub private_addresses: server_access::PrivateAddresses,
    /// If empty, those of /etc/resolv.conf.
    pub dns_servers: Vec<SocketAddr>,
    pub handshake_timeout: Duration,
    pub open_timeout: Duration,
    pub connect_timeout: Duration,
    /// `None`: no pings.
    pub ping_interval: Option<Duration>,
    pub write_timeout: Duration,
    pub close_timeout: Duration,
    pub drain_timeout: Duration,
    /// `None` depends on the number of sessions.
    pub drain_spread: Option<Duration>,
    pub old_sessions_timeout: Duration,
    /// `None` derives it from RLIMIT_NOFILE.
    pub max_connections: Option<usize>,
    /// `None` is no limit.
    pub max_connections_per_address: Option<u32>,
    /// Per second; `None` is no limit.
    pub max_handshakes_per_address: Option<u32>,
    pub max_request_bytes: usize,
    pub max_request_lines: usize,
    pub max_fragments: u32,
    /// Of XML elements; the root is 1.
    pub max_depth: u32,
    /// Of an XML element, namespace declarations included.
    pub max_attributes: u32,
    pub max_namespaces: u32,
    pub max_queue_bytes: usize,
    /// Of a worker, without the fixed cost of its connections; `usize::MAX` is no limit.
    pub max_total_memory_bytes: usize,
    pub compression: bool,
    /// Whether clients are told limits that their server does not tell (XEP-0478).
    pub announce_limits: bool,
    /// If empty, host-meta is not served.
    pub host_meta: Vec<String>,
    pub see_other_uri: Option<String>,
    pub see_other_above: Option<usize>,
    pub trusted_proxies: Vec<Network>,
    /// Whether peers on unix sockets are trusted proxies.
    pub trusts_unix: bool,
    /// `None`: X-Forwarded-For if there is one, else Forwarded.
    pub forwarded_header: Option<ForwardedHeader>,
    pub workers: usize,
    /// `None` is no change.
    pub user: Option<String>,
    /// `None` is the group of `user`.
    pub group: Option<String>,
    pub pid_file: Option<PathBuf>,
    /// For the first worker. [`Config::status_addresses`] has those of the others.
    pub status_listen: Vec<SocketAddr>,
    /// In lower case.
    pub status_hosts: Vec<String>,
    /// Included files, and the directories in which they were looked for.
    pub included: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        let top = Listener::default();
        Config {
            listeners: vec![top.clone()],
            top,
            log_level: Level::Err,
            max_message_bytes: MIB,
            max_first_message_bytes: 8 * 1024,
            max_frame_bytes: MIB,
            max_stanza_bytes: MIB,
            domains: None,
            servers: Arc::default(),
            max_connecting_per_server: 32,
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
            drain_spread: None,
            old_sessions_timeout: Duration::from_secs(24 * 60 * 60),
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
            announce_limits: false,
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
            included: Vec::new(),
        }
    }
}

impl Config {
    /// Looks an XMPP domain up in the `domains` list. An exact name wins over patterns,
    /// and the longest pattern over others.
    pub fn domain(&self, domain: &str) -> DomainRule<'_> {
        match &self.domains {
            None => DomainRule::Any,
            Some(domains) => domains
                .find(domain)
                .map_or(DomainRule::Unlisted, DomainRule::Listed),
        }
    }

    /// The servers that the operator named for an entry of the `domains` list, or for a
    /// domain without one.
    pub(crate) fn servers_of<'a>(&'a self, entry: Option<&'a Domain>) -> &'a Arc<[Server]> {
        let own = entry.map(|entry| &entry.servers);
        let own = own.filter(|servers| !servers.is_empty());
        own.unwrap_or(&self.servers)
    }

    /// Whether this is the address of a proxy that is trusted to report the client's.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        let mut networks = self.trusted_proxies.iter();
        networks.any(|network| network.contains(address))
    }

    /// The configuration of one of `workers`, with its share of the common limits.
    pub fn share(&self, worker: usize, workers: usize) -> Config {
        let share = |all: usize| {
            let rest = usize::from(worker < all % workers);
            (all / workers + rest).max(1)
        };
        Config {
            max_connections: self.max_connections.map(share),
            max_connecting_per_server: share(self.max_connecting_per_server),
            ..self.clone()
        }
    }

    /// The keys that `new` changes and that need a restart.
    pub fn start_keys_changed(&self, new: &Config) -> Vec<&'static str> {
        let waiting = KEYS.iter().filter(|key| key.waits(self, new));
        waiting.map(|key| key.name).collect()
    }

    /// Whether the top-level keys have the rules of all listeners.
    pub fn has_one_rule(&self) -> bool {
        self.listeners == std::slice::from_ref(&self.top)
    }

    /// Files of certificate authorities that are named anywhere in it.
    pub fn ca_files(&self) -> impl Iterator<Item = &Path> {
        let domains = self.domains.iter().flat_map(|domains| domains.iter());
        let files = domains.filter_map(|domain| domain.access.ca_file.as_deref());
        files.chain(self.server_ca_file.as_deref())
    }

    /// Where a worker serves metrics and health: the first (0) at the configured port,
    /// each of the others at the next one.
    pub fn status_addresses(&self, worker: u16) -> Vec<SocketAddr> {
        let mut addresses = self.status_listen.clone();
        for address in addresses.iter_mut().filter(|address| address.port() != 0) {
            address.set_port(address.port().saturating_add(worker));
        }
        addresses
    }

    /// Whether a request with this Origin header may pass. A missing header is
    /// matched as the empty text.
    pub fn origin_allowed(&self, origin: Option<&str>) -> bool {
        self.top.origin_allowed(origin)
    }
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Its values.
    pub config: Config,
    /// Warnings, in the order of files and lines.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file and the files that it includes.
///
/// # Errors
/// All errors and warnings, in the order of files and lines.
pub fn load(path: &Path) -> Result<Loaded, Vec<Problem>> {
    Sources::read(path).judge()
}

/// Checks the text of a configuration file. Messages use `file_name`.
///
/// # Errors
/// All errors and warnings, in the order of lines.
pub fn parse(file_name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    Sources::of(file_name, text).judge()
}
