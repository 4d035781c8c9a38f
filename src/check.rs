//! `--check-config`: what a start or a reload needs besides the file itself.
//!
//! Opens the files that the configuration names, as this user and as the configured
//! user, and tries to bind addresses. Keeps nothing, and does not disturb a running
//! daemon: an address in use may be in use by the daemon that is about to reload.
//! Drops this process's privileges if it has any.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};

use crate::config::{self, Config, ListenAddress, Listener, Loaded};
use crate::daemon::privileges::Identity;
use crate::net::listener;
use crate::net::tls_client::Contexts;
use crate::net::tls_server::{self, Endpoint};

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Reasons why the daemon would not start, or would refuse a reload.
    pub errors: Vec<String>,
    /// What may fail now or soon.
    pub warnings: Vec<String>,
    /// What cannot be checked.
    pub notes: Vec<String>,
}

/// Checks the configuration file at `path` and everything that it names. Prints what it
/// found, except for the line that it returns, which says that the file can be used.
pub fn tell(path: &Path) -> Option<String> {
    let file = path.display();
    let (problems, config) = match config::load(path) {
        Ok(Loaded { config, warnings }) => (warnings, Some(config)),
        Err(problems) => (problems, None),
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    let findings = config.map(|config| look(path, &config));
    if let Some(findings) = &findings {
        for text in &findings.errors {
            eprintln!("{file}: {text}");
        }
        for text in &findings.warnings {
            eprintln!("{file}: warning: {text}");
        }
        for text in &findings.notes {
            println!("{file}: note: {text}");
        }
    }
    if findings.is_none_or(|findings| !findings.errors.is_empty()) {
        eprintln!("{file}: this configuration cannot be used");
        return None;
    }
    Some(format!("{file}: the configuration is good\n"))
}

/// Checks what the configuration in the file at `path` names.
pub fn look(path: &Path, config: &Config) -> Findings {
    let mut findings = Findings::default();
    let identity = Identity::look_up(config.user.as_deref(), config.group.as_deref());
    findings.errors.extend(identity.as_ref().err().cloned());
    findings
        .errors
        .extend(Contexts::new(config.ca_files()).err());
    match Endpoint::all(config) {
        Ok(endpoints) => {
            let expiring = tls_server::expiring(&endpoints);
            findings.warnings.extend(expiring.map(str::to_owned));
        }
        Err(why) => findings.errors.push(why),
    }
    for listener in &config.listeners {
        findings.try_listener(listener);
    }
    for worker in 0..config.workers {
        let worker = u16::try_from(worker).unwrap_or(u16::MAX);
        for address in config.status_addresses(worker) {
            findings.tell_bound(&address, listener::try_bind(address, address.is_ipv6()));
        }
    }
    // Last, because the privileges cannot be regained.
    if findings.errors.is_empty()
        && let Ok(identity) = identity
        && (config.user.is_some() || config.group.is_some())
    {
        findings.look_as(&identity, path, config);
    }
    findings
}

impl Findings {
    fn try_listener(&mut self, listener: &Listener) {
        for (address, only_v6) in listener::addresses(listener) {
            self.tell_bound(&address, listener::try_bind(address, only_v6));
        }
        for path in listener.listen.iter().filter_map(ListenAddress::path) {
            let directory = path.parent().unwrap_or(Path::new("/"));
            if let Err(why) = access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
                let (path, why) = (path.display(), why.desc());
                let text = format!("cannot listen on unix:{path}: its directory: {why}");
                self.warnings.push(text);
            }
        }
    }

    /// Never an error: another user may start the daemon, and systemd may pass sockets.
    fn tell_bound(&mut self, address: &impl ToString, bound: Result<(), Error>) {
        let address = address.to_string();
        match bound {
            Ok(()) => {}
            Err(why) if why.kind() == ErrorKind::AddrInUse => self.notes.push(format!(
                "{address} is in use, by the running daemon or by another program"
            )),
            Err(why) => self
                .warnings
                .push(format!("cannot listen on {address}: {why}")),
        }
    }

    /// Opens all files as the user who reads them at a reload.
    fn look_as(&mut self, identity: &Identity, path: &Path, config: &Config) {
        let user = identity.user().unwrap_or("the user of the start");
        if !identity.is_reachable() {
            self.notes.push(format!(
                "only root can check whether user '{user}' can read the files"
            ));
            return;
        }
        if !geteuid().is_root() {
            return;
        }
        if let Err(why) = identity.assume() {
            self.errors.push(why);
            return;
        }
        let pairs = config.listeners.iter().flat_map(|l| &l.certificates);
        let pairs = pairs.flat_map(|pair| [pair.certificate.as_path(), &pair.key]);
        let mut files: Vec<&Path> = [path]
            .into_iter()
            .chain(pairs)
            .chain(config.ca_files())
            .collect();
        files.sort();
        files.dedup();
        for file in files {
            if let Err(why) = File::open(file) {
                let file = file.display();
                let text =
                    format!("{file} cannot be read as user '{user}': {why}; a reload will fail");
                self.warnings.push(text);
            }
        }
    }
}
