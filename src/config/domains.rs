//! The `domains` list: which XMPP domains browsers may reach, and how.
//!
//! Owns the reading of the list and the look-up in it. Names are compared in
//! Unicode lower case without a final dot; `xn--` labels are not decoded. A
//! key of an entry that is not known is an error, not a warning: it may have
//! asked for more security. Never looks anything up in DNS.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::problem::{Report, What, meant};
use super::server_access::{self, ServerAccess};
use super::value::{last_of_each, refuse, text, whole};
use super::yaml::{Node, Value};

/// RFC 6122 2.2: a domain is not longer than this.
const MAX_DOMAIN_BYTES: usize = 1023;

const NAME_ALLOWED: &str =
    "a domain such as example.com, or '*.example.com' in quotes for all its subdomains";
const SERVER_ALLOWED: &str =
    "host:port, such as xmpp.example.com:5222, 192.0.2.1:5222 or '[2001:db8::1]:5222' in quotes";
const INNER_KEYS: [&str; 7] = [
    "name",
    "server",
    "tls",
    "verify",
    "ca_file",
    "proxy_protocol",
    "channel_binding",
];

/// One entry of the `domains` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// `example.com`, or `*.example.org` for all its subdomains, in lower case.
    pub name: String,
    /// Where its server is; `None` asks DNS.
    pub server: Option<ServerAddress>,
    /// How its server is reached.
    pub access: ServerAccess,
}

/// A server's place, not yet looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// The machine.
    pub host: Host,
    /// The TCP port.
    pub port: u16,
}

/// A machine, by name or by address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// A numeric address.
    Address(IpAddr),
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => {
                write!(f, "{}", std::net::SocketAddr::new(*address, self.port))
            }
        }
    }
}

/// What the configuration says about a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainRule<'a> {
    /// There is no list: any domain may be reached.
    Any,
    /// The list has it.
    Listed(&'a Domain),
    /// There is a list, and it does not have it.
    Unlisted,
}

/// The list, ready for look-ups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    entries: Vec<Domain>,
    /// Exact names, and patterns without their `*.`, to indexes of `entries`.
    names: HashMap<String, usize>,
    suffixes: HashMap<String, usize>,
}

impl Domains {
    /// All entries, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.entries.iter()
    }

    /// The entry that counts for a domain.
    pub(super) fn find(&self, domain: &str) -> Option<&Domain> {
        if domain.len() > MAX_DOMAIN_BYTES {
            return None;
        }
        let domain = folded(domain);
        self.names
            .get(&domain)
            .or_else(|| self.cover(&domain))
            .map(|index| &self.entries[*index])
    }

    /// The longest pattern that covers a folded name.
    fn cover(&self, domain: &str) -> Option<&usize> {
        domain
            .match_indices('.')
            .filter(|(at, _)| *at > 0)
            .find_map(|(at, _)| self.suffixes.get(&domain[at + 1..]))
    }

    /// The map for a name, and the name's key in it.
    fn place<'n>(&mut self, name: &'n str) -> (&mut HashMap<String, usize>, &'n str) {
        match name.strip_prefix("*.") {
            Some(suffix) => (&mut self.suffixes, suffix),
            None => (&mut self.names, name),
        }
    }
}

/// The form in which names are compared.
fn folded(domain: &str) -> String {
    domain.strip_suffix('.').unwrap_or(domain).to_lowercase()
}

/// Reads the value of `domains`. `None` when none of it can be used.
pub(super) fn read(node: &Node, report: &mut Report) -> Option<Domains> {
    let allowed = "a list of one or more domains (every browser would be refused); \
                   without the key any domain may be reached";
    let nodes = match &node.value {
        Value::List(nodes) if !nodes.is_empty() => nodes,
        Value::List(_) => {
            report.add(
                node.line,
                What::NotAllowed {
                    key: "domains".to_owned(),
                    found: "an empty list".to_owned(),
                    allowed: allowed.to_owned(),
                },
            );
            return None;
        }
        Value::Null => {
            refuse("domains", node, allowed, report);
            return None;
        }
        _ => {
            let allowed = "a list, each domain on its own line behind '- '; \
                           without the key any domain may be reached";
            refuse("domains", node, allowed, report);
            return None;
        }
    };
    let mut domains = Domains::default();
    let mut lines: Vec<usize> = Vec::new();
    for node in nodes {
        let Some(domain) = domain(node, report) else {
            continue;
        };
        let index = domains.entries.len();
        let (map, key) = domains.place(&domain.name);
        match map.get(key).copied() {
            Some(before) => {
                report.add(
                    node.line,
                    What::Repeated {
                        key: "domains".to_owned(),
                        value: Some(domain.name.clone()),
                        first_line: lines[before],
                    },
                );
                domains.entries[before] = domain;
                lines[before] = node.line;
            }
            None => {
                map.insert(key.to_owned(), index);
                domains.entries.push(domain);
                lines.push(node.line);
            }
        }
    }
    for (domain, line) in domains.entries.iter().zip(&lines) {
        let bare = domain.name.strip_prefix("*.").unwrap_or(&domain.name);
        if let Some(by) = domains.cover(bare).map(|by| &domains.entries[*by])
            && by.server == domain.server
            && by.access == domain.access
        {
            report.add(
                *line,
                What::Covered {
                    name: domain.name.clone(),
                    by: by.name.clone(),
                },
            );
        }
    }
    Some(domains)
}

/// Reads one entry: a name, or a mapping with a name.
fn domain(node: &Node, report: &mut Report) -> Option<Domain> {
    let Value::Mapping(entries) = &node.value else {
        let name = text("domains", node, NAME_ALLOWED, report)?;
        let name = checked_name("domains", node, name, report)?;
        return Some(Domain {
            name,
            server: None,
            access: ServerAccess::default(),
        });
    };
    let last = last_of_each(entries, "domains.", report);
    let mut name = None;
    let mut server = None;
    let mut access = ServerAccess::default();
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("domains.{}", entry.key);
        if !INNER_KEYS.contains(&entry.key.as_str()) {
            report.add(
                entry.line,
                What::UnknownInnerKey {
                    key,
                    allowed: INNER_KEYS.join(", "),
                    meant: meant(&entry.key, INNER_KEYS),
                },
            );
        } else if last[entry.key.as_str()] != index {
            // A later one counts.
        } else if entry.key == "name" {
            name = text(&key, &entry.node, NAME_ALLOWED, report)
                .and_then(|name| checked_name(&key, &entry.node, name, report));
        } else if matches!(entry.node.value, Value::Null) {
            // As good as absent.
        } else if entry.key != "server" {
            server_access::read(&entry.key, &key, &entry.node, &mut access, report);
        } else {
            let address = text(&key, &entry.node, SERVER_ALLOWED, report)?;
            server = server_address(address);
            if server.is_none() {
                refuse(&key, &entry.node, SERVER_ALLOWED, report);
            }
        }
    }
    if !last.contains_key("name") {
        report.add(
            node.line,
            What::NotAllowed {
                key: "domains".to_owned(),
                found: "an entry without 'name'".to_owned(),
                allowed: format!("a 'name' with {NAME_ALLOWED}"),
            },
        );
    }
    Some(Domain {
        name: name?,
        server,
        access,
    })
}

/// The folded name, or `None` and an error.
fn checked_name(key: &str, node: &Node, name: &str, report: &mut Report) -> Option<String> {
    let folded = folded(name);
    let bare = folded.strip_prefix("*.").unwrap_or(&folded);
    let good = !bare.is_empty()
        && bare.len() <= MAX_DOMAIN_BYTES
        && bare.split('.').all(|label| !label.is_empty())
        && !bare.contains(|c: char| {
            c.is_whitespace() || c.is_control() || "*?@/:\\\"'&<>[],;".contains(c)
        });
    if !good {
        refuse(key, node, NAME_ALLOWED, report);
        return None;
    }
    Some(folded)
}

fn server_address(text: &str) -> Option<ServerAddress> {
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
    (port != 0).then_some(ServerAddress { host, port })
}

/// A DNS name. One that ends in a number is a mistyped address.
pub(super) fn host_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels_good = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    (labels_good && !numeric && name.len() <= 253).then(|| name.to_ascii_lowercase())
}
