//! What the TLS contexts for browsers and those for servers have in common.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslOptions, SslVersion};
use openssl::x509::X509;

use super::tls_raw::stop_at_records_without_payload;

/// The groups for the key exchange that a peer may choose: the default ones of OpenSSL 3.5, of
/// older versions, and of libraries that are limited to FIPS 140, each without finite fields. One
/// takes up to 3 ms, but ffdhe8192 150 ms.
const GROUPS: [&str; 3] = [
    "?*X25519MLKEM768/?*X25519:?P-256/?X448:?P-384:?P-521",
    "X25519:P-256:X448:P-521:P-384",
    "P-256:P-521:P-384",
];

/// Sets the oldest version of TLS and the key exchanges, and refuses renegotiation.
pub(super) fn restrict(builder: &mut SslContextBuilder, oldest: SslVersion) -> Result<(), String> {
    let set = builder.set_min_proto_version(Some(oldest));
    set.map_err(failed)?;
    set_groups(builder).map_err(failed)?;
    builder.set_options(SslOptions::NO_RENEGOTIATION);
    stop_at_records_without_payload(builder);
    Ok(())
}

fn set_groups(builder: &mut SslContextBuilder) -> Result<(), ErrorStack> {
    let [newest, older, fips] = GROUPS;
    builder
        .set_groups_list(newest)
        .or_else(|_| builder.set_groups_list(older))
        .or_else(|_| builder.set_groups_list(fips))
}

/// Reads the certificates in a PEM file, at least one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<X509>, String> {
    let refused = |why: &str| Err(format!("{}: {why}", path.display()));
    match X509::stack_from_pem(&read(path)?) {
        Ok(certificates) if certificates.is_empty() => refused("contains no PEM certificate"),
        Ok(certificates) => Ok(certificates),
        Err(why) => refused(&format!(
            "not a file of PEM certificates: {}",
            reasons(&why)
        )),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

pub(super) fn failed(why: ErrorStack) -> String {
    format!("TLS cannot be set up: {}", reasons(&why))
}

/// OpenSSL's reasons, without positions in its source code.
pub(super) fn reasons(why: &ErrorStack) -> String {
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
