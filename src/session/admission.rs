//! Limits connections per client address, and logs clients over a limit.
//!
//! Counts the open and new connections of each address (for IPv6 of each /64, which is what one
//! subscriber has). The log lines about exceeded limits have a form that fail2ban can read, and
//! are limited to a few per second. Addresses without connections are forgotten. Clients on a
//! Unix socket have no address and are not counted. Never closes a connection.
//!
//! The addresses are in several tables, because one table of a million would take many
//! milliseconds when it grows or is swept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use super::Tick;
use super::line_limit::LineLimit;
use crate::config::Config;
use crate::log::Log;
use crate::net::peer::Peer;
use crate::net::source::Source;

/// The first word of all log lines.
const KIND: &str = "limit";
/// One new connection, in the unit of allowances: thousandths, as for seconds.
const WHOLE: u64 = 1000;
/// Maximum number of connections over a limit that may stay to get the refusal, per address at
/// a time.
const MAX_REFUSED: u32 = 4;
/// Number of tables of addresses.
const TABLES: usize = 32;
/// Minimum number of addresses in a table before unused ones are forgotten.
const MIN_SWEEP: usize = 32;

/// Whether this is a proxy that is trusted to report the client's address.
pub fn is_trusted_proxy(peer: Peer, config: &Config) -> bool {
    match peer {
        Peer::Ip(address) => config.is_trusted(address.ip()),
        Peer::Unix => config.trusts_unix,
    }
}

/// A limit on connections, which a client has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// Too many connections in all.
    Connections,
    /// Too many connections from one address.
    AddressConnections,
    /// Too many new connections per second from one address.
    AddressHandshakes,
}

impl ConnectionLimit {
    /// Returns the configuration key of the limit.
    pub fn key(self) -> &'static str {
        match self {
            ConnectionLimit::Connections => "max_connections",
            ConnectionLimit::AddressConnections => "max_connections_per_address",
            ConnectionLimit::AddressHandshakes => "max_handshakes_per_address",
        }
    }
}

/// How a connection is counted for its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CountedAs {
    /// Not counted.
    #[default]
    Uncounted,
    /// Counted as an admitted connection.
    Admitted,
    /// Counted as a connection over a limit, which only stays to get the refusal.
    Refused,
}

/// The counts of an address.
#[derive(Debug)]
struct Account {
    connections: u32,
    /// Connections that only stay to get the refusal.
    refused: u32,
    /// The used part of the allowance for new connections, at the time `as_of`.
    used: u64,
    as_of: Tick,
}

/// The counts of some of the addresses.
#[derive(Debug, Default)]
struct Table {
    accounts: HashMap<Source, Account>,
    sweep_at: usize,
}

/// The counts of all addresses in a worker.
#[derive(Debug, Default)]
pub struct Admission {
    tables: [Table; TABLES],
    /// Chooses the table of an address. Clients cannot predict it.
    keys: RandomState,
    lines: LineLimit,
}

impl Admission {
    /// Counts a connection from `address`, unless it exceeds a limit. [`Admission::leave`] must
    /// be called at its end, as admitted.
    ///
    /// # Errors
    /// The connection exceeds this limit, and is not counted.
    pub fn admit(
        &mut self,
        address: IpAddr,
        config: &Config,
        now: Tick,
    ) -> Result<(), ConnectionLimit> {
        let source = Some(address).into();
        let table = self.table(source);
        table.sweep(config, now);
        let account = table.accounts.entry(source).or_insert(Account {
            connections: 0,
            refused: 0,
            used: 0,
            as_of: now,
        });
        if let Some(most) = config.max_connections_per_address
            && account.connections >= most
        {
            return Err(ConnectionLimit::AddressConnections);
        }
        if let Some(rate) = config.max_handshakes_per_address {
            account.settle(rate, now);
            if account.used + WHOLE > u64::from(rate) * WHOLE {
                return Err(ConnectionLimit::AddressHandshakes);
            }
            account.used += WHOLE;
        }
        account.connections += 1;
        Ok(())
    }

    /// Whether a refused connection from `address` may stay to get the refusal. If so, it is
    /// counted, and [`Admission::leave`] must be called at its end, as refused.
    pub fn keep_refused(&mut self, address: IpAddr) -> bool {
        let account = self.account(address);
        let account = account.filter(|account| account.refused < MAX_REFUSED);
        account.map(|account| account.refused += 1).is_some()
    }

    /// Removes a connection from `address` that was counted in this way.
    pub fn leave(&mut self, address: IpAddr, counted_as: CountedAs) {
        let Some(account) = self.account(address) else {
            return;
        };
        let count = match counted_as {
            CountedAs::Uncounted => return,
            CountedAs::Admitted => &mut account.connections,
            CountedAs::Refused => &mut account.refused,
        };
        *count = count.saturating_sub(1);
    }

    fn table(&mut self, source: Source) -> &mut Table {
        let at = self.keys.hash_one(source) as usize % TABLES;
        &mut self.tables[at]
    }

    fn account(&mut self, address: IpAddr) -> Option<&mut Account> {
        let source = Some(address).into();
        self.table(source).accounts.get_mut(&source)
    }

    /// Logs the limit that `peer` exceeded when it connected.
    pub fn report_exceeded(&mut self, log: &Log, peer: Peer, limit: ConnectionLimit, now: Tick) {
        match limit {
            ConnectionLimit::Connections => {
                // This is not the client's fault, so the line must not have the form that leads
                // to a ban.
                let line = format_args!("{KIND}: max_connections reached, {peer:#} turned away");
                self.lines.warn(log, KIND, line, now);
            }
            _ => self.report(log, peer, limit.key(), "", now),
        }
    }

    /// Logs that `peer` exceeded the limit set by `key`; `rest` may have details.
    pub fn report(&mut self, log: &Log, peer: Peer, key: &str, rest: &str, now: Tick) {
        let colon = if rest.is_empty() { "" } else { ": " };
        let line = format_args!("{KIND}: {peer:#} exceeded {key}{colon}{rest}");
        self.lines.warn(log, KIND, line, now);
    }
}

impl Table {
    /// Forgets addresses without connections and with a full allowance, each time the number of
    /// addresses has doubled.
    fn sweep(&mut self, config: &Config, now: Tick) {
        if self.accounts.len() < self.sweep_at.max(MIN_SWEEP) {
            return;
        }
        self.accounts.retain(|_, account| {
            if let Some(rate) = config.max_handshakes_per_address {
                account.settle(rate, now);
            } else {
                account.used = 0;
            }
            account.connections > 0 || account.refused > 0 || account.used > 0
        });
        self.sweep_at = 2 * self.accounts.len();
    }
}

impl Account {
    /// Restores the allowance for the time since `as_of`, at `rate` per second.
    fn settle(&mut self, rate: u32, now: Tick) {
        let earned = (now - self.as_of).saturating_mul(u64::from(rate));
        self.used = self.used.saturating_sub(earned);
        self.as_of = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, handshakes: u32) -> Config {
        Config {
            max_connections_per_address: (connections > 0).then_some(connections),
            max_handshakes_per_address: (handshakes > 0).then_some(handshakes),
            ..Config::default()
        }
    }

    /// The number of addresses in each table.
    fn sizes(admission: &Admission) -> impl Iterator<Item = usize> {
        admission.tables.iter().map(|table| table.accounts.len())
    }

    #[test]
    fn addresses_are_evenly_spread_over_the_tables() {
        let mut admission = Admission::default();
        let (config, count) = (limits(0, 0), 64_000);
        for n in 0..count / 2 {
            for address in [
                IpAddr::V4(n.into()),
                IpAddr::V6((u128::from(n) << 64).into()),
            ] {
                admission.admit(address, &config, 0).unwrap();
            }
        }
        // Five standard deviations.
        let average = count as usize / TABLES;
        let is_near = |size: usize| size.abs_diff(average) < average / 8;
        assert!(sizes(&admission).all(is_near));
    }

    #[test]
    fn counts_connections_by_address() {
        let mut admission = Admission::default();
        let config = limits(2, 0);
        let admit = |admission: &mut Admission, address: &str| {
            admission.admit(address.parse().unwrap(), &config, 0)
        };
        assert_eq!(admit(&mut admission, "192.0.2.1"), Ok(()));
        assert_eq!(admit(&mut admission, "::ffff:192.0.2.1"), Ok(()));
        let refused = admit(&mut admission, "192.0.2.1");
        assert_eq!(refused, Err(ConnectionLimit::AddressConnections));
        assert_eq!(admit(&mut admission, "192.0.2.2"), Ok(()));
        admission.leave("192.0.2.1".parse().unwrap(), CountedAs::Admitted);
        assert_eq!(admit(&mut admission, "192.0.2.1"), Ok(()));
        // An IPv6 subscriber has a /64.
        assert_eq!(admit(&mut admission, "2001:db8::1"), Ok(()));
        assert_eq!(admit(&mut admission, "2001:db8::ffff:2"), Ok(()));
        let refused = admit(&mut admission, "2001:db8::3");
        assert_eq!(refused, Err(ConnectionLimit::AddressConnections));
        assert_eq!(admit(&mut admission, "2001:db8:0:1::3"), Ok(()));
    }

    #[test]
    fn few_of_an_address_stay_to_get_the_refusal() {
        let mut admission = Admission::default();
        let config = limits(1, 0);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for address in [one, other] {
            assert_eq!(admission.admit(address, &config, 0), Ok(()));
            assert!(admission.admit(address, &config, 0).is_err());
            let kept = (0..100).filter(|_| admission.keep_refused(address)).count();
            assert_eq!(kept, MAX_REFUSED as usize);
        }
        admission.leave(one, CountedAs::Admitted);
        assert!(!admission.keep_refused(one));
        admission.leave(one, CountedAs::Refused);
        assert!(
            admission.keep_refused(one)
                && !admission.keep_refused(one)
                && !admission.keep_refused(other)
        );
        assert_eq!(admission.admit(one, &config, 0), Ok(()));
    }

    #[test]
    fn counts_connections_begun_in_a_second() {
        let mut admission = Admission::default();
        let config = limits(0, 5);
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut begin = |now| {
            let verdict = admission.admit(address, &config, now);
            if verdict.is_ok() {
                admission.leave(address, CountedAs::Admitted);
            }
            verdict.is_ok()
        };
        assert_eq!((0..10).filter(|_| begin(0)).count(), 5);
        assert!(!begin(199));
        assert!(begin(200));
        assert!(!begin(399));
        assert_eq!((0..10).filter(|_| begin(5000)).count(), 5);
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let mut admission = Admission::default();
        let config = limits(1, 10);
        for n in 0..100_000u32 {
            let address = IpAddr::V4(n.into());
            admission.admit(address, &config, u64::from(n)).unwrap();
            if n > 0 {
                admission.leave(address, CountedAs::Admitted);
            }
            let known: usize = sizes(&admission).sum();
            assert!(known <= 2 * TABLES * MIN_SWEEP, "{known}");
        }
        let first = admission.admit(IpAddr::V4(0.into()), &config, 100_000);
        assert_eq!(first, Err(ConnectionLimit::AddressConnections));
    }
}
