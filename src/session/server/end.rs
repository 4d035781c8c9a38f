//! Reports the end of the server's side: the end of its stream, the loss of its connection, or a
//! broken rule. The machine decides what the client is told.

use crate::log::Escaped;
use crate::proto::xmpp::error::Condition;
use crate::session::Session;
use crate::session::machine::{Event, Phase};
use crate::session::shared::Shared;

impl Session {
    /// Handles the end tag of the server's stream.
    pub(super) fn end_server_stream(&mut self, shared: &mut Shared) {
        self.step(Event::ServerEnded, self.server_error_name(), shared);
    }

    /// Handles the end or loss of the connection to the server.
    pub(super) fn lose_server(&mut self, shared: &mut Shared) {
        self.step(Event::ServerGone, self.server_error_name(), shared);
    }

    /// Handles a server that broke the rule `why`.
    pub(super) fn blame_server(&mut self, why: &str, shared: &mut Shared) {
        // Before that phase, the line about the unreachable server has the reason.
        if self.machine.phase() == Phase::Relaying {
            shared.log.warning(format_args!(
                "session {}: the server of {} sent an invalid stream: {why}",
                self.log.name,
                Escaped(self.domain.as_deref().unwrap_or_default()),
            ));
        }
        self.step(Event::ServerViolation, why, shared);
    }

    /// Returns the condition of the server's stream error; empty if there was none.
    fn server_error_name(&self) -> &'static str {
        self.server_error.map_or("", Condition::name)
    }
}
