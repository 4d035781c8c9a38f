//! The keys of the configuration file.
//!
//! Owns the table of top-level keys: the values that each key accepts, its default, and
//! whether a change needs a restart. A new key needs a row in the table, a field in
//! [`Config`], and a paragraph in conf/jabsocket.conf and in jabsocket.conf(5).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::include::{INCLUDE, Include};
use super::listeners::{self, PairFiles};
use super::problem::Report;
use super::server_access::{PRIVATE_ADDRESSES, TLS};
use super::value::{MAX, Setting, YES_NO, applicable};
use super::yaml::{Entry, Value};
use super::{Config, addresses, domains, forwarded_header, servers};
use crate::log::Level;

/// A top-level key.
pub struct Key {
    /// The key as it is written in the file.
    pub name: &'static str,
    /// The default as it would be written in the file; empty if it cannot be written.
    pub default: &'static str,
    kind: Kind,
    /// Whether two configurations differ in it; `None` if a reload applies a change.
    pub differs: Option<fn(&Config, &Config) -> bool>,
}

type Range = RangeInclusive<u64>;

/// The type of a key's values, and where they go.
enum Kind {
    Number(Range, fn(&mut Config, u64)),
    /// A number, or 0 for no limit.
    Limit(fn(&mut Config, Option<u64>)),
    Bytes(Range, fn(&mut Config, usize)),
    /// A number of bytes, or 0 for no limit.
    ByteLimit(fn(&mut Config, usize)),
    Time(fn(&mut Config, Duration)),
    TimeOrNever(fn(&mut Config, Option<Duration>)),
    Other(fn(&mut Config, &mut Setting<'_>)),
    /// A key that entries of `listeners` have too.
    Listener,
    /// The list of listeners. The keys above are its defaults.
    Listeners,
}

use Kind::{ByteLimit, Bytes, Limit, Listener, Listeners, Number, Other, Time, TimeOrNever};

/// All top-level keys.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key(INCLUDE, "", Other(|_, s| drop(s.list(Include::ALLOWED, Include::new)))),
    key("port", "5000", Listener).restart(|a, b| a.top.port != b.top.port),
    key("listen", "", Listener).restart(|a, b| a.top.listen != b.top.listen),
    key("socket_mode", "0666", Listener).restart(|a, b| a.top.socket_mode != b.top.socket_mode),
    key("tls_certificate", "", Listener),
    key("tls_key", "", Listener),
    key("tls_min_version", "1.2", Listener),
    key("listeners", "", Listeners).restart(listeners::sockets_differ),
    key("host", "", Listener),
    key("resource", "", Listener),
    key("origin", "", Listener),
    key("host_meta", "", Other(|c, s| c.host_meta = addresses::endpoints(s))),
    key("see_other_uri", "", Other(|c, s| c.see_other_uri = addresses::endpoints(s).pop())),
    key("see_other_above", "", Number(0..=MAX, |c, n| c.see_other_above = Some(n as usize))),
    key("compression", "false", Other(|c, s| c.compression = s.choice(YES_NO))),
    key("announce_limits", "false", Other(|c, s| c.announce_limits = s.choice(YES_NO))),
    key("trusted_proxies", "", Other(addresses::proxies)),
    key("forwarded_header", "", Other(|c, s| c.forwarded_header = s.choice(forwarded_header::NAMES))),
    key("domains", "", Other(|c, s| c.domains = domains::read(s))),
    key("server", "", Other(|c, s| c.servers = servers::read(s).into())),
    key("max_connecting_per_server", "32", Number(1..=65_535, |c, n| c.max_connecting_per_server = n as usize)),
    key("server_tls", "auto", Other(|c, s| c.server_tls = s.choice(TLS))),
    key("server_ca_file", "", Other(|c, s| c.server_ca_file = s.path("/etc/ssl/xmpp-ca.pem"))),
    key("private_addresses", "standard-port", Other(|c, s| c.private_addresses = s.choice(PRIVATE_ADDRESSES))),
    key("dns_servers", "", Other(|c, s| c.dns_servers = addresses::dns_servers(s))),
    key("max_message_size", "1048576", ByteLimit(|c, n| c.max_message_bytes = n)),
    key("max_frame_size", "1048576", ByteLimit(|c, n| c.max_frame_bytes = n)),
    key("max_first_message_size", "8192", Bytes(1024..=MAX, |c, n| c.max_first_message_bytes = n)),
    key("max_stanza_size", "1048576", Bytes(MIN_STANZA_BYTES..=MAX, |c, n| c.max_stanza_bytes = n)),
    key("max_connections", "", Number(1..=MAX, |c, n| c.max_connections = Some(n as usize))),
    key("max_connections_per_address", "0", Limit(|c, n| c.max_connections_per_address = n.map(small))),
    key("max_handshakes_per_address", "0", Limit(|c, n| c.max_handshakes_per_address = n.map(small))),
    key("max_request_size", "16384", Bytes(1024..=1_048_576, |c, n| c.max_request_bytes = n)),
    key("max_request_lines", "100", Number(16..=1000, |c, n| c.max_request_lines = n as usize)),
    key("max_fragments", "131072", Number(1..=4_294_967_295, |c, n| c.max_fragments = small(n))),
    key("max_depth", "512", Number(16..=10_000, |c, n| c.max_depth = small(n))),
    key("max_attributes", "256", Number(16..=10_000, |c, n| c.max_attributes = small(n))),
    key("max_namespaces", "64", Number(8..=10_000, |c, n| c.max_namespaces = small(n))),
    key("max_queue_size", "65536", Bytes(16_384..=MAX, |c, n| c.max_queue_bytes = n)),
    key("max_total_memory", "268435456", ByteLimit(|c, n| c.max_total_memory_bytes = n)),
    // The old name of max_total_memory.
    key("max_total_queue_size", "268435456", ByteLimit(|c, n| c.max_total_memory_bytes = n)),
    key("handshake_timeout", "10", Time(|c, time| c.handshake_timeout = time)),
    key("open_timeout", "15", Time(|c, time| c.open_timeout = time)),
    key("connect_timeout", "20", Time(|c, time| c.connect_timeout = time)),
    key("ping_interval", "30", TimeOrNever(|c, time| c.ping_interval = time)),
    key("write_timeout", "30", Time(|c, time| c.write_timeout = time)),
    key("close_timeout", "5", Time(|c, time| c.close_timeout = time)),
    key("drain_timeout", "30", Time(|c, time| c.drain_timeout = time)),
    key("drain_spread", "", TimeOrNever(|c, time| c.drain_spread = Some(time.unwrap_or_default()))),
    key("old_sessions_timeout", "86400", Time(|c, time| c.old_sessions_timeout = time)),
    key("workers", "1", Number(1..=256, |c, n| c.workers = n as usize))
        .restart(|a, b| a.workers != b.workers),
    key("user", "", Other(|c, s| c.user = s.word("the name of a user")))
        .restart(|a, b| a.user != b.user),
    key("group", "", Other(|c, s| c.group = s.word("the name of a group")))
        .restart(|a, b| a.group != b.group),
    key("pid_file", "", Other(|c, s| c.pid_file = s.path("/run/jabsocket.pid")))
        .restart(|a, b| a.pid_file != b.pid_file),
    key("status_listen", "", Other(|c, s| c.status_listen = addresses::status_listen(s)))
        .restart(|a, b| a.status_listen != b.status_listen),
    key("status_host", "", Other(|c, s| c.status_hosts = addresses::host_names(s))),
    key("log_level", "LOG_ERR", Other(|c, s| c.log_level = log_level(s))),
];

/// RFC 6120, section 13.12: a limit on stanzas is at least this.
const MIN_STANZA_BYTES: u64 = 10_000;

const fn key(name: &'static str, default: &'static str, kind: Kind) -> Key {
    Key {
        name,
        default,
        kind,
        differs: None,
    }
}

impl Key {
    const fn restart(mut self, differs: fn(&Config, &Config) -> bool) -> Key {
        self.differs = Some(differs);
        self
    }

    /// The unit of the values; `None` if they have none.
    pub fn unit(&self) -> Option<&'static str> {
        match self.kind {
            Bytes(..) | ByteLimit(_) => Some("bytes"),
            Time(_) | TimeOrNever(_) => Some("seconds"),
            _ => None,
        }
    }

    fn set(&self, config: &mut Config, setting: &mut Setting<'_>) {
        match &self.kind {
            Number(range, set) => set(config, setting.whole("", range, "")),
            Limit(set) => set(config, setting.limit("")),
            Bytes(range, set) => {
                let is_stanza = *range.start() == MIN_STANZA_BYTES;
                let why = if is_stanza { " (RFC 6120 13.12)" } else { "" };
                set(config, setting.whole(" of bytes", range, why) as usize);
            }
            ByteLimit(set) => {
                let bytes = setting.limit(" of bytes");
                set(config, bytes.map_or(usize::MAX, |bytes| bytes as usize));
            }
            Time(set) => set(config, setting.time()),
            TimeOrNever(set) => set(config, setting.time_or_never()),
            Other(set) => set(config, setting),
            Listener | Listeners => {}
        }
    }
}

/// Converts a number, limited to 32 bits.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn log_level(setting: &mut Setting<'_>) -> Level {
    let allowed = "one of LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, \
                   LOG_INFO, LOG_DEBUG";
    setting.one(allowed, Level::from_name).unwrap_or(Level::Err)
}

/// Applies the entries of all files to `config`, which has the defaults.
pub(super) fn apply(entries: Vec<Entry>, config: &mut Config, report: &mut Report) {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    let entries = join_lists(entries);
    let mut files = PairFiles::default();
    let mut list = None;
    for entry in applicable(&entries, "", &names, report) {
        // A `domains` key without a value is not ignored: it could mean either every domain
        // or none.
        if matches!(entry.node.value, Value::Null) && entry.key != "domains" {
            let text = format!("key '{}' has no value and no effect", entry.key);
            report.warn(entry.place, text);
            continue;
        }
        let mut setting = Setting {
            key: entry.key.clone(),
            node: &entry.node,
            report,
        };
        match KEYS.iter().find(|key| key.name == entry.key) {
            Some(Key { kind: Listener, .. }) => {
                listeners::set(&mut config.top, &entry.key, &mut setting, &mut files);
            }
            Some(Key {
                kind: Listeners, ..
            }) => list = Some(&entry.node),
            Some(key) => key.set(config, &mut setting),
            None => {}
        }
    }
    if config.compression && config.max_message_bytes == usize::MAX {
        let mut of_key = entries.iter().filter(|entry| entry.key == "compression");
        if let Some(entry) = of_key.next_back() {
            let found = "'true' together with 'max_message_size: 0'";
            let allowed =
                "a size limit, because a small compressed message can expand without bound";
            report.not_allowed(entry.place, "compression", found, allowed);
        }
    }
    config.top.certificates = files.pairs("", report);
    config.listeners = match list {
        Some(node) => listeners::read(node, config, report),
        None => vec![config.top.clone()],
    };
}

/// Joins the lists that several files have under `domains` or `listeners`.
fn join_lists(entries: Vec<Entry>) -> Vec<Entry> {
    let mut joined: Vec<Entry> = Vec::new();
    for mut entry in entries {
        let mut before = joined.iter_mut().rev();
        if ["domains", "listeners"].contains(&entry.key.as_str())
            && let Some(earlier) = before.find(|earlier| earlier.key == entry.key)
            && earlier.place.file != entry.place.file
            && let Value::List(all) = &mut earlier.node.value
            && let Value::List(more) = &mut entry.node.value
            && !all.is_empty()
            && !more.is_empty()
        {
            all.append(more);
        } else {
            joined.push(entry);
        }
    }
    joined
}
