//! Describes the certificate that a server shows, and why it is refused.

use openssl::asn1::Asn1Time;
use openssl::ssl::SslRef;
use openssl::x509::{X509NameRef, X509Ref, X509VerifyResult};
use openssl_sys::{
    X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID,
    X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, X509_V_ERR_HOSTNAME_MISMATCH,
    X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
};

use crate::net::certificate::{SOON_DAYS, seconds_between};

const DAY_SECS: i64 = 86_400;

pub(super) struct Certificate {
    pub(super) names: Vec<String>,
    pub(super) issuer: String,
    until: String,
    /// In seconds since the epoch.
    pub(super) expires: i64,
    /// The time until then.
    left_secs: i64,
}

impl Certificate {
    /// Returns the server's certificate; `None` if it has not shown one. It is the first of
    /// the chain, because OpenSSL keeps no other reference to one that it refuses.
    pub(super) fn of(ssl: &SslRef) -> Option<Certificate> {
        let certificate: &X509Ref = ssl.peer_cert_chain()?.iter().next()?;
        let alternatives = certificate.subject_alt_names();
        let names = alternatives.iter().flatten();
        let names = names.filter_map(|name| name.dnsname().map(str::to_owned));
        let until = certificate.not_after();
        let (epoch, now) = (
            Asn1Time::from_unix(0).ok()?,
            Asn1Time::days_from_now(0).ok()?,
        );
        Some(Certificate {
            names: names.collect(),
            issuer: described(certificate.issuer_name()),
            until: until.to_string(),
            expires: seconds_between(&epoch, until)?,
            left_secs: seconds_between(&now, until)?,
        })
    }

    pub(super) fn text(&self) -> String {
        let names = self.names();
        let (issuer, until) = (&self.issuer, &self.until);
        let days = self.left_secs.abs() / DAY_SECS;
        let when = match self.left_secs < 0 {
            true => format!("expired {until} ({days} days ago)"),
            false => format!("expires {until} (in {days} days)"),
        };
        format!("for {names}; issued by {issuer}; {when}")
    }

    pub(super) fn names(&self) -> String {
        match self.names.is_empty() {
            true => "no DNS name".to_owned(),
            false => self.names.join(", "),
        }
    }

    /// Returns a warning if it expires soon.
    pub(super) fn warning(&self) -> Option<String> {
        let is_soon = self.left_secs < i64::from(SOON_DAYS) * DAY_SECS;
        is_soon.then(|| format!("its certificate expires {}", self.until))
    }

    /// Returns why it was refused, and what to do, if a certificate for `domain` has a usual
    /// mistake.
    pub(super) fn mistake(
        &self,
        domain: &str,
        verdict: X509VerifyResult,
    ) -> Option<(String, &'static str)> {
        Some(match verdict.as_raw() {
            X509_V_ERR_HOSTNAME_MISMATCH => (
                format!("is for {}, not for {domain}", self.names()),
                "install one there that has this domain as a DNS name",
            ),
            X509_V_ERR_CERT_HAS_EXPIRED if self.left_secs < 0 => {
                (format!("has expired: {}", self.until), "renew it")
            }
            X509_V_ERR_CERT_NOT_YET_VALID => (
                "is not valid yet".to_owned(),
                "check the clocks of both hosts",
            ),
            X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT => (
                "is self-signed".to_owned(),
                "install one of an authority, or name this one in 'ca_file'",
            ),
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN
            | X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE => (
                format!("was issued by {}, which is not trusted", self.issuer),
                "let the server send the whole chain, or name the authority in 'ca_file'",
            ),
            _ => return None,
        })
    }
}

fn described(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let kind = entry.object().nid().short_name().unwrap_or("?");
        let text = entry.data().to_string().unwrap_or_default();
        format!("{kind}={text}")
    });
    entries.collect::<Vec<_>>().join(", ")
}
