//! Log lines about the process as a whole.

use std::rc::Rc;

use super::Reactor;
use crate::config::{Config, Problem};
use crate::log::{Level, Log};
use crate::net::endpoint::{self, Endpoint};
use crate::net::listener::Socket;
use crate::session::Phase;

/// Logs the errors and warnings of a configuration file.
pub fn log_problems(log: &Log, problems: &[Problem]) {
    for problem in problems {
        let level = match problem.what.is_warning() {
            true => Level::Warning,
            false => Level::Err,
        };
        log.startup(level, format_args!("{problem:#}"));
    }
}

/// Logs that a new configuration cannot be used.
pub fn log_refused(why: &str, log: &Log) {
    log.startup(
        Level::Err,
        format_args!("configuration not reloaded, keeping the old one: {why}"),
    );
}

/// Logs that a new configuration is active, and which keys need a restart.
pub fn log_reloaded(old: &Config, new: &Config, log: &Log) {
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

/// Logs the sockets that have no listener in a new configuration.
pub fn log_without_rules(sockets: &[&Socket], log: &Log) {
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
pub fn log_expiring(endpoints: &[Rc<Endpoint>], log: &Log) {
    for text in endpoint::expiring(endpoints) {
        log.startup(Level::Warning, format_args!("{text}"));
    }
}

/// Logs the addresses on which the daemon listens.
pub fn log_listeners(listeners: &[Socket], log: &Log) {
    let version = env!("CARGO_PKG_VERSION");
    for listener in listeners {
        let text = format_args!("version {version} listening on {listener}");
        log.startup(Level::Notice, text);
    }
}

impl Reactor {
    /// Logs what the process is doing, whatever the level.
    pub(super) fn log_status(&self) {
        // The metrics count the sessions of each phase; to look at all would take too long.
        let counts = self.shared.metrics.sessions_by_phase().enumerate();
        let phases: Vec<String> = counts
            .filter(|(_, count)| *count > 0)
            .map(|(phase, count)| format!("{count} {}", Phase::NAMES[phase]))
            .collect();
        let parsers = &self.shared.parsers;
        let held = self.shared.memory().bounded();
        self.shared.log.startup(
            Level::Notice,
            format_args!(
                "status: {} sessions ({}), at most {}, {} accepted since the start, {held} bytes held, \
                 {} parsers parked, generation {}{}",
                self.sessions.len(),
                phases.join(", "),
                self.acceptor.max_sessions,
                self.shared.metrics.accepted,
                parsers.stream.parked() + parsers.message.parked(),
                self.setup.generation,
                if self.ending.is_retired() { ", retired" } else { "" },
            ),
        );
    }
}
