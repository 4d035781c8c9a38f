//! The look-up of the server.

use std::sync::Arc;

use crate::config::server_access::Tls;
use crate::config::{Host, Server, ServerAddress};
use crate::log::Escaped;
use crate::net::dns::locator::{Answer, Locator, Wanted};
use crate::net::servers::Caller;
use crate::session::shared::Shared;

pub(in crate::session) struct ServerLookUp {
    wanted: Wanted,
    /// The id of the look-up in progress.
    id: Option<u64>,
    /// The answer, if it was known at once.
    answer: Option<Answer>,
}

impl ServerLookUp {
    fn new(wanted: Wanted) -> ServerLookUp {
        ServerLookUp {
            wanted,
            id: None,
            answer: None,
        }
    }

    /// Prepares the look-up for the domain `name`, for which `servers` are configured.
    pub fn of_domain(name: &str, servers: &Arc<[Server]>, tls: Tls) -> ServerLookUp {
        ServerLookUp::new(match servers.is_empty() {
            false => Wanted::Servers {
                servers: Arc::clone(servers),
                direct: tls == Tls::Direct,
            },
            true => Wanted::Domain {
                name: name.to_owned(),
                clear: tls != Tls::Direct,
                direct: tls != Tls::None,
            },
        })
    }

    /// Prepares the look-up for the target of a redirect.
    pub fn of_redirect(name: String, port: u16, tls: Tls) -> ServerLookUp {
        let host = Host::Name(name);
        ServerLookUp::new(Wanted::Servers {
            servers: [ServerAddress::Tcp { host, port }.into()].into(),
            direct: tls == Tls::Direct,
        })
    }

    pub fn start(&mut self, caller: &Caller, shared: &mut Shared) {
        let (id, answer) = shared.look_up(caller.session, &self.wanted, caller.source);
        (self.id, self.answer) = (Some(id), answer);
    }

    pub fn cancel(&mut self, shared: &mut Shared) {
        if let Some(id) = self.id.take() {
            shared.forget_look_up(id);
        }
    }

    /// Whether there is an answer that is not handled yet.
    pub fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    pub fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    /// Whether an answer is to this look-up. The last answer ends it.
    pub fn accept(&mut self, answer: &Answer) -> bool {
        let is_ours = self.id == Some(answer.id);
        if is_ours && answer.last {
            self.id = None;
        }
        is_ours
    }

    /// Describes the look-up and the DNS servers for the log.
    pub fn describe(&self, locator: &Locator) -> String {
        let name = match &self.wanted {
            Wanted::Domain { name, .. } => name,
            Wanted::Servers { servers, .. } => &hosts(servers),
        };
        let servers = locator.resolver.servers().join(", ");
        format!("asked DNS server {servers} for {}", Escaped(name))
    }
}

/// Formats the hosts of servers for the log.
fn hosts(servers: &[Server]) -> String {
    let hosts = servers.iter().map(|server| match &server.address {
        ServerAddress::Tcp { host, .. } => host.to_string(),
        unix => unix.to_string(),
    });
    hosts.collect::<Vec<_>>().join(", ")
}
