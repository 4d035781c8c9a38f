//! TLS towards browsers.
//!
//! Owns the reading of certificates and keys, the choice among them by the name that a
//! browser asks for (SNI; the first is the default), and ALPN. Allows TLS 1.2 and 1.3, or
//! only the latter, without renegotiation. There is no session cache: tickets keep all data
//! for resumption at the browser, encrypted with `ticket_keys`. A ticket is good only at
//! listeners with the same certificates.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sha::Sha256;
use openssl::ssl::{
    AlpnError, NameType, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslRef,
    SslSessionCacheMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;

use super::certificate::{Validity, names};
use super::tls_context::{failed, read, read_certificates, reasons, restrict};
use super::tls_raw::use_ticket_keys;
use crate::config::{Listener, Pair, TlsVersion};

/// ALPN, in wire form: WebSocket begins with HTTP/1.1 (RFC 6455, section 1.2).
const ALPN: &[u8] = b"\x08http/1.1";

/// A certificate and its names.
struct Choice {
    /// In lower case. `*.example.org` covers exactly one more label.
    names: Vec<String>,
    context: SslContext,
}

/// The context of a listener, and the validity of its certificates. The context has the first
/// certificate, and switches to another one by SNI.
///
/// # Errors
/// The certificate or key that cannot be used, and why.
pub(super) fn context(rules: &Listener) -> Result<(SslContext, Vec<Validity>), String> {
    let (mut singles, mut validities) = (Vec::new(), Vec::new());
    let mut hash = Sha256::new();
    for pair in &rules.certificates {
        let (chain, builder) = single(pair, rules)?;
        let digest = chain[0].digest(MessageDigest::sha256()).map_err(failed)?;
        hash.update(&digest);
        singles.push((names(&chain[0]), builder));
        validities.push(Validity::new(&pair.certificate, &chain));
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
    Ok((builder.build().into_context(), validities))
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

/// Creates a context with one certificate. Also returns the certificate and its signers.
fn single(pair: &Pair, rules: &Listener) -> Result<(Vec<X509>, SslAcceptorBuilder), String> {
    let mut builder =
        SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(failed)?;
    let oldest = match rules.tls_min_version {
        TlsVersion::V1_2 => SslVersion::TLS1_2,
        TlsVersion::V1_3 => SslVersion::TLS1_3,
    };
    restrict(&mut builder, oldest)?;
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    // A browser opens one WebSocket and can use a ticket only once.
    builder.set_num_tickets(1).map_err(failed)?;
    use_ticket_keys(&mut builder);
    builder.set_alpn_select_callback(|_, offered| {
        // RFC 7301, section 3.2: a client that offers only other protocols gets an alert.
        select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let path = &pair.certificate;
    let refused = |why: ErrorStack| format!("{}: {}", path.display(), reasons(&why));
    let chain = read_certificates(path)?;
    let certificate = &chain[0];
    builder.set_certificate(certificate).map_err(refused)?;
    for signer in &chain[1..] {
        builder
            .add_extra_chain_cert(signer.clone())
            .map_err(refused)?;
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
        .map_err(|why| format!("{}: {}", pair.key.display(), reasons(&why)))?;
    Ok((chain, builder))
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
        false => format!("{}: not a PEM key: {}", path.display(), reasons(&why)),
    })
}
