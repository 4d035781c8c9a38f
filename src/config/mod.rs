//! The configuration: reads files into plain immutable data.
//!
//! Owns [`Config`], its defaults and the searches in it. `sources` reads the files, `yaml`
//! parses their text, `keys` has the table of keys, `value` reads values, and `problem` has
//! the messages. The other files have the types of values: `domains` the list of domains,
//! `servers` the addresses of XMPP servers, `server_access` the properties of connections to
//! them, `listeners` the ports for browsers, and so on. A configuration is accepted or refused
//! as a whole, and all its errors are reported at once. It never changes after it was read.
//! This module resolves no names and opens no certificates.

mod addresses;
mod domains;
mod forwarded_header;
mod glob;
mod include;
mod keys;
mod listen_address;
mod listeners;
mod network;
mod problem;
pub mod server_access;
mod servers;
mod sources;
mod status_address;
mod tls_version;
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
pub use status_address::StatusAddress;
pub use tls_version::TlsVersion;

/// A configuration. jabsocket.conf(5) explains the keys. [`Config::default`] is that of an
/// empty file.
#[expect(missing_docs, reason = "the name of a field is that of its key")]
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The top-level keys that are also the defaults of `listeners`.
    pub top: Listener,
    pub listeners: Vec<Listener>,
    pub log_level: Level,
    /// `usize::MAX` means no limit.
    pub max_message_bytes: usize,
    pub max_first_message_bytes: usize,
    /// `usize::MAX` means no limit.
    pub max_frame_bytes: usize,
    pub max_stanza_bytes: usize,
    /// `None` allows any domain. See [`Config::domain`].
    pub domains: Option<Domains>,
    /// For domains without servers of their own; if empty, the DNS is asked.
    pub servers: Arc<[Server]>,
    pub max_connecting_per_server: usize,
    pub server_tls: server_access::Tls,
    /// `None` means the system's authorities.
    pub server_ca_file: Option<PathBuf>,
    pub private_addresses: server_access::PrivateAddresses,
    /// If empty, the servers in /etc/resolv.conf are used.
    pub dns_servers: Vec<SocketAddr>,
    pub handshake_timeout: Duration,
    pub open_timeout: Duration,
    pub connect_timeout: Duration,
    /// `None` disables pings.
    pub ping_interval: Option<Duration>,
    pub write_timeout: Duration,
    pub close_timeout: Duration,
    pub drain_timeout: Duration,
    /// `None` derives it from the number of sessions.
    pub drain_spread: Option<Duration>,
    pub old_sessions_timeout: Duration,
    /// `None` derives it from RLIMIT_NOFILE.
    pub max_connections: Option<usize>,
    /// `None` means no limit.
    pub max_connections_per_address: Option<u32>,
    /// Per second; `None` means no limit.
    pub max_handshakes_per_address: Option<u32>,
    pub max_request_bytes: usize,
    pub max_request_lines: usize,
    pub max_fragments: u32,
    /// Nesting depth of XML elements, including the root.
    pub max_depth: u32,
    /// Per XML element, including namespace declarations.
    pub max_attributes: u32,
    pub max_namespaces: u32,
    pub max_queue_bytes: usize,
    /// Per worker, without the fixed cost of its connections; `usize::MAX` means no limit.
    pub max_total_memory_bytes: usize,
    pub compression: bool,
    /// Whether clients are told our limits if their server announces none (XEP-0478).
    pub announce_limits: bool,
    /// If empty, host-meta is not served.
    pub host_meta: Vec<String>,
    pub see_other_uri: Option<String>,
    pub see_other_above: Option<usize>,
    pub trusted_proxies: Vec<Network>,
    /// Whether peers on unix sockets are trusted proxies.
    pub trusts_unix: bool,
    /// `None` means X-Forwarded-For if the request has it, and otherwise Forwarded.
    pub forwarded_header: Option<ForwardedHeader>,
    pub workers: usize,
    /// `None` keeps the current user.
    pub user: Option<String>,
    /// `None` means the primary group of `user`.
    pub group: Option<String>,
    pub pid_file: Option<PathBuf>,
    /// For the first worker. [`Config::status_addresses`] returns those of any worker.
    pub status_listen: Vec<StatusAddress>,
    /// In lower case.
    pub status_hosts: Vec<String>,
    /// Included files, and the directories that were searched for them.
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
    /// Searches the `domains` list for an XMPP domain. An exact name wins over patterns,
    /// and a longer pattern over a shorter one.
    pub fn domain(&self, domain: &str) -> DomainRule<'_> {
        match &self.domains {
            None => DomainRule::Any,
            Some(domains) => domains
                .find(domain)
                .map_or(DomainRule::Unlisted, DomainRule::Listed),
        }
    }

    /// The configured servers for an entry of the `domains` list, or for a domain without
    /// an entry.
    pub(crate) fn servers_of<'a>(&'a self, entry: Option<&'a Domain>) -> &'a Arc<[Server]> {
        let own = entry.map(|entry| &entry.servers);
        let own = own.filter(|servers| !servers.is_empty());
        own.unwrap_or(&self.servers)
    }

    /// Whether this is the address of a proxy that is trusted to report the client's
    /// address.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        let mut networks = self.trusted_proxies.iter();
        networks.any(|network| network.contains(address))
    }

    /// The configuration of one of several `workers`, with its share of the common limits.
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
        let differs = |key: &&Key| key.differs.is_some_and(|differs| differs(self, new));
        KEYS.iter().filter(differs).map(|key| key.name).collect()
    }

    /// Whether the top-level keys are the only listener.
    pub fn has_one_rule(&self) -> bool {
        self.listeners == std::slice::from_ref(&self.top)
    }

    /// All files of certificate authorities that it names.
    pub fn ca_files(&self) -> impl Iterator<Item = &Path> {
        let domains = self.domains.iter().flat_map(|domains| domains.iter());
        let files = domains.filter_map(|domain| domain.access.ca_file.as_deref());
        files.chain(self.server_ca_file.as_deref())
    }

    /// The addresses at which a worker serves metrics and health; the first worker is 0.
    pub fn status_addresses(&self, worker: usize) -> Vec<StatusAddress> {
        let addresses = self.status_listen.iter();
        addresses.map(|address| address.of_worker(worker)).collect()
    }
}

/// The result of reading a configuration without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration, which can be used as it is.
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

/// Checks the text of a configuration file. Messages call it `file_name`.
///
/// # Errors
/// All errors and warnings, in the order of lines.
pub fn parse(file_name: &str, text: &str) -> Result<Loaded, Vec<Problem>> {
    Sources::of(file_name, text).judge()
}
