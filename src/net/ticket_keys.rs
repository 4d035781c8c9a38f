//! The keys that encrypt the tickets of browsers.
//!
//! Every process of the daemon has the same keys: the first one draws a secret before it
//! forks, and each derives the keys of later periods from it. A secret leads to later keys,
//! never to earlier ones, and each period drops a secret. Tickets are accepted in the period
//! in which they were made and in the next one.

use std::cell::RefCell;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use openssl::sha::Sha256;

/// How long tickets are made with the same key. They are valid for two hours.
const PERIOD: Duration = Duration::from_secs(4 * 60 * 60);

/// Bytes of a secret.
const SECRET: usize = 32;

/// Bytes of exported keys.
pub const EXPORTED: usize = 8 + SECRET;

thread_local! {
    /// The keys of this process, which has one thread.
    static KEYS: RefCell<Option<TicketKeys>> = const { RefCell::new(None) };
}

/// The key of one period.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TicketKey {
    /// Part of each ticket.
    pub name: [u8; 16],
    pub cipher: [u8; SECRET],
    pub mac: [u8; SECRET],
}

/// The keys of a period and the one before.
#[derive(Clone)]
struct TicketKeys {
    /// Periods since the host started.
    period: u64,
    /// The secret of the period before; leads to all keys from there on.
    secret: [u8; SECRET],
}

fn derive(secret: &[u8; SECRET], purpose: &[u8]) -> [u8; SECRET] {
    let mut hash = Sha256::new();
    hash.update(secret);
    hash.update(purpose);
    hash.finish()
}

fn key_of(secret: &[u8; SECRET]) -> TicketKey {
    let mut name = [0; 16];
    name.copy_from_slice(&derive(secret, b"name")[..16]);
    TicketKey {
        name,
        cipher: derive(secret, b"cipher"),
        mac: derive(secret, b"mac"),
    }
}

impl TicketKeys {
    /// Drops secrets until the keys are those of a period. Never goes back.
    fn advance(&mut self, period: u64) {
        while self.period < period {
            self.secret = derive(&self.secret, b"next");
            self.period += 1;
        }
    }

    /// The keys that are valid, that of the current period first.
    fn valid(&self) -> [TicketKey; 2] {
        let next = derive(&self.secret, b"next");
        [key_of(&next), key_of(&self.secret)]
    }
}

/// The current period. All processes of a host agree on it.
fn current_period() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| time.as_secs() / PERIOD.as_secs())
}

/// Draws a secret, unless there is one. Must be called before the first fork.
///
/// # Errors
/// There is no randomness.
pub(super) fn prepare() -> Result<(), String> {
    KEYS.with_borrow_mut(|keys| {
        if keys.is_none() {
            let mut secret = [0; SECRET];
            openssl::rand::rand_bytes(&mut secret)
                .map_err(|error| format!("no random numbers for TLS tickets: {error}"))?;
            let period = current_period();
            *keys = Some(TicketKeys { period, secret });
        }
        Ok(())
    })
}

/// The keys that are valid now, the current one first; `None` if there are none.
pub(super) fn valid() -> Option<[TicketKey; 2]> {
    drop_old();
    KEYS.with_borrow(|keys| Some(keys.as_ref()?.valid()))
}

/// Drops the secrets of earlier periods. Must be called now and then in a process that makes no
/// tickets, such as the master: what it keeps leads to the keys of all tickets since.
pub fn drop_old() {
    drop_before(current_period());
}

fn drop_before(period: u64) {
    KEYS.with_borrow_mut(|keys| {
        if let Some(keys) = keys {
            keys.advance(period);
        }
    });
}

/// What another process needs to have the same keys; `None` if there are none.
pub fn export() -> Option<Vec<u8>> {
    valid()?;
    KEYS.with_borrow(|keys| {
        let keys = keys.as_ref()?;
        Some([&keys.period.to_le_bytes()[..], &keys.secret].concat())
    })
}

/// Takes over the keys that another process has exported; false if they are damaged.
pub fn import(bytes: &[u8]) -> bool {
    let Some((period, secret)) = bytes.split_first_chunk() else {
        return false;
    };
    let Ok(secret) = secret.try_into() else {
        return false;
    };
    let period = u64::from_le_bytes(*period);
    // A period in the future would keep its keys for too long.
    let is_past = period <= current_period();
    if is_past {
        KEYS.set(Some(TicketKeys { period, secret }));
    }
    is_past
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use openssl::ssl::{
        Ssl, SslContext, SslMethod, SslSession, SslSessionCacheMode, SslStream, SslVersion,
    };

    use super::*;
    use crate::net::test_identity::identity;
    use crate::net::tls_raw::{resume, use_ticket_keys};

    fn at(period: u64) -> TicketKeys {
        TicketKeys {
            period,
            secret: [7; SECRET],
        }
    }

    #[test]
    fn processes_with_one_secret_have_the_same_keys_at_any_time() {
        let (mut one, mut other) = (at(5), at(5));
        one.advance(6);
        one.advance(9);
        other.advance(9);
        assert!(one.valid() == other.valid());
        // A clock that goes back changes nothing.
        one.advance(3);
        assert!(one.valid() == other.valid());
    }

    #[test]
    fn a_key_is_valid_in_its_period_and_the_next() {
        let mut keys = at(5);
        let [first, before] = keys.valid();
        assert!(first.name != before.name && first.cipher != first.mac);
        keys.advance(6);
        let [second, last] = keys.valid();
        assert!(last == first && second != first);
        keys.advance(7);
        assert!(keys.valid().iter().all(|key| *key != first));
        // Nothing that is kept leads back.
        assert_ne!(keys.secret, at(5).secret);
    }

    #[test]
    fn keys_are_handed_over_and_damaged_ones_refused() {
        assert!(export().is_none());
        prepare().unwrap();
        let (bytes, keys) = (export().unwrap(), valid().unwrap());
        prepare().unwrap();
        assert!(valid().unwrap() == keys);
        std::thread::spawn(move || {
            assert!(!import(&bytes[..39]) && !import(&[]));
            let mut future = bytes.clone();
            future[7] = 1;
            assert!(!import(&future) && valid().is_none());
            assert!(import(&bytes));
            assert!(valid().unwrap() == keys);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn secrets_are_dropped_without_a_ticket() {
        let secret = || KEYS.with_borrow(|keys| keys.as_ref().map(|keys| keys.secret));
        drop_before(9);
        assert!(secret().is_none());
        KEYS.set(Some(at(5)));
        drop_before(5);
        assert_eq!(secret(), Some([7; SECRET]));
        drop_before(6);
        assert_eq!(secret(), Some(derive(&[7; SECRET], b"next")));
    }

    fn server() -> SslContext {
        let (certificate, key) = identity();
        let mut builder = SslContext::builder(SslMethod::tls_server()).unwrap();
        builder.set_certificate(&certificate).unwrap();
        builder.set_private_key(&key).unwrap();
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        use_ticket_keys(&mut builder);
        builder.build()
    }

    fn client(version: SslVersion) -> SslContext {
        let mut builder = SslContext::builder(SslMethod::tls_client()).unwrap();
        builder.set_max_proto_version(Some(version)).unwrap();
        builder.build()
    }

    /// Connects a client to the server, which this thread is. Returns whether it resumed,
    /// and its new ticket.
    fn visit(
        server: &SslContext,
        client: &SslContext,
        ticket: Option<&SslSession>,
    ) -> (bool, SslSession) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut ssl = Ssl::new(client).unwrap();
        if let Some(ticket) = ticket {
            resume(&mut ssl, ticket);
        }
        let peer = std::thread::spawn(move || {
            let mut stream = SslStream::new(ssl, TcpStream::connect(address).unwrap()).unwrap();
            stream.connect().unwrap();
            // Tickets come before the end.
            assert!(stream.ssl_read(&mut [0]).is_err());
            stream.shutdown().unwrap();
            stream.ssl().session().unwrap().to_owned()
        });
        let socket = listener.accept().unwrap().0;
        let mut stream = SslStream::new(Ssl::new(server).unwrap(), socket).unwrap();
        stream.accept().unwrap();
        stream.shutdown().unwrap();
        (stream.ssl().session_reused(), peer.join().unwrap())
    }

    #[test]
    fn a_ticket_is_accepted_until_its_key_is_too_old() {
        prepare().unwrap();
        // Another worker or a reload has another context with the same keys.
        let (server, other) = (server(), server());
        let skip = |count| {
            KEYS.with_borrow_mut(|keys| {
                let keys = keys.as_mut().unwrap();
                keys.advance(keys.period + count);
            });
        };
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let client = client(version);
            let (resumed, first) = visit(&server, &client, None);
            assert!(!resumed);
            assert!(visit(&other, &client, Some(&first)).0);
            skip(1);
            let (resumed, second) = visit(&other, &client, Some(&first));
            assert!(resumed, "{version:?}");
            skip(1);
            // The second ticket has a key of its own time.
            assert!(visit(&server, &client, Some(&second)).0, "{version:?}");
            assert!(!visit(&server, &client, Some(&first)).0, "{version:?}");
        }
    }
}
