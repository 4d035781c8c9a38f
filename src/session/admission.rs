//! Who may come in, and who has gone too far: counts by client address.
//!
//! Owns the connections open and begun of each address (IPv6 by /64, what one
//! subscriber has), and the log lines about limits that were passed: one form
//! that fail2ban can read, a few a second. An address that nobody comes from is
//! forgotten, and who has none, by a unix socket, is not counted. Never closes
//! anything; `accept` does.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::Tick;
use crate::config::Config;
use crate::log::Log;
use crate::net::peer::Peer;
use crate::net::source::Source;

/// Lines about limits in a second; more are counted.
const LINES_PER_SECOND: u32 = 10;
/// One begun connection, in the unit of allowances: a second has so many parts.
const WHOLE: u64 = 1000;
/// Connections over a limit that may stay to get the refusal, per address at a time.
const TOLD_AT_A_TIME: u32 = 4;
/// Addresses below which nobody looks for those to be forgotten.
const MIN_SWEEP: usize = 1024;

/// Whether this is a proxy whose word on the client's address is believed.
pub fn is_believed(peer: Peer, config: &Config) -> bool {
    match peer {
        Peer::Ip(address) => config.is_trusted(address.ip()),
        Peer::Unix => config.trusts_unix,
    }
}

/// A limit on who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Too many connections in all.
    Connections,
    /// Too many connections of one address.
    AddressConnections,
    /// Too many connections begun by one address in a second.
    AddressHandshakes,
}

impl Excess {
    /// The key of the configuration that set the limit.
    pub fn key(self) -> &'static str {
        match self {
            Excess::Connections => "max_connections",
            Excess::AddressConnections => "max_connections_per_address",
            Excess::AddressHandshakes => "max_handshakes_per_address",
        }
    }
}

/// How a connection is counted for its address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Not counted.
    #[default]
    Uncounted,
    /// As an admitted connection.
    Admitted,
    /// As one over a limit, which stays only to get the refusal.
    Refused,
}

/// What is known of a source.
#[derive(Debug)]
struct Account {
    connections: u32,
    /// Connections that stay only to get the refusal.
    refused: u32,
    /// What was used up of the allowance of connections to begin, at `as_of`.
    used: u64,
    as_of: Tick,
}

/// The accounts of a worker.
#[derive(Debug, Default)]
pub struct Admission {
    accounts: HashMap<Source, Account>,
    sweep_at: usize,
    /// The second that `lines` counts in.
    second: Tick,
    lines: u32,
    left_out: u64,
}

impl Admission {
    /// Counts a connection of `address`, unless that is one too many. A counted
    /// one is to be given back by [`Admission::leave`], as admitted.
    ///
    /// # Errors
    /// The limit that it would pass; it is not counted then.
    pub fn admit(&mut self, address: IpAddr, config: &Config, now: Tick) -> Result<(), Excess> {
        self.sweep(config, now);
        let account = self
            .accounts
            .entry(Some(address).into())
            .or_insert(Account {
                connections: 0,
                refused: 0,
                used: 0,
                as_of: now,
            });
        if let Some(most) = config.max_connections_per_address
            && account.connections >= most
        {
            return Err(Excess::AddressConnections);
        }
        if let Some(rate) = config.max_handshakes_per_address {
            account.settle(rate, now);
            if account.used + WHOLE > u64::from(rate) * WHOLE {
                return Err(Excess::AddressHandshakes);
            }
            account.used += WHOLE;
        }
        account.connections += 1;
        Ok(())
    }

    /// Whether a refused connection of `address` may stay to get the refusal. If so,
    /// [`Admission::leave`] must give it back later, as refused.
    pub fn keep(&mut self, address: IpAddr) -> bool {
        let account = self.accounts.get_mut(&Some(address).into());
        let account = account.filter(|account| account.refused < TOLD_AT_A_TIME);
        account.map(|account| account.refused += 1).is_some()
    }

    /// Gives back a connection of `address` that was counted with this standing.
    pub fn leave(&mut self, address: IpAddr, standing: Standing) {
        let Some(account) = self.accounts.get_mut(&Some(address).into()) else {
            return;
        };
        let count = match standing {
            Standing::Uncounted => return,
            Standing::Admitted => &mut account.connections,
            Standing::Refused => &mut account.refused,
        };
        *count = count.saturating_sub(1);
    }

    /// Addresses that are known.
    pub fn known(&self) -> usize {
        self.accounts.len()
    }

    /// Forgets sources without connections whose allowance is whole again, each
    /// time their number has doubled.
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

    /// Logs which limit `peer` exceeded when it connected.
    pub fn report_excess(&mut self, log: &Log, peer: Peer, excess: Excess, now: Tick) {
        match excess {
            Excess::Connections => {
                // Not this client's fault, so not the words that lead to a ban.
                let host = peer.host();
                let line = format_args!("limit: max_connections reached, {host} turned away");
                self.line(log, line, now);
            }
            _ => self.report(log, peer, excess.key(), "", now),
        }
    }

    /// Says that `peer` passed the limit set by `key`; `rest` may tell more.
    pub fn report(&mut self, log: &Log, peer: Peer, key: &str, rest: &str, now: Tick) {
        let (host, rest) = (peer.host(), Rest(rest));
        self.line(log, format_args!("limit: {host} exceeded {key}{rest}"), now);
    }

    fn line(&mut self, log: &Log, line: fmt::Arguments<'_>, now: Tick) {
        let second = now / 1000;
        if second != self.second {
            (self.second, self.lines) = (second, 0);
        }
        if self.lines >= LINES_PER_SECOND {
            self.left_out += 1;
            return;
        }
        self.lines += 1;
        if self.left_out > 0 {
            let left_out = std::mem::take(&mut self.left_out);
            log.warning(format_args!("limit: {left_out} more lines were left out"));
        }
        log.warning(line);
    }
}

/// What follows a colon, if anything.
struct Rest<'a>(&'a str);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            text => write!(f, ": {text}"),
        }
    }
}

impl Account {
    /// Gives back what the time since `as_of` allows at `rate` a second.
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
        assert_eq!(refused, Err(Excess::AddressConnections));
        assert_eq!(admit(&mut admission, "192.0.2.2"), Ok(()));
        admission.leave("192.0.2.1".parse().unwrap(), Standing::Admitted);
        assert_eq!(admit(&mut admission, "192.0.2.1"), Ok(()));
        // One subscriber of IPv6 is a /64.
        assert_eq!(admit(&mut admission, "2001:db8::1"), Ok(()));
        assert_eq!(admit(&mut admission, "2001:db8::ffff:2"), Ok(()));
        let refused = admit(&mut admission, "2001:db8::3");
        assert_eq!(refused, Err(Excess::AddressConnections));
        assert_eq!(admit(&mut admission, "2001:db8:0:1::3"), Ok(()));
    }

    #[test]
    fn few_of_an_address_stay_to_be_told() {
        let mut admission = Admission::default();
        let config = limits(1, 0);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for address in [one, other] {
            assert_eq!(admission.admit(address, &config, 0), Ok(()));
            assert!(admission.admit(address, &config, 0).is_err());
            let kept = (0..100).filter(|_| admission.keep(address)).count();
            assert_eq!(kept, TOLD_AT_A_TIME as usize);
        }
        admission.leave(one, Standing::Admitted);
        assert!(!admission.keep(one));
        admission.leave(one, Standing::Refused);
        assert!(admission.keep(one) && !admission.keep(one) && !admission.keep(other));
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
                admission.leave(address, Standing::Admitted);
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
    fn forgets_who_left() {
        let mut admission = Admission::default();
        let config = limits(1, 10);
        for n in 0..100_000u32 {
            let address = IpAddr::V4(n.into());
            admission.admit(address, &config, u64::from(n)).unwrap();
            if n > 0 {
                admission.leave(address, Standing::Admitted);
            }
            assert!(admission.known() <= 2 * MIN_SWEEP, "{}", admission.known());
        }
        let first = admission.admit(IpAddr::V4(0.into()), &config, 100_000);
        assert_eq!(first, Err(Excess::AddressConnections));
    }
}
