//! The number of sessions that the limit on open files allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::accept::REFUSALS;
use crate::config::Config;
use crate::log::{Level, Log};

/// Descriptors outside of sessions: log, resolver, listeners, refused clients.
const SPARE_DESCRIPTORS: u64 = 64 + REFUSALS as u64;
/// Descriptors of a session: one for each side.
const DESCRIPTORS_PER_SESSION: u64 = 2;

/// The number of sessions that the limit on open files allows. Raises the soft limit to the
/// hard limit first.
fn session_limit() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    let sessions = files.saturating_sub(SPARE_DESCRIPTORS) / DESCRIPTORS_PER_SESSION;
    usize::try_from(sessions).unwrap_or(usize::MAX).max(1)
}

/// The maximum number of sessions that both the configuration and the kernel allow.
pub(super) fn most_sessions(config: &Config, log: &Log) -> usize {
    let limit = session_limit();
    if config.max_connections.is_some_and(|max| max > limit) {
        log.startup(
            Level::Warning,
            format_args!(
                "max_connections reduced to {limit}: the limit on open files (ulimit -Hn) does not \
                 allow more"
            ),
        );
    }
    config.max_connections.map_or(limit, |max| max.min(limit))
}
