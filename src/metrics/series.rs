//! The counters of each configured domain and server.
//!
//! A domain without a series counts as `other`; a server without one is not counted. Sessions
//! keep the index of their series, so a series is never removed.

use std::collections::HashMap;

use super::OTHER;
use crate::config::Config;
use crate::proto::xmpp::features::StreamLimits;

/// Maximum number of domains and servers with series of their own.
pub(super) const MAX_SERIES: usize = 1000;

/// The prefix of the name of a server's series. Domains do not contain a space.
const SERVER: &str = "server ";

/// The counters of one configured domain or server.
#[derive(Debug)]
pub(super) struct Series {
    pub name: String,
    pub sessions: u64,
    pub opened: u64,
    /// For a domain: the stream limits that a client was last told.
    pub limits: StreamLimits,
    /// For a server: failed attempts to use it.
    pub failures: u64,
    /// For a server: whether the last attempt to use it failed.
    pub is_down: bool,
}

/// The series by their index. The first is `other`.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    series: Vec<Series>,
    domains: HashMap<String, u16>,
    servers: HashMap<String, u16>,
}

impl SeriesTable {
    /// Creates a table with `other` and a series for each domain and server of `config`.
    pub(super) fn new(config: &Config) -> SeriesTable {
        let mut table = SeriesTable {
            series: Vec::new(),
            domains: HashMap::new(),
            servers: HashMap::new(),
        };
        table.index(OTHER);
        table.add(config);
        table
    }

    /// Returns all series in the order of their indexes.
    pub(super) fn all(&self) -> &[Series] {
        &self.series
    }

    /// Adds a series for each domain and server of `config`. Earlier series are kept, because
    /// sessions may still be counted there.
    pub(crate) fn add(&mut self, config: &Config) {
        for name in series_names(config) {
            self.index(&name);
        }
    }

    /// Returns the series with this name, or `other` if there is no room for it.
    fn index(&mut self, name: &str) -> u16 {
        let (index, key) = match name.strip_prefix(SERVER) {
            Some(server) => (&mut self.servers, server),
            None => (&mut self.domains, name),
        };
        if let Some(at) = index.get(key) {
            return *at;
        }
        let at = u16::try_from(self.series.len()).unwrap_or(u16::MAX);
        if usize::from(at) > MAX_SERIES {
            return 0;
        }
        self.series.push(Series {
            name: name.to_owned(),
            sessions: 0,
            opened: 0,
            limits: StreamLimits::default(),
            failures: 0,
            is_down: false,
        });
        index.insert(key.to_owned(), at);
        at
    }

    /// Counts a session that named its domain. `entry` is the matching entry of `domains`, if
    /// any. Returns the index of the series.
    pub(crate) fn enter_domain(&mut self, entry: Option<&str>) -> u16 {
        let at = entry.map_or(0, |name| self.index(name));
        let domain = &mut self.series[usize::from(at)];
        domain.sessions += 1;
        domain.opened += 1;
        at
    }

    /// Notes the stream limits that a client was told, in the series of its domain.
    pub(crate) fn note_limits(&mut self, at: u16, limits: StreamLimits) {
        self.series[usize::from(at)].limits = limits;
    }

    /// Counts a session at a configured server. Returns the index of the series, or 0 if there
    /// is none.
    pub(crate) fn enter_server(&mut self, server: &str) -> u16 {
        let at = self.server(server);
        if at > 0 {
            let server = &mut self.series[usize::from(at)];
            server.sessions += 1;
            server.opened += 1;
        }
        at
    }

    fn server(&self, server: &str) -> u16 {
        self.servers.get(server).copied().unwrap_or(0)
    }

    /// Counts an attempt to use a configured server.
    pub(crate) fn count_result(&mut self, server: &str, answered: bool) {
        let at = self.server(server);
        if at > 0 {
            let server = &mut self.series[usize::from(at)];
            server.is_down = !answered;
            server.failures += u64::from(!answered);
        }
    }

    /// Notes the end of a session in this series.
    pub(crate) fn leave(&mut self, at: u16) {
        self.series[usize::from(at)].sessions -= 1;
    }
}

/// Returns the names of all series for `config`: its servers and domains.
pub(super) fn series_names(config: &Config) -> impl Iterator<Item = String> {
    let entries = || config.domains.iter().flat_map(|domains| domains.iter());
    let own = entries().flat_map(|domain| domain.servers.iter());
    let servers = config.servers.iter().chain(own);
    let servers = servers.map(|server| format!("{SERVER}{}", server.name));
    servers.chain(entries().map(|domain| domain.name.clone()))
}

/// Returns the server of a series with this name; `None` for a domain's.
pub(super) fn server_of(series: &str) -> Option<&str> {
    series.strip_prefix(SERVER)
}

/// Returns the domain of a series with this name; `None` for a server's.
pub(super) fn domain_of(series: &str) -> Option<&str> {
    (!series.starts_with(SERVER)).then_some(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_is_bounded() {
        let mut list = "domains:\n  - other\n".to_owned();
        for n in 0..2 * MAX_SERIES {
            list += &format!("  - d{n}.example\n");
        }
        let loaded = crate::config::parse("-", &list).unwrap();
        let mut table = SeriesTable::new(&loaded.config);
        table.add(&loaded.config);
        assert_eq!(table.all().len(), MAX_SERIES + 1);
        assert_eq!(table.index("d0.example"), 1);
        assert_eq!(table.index("one.too.many"), 0);
        assert_eq!(table.index(OTHER), 0);
    }
}
