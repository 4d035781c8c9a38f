//! The keys of the file.
//!
//! Owns the table of top-level keys: which field of `Config` each sets, and from
//! what kind of value (`setting`). A new key is a row of the table, a field of
//! `Config`, and a paragraph in conf/jabsocket.conf and in the manual.

use std::collections::HashMap;

use super::problem::{Report, What, meant};
use super::setting::{self, MAX_BYTES, Setting};
use super::value::{file, last_of_each};
use super::yaml::{Entry, Value};
use super::{
    Config, Listener, domains, forwarded_header, listen_address, listeners, server_access,
};

/// More processes than this were not meant.
const MAX_WORKERS: u64 = 256;

/// RFC 6120 13.12: a limit on stanzas is at least this.
const MIN_STANZA_BYTES: u64 = 10_000;

struct Key {
    name: &'static str,
    set: fn(&mut Config, &mut Setting<'_>),
}

const KEYS: &[Key] = &[
    Key {
        name: "port",
        set: |config, setting| {
            let port = setting.whole(0..=65535, listeners::PORT_ALLOWED);
            set(&mut config.port, port);
        },
    },
    Key {
        name: "listen",
        set: |config, setting| config.listen = listen_address::listen(setting),
    },
    Key {
        name: "socket_mode",
        set: |config, setting| {
            set(
                &mut config.socket_mode,
                listen_address::socket_mode(setting),
            );
        },
    },
    Key {
        name: "host",
        set: |config, setting| {
            config.host = setting.word(listeners::HOST_ALLOWED);
        },
    },
    Key {
        name: "resource",
        set: |config, setting| config.resource = setting::resource(setting),
    },
    Key {
        name: "origin",
        set: |config, setting| config.origin = setting::origin(setting),
    },
    Key {
        name: "log_level",
        set: |config, setting| {
            set(&mut config.log_level, setting::log_level(setting));
        },
    },
    Key {
        name: "max_message_size",
        set: |config, setting| {
            set(&mut config.max_message_bytes, setting.size());
        },
    },
    Key {
        name: "max_first_message_size",
        set: |config, setting| {
            let allowed = "a whole number of bytes, at least 1024";
            set(
                &mut config.max_first_message_bytes,
                setting.whole(1024..=MAX_BYTES, allowed),
            );
        },
    },
    Key {
        name: "max_frame_size",
        set: |config, setting| {
            set(&mut config.max_frame_bytes, setting.size());
        },
    },
    Key {
        name: "max_stanza_size",
        set: |config, setting| {
            let allowed = "a whole number of bytes, at least 10000 (RFC 6120 13.12)";
            set(
                &mut config.max_stanza_bytes,
                setting.whole(MIN_STANZA_BYTES..=MAX_BYTES, allowed),
            );
        },
    },
    Key {
        name: "domains",
        set: |config, setting| {
            config.domains = domains::read(setting.node, setting.report);
        },
    },
    Key {
        name: "server_tls",
        set: |config, setting| {
            set(&mut config.server_tls, setting.choice(server_access::TLS));
        },
    },
    Key {
        name: "server_ca_file",
        set: |config, setting| {
            config.server_ca_file = file(setting.key, setting.node, setting.report);
        },
    },
    Key {
        name: "private_addresses",
        set: |config, setting| {
            set(
                &mut config.private_addresses,
                setting.choice(server_access::PRIVATE_ADDRESSES),
            );
        },
    },
    Key {
        name: "dns_servers",
        set: |config, setting| config.dns_servers = setting::dns_servers(setting),
    },
    Key {
        name: "handshake_timeout",
        set: |config, setting| {
            set(&mut config.handshake_timeout, setting.time());
        },
    },
    Key {
        name: "open_timeout",
        set: |config, setting| {
            set(&mut config.open_timeout, setting.time());
        },
    },
    Key {
        name: "connect_timeout",
        set: |config, setting| {
            set(&mut config.connect_timeout, setting.time());
        },
    },
    Key {
        name: "ping_interval",
        set: |config, setting| {
            set(&mut config.ping_interval, setting.time_or_never());
        },
    },
    Key {
        name: "write_timeout",
        set: |config, setting| {
            set(&mut config.write_timeout, setting.time());
        },
    },
    Key {
        name: "close_timeout",
        set: |config, setting| {
            set(&mut config.close_timeout, setting.time());
        },
    },
    Key {
        name: "drain_timeout",
        set: |config, setting| {
            set(&mut config.drain_timeout, setting.time());
        },
    },
    Key {
        name: "max_connections",
        set: |config, setting| {
            let allowed = "a whole number, at least 1";
            config.max_connections = setting.whole(1..=MAX_BYTES, allowed);
        },
    },
    Key {
        name: "max_connections_per_address",
        set: |config, setting| {
            set(&mut config.max_connections_per_address, setting.count());
        },
    },
    Key {
        name: "max_handshakes_per_address",
        set: |config, setting| {
            set(&mut config.max_handshakes_per_address, setting.count());
        },
    },
    Key {
        name: "max_request_size",
        set: |config, setting| {
            let allowed = "a whole number of bytes from 1024 to 1048576";
            set(
                &mut config.max_request_bytes,
                setting.whole(1024..=1048576, allowed),
            );
        },
    },
    Key {
        name: "max_request_lines",
        set: |config, setting| {
            let allowed = "a whole number from 16 to 1000";
            set(
                &mut config.max_request_lines,
                setting.whole(16..=1000, allowed),
            );
        },
    },
    Key {
        name: "max_fragments",
        set: |config, setting| {
            let allowed = "a whole number from 1 to 4294967295";
            set(
                &mut config.max_fragments,
                setting.whole(1..=4294967295, allowed),
            );
        },
    },
    Key {
        name: "max_depth",
        set: |config, setting| {
            let allowed = "a whole number from 16 to 10000";
            set(&mut config.max_depth, setting.whole(16..=10000, allowed));
        },
    },
    Key {
        name: "max_attributes",
        set: |config, setting| {
            let allowed = "a whole number from 16 to 10000";
            set(
                &mut config.max_attributes,
                setting.whole(16..=10000, allowed),
            );
        },
    },
    Key {
        name: "max_namespaces",
        set: |config, setting| {
            let allowed = "a whole number from 8 to 10000";
            set(
                &mut config.max_namespaces,
                setting.whole(8..=10000, allowed),
            );
        },
    },
    Key {
        name: "max_queue_size",
        set: |config, setting| {
            let allowed = "a whole number of bytes, at least 16384";
            set(
                &mut config.max_queue_bytes,
                setting.whole(16384..=MAX_BYTES, allowed),
            );
        },
    },
    Key {
        name: "max_total_memory",
        set: |config, setting| {
            set(&mut config.max_total_memory_bytes, setting.size());
        },
    },
    // The old name of max_total_memory.
    Key {
        name: "max_total_queue_size",
        set: |config, setting| {
            set(&mut config.max_total_memory_bytes, setting.size());
        },
    },
    Key {
        name: "compression",
        set: |config, setting| {
            set(
                &mut config.compression,
                setting.choice(server_access::YES_NO),
            );
        },
    },
    Key {
        name: "status_listen",
        set: |config, setting| {
            config.status_listen = setting::status_listen(setting);
        },
    },
    Key {
        name: "status_host",
        set: |config, setting| config.status_hosts = setting::host_names(setting),
    },
    Key {
        name: "trusted_proxies",
        set: |config, setting| {
            (config.trusted_proxies, config.trusts_unix) = setting::proxies(setting);
        },
    },
    Key {
        name: "forwarded_header",
        set: |config, setting| {
            config.forwarded_header = setting.choice(forwarded_header::FORWARDED_HEADER);
        },
    },
    Key {
        name: "host_meta",
        set: |config, setting| config.host_meta = setting::endpoints(setting),
    },
    Key {
        name: "see_other_uri",
        set: |config, setting| config.see_other_uri = setting::endpoints(setting).pop(),
    },
    Key {
        name: "see_other_above",
        set: |config, setting| {
            let allowed = "a whole number";
            config.see_other_above = setting.whole(0..=MAX_BYTES, allowed);
        },
    },
    // Put together by `apply` once the others are known.
    Key {
        name: "tls_certificate",
        set: |_, _| {},
    },
    Key {
        name: "tls_key",
        set: |_, _| {},
    },
    Key {
        name: "listeners",
        set: |_, _| {},
    },
    Key {
        name: "workers",
        set: |config, setting| {
            let allowed = "a whole number from 1 to 256";
            set(&mut config.workers, setting.whole(1..=MAX_WORKERS, allowed));
        },
    },
    Key {
        name: "user",
        set: |config, setting| config.user = setting.word("the name of a user"),
    },
    Key {
        name: "group",
        set: |config, setting| config.group = setting.word("the name of a group"),
    },
    Key {
        name: "pid_file",
        set: |config, setting| config.pid_file = setting::pid_file(setting),
    },
];

/// The names of all keys.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// Writes the entries of a file over the defaults in `config`.
pub(super) fn apply(entries: &[Entry], config: &mut Config, report: &mut Report) {
    let last: HashMap<&str, usize> = last_of_each(entries, "", report);
    let mut certificates = listeners::Named::default();
    let mut list = None;
    for (index, entry) in entries.iter().enumerate() {
        let Some(key) = KEYS.iter().find(|key| key.name == entry.key) else {
            report.add(
                entry.line,
                What::UnknownKey {
                    key: entry.key.clone(),
                    meant: meant(&entry.key, names()),
                },
            );
            continue;
        };
        // Without a value a key is as good as absent; `domains` has more to say.
        let absent = matches!(entry.node.value, Value::Null) && key.name != "domains";
        let refused = matches!(entry.node.value, Value::Refused);
        if absent {
            report.add(entry.line, What::NoValue { key: key.name });
        }
        if last[entry.key.as_str()] == index && !absent && !refused {
            let mut setting = Setting {
                key: key.name,
                node: &entry.node,
                report,
            };
            (key.set)(config, &mut setting);
            match key.name {
                "tls_certificate" | "tls_key" => {
                    certificates.take(key.name, key.name, &entry.node, report);
                }
                "listeners" => list = Some(&entry.node),
                _ => {}
            }
        }
    }
    if config.compression && config.max_message_bytes == usize::MAX {
        let line = last.get("compression").map(|&index| entries[index].line);
        report.add(
            line,
            What::NotAllowed {
                key: "compression".to_owned(),
                found: "true beside 'max_message_size: 0'".to_owned(),
                allowed: "a limit, or a few bytes could become any number of them".to_owned(),
            },
        );
    }
    config.certificates = certificates.pairs("", report);
    config.listeners = match list {
        Some(node) => listeners::read(node, config, report),
        None => vec![Listener::of_top_level(config)],
    };
}

/// Keeps the default when the value was refused.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
