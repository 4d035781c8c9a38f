//! Applies a changed configuration to the running process, all or nothing.
//!
//! The file and every file that it names must be valid before anything is swapped. Existing
//! sessions keep their configuration. Start-up keys (port, user and so on) are only
//! compared; changes to them are logged.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;

use super::notices::{log_expiring, log_problems, log_refused, log_reloaded, log_without_rules};
use super::open_files::most_sessions;
use super::{Reactor, token};
use crate::config::{self, Config, Loaded, Problem, Sources};
use crate::log::Log;
use crate::net::dns::resolver::Resolver;
use crate::net::endpoint::{self, Endpoint};
use crate::net::tls_client::Contexts;

/// A new configuration, with what was made of the files that it names.
pub struct Reloaded {
    pub config: Config,
    pub contexts: Contexts,
    /// The rules and TLS of the listeners.
    pub endpoints: Vec<Rc<Endpoint>>,
}

/// Reads the configuration again, and checks it and the files that it names, except authorities
/// in `old` whose files have not changed. Also returns its text. Logs all errors, and that the
/// old configuration stays.
pub fn read_again(path: &Path, old: Option<&Contexts>, log: &Log) -> Option<(String, Reloaded)> {
    let sources = Sources::read_again(path);
    let (reloaded, warnings) = judge(path, &sources, old, log)?;
    log_problems(log, &warnings);
    Some((sources.encode(), reloaded))
}

/// Checks a configuration and the files that it names; also returns warnings.
fn judge(
    path: &Path,
    sources: &Sources,
    old: Option<&Contexts>,
    log: &Log,
) -> Option<(Reloaded, Vec<Problem>)> {
    let judged = sources.judge();
    let Loaded { config, warnings } = judged
        .map_err(|problems| refuse(path, &problems, log))
        .ok()?;
    let contexts = Contexts::renew(old, config.ca_files());
    let made = contexts.and_then(|contexts| Ok((contexts, Endpoint::all(&config)?)));
    let (contexts, endpoints) = made.map_err(|why| log_refused(&why, log)).ok()?;
    let reloaded = Reloaded {
        config,
        contexts,
        endpoints,
    };
    Some((reloaded, warnings))
}

/// Logs why a configuration cannot be used.
fn refuse(path: &Path, problems: &[Problem], log: &Log) {
    log_problems(log, problems);
    let unreadable = |problem: &&Problem| matches!(problem.what, config::What::Unreadable(_));
    let why = match problems.iter().find(unreadable) {
        Some(Problem { file, .. }) => format!(
            "{file} must be readable by user id {}, which the daemon runs as",
            geteuid()
        ),
        None => format!("{} has errors", path.display()),
    };
    log_refused(&why, log);
}

/// The kernel's monotonic clock in microseconds, which systemd expects in a notification.
pub fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(0))
}

impl Reactor {
    /// Reads the current configuration, if it is valid. With several workers it comes from
    /// the text that the master has read.
    fn read_config(&self, log: &Log) -> Option<Reloaded> {
        let (path, old) = (&self.setup.path, Some(&self.shared.config.tls));
        let Some(membership) = &self.setup.membership else {
            return read_again(path, old, log).map(|(_, reloaded)| reloaded);
        };
        // Without a text, the signal did not come from the master.
        let text = membership.text.read()?;
        let sources = Sources::decode(&String::from_utf8_lossy(&text));
        let (reloaded, _) = judge(path, &sources, old, log)?;
        let config = reloaded.config.share(membership.worker, membership.workers);
        Some(Reloaded { config, ..reloaded })
    }

    /// Applies the current configuration, if it is valid.
    pub(super) fn reload(&mut self) {
        self.setup.notify.reloading(monotonic_us());
        let taken = self.take_configuration();
        let now = Some(SystemTime::now());
        let metrics = &mut self.shared.metrics;
        metrics.reload_refused = now.filter(|_| !taken);
        metrics.reloaded = now.filter(|_| taken).or(metrics.reloaded);
        self.setup.notify.reloaded(taken);
    }

    /// Returns whether a new configuration is active; if not, the log says why.
    fn take_configuration(&mut self) -> bool {
        let log = Rc::clone(&self.shared.log);
        let Some(reloaded) = self.read_config(&log) else {
            return false;
        };
        let Reloaded {
            config,
            contexts,
            endpoints,
        } = reloaded;
        let resolver = match self.new_resolver(&config) {
            Ok(resolver) => resolver,
            Err(why) => {
                log_refused(&why, &log);
                return false;
            }
        };
        log.set_level(config.log_level);
        self.acceptor.max_sessions = most_sessions(&config, &log);
        let now = self.shared.now;
        self.shared.locator.replace_resolver(resolver, now);
        for listener in &self.acceptor.listeners {
            listener.set_send_timeout(config.write_timeout);
        }
        let old = &mut self.acceptor.endpoints;
        let without_rules = endpoint::replace(old, &self.acceptor.listeners, &config, &endpoints);
        let config = Rc::new(config);
        self.shared.metrics.configured = SystemTime::now();
        self.shared.metrics.certificates = endpoint::expiries(&self.acceptor.endpoints);
        self.shared.set_config(Rc::clone(&config), contexts);
        // With several workers the master logs this.
        if self.setup.membership.is_none() {
            log_reloaded(&self.start_config, &config, &log);
            log_without_rules(&without_rules, &log);
            log_expiring(&endpoints, &log);
        }
        true
    }

    fn new_resolver(&self, config: &Config) -> Result<Resolver, String> {
        let registry = self.shared.registry.try_clone();
        let registry = registry.map_err(|error| format!("cannot use epoll: {error}"))?;
        Resolver::new(registry, token::RESOLVER, &config.dns_servers)
    }
}
