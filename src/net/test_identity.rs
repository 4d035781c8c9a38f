//! A certificate and its key, for tests.

use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;

/// Creates a key, and a certificate of it without a name that is valid for a day.
pub(crate) fn identity() -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut certificate = X509::builder().unwrap();
    let [today, tomorrow] = [0, 1].map(|days| Asn1Time::days_from_now(days).unwrap());
    certificate.set_not_before(&today).unwrap();
    certificate.set_not_after(&tomorrow).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (certificate.build(), key)
}
