//! Counts a session in the metrics.

use super::machine::Machine;
use crate::config::{Config, DomainRule};
use crate::metrics::{Metrics, State};
use crate::proto::xmpp::features::StreamLimits;

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
        self.server = server.map_or(0, |server| metrics.series.enter_server(server));
    }

    fn leave_server(&mut self, metrics: &mut Metrics) {
        if self.server > 0 {
            metrics.series.leave(std::mem::take(&mut self.server));
        }
    }

    /// Counts the session in the state of its machine, and for the entry of its domain once it
    /// has named one.
    pub(super) fn update(
        &mut self,
        machine: &Machine,
        domain: Option<&str>,
        config: &Config,
        metrics: &mut Metrics,
    ) {
        let state = Some((machine.phase() as u8, machine.dialect()));
        metrics.change_state(std::mem::replace(&mut self.state, state), state);
        if self.domain.is_none()
            && let Some(domain) = domain
        {
            let entry = match config.domain(domain) {
                DomainRule::Listed(entry) => Some(entry.name.as_str()),
                DomainRule::Any | DomainRule::Unlisted => None,
            };
            self.domain = Some(metrics.series.enter_domain(entry));
        }
    }

    /// Notes the stream limits that the client was told, for the entry of its domain.
    pub(super) fn note_limits(&self, limits: StreamLimits, metrics: &mut Metrics) {
        if let Some(domain) = self.domain {
            metrics.series.note_limits(domain, limits);
        }
    }

    /// Removes a session that is over from the counts.
    pub(super) fn leave(&mut self, metrics: &mut Metrics) {
        self.leave_server(metrics);
        let Tally { state, domain, .. } = std::mem::take(self);
        metrics.change_state(state, None);
        if let Some(at) = domain {
            metrics.series.leave(at);
        }
    }
}
