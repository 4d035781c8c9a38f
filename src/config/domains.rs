//! The `domains` list: which XMPP domains browsers may reach, and how.
//!
//! Owns the reading of the list and the search in it. Names are compared in Unicode lower
//! case without a final dot; `xn--` labels are not decoded. An unknown key in an entry is
//! an error, because it may have asked for more security. Never asks the DNS.

use std::collections::HashMap;
use std::sync::Arc;

use super::problem::{Place, Report};
use super::server_access::ServerAccess;
use super::servers::{self, Server};
use super::value::{Setting, read_entries};
use super::yaml::{Node, Value};

/// Maximum length of a domain (RFC 6122, section 2.2).
const MAX_DOMAIN_BYTES: usize = 1023;

const NAME_ALLOWED: &str =
    "a domain such as example.com, or '*.example.com' in quotes for all its subdomains";
const KEYS: [&str; 7] = [
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
    /// If empty, the top-level key `server` applies.
    pub servers: Arc<[Server]>,
    /// TLS and other properties of the connection to the server.
    pub access: ServerAccess,
}

/// The result of a search for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainRule<'a> {
    /// There is no list: any domain may be reached.
    Any,
    /// This entry of the list applies.
    Listed(&'a Domain),
    /// There is a list, and it does not contain the domain.
    Unlisted,
}

/// The list, indexed for searching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    entries: Vec<Domain>,
    /// Indexes of `entries` by exact name, or by pattern without its `*`.
    indexes: HashMap<String, usize>,
}

impl Domains {
    /// All entries, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = &Domain> {
        self.entries.iter()
    }

    /// The entry that applies to this domain.
    pub(super) fn find(&self, domain: &str) -> Option<&Domain> {
        if domain.len() > MAX_DOMAIN_BYTES {
            return None;
        }
        let domain = folded(domain);
        let mut index = None;
        // An index that begins with a dot is that of a pattern.
        if !domain.starts_with('.') {
            index = self.indexes.get(&domain);
        }
        let index = index.or_else(|| self.cover(&domain))?;
        Some(&self.entries[*index])
    }

    /// The longest pattern that covers a name in the form of [`folded`].
    fn cover(&self, domain: &str) -> Option<&usize> {
        let dots = domain.match_indices('.').filter(|(at, _)| *at > 0);
        let mut suffixes = dots.map(|(at, _)| &domain[at..]);
        suffixes.find_map(|suffix| self.indexes.get(suffix))
    }
}

/// Converts a name to the form in which names are compared.
fn folded(domain: &str) -> String {
    domain.strip_suffix('.').unwrap_or(domain).to_lowercase()
}

/// Reads the value of `domains`. Returns `None` if the value as a whole is refused.
pub(super) fn read(setting: &mut Setting<'_>) -> Option<Domains> {
    const NOT_EMPTY: &str = "a list of one or more domains (every browser would be refused); \
                             without the key any domain may be reached";
    const LIST: &str = "a list, each domain on its own line after '- '; without the key any \
                        domain may be reached";
    let nodes = match &setting.node.value {
        Value::List(nodes) if nodes.is_empty() => {
            setting.not_allowed("an empty list", NOT_EMPTY);
            return None;
        }
        Value::List(nodes) => nodes,
        value => {
            let is_null = matches!(value, Value::Null);
            setting.refuse(setting.node, if is_null { NOT_EMPTY } else { LIST });
            return None;
        }
    };
    let mut domains = Domains::default();
    let mut places: Vec<Place> = Vec::new();
    for node in nodes {
        if let Some(domain) = domain(node, setting.report) {
            domains.add(domain, node.place, &mut places, setting.report);
        }
    }
    domains.warn_of_covered(&places, setting.report);
    Some(domains)
}

impl Domains {
    /// Adds an entry, or replaces the one with the same name in the same file.
    fn add(&mut self, domain: Domain, at: Place, places: &mut Vec<Place>, report: &mut Report) {
        let key = domain.name.strip_prefix('*').unwrap_or(&domain.name);
        let Some(before) = self.indexes.get(key).copied() else {
            self.indexes.insert(key.to_owned(), self.entries.len());
            self.entries.push(domain);
            places.push(at);
            return;
        };
        let name = &domain.name;
        let earlier = report.earlier(places[before], at);
        if places[before].file == at.file {
            let text = format!(
                "key 'domains': '{name}' is already listed on {earlier}; this entry replaces it"
            );
            report.warn(at, text);
        } else {
            let found = format!("'{name}', which is already listed on {earlier},");
            report.not_allowed(at, "domains", &found, "each domain in one file");
        }
        self.entries[before] = domain;
        places[before] = at;
    }

    /// Warns about entries that a pattern makes redundant.
    fn warn_of_covered(&self, places: &[Place], report: &mut Report) {
        for (domain, place) in self.entries.iter().zip(places) {
            let bare = domain.name.strip_prefix("*.").unwrap_or(&domain.name);
            if let Some(by) = self.cover(bare).map(|by| &self.entries[*by])
                && by.servers == domain.servers
                && by.access == domain.access
            {
                let text = format!(
                    "key 'domains': '{}' is redundant, '{}' covers it with the same settings",
                    domain.name, by.name
                );
                report.warn(*place, text);
            }
        }
    }
}

/// Reads one entry: a name, or a mapping with a name.
fn domain(node: &Node, report: &mut Report) -> Option<Domain> {
    let mut domain = Domain {
        name: String::new(),
        servers: Arc::default(),
        access: ServerAccess::default(),
    };
    let Value::Mapping(entries) = &node.value else {
        let key = "domains".to_owned();
        let mut setting = Setting { key, node, report };
        domain.name = setting.one(NAME_ALLOWED, checked_name)?;
        return Some(domain);
    };
    read_entries(
        entries,
        "domains.",
        &KEYS,
        report,
        |key, setting| match key {
            "name" => domain.name = setting.one(NAME_ALLOWED, checked_name).unwrap_or_default(),
            _ if setting.node.value.is_absent() => {}
            "server" => domain.servers = servers::read(setting).into(),
            key => domain.access.set(key, setting),
        },
    );
    if !entries.iter().any(|entry| entry.key == "name") {
        let allowed = format!("a 'name' with {NAME_ALLOWED}");
        report.not_allowed(node.place, "domains", "an entry without 'name'", &allowed);
    }
    Some(domain).filter(|domain| !domain.name.is_empty())
}

/// Checks a name and converts it to the form in which names are compared.
fn checked_name(name: &str) -> Option<String> {
    let folded = folded(name);
    let bare = folded.strip_prefix("*.").unwrap_or(&folded);
    let bad = |c: char| c.is_whitespace() || c.is_control() || "*?@/:\\\"'&<>[],;".contains(c);
    let good = bare.len() <= MAX_DOMAIN_BYTES
        && bare.split('.').all(|label| !label.is_empty())
        && !bare.contains(bad);
    good.then_some(folded)
}
