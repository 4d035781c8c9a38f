//! TLS to servers: one context per set of trusted authorities.
//!
//! Owns contexts and resumption tickets. A certificate is verified against the XMPP domain,
//! never against the host to which DNS led (RFC 6120, section 13.7.2.1). Only its DNS names
//! count, not the common name, SRV-ID or XmppAddr. TLS 1.2 is the minimum (RFC 7590).
//! Renegotiation and client certificates are not supported.

use std::collections::{BTreeSet, HashMap};
use std::ffi::c_long;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use openssl::error::ErrorStack;
use openssl::ssl::{
    NameType, Ssl, SslConnector, SslMethod, SslSession, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509CheckFlags;

use super::file_stamp::FileStamp;
use super::tls_context::{failed, read_certificates, restrict};
use super::tls_raw::{default_authorities, limit_certificates, resume};

/// Maximum number of tickets, one per domain.
const MAX_TICKETS: usize = 1024;

/// The ciphers that the crate offers with TLS 1.2, without DHE: a server would choose the finite
/// field, and could choose one that takes a second (see also RFC 9325, section 4.1).
const CIPHERS: &str =
    "DEFAULT:!aNULL:!eNULL:!MD5:!3DES:!DES:!RC4:!IDEA:!SEED:!aDSS:!SRP:!PSK:!kDHE";

/// Maximum size of a server's certificates, in bytes. Usual ones have 3 to 10 KiB.
const MAX_CERTIFICATES: c_long = 32 << 10;

/// ALPN of direct TLS (XEP-0368), in wire form.
const ALPN: &[u8] = b"\x0bxmpp-client";

/// Resumption tickets, by domain and by whether the certificate was verified. OpenSSL's
/// interface requires a type that threads can share, although there is only one thread.
type Tickets = Arc<Mutex<HashMap<(String, bool), SslSession>>>;

/// The properties of a new connection.
pub struct TlsRequest<'a> {
    /// The XMPP domain.
    pub domain: &'a str,
    /// Authorities to trust instead of those of the system.
    pub ca_file: Option<&'a Path>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// Whether TLS starts with the first byte, without STARTTLS.
    pub direct: bool,
}

/// The contexts of a worker.
pub struct Contexts {
    system: Rc<Context>,
    files: HashMap<PathBuf, Rc<Context>>,
}

struct Context {
    connector: SslConnector,
    tickets: Tickets,
    /// The files of the authorities, before they were read.
    stamps: Vec<Option<FileStamp>>,
}

impl Contexts {
    /// Creates contexts for the system's authorities and for those of each of `ca_files`.
    ///
    /// # Errors
    /// The file that cannot be used, and why.
    pub fn new<'a>(ca_files: impl Iterator<Item = &'a Path>) -> Result<Contexts, String> {
        Contexts::renew(None, ca_files)
    }

    /// Does what [`Contexts::new`] does, but keeps the `old` contexts of authorities whose files
    /// have not changed: reading those of the system takes 20 ms.
    pub(crate) fn renew<'a>(
        old: Option<&Contexts>,
        ca_files: impl Iterator<Item = &'a Path>,
    ) -> Result<Contexts, String> {
        let (contexts, unusable) = Contexts::of_usable(old, ca_files)?;
        unusable.into_iter().next().map_or(Ok(contexts), Err)
    }

    /// Does what [`Contexts::renew`] does, but leaves out the files that cannot be used. Also
    /// returns which these are, and why.
    pub(crate) fn of_usable<'a>(
        old: Option<&Contexts>,
        ca_files: impl Iterator<Item = &'a Path>,
    ) -> Result<(Contexts, Vec<String>), String> {
        let (mut files, mut unusable) = (HashMap::new(), Vec::new());
        for path in ca_files.collect::<BTreeSet<_>>() {
            let known = old.and_then(|old| old.files.get(path));
            match Context::renew(known, Some(path)) {
                Ok(context) => drop(files.insert(path.to_owned(), context)),
                Err(why) => unusable.push(why),
            }
        }
        let system = Context::renew(old.map(|old| &old.system), None)?;
        Ok((Contexts { system, files }, unusable))
    }

    /// Creates a connection without starting the handshake.
    ///
    /// # Errors
    /// OpenSSL failed, or there is no context for the CA file.
    pub fn connection(&self, request: &TlsRequest<'_>) -> Result<Ssl, String> {
        let context = match request.ca_file {
            None => &self.system,
            Some(path) => {
                let named = self.files.get(path);
                named.ok_or_else(|| format!("{} was not read", path.display()))?
            }
        };
        context.connection(request)
    }
}

impl Context {
    /// Returns the `known` context of these authorities if their files have not changed, else a
    /// new one.
    fn renew(known: Option<&Rc<Context>>, ca_file: Option<&Path>) -> Result<Rc<Context>, String> {
        let stamps = stamps(ca_file);
        let known = known.filter(|known| known.stamps == stamps);
        match known {
            Some(known) => Ok(Rc::clone(known)),
            None => Ok(Rc::new(Context::new(ca_file, stamps)?)),
        }
    }

    fn new(ca_file: Option<&Path>, stamps: Vec<Option<FileStamp>>) -> Result<Context, String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(failed)?;
        builder.set_cipher_list(CIPHERS).map_err(failed)?;
        restrict(&mut builder, SslVersion::TLS1_2)?;
        limit_certificates(&mut builder, MAX_CERTIFICATES);
        if let Some(path) = ca_file {
            let mut store = X509StoreBuilder::new().map_err(failed)?;
            for certificate in read_certificates(path)? {
                store.add_cert(certificate).map_err(failed)?;
            }
            builder.set_cert_store(store.build());
        }
        let tickets = Tickets::default();
        let kept = Arc::clone(&tickets);
        let mode = SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL;
        builder.set_session_cache_mode(mode);
        builder.set_new_session_callback(move |ssl, session| {
            if let Some(domain) = ssl.servername(NameType::HOST_NAME) {
                let verified = ssl.verify_mode() != SslVerifyMode::NONE;
                keep(&kept, (domain.to_owned(), verified), session);
            }
        });
        Ok(Context {
            connector: builder.build(),
            tickets,
            stamps,
        })
    }

    fn connection(&self, request: &TlsRequest<'_>) -> Result<Ssl, String> {
        let words = |error: ErrorStack| error.to_string();
        let mut settings = self.connector.configure().map_err(words)?;
        settings.set_verify_hostname(request.verify);
        if !request.verify {
            settings.set_verify(SslVerifyMode::NONE);
        }
        if request.direct {
            settings.set_alpn_protos(ALPN).map_err(words)?;
        }
        let mut ssl = settings.into_ssl(request.domain).map_err(words)?;
        // Only after `into_ssl`, which sets flags itself.
        let flags = X509CheckFlags::NO_PARTIAL_WILDCARDS | X509CheckFlags::NEVER_CHECK_SUBJECT;
        ssl.param_mut().set_hostflags(flags);
        let key = (request.domain.to_owned(), request.verify);
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = tickets.get(&key) {
            resume(&mut ssl, ticket);
        }
        Ok(ssl)
    }
}

/// The stamps of the file of authorities, or of all places where the system has its own.
fn stamps(ca_file: Option<&Path>) -> Vec<Option<FileStamp>> {
    if let Some(path) = ca_file {
        return vec![FileStamp::of(path)];
    }
    let (file, directories) = default_authorities();
    let file = std::env::var_os("SSL_CERT_FILE").map_or(file, PathBuf::from);
    let directories = std::env::var_os("SSL_CERT_DIR").unwrap_or(directories.into());
    let paths = std::iter::once(file).chain(std::env::split_paths(&directories));
    paths.flat_map(|path| FileStamp::of_all(&path)).collect()
}

fn keep(tickets: &Tickets, key: (String, bool), session: SslSession) {
    let mut tickets = tickets.lock().unwrap_or_else(PoisonError::into_inner);
    if tickets.len() >= MAX_TICKETS && !tickets.contains_key(&key) {
        // Remove any ticket: a domain in frequent use will soon have another.
        if let Some(some) = tickets.keys().next().cloned() {
            tickets.remove(&some);
        }
    }
    tickets.insert(key, session);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::test_identity::identity;

    #[test]
    fn a_reload_reads_only_authorities_that_have_changed() {
        let directory = std::env::temp_dir();
        let [one, other] = ["one", "other"]
            .map(|name| directory.join(format!("{}-{name}.pem", std::process::id())));
        let pem = identity().0.to_pem().unwrap();
        for path in [&one, &other] {
            std::fs::write(path, &pem).unwrap();
        }
        let files = || [&one, &other].into_iter().map(PathBuf::as_path);
        let old = Contexts::new(files()).unwrap();
        // Twice as long, so that it differs even if the clock of the file system stands.
        std::fs::write(&other, pem.repeat(2)).unwrap();
        let new = Contexts::renew(Some(&old), files()).unwrap();
        let is_kept = |path: &Path| Rc::ptr_eq(&old.files[path], &new.files[path]);
        assert!(Rc::ptr_eq(&old.system, &new.system));
        assert!(is_kept(&one) && !is_kept(&other));
        std::fs::write(&other, "no certificate").unwrap();
        assert!(Contexts::renew(Some(&new), files()).is_err());
        for path in [one, other] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
