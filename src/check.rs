//! `--check-config`: checks the configuration, and the files and addresses that it names.
//!
//! Opens the files that the configuration names, as this user and as the configured user,
//! and tries to bind the addresses. Keeps nothing open and does not disturb a running
//! daemon: an address in use may belong to the daemon that is about to reload. Drops this
//! process's privileges, if it has any.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

use crate::config::{self, Config, ListenAddress, Listener, Loaded, StatusAddress};
use crate::daemon::privileges::Identity;
use crate::net::bind;
use crate::net::endpoint::{self, Endpoint};
use crate::net::tls_client::Contexts;

/// Checks the configuration file at `path` and everything that it names, and prints the
/// result. Returns whether the configuration can be used, and that could be printed.
pub fn run(path: &Path) -> bool {
    let config = load(path);
    let mut check = Check {
        path,
        failed: config.is_none(),
    };
    if let Some(config) = config {
        check.check(&config);
    }
    if check.failed {
        print_refusal(path);
        return false;
    }
    let file = path.display();
    writeln!(std::io::stdout(), "{file}: the configuration is good").is_ok()
}

/// Reads the configuration file at `path`, and prints all errors and warnings. Returns
/// `None` if there are errors.
pub(crate) fn load(path: &Path) -> Option<Config> {
    let loaded = config::load(path);
    let (Ok(Loaded {
        warnings: problems, ..
    })
    | Err(problems)) = &loaded;
    for problem in problems {
        eprintln!("{problem}");
    }
    Some(loaded.ok()?.config)
}

pub(crate) fn print_refusal(path: &Path) {
    eprintln!("{}: this configuration cannot be used", path.display());
}

struct Check<'a> {
    path: &'a Path,
    /// The daemon would not start, or would refuse a reload.
    failed: bool,
}

impl Check<'_> {
    fn error(&mut self, text: &str) {
        eprintln!("{}: {text}", self.path.display());
        self.failed = true;
    }

    /// Prints a possible failure.
    fn warn(&self, text: &str) {
        eprintln!("{}: warning: {text}", self.path.display());
    }

    /// Prints something that cannot be checked.
    fn note(&self, text: &str) {
        println!("{}: note: {text}", self.path.display());
    }

    fn check(&mut self, config: &Config) {
        let identity = Identity::look_up(config.user.as_deref(), config.group.as_deref());
        if let Err(why) = &identity {
            self.error(why);
        }
        if let Err(why) = Contexts::new(config.ca_files()) {
            self.error(&why);
        }
        match Endpoint::all(config) {
            Ok(endpoints) => endpoint::expiring(&endpoints).for_each(|text| self.warn(text)),
            Err(why) => self.error(&why),
        }
        for listener in &config.listeners {
            self.check_listener(listener);
        }
        for worker in 0..config.workers {
            for address in config.status_addresses(worker) {
                match &address {
                    StatusAddress::Tcp(tcp) => self.check_address(*tcp, tcp.is_ipv6()),
                    StatusAddress::Unix(path) => self.check_directory(path),
                }
            }
        }
        // Last, because dropped privileges cannot be regained.
        if let Ok(identity) = identity
            && !self.failed
            && (config.user.is_some() || config.group.is_some())
        {
            self.check_files_as(&identity, config);
        }
    }

    fn check_listener(&self, listener: &Listener) {
        for (address, only_v6) in bind::addresses(listener) {
            self.check_address(address, only_v6);
        }
        for path in listener.listen.iter().filter_map(ListenAddress::path) {
            self.check_directory(path);
        }
    }

    /// Checks that a socket can be created in the directory of `path`.
    fn check_directory(&self, path: &Path) {
        let directory = path.parent().unwrap_or(Path::new("/"));
        if let Err(why) = access(directory, AccessFlags::W_OK | AccessFlags::X_OK) {
            let (path, why) = (path.display(), why.desc());
            self.warn(&format!(
                "cannot listen on unix:{path}: its directory: {why}"
            ));
        }
    }

    /// Never reports an error: another user may start the daemon, or systemd may pass the
    /// sockets.
    fn check_address(&self, address: SocketAddr, only_v6: bool) {
        match bind::try_bind(address, only_v6) {
            Ok(()) => {}
            Err(why) if why.kind() == ErrorKind::AddrInUse => self.note(&format!(
                "{address} is in use, by the running daemon or by another program"
            )),
            Err(why) => self.warn(&format!("cannot listen on {address}: {why}")),
        }
    }

    /// Opens all files as the user who will read them at a reload.
    fn check_files_as(&mut self, identity: &Identity, config: &Config) {
        let user = identity.user().unwrap_or("the user that starts the daemon");
        if !identity.is_reachable() {
            self.note(&format!(
                "only root can check whether user '{user}' can read the files"
            ));
            return;
        }
        if !geteuid().is_root() {
            return;
        }
        if let Err(why) = identity.assume() {
            return self.error(&why);
        }
        let pairs = config.listeners.iter().flat_map(|l| &l.certificates);
        let pairs = pairs.flat_map(|pair| [pair.certificate.as_path(), &pair.key]);
        let included = config.included.iter().map(PathBuf::as_path);
        let named = pairs.chain(config.ca_files()).chain(included);
        let files: BTreeSet<&Path> = named.chain([self.path]).collect();
        for file in files {
            if let Err(why) = File::open(file) {
                let file = file.display();
                self.warn(&format!(
                    "{file} cannot be read as user '{user}': {why}; a reload will fail"
                ));
            }
        }
    }
}
