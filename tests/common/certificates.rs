//! A certification authority for tests, and valid and invalid certificates of every kind,
//! made in memory.

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Name};

use super::daemon::TempFile;

/// A certificate and its key.
pub struct Identity {
    pub certificate: X509,
    pub key: PKey<Private>,
}

impl Identity {
    /// Writes the certificate, followed by `chain`, and the key to files.
    pub fn files(&self, signers: &[&Identity]) -> (TempFile, TempFile) {
        let pem = |identity: &Identity| identity.certificate.to_pem().expect("PEM");
        let mut chain = pem(self);
        chain.extend(signers.iter().flat_map(|signer| pem(signer)));
        let key = self.key.private_key_to_pem_pkcs8().expect("PEM");
        let file = |pem| TempFile::new(&String::from_utf8(pem).expect("text"));
        (file(chain), file(key))
    }

    /// Writes the certificate to a file, as a trusted authority.
    pub fn ca_file(&self) -> TempFile {
        let pem = self.certificate.to_pem().expect("PEM");
        TempFile::new(&String::from_utf8(pem).expect("text"))
    }
}

/// A certification authority.
pub struct Authority(pub Identity);

/// The content of a certificate.
pub struct Content<'a> {
    pub common_name: &'a str,
    /// The DNS names in subjectAltName. Without names the extension is absent.
    pub dns: &'a [&'a str],
    /// When the certificate expires.
    pub not_after: &'a str,
}

impl Default for Content<'_> {
    fn default() -> Self {
        Content {
            common_name: "a server",
            dns: &[],
            not_after: "20991231000000Z",
        }
    }
}

impl Authority {
    pub fn new() -> Authority {
        Authority::new_named("an authority of the tests")
    }

    /// An authority with a name, for tests with two of them.
    pub fn new_named(common_name: &str) -> Authority {
        let key = fresh_key();
        let content = Content {
            common_name,
            ..Content::default()
        };
        let mut builder = begin(&content, &key);
        let name = subject(content.common_name);
        builder.set_issuer_name(&name).expect("issuer");
        let constraints = BasicConstraints::new().critical().ca().build();
        let usage = KeyUsage::new().critical().key_cert_sign().build();
        for extension in [constraints, usage] {
            let extension = extension.expect("an extension");
            builder.append_extension(extension).expect("extension");
        }
        builder.sign(&key, MessageDigest::sha256()).expect("sign");
        Authority(Identity {
            certificate: builder.build(),
            key,
        })
    }

    /// A certificate with these DNS names.
    pub fn identity(&self, dns: &[&str]) -> Identity {
        self.sign(&Content {
            dns,
            ..Content::default()
        })
    }

    /// Signs a certificate with this content.
    pub fn sign(&self, content: &Content<'_>) -> Identity {
        self.sign_key(content, fresh_key())
    }

    /// Does the same for an existing key.
    pub fn sign_key(&self, content: &Content<'_>, key: PKey<Private>) -> Identity {
        let mut builder = begin(content, &key);
        let issuer = self.0.certificate.subject_name();
        builder.set_issuer_name(issuer).expect("issuer");
        name(&mut builder, content.dns, Some(&self.0.certificate));
        let signed = builder.sign(&self.0.key, MessageDigest::sha256());
        signed.expect("sign");
        Identity {
            certificate: builder.build(),
            key,
        }
    }

    pub fn ca_file(&self) -> TempFile {
        self.0.ca_file()
    }
}

/// A self-signed certificate.
pub fn self_signed(dns: &[&str]) -> Identity {
    let key = fresh_key();
    let content = Content::default();
    let mut builder = begin(&content, &key);
    let issuer = subject(content.common_name);
    builder.set_issuer_name(&issuer).expect("issuer");
    name(&mut builder, dns, None);
    builder.sign(&key, MessageDigest::sha256()).expect("sign");
    Identity {
        certificate: builder.build(),
        key,
    }
}

fn fresh_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
    let key = EcKey::generate(&group).expect("a key");
    PKey::from_ec_key(key).expect("a key")
}

fn subject(common_name: &str) -> X509Name {
    let mut name = X509Name::builder().expect("a name");
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)
        .expect("a common name");
    name.build()
}

fn begin(content: &Content<'_>, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().expect("a certificate");
    builder.set_version(2).expect("version 3");
    let mut serial = BigNum::new().expect("a number");
    serial.rand(127, MsbOption::ONE, false).expect("a number");
    let serial = serial.to_asn1_integer().expect("a number");
    builder.set_serial_number(&serial).expect("serial number");
    let name = subject(content.common_name);
    builder.set_subject_name(&name).expect("subject");
    let not_before = Asn1Time::from_str("20200101000000Z").expect("a time");
    let not_after = Asn1Time::from_str(content.not_after).expect("a time");
    builder.set_not_before(&not_before).expect("not before");
    builder.set_not_after(&not_after).expect("not after");
    builder.set_pubkey(key).expect("public key");
    builder
}

fn name(builder: &mut X509Builder, dns: &[&str], issuer: Option<&X509>) {
    if dns.is_empty() {
        return;
    }
    let mut names = SubjectAlternativeName::new();
    for name in dns {
        names.dns(name);
    }
    let issuer = issuer.map(|issuer| &**issuer);
    let names = names.build(&builder.x509v3_context(issuer, None));
    builder
        .append_extension(names.expect("names"))
        .expect("subjectAltName");
}
