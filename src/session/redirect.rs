//! A server that sends its clients to another one (RFC 6120, section 4.9.3.19).
//!
//! Owns the decision whether the session can follow within the set-up, unseen by the
//! client, and what it forgets of the first server. `route` connects to the other one.

use super::Session;
use super::deadlines::millis;
use super::phase::{Event, Phase};
use super::shared::Shared;
use crate::log::Escaped;
use crate::net::dns::locator::PORT;
use crate::proto::xmpp::address;
use crate::proto::xmpp::error::StreamError;

/// How often a server may send its clients elsewhere (RFC 6120, section
/// 4.9.3.19).
const MAX_REDIRECTS: u8 = 2;

impl Session {
    /// Follows a server that sends its clients elsewhere, inside the set-up and
    /// unseen by the client.
    pub(super) fn redirect(&mut self, to: &str, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let place = (route.redirects < MAX_REDIRECTS)
            .then(|| host_and_port(to))
            .flatten();
        shared.log.info(format_args!(
            "session {}: the server of {} sends its clients to {}",
            self.report.name(),
            Escaped(&route.name),
            Escaped(to),
        ));
        let Some((name, port)) = place else {
            let told =
                StreamError::RemoteConnectionFailed("redirects did not lead to a usable server");
            return self.unreachable(
                told,
                "too many see-other-host redirects, or an unusable target",
                shared,
            );
        };
        shared.servers.leave(self.token as usize);
        if let Some(query) = route.lead_to(name, port) {
            shared.forget_look_up(query);
        }
        self.stream = Default::default();
        self.stream_paused = false;
        self.server_error = None;
        self.server.close();
        if self.phase == Phase::Relaying {
            // Replaces the deadline of the next Ping.
            self.phase_deadline = shared.now + millis(self.config.connect_timeout);
        }
        self.step(Event::Redirected, "", shared);
    }

    /// Whether only stream headers were exchanged with the server.
    pub(super) fn may_redirect(&self) -> bool {
        self.route
            .as_ref()
            .is_some_and(|route| route.queue.is_empty())
    }

    /// Whether this is not the first server of the session.
    pub(super) fn is_redirected(&self) -> bool {
        self.route.as_ref().is_some_and(|route| route.redirects > 0)
    }
}

/// Host and port of a `see-other-host`; IPv6 addresses stand in brackets.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, port.strip_prefix(':'))
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => PORT,
    };
    let numeric: Option<std::net::IpAddr> = host.parse().ok();
    let name = match numeric {
        Some(address) => address.to_string(),
        None => address::domain(Some(host))
            .and_then(|name| address::to_ascii(&name))
            .ok()?,
    };
    Some((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_see_other_host() {
        let place = |text: &str| host_and_port(text).map(|(host, port)| format!("{host} {port}"));
        for (text, expected) in [
            ("b.example", "b.example 5222"),
            ("B.example:5333", "b.example 5333"),
            ("192.0.2.1:5", "192.0.2.1 5"),
            ("[2001:db8::1]:5", "2001:db8::1 5"),
            ("[2001:db8::1]", "2001:db8::1 5222"),
            ("2001:db8::1", "2001:db8::1 5222"),
        ] {
            assert_eq!(place(text).as_deref(), Some(expected));
        }
        for text in [
            "", ":5", "a:0", "a:x", "a:99999", "a b", "u@h", "[::1", "127.1",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
