//! What the loop does beside serving: reload, status, signs of life.
//!
//! Owns the way of a changed configuration into a running process. It is taken
//! as a whole or not at all: the file and every file it names must be good
//! before anything is swapped. Sessions keep what they began with. The keys of
//! the start (port, user and the like) are only compared, and told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;

use super::{REFUSALS, Reactor, token};
use crate::config::{self, Config, Loaded, Problem};
use crate::log::{Level, Log};
use crate::metrics::SharedMetrics;
use crate::net::dns::resolver::Resolver;
use crate::net::listener::Socket;
use crate::net::notify::Notify;
use crate::net::tls_client::Contexts;
use crate::net::tls_server::{self, Endpoint};
use crate::session::Tick;
use crate::shared_memory::SharedText;

/// Descriptors that are no client's or server's: log, resolver, listeners.
const SPARE_DESCRIPTORS: u64 = 64 + REFUSALS as u64;
/// Descriptors of a session: one to each side.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// What a loop needs beside sockets to serve on.
pub struct Upkeep {
    /// The configuration file, from the root.
    pub path: PathBuf,
    /// Who is told how it goes.
    pub notify: Notify,
    /// Which of several workers this is; `None` is the only one, without master.
    pub membership: Option<Membership>,
    /// The metrics of all workers, if there is a master and they are served.
    pub metrics: Option<SharedMetrics>,
}

/// Which of several workers a process is.
#[derive(Clone)]
pub struct Membership {
    /// Its number, from 0 on.
    pub worker: usize,
    /// How many there are, whatever a new configuration asks for.
    pub workers: usize,
    /// The text of the configuration in force. All workers read the same text, even if
    /// the file changes meanwhile.
    pub text: Option<SharedText>,
}

/// Writes what is wrong with a configuration file to the log.
pub fn report(log: &Log, problems: &[Problem]) {
    for problem in problems {
        let level = match problem.what.is_warning() {
            true => Level::Warning,
            false => Level::Err,
        };
        log.startup(level, format_args!("{problem:#}"));
    }
}

/// A configuration read again, and what was made of the files that it names.
pub struct Fresh {
    /// What it says.
    pub config: Config,
    /// TLS to servers.
    pub contexts: Contexts,
    /// The side of browsers.
    pub endpoints: Vec<Rc<Endpoint>>,
}

/// Reads the file again, and checks it and the files that it names; also returns its
/// text. Logs all errors, and that the old configuration stays.
pub fn read_again(path: &Path, log: &Log) -> Option<(String, Fresh)> {
    let read = config::read_again(path);
    let text = read.map_err(|problems| refuse(path, &problems, log)).ok()?;
    let (fresh, warnings) = judge(path, &text, log)?;
    report(log, &warnings);
    Some((text, fresh))
}

/// Checks the text of a configuration and the files that it names; also returns
/// warnings.
fn judge(path: &Path, text: &str, log: &Log) -> Option<(Fresh, Vec<Problem>)> {
    let parsed = config::judge(path, text);
    let Loaded { config, warnings } = parsed
        .map_err(|problems| refuse(path, &problems, log))
        .ok()?;
    let contexts = Contexts::new(config.ca_files());
    let made = contexts.and_then(|contexts| Ok((contexts, Endpoint::all(&config)?)));
    let (contexts, endpoints) = made.map_err(|why| tell_refused(&why, log)).ok()?;
    let fresh = Fresh {
        config,
        contexts,
        endpoints,
    };
    Some((fresh, warnings))
}

/// Logs why a file cannot be used.
fn refuse(path: &Path, problems: &[Problem], log: &Log) {
    report(log, problems);
    let path = path.display();
    let unreadable = |problem: &Problem| matches!(problem.what, config::What::Unreadable(_));
    let why = match problems.iter().any(unreadable) {
        true => format!(
            "{path} must be readable by user id {}, which the daemon runs as",
            geteuid()
        ),
        false => format!("{path} has errors"),
    };
    tell_refused(&why, log);
}

/// Logs that a configuration cannot be used.
pub fn tell_refused(why: &str, log: &Log) {
    log.startup(
        Level::Err,
        format_args!("configuration not reloaded, keeping the old one: {why}"),
    );
}

/// Says that a new configuration is in force, and what of it is not.
pub fn tell_reloaded(old: &Config, new: &Config, log: &Log) {
    let waiting = old.start_keys_changed(new);
    let waiting = match waiting.as_slice() {
        [] => String::new(),
        keys => format!("; restart jabsocket to apply: {}", keys.join(", ")),
    };
    log.startup(
        Level::Notice,
        format_args!("configuration reloaded{waiting}"),
    );
}

/// Logs the sockets without a listener in a new configuration.
pub fn tell_without_rules(sockets: &[&Socket], log: &Log) {
    for socket in sockets {
        let text = format_args!(
            "the socket {socket}{} has no listener in the new configuration; it keeps its old \
             rules and certificates until a restart",
            socket.bound()
        );
        log.startup(Level::Warning, text);
    }
}

/// Logs the certificates that have expired or soon will.
pub fn tell_expiring(endpoints: &[Rc<Endpoint>], log: &Log) {
    for text in tls_server::expiring(endpoints) {
        log.startup(Level::Warning, format_args!("{text}"));
    }
}

/// Says where the daemon listens.
pub fn announce(listeners: &[Socket], log: &Log) {
    let version = env!("CARGO_PKG_VERSION");
    for place in listeners {
        let text = format_args!("version {version} listening on {place}");
        log.startup(Level::Notice, text);
    }
}

/// The kernel's monotonic clock in microseconds, as systemd wants it.
pub fn monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    time.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(0))
}

/// The largest number of sessions that the limit of open files allows.
fn session_limit() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let sessions = files.saturating_sub(SPARE_DESCRIPTORS) / DESCRIPTORS_PER_SESSION;
    usize::try_from(sessions).unwrap_or(usize::MAX).max(1)
}

/// The most sessions at a time that configuration and kernel allow.
pub(super) fn most_sessions(config: &Config, log: &Log) -> usize {
    let limit = session_limit();
    if config.max_connections.is_some_and(|max| max > limit) {
        log.startup(
            Level::Warning,
            format_args!(
                "max_connections is {limit}: the limit on open files (ulimit -n) has no room for more"
            ),
        );
    }
    config.max_connections.map_or(limit, |max| max.min(limit))
}

impl Reactor {
    /// The current configuration, if it is valid: from the file, or with several workers
    /// from the text that the master read.
    fn fresh(&self, log: &Log) -> Option<Fresh> {
        let path = &self.upkeep.path;
        let Some(membership) = &self.upkeep.membership else {
            return read_again(path, log).map(|(_, fresh)| fresh);
        };
        // Without a text, the signal did not come from the master.
        let page = membership.text?.read()?;
        let (fresh, _) = judge(path, &String::from_utf8_lossy(&page), log)?;
        let config = fresh.config.share(membership.worker, membership.workers);
        Some(Fresh { config, ..fresh })
    }

    /// Puts the current configuration in force, if it is valid.
    pub(super) fn reload(&mut self) {
        let log = Rc::clone(&self.shared.log);
        self.upkeep.notify.reloading(monotonic_us());
        let mut taken = false;
        if let Some(Fresh {
            config,
            contexts,
            endpoints,
        }) = self.fresh(&log)
        {
            match self.new_resolver(&config) {
                Ok(resolver) => {
                    log.set_level(config.log_level);
                    if self.upkeep.membership.is_none() {
                        tell_reloaded(&self.start_config, &config, &log);
                    }
                    self.max_sessions = most_sessions(&config, &log);
                    let now = self.shared.now;
                    self.shared.locator.replace_resolver(resolver, now);
                    for listener in &self.listeners {
                        listener.set_patience(config.write_timeout);
                    }
                    let old = &mut self.endpoints;
                    let without = tls_server::replace(old, &self.listeners, &config, &endpoints);
                    if self.upkeep.membership.is_none() {
                        tell_without_rules(&without, &log);
                        tell_expiring(&endpoints, &log);
                    }
                    self.shared.metrics.configured = SystemTime::now();
                    taken = true;
                    self.shared.set_config(Rc::new(config), contexts);
                }
                Err(why) => tell_refused(&why, &log),
            }
        }
        self.shared.metrics.reload_refused = !taken;
        self.upkeep.notify.reloaded(taken);
    }

    fn new_resolver(&self, config: &Config) -> Result<Resolver, String> {
        let registry = self.shared.registry.try_clone();
        let registry = registry.map_err(|error| format!("epoll: {error}"))?;
        Resolver::new(registry, token::RESOLVER, &config.dns_servers)
    }

    /// Writes a line on what the process is doing, whatever the level.
    pub(super) fn tell_status(&self) {
        let mut phases = BTreeMap::new();
        for (_, slot) in &self.sessions {
            *phases.entry(slot.session.phase()).or_insert(0_usize) += 1;
        }
        let phases: Vec<String> = phases
            .iter()
            .map(|(phase, count)| format!("{count} {phase:?}"))
            .collect();
        let parsers = &self.shared.parsers;
        let held = self.shared.memory().bounded();
        self.shared.log.startup(
            Level::Notice,
            format_args!(
                "status: {} sessions ({}), at most {}, {} accepted since the start, {held} bytes held, {} parsers parked",
                self.sessions.len(),
                phases.join(", "),
                self.max_sessions,
                self.accepted,
                parsers.stream.parked() + parsers.message.parked(),
            ),
        );
    }

    /// Gives a sign of life if one is due.
    pub(super) fn give_sign_of_life(&mut self) {
        if self.alive_at.is_some_and(|at| self.shared.now >= at) {
            self.upkeep.notify.alive();
            self.alive_at = self.next_sign_of_life();
        }
    }

    pub(super) fn next_sign_of_life(&self) -> Option<Tick> {
        let period = self.upkeep.notify.watchdog()?;
        let period = Tick::try_from(period.as_millis()).unwrap_or(Tick::MAX / 2);
        Some(self.shared.now + period.max(1))
    }

    /// Tells `notify` now and from now on that this process serves: the log too, unless
    /// its master does. Signals are taken by now: who reads it may send one.
    pub fn tell_ready(&mut self, notify: Notify) {
        self.upkeep.notify = notify;
        if self.upkeep.membership.is_none() {
            announce(&self.listeners, &self.shared.log);
        }
        self.upkeep.notify.ready(std::process::id());
        self.alive_at = self.next_sign_of_life();
    }
}
