//! Notes whether the server could be reached: for the other sessions that want it, and in the
//! log.

use crate::log::{Escaped, Level};
use crate::session::Session;
use crate::session::machine::{Cause, Event, Phase};
use crate::session::shared::Shared;

impl Session {
    /// Records whether the server opened a stream, and lets other sessions connect to it.
    pub(in crate::session) fn remember_server(
        &mut self,
        before: Phase,
        event: Event,
        cause: Option<Cause>,
        shared: &mut Shared,
    ) {
        let (route, servers) = (&self.server.route, &mut shared.servers);
        if let Some(route) = route
            && let Some(target) = &route.target
            && (Phase::Securing..=Phase::Greeting).contains(&before)
        {
            let caller = route.caller();
            // If little time was left, a timeout says nothing about the server.
            let late = matches!(event, Event::Deadline { .. });
            let had_time = !late || route.wait.had_time(shared.now);
            let failed = cause.is_some_and(|cause| cause.unreachable(before).is_some());
            match event {
                Event::Greeted => {
                    servers.note_answer(target, &caller.domain);
                    let server = target.server.as_deref();
                    self.tally.enter_server(server, &mut shared.metrics);
                }
                _ if event != Event::Insecure && !failed => {}
                _ if had_time => servers.note_no_stream(target, caller, shared.now),
                _ => {}
            }
        }
        let dials = matches!(
            self.machine.phase(),
            Phase::Connecting | Phase::Securing | Phase::Greeting
        );
        if !dials || event == Event::Insecure {
            servers.queue.leave(self.token as usize);
        }
        shared.count_results();
    }

    /// Logs that the server answers again.
    pub(in crate::session) fn note_recovery(&mut self, shared: &mut Shared) {
        let Some(domain) = &self.domain else {
            return;
        };
        if let Some(outage) = shared.outages.recover(domain) {
            let secs = (shared.now - outage.since) / 1000;
            shared.log.notice(format_args!(
                "session {}: the server of {} answers again, after {secs} s and {} failed \
                 sessions",
                self.log.name,
                Escaped(domain),
                outage.sessions,
            ));
        }
    }

    /// Logs that the server could not be reached: once per minute for each domain, otherwise at
    /// LOG_DEBUG.
    pub(in crate::session) fn note_outage(&mut self, why: &str, detail: &str, shared: &mut Shared) {
        let Some(domain) = &self.domain else {
            return;
        };
        let others = shared.outages.fail(domain, shared.now);
        let level = match others {
            Some(_) => Level::Notice,
            None => Level::Debug,
        };
        let others = match others.unwrap_or(0) {
            0 => String::new(),
            1 => " (and 1 more session since the last such line)".to_owned(),
            n => format!(" (and {n} more sessions since the last such line)"),
        };
        let separator = match why.is_empty() || detail.is_empty() {
            true => "",
            false => ": ",
        };
        shared.log.line(
            level,
            format_args!(
                "session {}: cannot reach the server of {}: {why}{separator}{detail}{others}",
                self.log.name,
                Escaped(domain),
            ),
        );
    }
}
