//! Counts a session in the metrics.

use super::Session;
use super::shared::Shared;
use crate::config::DomainRule;
use crate::metrics::{Metrics, State};

/// How a session is currently counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    state: Option<State>,
    /// The series of its domain.
    domain: Option<u16>,
    /// The series of its server; 0 if there is none.
    server: u16,
}

impl Tally {
    /// Counts the session at the configured server that answered, if it is one.
    pub(super) fn enter_server(&mut self, server: Option<&str>, metrics: &mut Metrics) {
        self.leave_server(metrics);
        self.server = server.map_or(0, |server| metrics.enter_server(server));
    }

    fn leave_server(&mut self, metrics: &mut Metrics) {
        if self.server > 0 {
            metrics.leave_domain(std::mem::take(&mut self.server));
        }
    }
}

impl Session {
    /// Counts the session in its current state. It must be called before the first turn, and
    /// whenever the state has changed.
    pub fn tally(&mut self, shared: &mut Shared) {
        let metrics = &mut shared.metrics;
        let state = Some((self.machine.phase().index() as u8, self.machine.dialect()));
        metrics.change_state(std::mem::replace(&mut self.tally.state, state), state);
        if self.tally.domain.is_none()
            && let Some(domain) = &self.domain
        {
            let entry = match self.config.domain(domain) {
                DomainRule::Listed(entry) => Some(entry.name.as_str()),
                DomainRule::Any | DomainRule::Unlisted => None,
            };
            self.tally.domain = Some(metrics.enter_domain(entry));
        }
    }

    /// Removes a session that is over from the counts.
    pub(super) fn untally(&mut self, shared: &mut Shared) {
        self.tally.leave_server(&mut shared.metrics);
        let Tally { state, domain, .. } = std::mem::take(&mut self.tally);
        shared.metrics.change_state(state, None);
        if let Some(at) = domain {
            shared.metrics.leave_domain(at);
        }
    }
}
