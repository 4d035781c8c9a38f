//! The rules of a listener, and TLS towards browsers.
//!
//! Owns the reading of certificates and keys, the choice among them by the name that a
//! browser asks for (SNI; the first is the default), and ALPN. Allows TLS 1.2 and 1.3, or
//! only the latter, without renegotiation. There is no session cache: tickets keep all data
//! for resumption at the browser, encrypted with `ticket_keys`. A ticket is good only at
//! listeners with the same certificates. Created before privileges are dropped, and again at
//! every reload. Existing sessions keep their endpoint.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sha::Sha256;
use openssl::ssl::{
    AlpnError, NameType, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslOptions,
    SslRef, SslSessionCacheMode, SslVersion, select_next_proto,
};
use openssl::x509::{X509, X509Ref};

use super::listener::Socket;
use super::listener_choice::{self, Named};
use super::ticket_keys;
use super::tls_raw::{stop_at_records_without_payload, use_ticket_keys};
use crate::config::{Config, Listener, Pair, TlsVersion};

/// ALPN, in wire form: WebSocket begins with HTTP/1.1 (RFC 6455, section 1.2).
const ALPN: &[u8] = b"\x08http/1.1";

/// A certificate that expires within this many days causes a warning.
const SOON_DAYS: u32 = 14;

/// A listener with its TLS context.
pub struct Endpoint {
    /// The configuration of the listener.
    pub rules: Listener,
    /// `None` if the port uses plain text.
    context: Option<SslContext>,
    certificates: Vec<Validity>,
}

/// The validity of a certificate and its chain.
struct Validity {
    name: String,
    /// In seconds since the epoch.
    expires: u64,
    /// Warnings about certificates that have expired or soon will.
    warnings: Vec<String>,
}

impl Endpoint {
    /// Creates the endpoints of a configuration, in the order of its listeners.
    ///
    /// # Errors
    /// The certificate or key that cannot be used, and why.
    pub fn all(config: &Config) -> Result<Vec<Rc<Endpoint>>, String> {
        ticket_keys::prepare()?;
        let endpoint = |rules: &Listener| {
            let mut certificates = Vec::new();
            let context = match rules.certificates.is_empty() {
                true => None,
                false => Some(context(rules, &mut certificates)?),
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
    pub fn is_tls(&self) -> bool {
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
pub fn expiring(endpoints: &[Rc<Endpoint>]) -> impl Iterator<Item = &str> {
    let all = endpoints.iter().flat_map(|endpoint| &endpoint.certificates);
    let texts = all.flat_map(|certificate| &certificate.warnings);
    let mut texts: Vec<&str> = texts.map(String::as_str).collect();
    texts.sort_unstable();
    texts.dedup();
    texts.into_iter()
}

/// When the certificates expire, in seconds since the epoch, by name.
pub fn expiries(endpoints: &[Rc<Endpoint>]) -> BTreeMap<String, u64> {
    let mut expiries = BTreeMap::new();
    for certificate in endpoints.iter().flat_map(|endpoint| &endpoint.certificates) {
        let name = certificate.name.clone();
        let earliest = expiries.entry(name).or_insert(u64::MAX);
        *earliest = certificate.expires.min(*earliest);
    }
    expiries
}

impl Validity {
    /// The validity of a certificate in the file at `path` and of its chain.
    fn new(path: &Path, chain: &[X509]) -> Validity {
        let name = chain.first().and_then(|own| names(own).into_iter().next());
        let expires = chain.iter().filter_map(|certificate| {
            let until = Asn1Time::from_unix(0).ok()?.diff(certificate.not_after());
            let until = until.ok()?;
            u64::try_from(i64::from(until.days) * 86_400 + i64::from(until.secs)).ok()
        });
        let warnings = chain.iter().filter_map(|one| expiry(path, one));
        Validity {
            name: name.unwrap_or_else(|| path.display().to_string()),
            expires: expires.min().unwrap_or(0),
            warnings: warnings.collect(),
        }
    }
}

/// A warning about the validity of a certificate, if one is needed.
fn expiry(path: &Path, certificate: &X509Ref) -> Option<String> {
    let is_before = |days, end: &Asn1TimeRef| {
        let then = Asn1Time::days_from_now(days).ok()?;
        end.compare(&then).ok().map(Ordering::is_lt)
    };
    let now = Asn1Time::days_from_now(0).ok()?;
    let (start, end) = (certificate.not_before(), certificate.not_after());
    let what = if is_before(0, end)? {
        format!("has expired: {end}")
    } else if is_before(SOON_DAYS, end)? {
        format!("expires within {SOON_DAYS} days: {end}")
    } else if start.compare(&now).ok()?.is_gt() {
        format!("is not valid before {start}")
    } else {
        return None;
    };
    let name = names(certificate).into_iter().next();
    let of = name.map_or(String::new(), |name| format!(" for {name}"));
    Some(format!("{}: the certificate{of} {what}", path.display()))
}

/// Chooses one of the `endpoints` of `config` for each of `sockets`. Without a list of
/// listeners, a socket from systemd gets the only endpoint, wherever it listens.
///
/// # Errors
/// Names the socket that no listener fits, and the listeners.
pub fn of_sockets(
    sockets: &[Socket],
    config: &Config,
    endpoints: &[Rc<Endpoint>],
) -> Result<Vec<Rc<Endpoint>>, String> {
    let one_rule = config.has_one_rule();
    let chosen = choose(sockets, endpoints);
    let mut of_sockets = Vec::with_capacity(sockets.len());
    for (socket, chosen) in sockets.iter().zip(chosen) {
        let whatever = one_rule && socket.bound().is_from_systemd();
        let Some(endpoint) = chosen.or(endpoints.first().filter(|_| whatever)) else {
            let known: Vec<_> = endpoints
                .iter()
                .map(|endpoint| format!("({})", Named(&endpoint.rules)))
                .collect();
            return Err(format!(
                "no entry in 'listeners' fits the socket {socket}{}; the entries are: {}",
                socket.bound(),
                known.join(", ")
            ));
        };
        of_sockets.push(Rc::clone(endpoint));
    }
    Ok(of_sockets)
}

/// Replaces `old`, which has one endpoint per socket, with the endpoints of a new
/// configuration. If no listener fits a socket, its old endpoint stays. Returns these
/// sockets.
pub fn replace<'a>(
    old: &mut [Rc<Endpoint>],
    sockets: &'a [Socket],
    config: &Config,
    endpoints: &[Rc<Endpoint>],
) -> Vec<&'a Socket> {
    let one_rule =
        config.has_one_rule() && old.iter().all(|endpoint| Rc::ptr_eq(endpoint, &old[0]));
    let mut without = Vec::new();
    for ((socket, chosen), old) in sockets.iter().zip(choose(sockets, endpoints)).zip(old) {
        let whatever = one_rule && socket.bound().is_from_systemd();
        match chosen.or(endpoints.first().filter(|_| whatever)) {
            Some(endpoint) => *old = Rc::clone(endpoint),
            None => without.push(socket),
        }
    }
    without
}

fn choose<'a>(sockets: &[Socket], endpoints: &'a [Rc<Endpoint>]) -> Vec<Option<&'a Rc<Endpoint>>> {
    let bound: Vec<_> = sockets.iter().map(Socket::bound).collect();
    let rules: Vec<_> = endpoints.iter().map(|endpoint| &endpoint.rules).collect();
    let chosen = listener_choice::choose(&bound, &rules).into_iter();
    chosen.map(|at| endpoints.get(at?)).collect()
}

/// A certificate and its names.
struct Choice {
    /// In lower case. `*.example.org` covers exactly one more label.
    names: Vec<String>,
    context: SslContext,
}

/// The context of a listener. It has the first certificate, and switches to another one by
/// SNI.
fn context(rules: &Listener, validities: &mut Vec<Validity>) -> Result<SslContext, String> {
    let mut singles = Vec::with_capacity(rules.certificates.len());
    let mut hash = Sha256::new();
    for pair in &rules.certificates {
        let (certificate, builder) = single(pair, rules, validities)?;
        hash.update(
            &certificate
                .digest(MessageDigest::sha256())
                .map_err(failed)?,
        );
        singles.push((names(&certificate), builder));
    }
    // Every listener can decrypt every ticket. Without this, one that resumes the TLS of
    // another would serve a browser that has never seen its certificate.
    let listener = hash.finish();
    for (_, builder) in &mut singles {
        builder.set_session_id_context(&listener).map_err(failed)?;
    }
    let mut singles = singles.into_iter();
    let (own_names, mut builder) = singles.next().ok_or("no certificate")?;
    let choice = |(names, builder): (_, SslAcceptorBuilder)| Choice {
        names,
        context: builder.build().into_context(),
    };
    let choices: Vec<_> = singles.map(choice).collect();
    if !choices.is_empty() {
        builder.set_servername_callback(move |ssl, _| {
            if let Some(context) = chosen(ssl, &own_names, &choices) {
                // If this fails, the browser gets the first certificate and refuses it if
                // it does not fit.
                let _ = ssl.set_ssl_context(context);
            }
            Ok(())
        });
    }
    Ok(builder.build().into_context())
}

/// The context for the requested name; `None` if the first certificate applies.
fn chosen<'a>(ssl: &SslRef, own: &[String], choices: &'a [Choice]) -> Option<&'a SslContext> {
    let name = ssl.servername(NameType::HOST_NAME)?.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let wildcard = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
    for wanted in [Some(name), wildcard.as_deref()].into_iter().flatten() {
        let has = |names: &[String]| names.iter().any(|name| name == wanted);
        if has(own) {
            return None;
        }
        if let Some(choice) = choices.iter().find(|choice| has(&choice.names)) {
            return Some(&choice.context);
        }
    }
    None
}

/// Creates a context with one certificate, and returns both.
fn single(
    pair: &Pair,
    rules: &Listener,
    validities: &mut Vec<Validity>,
) -> Result<(X509, SslAcceptorBuilder), String> {
    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(failed)?;
    builder
        .set_min_proto_version(Some(match rules.tls_min_version {
            TlsVersion::V1_2 => SslVersion::TLS1_2,
            TlsVersion::V1_3 => SslVersion::TLS1_3,
        }))
        .map_err(failed)?;
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    stop_at_records_without_payload(&mut builder);
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A browser opens one WebSocket and can use a ticket only once.
    builder.set_num_tickets(1).map_err(failed)?;
    use_ticket_keys(&mut builder);
    builder.set_alpn_select_callback(|_, offered| {
        // RFC 7301, section 3.2: a client that offers only other protocols gets an alert.
        select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let path = &pair.certificate;
    let refused = |why: ErrorStack| format!("{}: {}", path.display(), words(&why));
    let chain = certificates(path)?;
    validities.push(Validity::new(path, &chain));
    let mut chain = chain.into_iter();
    let certificate = chain
        .next()
        .ok_or_else(|| format!("{}: contains no PEM certificate", path.display()))?;
    builder.set_certificate(&certificate).map_err(refused)?;
    for signer in chain {
        builder.add_extra_chain_cert(signer).map_err(refused)?;
    }
    let key = private_key(&pair.key)?;
    let fits = certificate
        .public_key()
        .is_ok_and(|own| own.public_eq(&key));
    if !fits {
        return Err(format!(
            "{}: not the key of the certificate in {}",
            pair.key.display(),
            path.display()
        ));
    }
    builder
        .set_private_key(&key)
        .map_err(|why| format!("{}: {}", pair.key.display(), words(&why)))?;
    Ok((certificate, builder))
}

fn certificates(path: &Path) -> Result<Vec<X509>, String> {
    let pem = read(path)?;
    X509::stack_from_pem(&pem).map_err(|why| {
        let why = words(&why);
        format!("{}: not a file of PEM certificates: {why}", path.display())
    })
}

fn private_key(path: &Path) -> Result<PKey<Private>, String> {
    let pem = read(path)?;
    let mut asked = false;
    let key = PKey::private_key_from_pem_callback(&pem, |_| {
        asked = true;
        Err(ErrorStack::get())
    });
    key.map_err(|why| match asked {
        true => format!("{}: the key is protected by a passphrase", path.display()),
        false => format!("{}: not a PEM key: {}", path.display(), words(&why)),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The DNS names of a certificate; its common name if it has none.
fn names(certificate: &X509Ref) -> Vec<String> {
    let alternatives = certificate.subject_alt_names();
    let dns = alternatives
        .iter()
        .flatten()
        .filter_map(|name| name.dnsname());
    let names: Vec<_> = dns.map(str::to_ascii_lowercase).collect();
    if !names.is_empty() {
        return names;
    }
    let entries = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    let texts = entries.filter_map(|entry| entry.data().to_string().ok());
    texts.map(|text| text.to_ascii_lowercase()).collect()
}

fn failed(why: ErrorStack) -> String {
    format!("TLS cannot be set up: {}", words(&why))
}

/// OpenSSL's reasons, without positions in its source code.
fn words(why: &ErrorStack) -> String {
    let reasons: Vec<_> = why
        .errors()
        .iter()
        .filter_map(|error| error.reason())
        .collect();
    match reasons.is_empty() {
        true => "OpenSSL gave no reason".to_owned(),
        false => reasons.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_dates_of_a_certificate() {
        // A certificate created in this second is valid.
        for (from_days, to_days, warning) in [
            (0, 90, None),
            (1, 90, Some("is not valid before")),
            (0, 13, Some("expires within 14 days")),
        ] {
            let mut builder = X509::builder().unwrap();
            let day = |days| Asn1Time::days_from_now(days).unwrap();
            builder.set_not_before(&day(from_days)).unwrap();
            builder.set_not_after(&day(to_days)).unwrap();
            let told = expiry(Path::new("c.pem"), &builder.build());
            match (told, warning) {
                (None, None) => {}
                (Some(told), Some(warning)) => assert!(told.contains(warning), "{told}"),
                (told, warning) => panic!("{told:?} instead of {warning:?}"),
            }
        }
    }
}
