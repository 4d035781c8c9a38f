//! The keys of the file, and what each takes.
//!
//! Owns the table of top-level keys and what each makes of its value. A new key is a line in the table, a field of
//! `Config`, and a paragraph in conf/jabsocket.conf. Never reads YAML: values
//! come as the text that stands in the file.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::{Report, What, meant};
use super::value::{choice, file, last_of_each, refuse, seconds, text, whole};
use super::yaml::{Entry, Node, Value};
use super::{Config, Glob, access, domains};
use crate::log::Level;

/// RFC 6120 13.12: a limit on stanzas is at least this.
const MIN_STANZA_BYTES: u64 = 10_000;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

struct Key {
    name: &'static str,
    set: fn(&mut Config, &mut Setting<'_>),
}

const KEYS: &[Key] = &[
    Key {
        name: "port",
        set: |config, setting| {
            let allowed = "a whole number from 0 to 65535";
            set(&mut config.port, setting.whole(0..=65535, allowed));
        },
    },
    Key {
        name: "listen",
        set: |config, setting| config.listen = listen(setting),
    },
    Key {
        name: "host",
        set: |config, setting| {
            let allowed = "what the Host header must say, such as example.com:5000";
            config.host = setting.word(allowed);
        },
    },
    Key {
        name: "resource",
        set: |config, setting| config.resource = resource(setting),
    },
    Key {
        name: "origin",
        set: |config, setting| config.origin = origin(setting),
    },
    Key {
        name: "log_level",
        set: |config, setting| {
            set(&mut config.log_level, log_level(setting));
        },
    },
    Key {
        name: "max_message_size",
        set: |config, setting| {
            set(&mut config.max_message_bytes, setting.size());
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
            set(&mut config.server_tls, setting.choice(access::TLS));
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
                setting.choice(access::PRIVATE_ADDRESSES),
            );
        },
    },
    Key {
        name: "dns_servers",
        set: |config, setting| config.dns_servers = dns_servers(setting),
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
];

/// The largest number of bytes or connections that a key takes.
const MAX_BYTES: u64 = usize::MAX as u64 >> 1;

/// The names of all keys.
pub fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// Writes the entries of a file over the defaults in `config`.
pub(super) fn apply(entries: &[Entry], config: &mut Config, report: &mut Report) {
    let last: HashMap<&str, usize> = last_of_each(entries, "", report);
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
        if last[entry.key.as_str()] == index && !absent && !refused {
            let mut setting = Setting {
                key: key.name,
                node: &entry.node,
                report,
            };
            (key.set)(config, &mut setting);
        }
    }
}

/// Keeps the default when the value was refused.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// One value on its way into the configuration.
struct Setting<'a> {
    key: &'static str,
    node: &'a Node,
    report: &'a mut Report,
}

impl<'a> Setting<'a> {
    fn refuse(&mut self, allowed: &str) {
        refuse(self.key, self.node, allowed, self.report);
    }

    fn text(&mut self, allowed: &str) -> Option<&'a str> {
        text(self.key, self.node, allowed, self.report)
    }

    /// Each value of a list; a lone value is a list of one.
    fn texts(&mut self, allowed: &str) -> Vec<(&'a Node, &'a str)> {
        let nodes = match &self.node.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(self.node),
        };
        nodes
            .iter()
            .filter_map(|node| Some((node, text(self.key, node, allowed, self.report)?)))
            .collect()
    }

    /// Text with neither white space nor control characters, and not empty.
    fn word(&mut self, allowed: &str) -> Option<String> {
        let text = self.text(allowed)?;
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.refuse(allowed);
            return None;
        }
        Some(text.to_owned())
    }

    /// One of a few words.
    fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choice(self.key, self.node, choices, self.report)
    }

    fn whole<T: TryFrom<u64>>(&mut self, range: RangeInclusive<u64>, allowed: &str) -> Option<T> {
        let text = self.text(allowed)?;
        let number = whole(text)
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.refuse(allowed);
        }
        number
    }

    /// A number of bytes; 0 is no limit.
    fn size(&mut self) -> Option<usize> {
        let allowed = "a whole number of bytes, or 0 for no limit";
        let bytes: usize = self.whole(0..=MAX_BYTES, allowed)?;
        Some(if bytes == 0 { usize::MAX } else { bytes })
    }

    fn time(&mut self) -> Option<Duration> {
        let allowed = "a number of seconds above 0 and up to 86400, such as 30 or 0.5";
        let text = self.text(allowed)?;
        let time = seconds(text).filter(|time| !time.is_zero());
        if time.is_none() {
            self.refuse(allowed);
        }
        time
    }

    fn time_or_never(&mut self) -> Option<Option<Duration>> {
        let allowed = "a number of seconds up to 86400, such as 30 or 0.5, or 0 for never";
        let text = self.text(allowed)?;
        let Some(time) = seconds(text) else {
            self.refuse(allowed);
            return None;
        };
        // A time too small to tell from 0 was not meant as never.
        let never = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        if time.is_zero() && !never {
            self.refuse(allowed);
            return None;
        }
        Some((!never).then_some(time))
    }
}

fn listen(setting: &mut Setting<'_>) -> Vec<IpAddr> {
    let allowed = "a numeric IPv4 or IPv6 address such as 127.0.0.1 or ::1, or a list of them";
    let mut addresses: Vec<(IpAddr, usize)> = Vec::new();
    for (node, text) in setting.texts(allowed) {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address = match bare {
            Some(bare) => bare.parse().map(IpAddr::V6),
            None => text.parse(),
        };
        let Ok(address) = address else {
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

fn dns_servers(setting: &mut Setting<'_>) -> Vec<SocketAddr> {
    let allowed = "a numeric address such as 192.0.2.53, 192.0.2.53:5353 or \
                   '[2001:db8::53]:53' in quotes, or a list of them";
    let mut servers = Vec::new();
    for (node, text) in setting.texts(allowed) {
        let address = text
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT));
        match address.or_else(|_| text.parse()) {
            Ok(address) => servers.push(address),
            Err(_) => refuse(setting.key, node, allowed, setting.report),
        }
    }
    servers
}

fn resource(setting: &mut Setting<'_>) -> Option<String> {
    let resource = setting.word("the path of the request, such as /xmpp-websocket")?;
    let reason = if !resource.starts_with('/') {
        "a path begins with '/'"
    } else if resource.contains(['?', '#']) {
        "only the part before '?' is compared"
    } else {
        return Some(resource);
    };
    setting.report.add(
        setting.node.line,
        What::NeverMatches {
            key: setting.key.to_owned(),
            value: resource.clone(),
            reason,
        },
    );
    Some(resource)
}

fn origin(setting: &mut Setting<'_>) -> Vec<Glob> {
    let allowed = "an origin or a pattern such as https://*.example.com, or a list of them \
                   ('' in quotes lets requests without an Origin header pass)";
    setting
        .texts(allowed)
        .into_iter()
        .map(|(_, text)| Glob::new(&text.to_lowercase()))
        .collect()
}

fn log_level(setting: &mut Setting<'_>) -> Option<Level> {
    let allowed = "one of LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, \
                   LOG_INFO, LOG_DEBUG";
    let level = Level::from_name(setting.text(allowed)?);
    if level.is_none() {
        setting.refuse(allowed);
    }
    level
}
