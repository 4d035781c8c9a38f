//! Follows a server's redirect to another server (RFC 6120, section 4.9.3.19).
//!
//! Reads the target and drops the state that belongs to the first server. The machine decides
//! whether the session can still follow the redirect without the client noticing, and `route`
//! connects to the other server.

use super::Session;
use super::machine::Event;
use super::shared::Shared;
use super::step::Step;
use crate::log::Escaped;
use crate::net::dns::locator::PORT;
use crate::proto::xmpp::address;

impl Session {
    /// Handles a redirect to the host `to`.
    pub(super) fn take_see_other(&mut self, to: &str, shared: &mut Shared) {
        shared.observer.tell(&Step::Redirected(to));
        let place = host_and_port(to);
        let usable = place.is_some();
        // Without a route it is too late to follow the redirect.
        let detail = match &mut self.route {
            None => "see-other-host",
            Some(route) => {
                route.see_other = place;
                shared.log.info(format_args!(
                    "session {}: the server of {} redirects its clients to {}",
                    self.log.name(),
                    Escaped(&route.name),
                    Escaped(to),
                ));
                "too many see-other-host redirects, or an unusable target"
            }
        };
        self.step(Event::SeeOther { usable }, detail, shared);
    }

    /// Starts again with the target of the redirect.
    pub(super) fn follow(&mut self, shared: &mut Shared) {
        shared.servers.leave(self.token as usize);
        self.server.close();
        self.stream = Default::default();
        self.stream_paused = false;
        self.server_error = None;
        if let Some(route) = &mut self.route
            && let Some((name, port)) = route.see_other.take()
            && let Some(query) = route.lead_to(name, port)
        {
            shared.forget_look_up(query);
        }
        self.look_up(shared);
    }
}

/// Parses the host and port of a `see-other-host`. IPv6 addresses are in brackets.
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
