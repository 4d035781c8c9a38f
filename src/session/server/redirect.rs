//! Reads and follows a server's redirect to another server (RFC 6120, section 4.9.3.19).
//!
//! The machine decides whether the session can still follow the redirect without the client
//! noticing.

use super::look_up::ServerLookUp;
use super::route::{Route, Securing};
use crate::log::Escaped;
use crate::net::dial::Dial;
use crate::net::dns::locator::PORT;
use crate::net::servers::Caller;
use crate::proto::xmpp::address;
use crate::session::machine::Event;
use crate::session::shared::Shared;
use crate::session::step::Step;

impl Route {
    /// Handles a redirect to the host `to`. Returns what happened, for the machine.
    pub(super) fn take_see_other(&mut self, to: &str, shared: &mut Shared) -> (Event, String) {
        shared.observer.tell(&Step::Redirected(to));
        self.see_other = host_and_port(to);
        shared.log.info(format_args!(
            "session {}: the server of {} redirects its clients to {}",
            self.session,
            Escaped(&self.name),
            Escaped(to),
        ));
        let usable = self.see_other.is_some();
        let detail = "too many see-other-host redirects, or an unusable target";
        (Event::SeeOther { usable }, detail.to_owned())
    }

    /// Looks up the target of the redirect.
    pub(super) fn follow(&mut self, shared: &mut Shared) {
        self.look_up.cancel(shared);
        if let Some((name, port)) = self.see_other.take() {
            self.rules.is_configured = false;
            self.look_up = ServerLookUp::of_redirect(name, port, self.rules.tls);
            self.dial = Dial::new(Caller {
                is_listed: self.rules.is_listed,
                ..self.dial.caller().clone()
            });
            self.securing = Securing::No;
            self.greeting.restart();
            self.wait.stop();
            self.failure = None;
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
    fn hosts_and_ports_of_redirects() {
        let read = |text: &str| host_and_port(text).map(|(host, port)| format!("{host} {port}"));
        for (text, expected) in [
            ("b.example", "b.example 5222"),
            ("B.example:5333", "b.example 5333"),
            ("192.0.2.1:5", "192.0.2.1 5"),
            ("[2001:db8::1]:5", "2001:db8::1 5"),
            ("[2001:db8::1]", "2001:db8::1 5222"),
            ("2001:db8::1", "2001:db8::1 5222"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected));
        }
        for text in [
            "", ":5", "a:0", "a:x", "a:99999", "a b", "u@h", "[::1", "127.1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
