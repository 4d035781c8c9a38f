//! Warnings at the start about a configuration that works but may surprise.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::unistd::{AccessFlags, access};

use super::owned_files::OwnedFiles;
use crate::config::{Config, Listener};
use crate::daemon::pid_file::PidFile;
use crate::daemon::privileges::Identity;
use crate::log::{Level, Log};
use crate::net::endpoint::Endpoint;
use crate::net::listener_choice::Named;
use crate::net::socket_file::SocketFile;

/// Warns if the daemon runs as root, or if its user cannot read the configuration.
pub(super) fn of_identity(identity: &Identity, config: &Config, path: &Path, log: &Log) {
    if identity.is_root_by_default() {
        let text = "serving as root; set 'user' to run as another user";
        log.startup(Level::Warning, format_args!("{text}"));
    }
    let included = config.included.iter().map(PathBuf::as_path);
    for path in [path].into_iter().chain(included) {
        // Without opening it: it may be a pipe.
        if let Err(error) = access(path, AccessFlags::R_OK) {
            let (path, error) = (path.display(), std::io::Error::from(error));
            let user = identity.user().unwrap_or_default();
            let text =
                format_args!("{path} cannot be read as user '{user}': {error}; a reload will fail");
            log.startup(Level::Warning, text);
        }
    }
}

/// Warns about listeners without a socket from systemd.
pub(super) fn of_unserved_listeners(endpoints: &[Rc<Endpoint>], config: &Config, log: &Log) {
    let is_bound = |rules: &&Listener| endpoints.iter().any(|endpoint| endpoint.rules == **rules);
    for rules in config.listeners.iter().filter(|rules| !is_bound(rules)) {
        let named = Named(rules);
        let text =
            format_args!("the listener {named} has no socket in LISTEN_FDS and is not served");
        log.startup(Level::Warning, text);
    }
}

/// Warns about files of the previous generation that somebody has removed.
pub(super) fn of_missing_files(files: &OwnedFiles, log: &Log) {
    let sockets = files.sockets.iter().filter(|file| file.is_missing());
    let pid_file = files.pid_file.iter().filter(|file| file.is_missing());
    let missing = sockets
        .map(SocketFile::path)
        .chain(pid_file.map(PidFile::path));
    for path in missing.map(Path::display) {
        let text =
            format_args!("{path} was removed or replaced; restart jabsocket to create it again");
        log.startup(Level::Warning, text);
    }
}

/// Warns if browsers may reach any domain, and if a server's certificate is not verified.
pub(super) fn of_domains(config: &Config, path: &Path, log: &Log) {
    if config.domains.is_none() && config.servers.is_empty() {
        log.startup(
            Level::Warning,
            format_args!(
                "no 'domains' in {}: browsers may reach the XMPP server of any domain through this host",
                path.display()
            ),
        );
    }
    for domain in config.domains.iter().flat_map(|domains| domains.iter()) {
        if !domain.access.verify {
            log.startup(
                Level::Warning,
                format_args!(
                    "'verify: false': the certificate of the server of {} is not verified",
                    domain.name
                ),
            );
        }
    }
}
