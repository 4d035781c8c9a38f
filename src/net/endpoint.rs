//! The rules of a listener, and its TLS.
//!
//! Owns the choice of an endpoint for each socket, at the start and at every reload. Created
//! before privileges are dropped. Existing sessions keep their endpoint.

use std::collections::BTreeMap;
use std::rc::Rc;

use openssl::ssl::{Ssl, SslContext};

use super::certificate::Validity;
use super::listener::Socket;
use super::listener_choice::{self, Bound, Named};
use super::{ticket_keys, tls_server};
use crate::config::{Config, Listener};

/// A listener with its TLS context.
pub struct Endpoint {
    /// The configuration of the listener.
    pub rules: Listener,
    /// `None` if the port uses plain text.
    context: Option<SslContext>,
    certificates: Vec<Validity>,
}

impl Endpoint {
    /// Creates the endpoints of a configuration, in the order of its listeners.
    ///
    /// # Errors
    /// The certificate or key that cannot be used, and why.
    pub fn all(config: &Config) -> Result<Vec<Rc<Endpoint>>, String> {
        ticket_keys::prepare()?;
        let endpoint = |rules: &Listener| {
            let (context, certificates) = match rules.certificates.is_empty() {
                true => (None, Vec::new()),
                false => {
                    let (context, certificates) = tls_server::context(rules)?;
                    (Some(context), certificates)
                }
            };
            Ok(Rc::new(Endpoint {
                rules: rules.clone(),
                context,
                certificates,
            }))
        };
        config.listeners.iter().map(endpoint).collect()
    }

    /// Whether browsers use TLS on this port.
    pub(crate) fn is_tls(&self) -> bool {
        self.context.is_some()
    }

    /// Creates a connection without starting the handshake; `None` if the port uses plain
    /// text.
    ///
    /// # Errors
    /// OpenSSL failed.
    pub fn connection(&self) -> Option<Result<Ssl, String>> {
        let made = Ssl::new(self.context.as_ref()?);
        Some(made.map_err(|error| error.to_string()))
    }
}

/// Warnings about certificates that have expired or soon will, without duplicates.
pub(crate) fn expiring(endpoints: &[Rc<Endpoint>]) -> impl Iterator<Item = &str> {
    let all = endpoints.iter().flat_map(|endpoint| &endpoint.certificates);
    let texts = all.flat_map(|certificate| &certificate.warnings);
    let mut texts: Vec<&str> = texts.map(String::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.into_iter()
}

/// When the certificates expire, in seconds since the epoch, by name.
pub(crate) fn expiries(endpoints: &[Rc<Endpoint>]) -> BTreeMap<String, u64> {
    let mut expiries = BTreeMap::new();
    for certificate in endpoints.iter().flat_map(|endpoint| &endpoint.certificates) {
        let name = certificate.name.clone();
        let earliest = expiries.entry(name).or_insert(u64::MAX);
        *earliest = certificate.expires.min(*earliest);
    }
    expiries
}

/// Chooses one of the `endpoints` of `config` for each of `sockets`. Without a list of
/// listeners, a socket from systemd gets the only endpoint, wherever it listens.
///
/// # Errors
/// Names the socket that no listener fits, and the listeners.
pub(crate) fn of_sockets(
    sockets: &[Socket],
    config: &Config,
    endpoints: &[Rc<Endpoint>],
) -> Result<Vec<Rc<Endpoint>>, String> {
    let chosen = choose(sockets, endpoints, config.has_one_rule());
    let endpoint = |(socket, chosen): (_, Option<&Rc<Endpoint>>)| {
        chosen.cloned().ok_or_else(|| no_entry(socket, endpoints))
    };
    sockets.iter().zip(chosen).map(endpoint).collect()
}

fn no_entry(socket: &Socket, endpoints: &[Rc<Endpoint>]) -> String {
    let known = endpoints.iter();
    let known: Vec<_> = known
        .map(|endpoint| format!("({})", Named(&endpoint.rules)))
        .collect();
    format!(
        "no entry in 'listeners' fits the socket {socket}{}; the entries are: {}",
        socket.bound(),
        known.join(", ")
    )
}

/// Replaces `old`, which has one endpoint per socket, with the endpoints of a new
/// configuration. If no listener fits a socket, its old endpoint stays. Returns these
/// sockets.
pub(crate) fn replace<'a>(
    old: &mut [Rc<Endpoint>],
    sockets: &'a [Socket],
    config: &Config,
    endpoints: &[Rc<Endpoint>],
) -> Vec<&'a Socket> {
    let had_one_rule = old.iter().all(|endpoint| Rc::ptr_eq(endpoint, &old[0]));
    let chosen = choose(sockets, endpoints, config.has_one_rule() && had_one_rule);
    let mut without = Vec::new();
    for ((socket, chosen), old) in sockets.iter().zip(chosen).zip(old) {
        match chosen {
            Some(endpoint) => *old = Rc::clone(endpoint),
            None => without.push(socket),
        }
    }
    without
}

/// Returns the endpoint of each socket, if one fits. With `one_rule`, the first endpoint fits
/// all sockets from systemd.
fn choose<'a>(
    sockets: &[Socket],
    endpoints: &'a [Rc<Endpoint>],
    one_rule: bool,
) -> Vec<Option<&'a Rc<Endpoint>>> {
    let bound: Vec<_> = sockets.iter().map(Socket::bound).collect();
    let rules: Vec<_> = endpoints.iter().map(|endpoint| &endpoint.rules).collect();
    let chosen = listener_choice::choose(&bound, &rules).into_iter();
    let endpoint = |(at, bound): (Option<usize>, &&Bound)| match at {
        Some(at) => endpoints.get(at),
        None if one_rule && bound.is_from_systemd() => endpoints.first(),
        None => None,
    };
    chosen.zip(&bound).map(endpoint).collect()
}
