//! The names and the validity of certificates.

use std::cmp::Ordering;
use std::path::Path;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::nid::Nid;
use openssl::x509::{X509, X509Ref};

/// A certificate that expires within this many days causes a warning.
pub(crate) const SOON_DAYS: u32 = 14;

/// The validity of a certificate and its chain.
pub(super) struct Validity {
    pub(super) name: String,
    /// In seconds since the epoch.
    pub(super) expires: u64,
    /// Warnings about certificates that have expired or soon will.
    pub(super) warnings: Vec<String>,
}

impl Validity {
    /// The validity of a certificate in the file at `path` and of its chain.
    pub(super) fn new(path: &Path, chain: &[X509]) -> Validity {
        let name = chain.first().and_then(|own| names(own).into_iter().next());
        let epoch = Asn1Time::from_unix(0).ok();
        let expires = chain.iter().filter_map(|certificate| {
            let until = seconds_between(epoch.as_ref()?, certificate.not_after());
            u64::try_from(until?).ok()
        });
        let warnings = chain.iter().filter_map(|one| expiry(path, one));
        Validity {
            name: name.unwrap_or_else(|| path.display().to_string()),
            expires: expires.min().unwrap_or(0),
            warnings: warnings.collect(),
        }
    }
}

/// The seconds from a time to another; negative if the other is earlier.
pub(crate) fn seconds_between(from: &Asn1TimeRef, to: &Asn1TimeRef) -> Option<i64> {
    let time = from.diff(to).ok()?;
    Some(i64::from(time.days) * 86_400 + i64::from(time.secs))
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

/// The DNS names of a certificate; its common name if it has none.
pub(super) fn names(certificate: &X509Ref) -> Vec<String> {
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
