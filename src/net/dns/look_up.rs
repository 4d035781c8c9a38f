//! A look-up in progress: what is known about a domain, and which targets may be used.
//!
//! Asks no questions itself and has no clock.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::question::{Error as DnsError, Question, Records, Service};
use super::resolver::Waiter;
use super::srv_order::{by_weight, interleaved};
use super::target::{Error, PORT, Target};
use crate::config::{Host, Server, ServerAddress};
use crate::net::address::Address;

/// Maximum number of SRV targets to look up.
const MAX_TARGETS: usize = 8;
/// Bytes of a look-up without its names, records and addresses.
const LOOK_UP_BYTES: usize = 512;
/// How long to wait for a slower target that should come first.
pub(super) const HOLD_MS: u64 = 200;

/// The two services of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceKind {
    /// STARTTLS or plain text.
    Clear,
    /// TLS from the first byte (XEP-0368).
    Direct,
}

/// A server whose addresses are being looked up.
#[derive(Clone, Debug)]
pub(super) struct ServerHost {
    /// The name to look up; empty if there is none.
    pub(super) name: String,
    port: u16,
    direct: bool,
    is_fallback: bool,
    backup: bool,
    /// The configured server, as the file names it.
    server: Option<Arc<str>>,
    /// The path of a unix socket, which has no host and is not looked up.
    socket: Option<Arc<Path>>,
    /// Addresses not yet used, by family; `None` while the question is open.
    pub(super) found: [Option<Vec<IpAddr>>; 2],
}

/// Records of both services.
pub(super) type Mixed = Vec<(Service, ServiceKind)>;

/// The answer to an SRV question; `None` while it is open.
pub(super) type ServiceAnswer = Option<Result<Vec<Service>, DnsError>>;

/// How long to wait for the answers to the SRV questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until all of them have arrived.
    All,
    /// Until there is something to connect to.
    UntilUsable,
    /// No time at all, even if nothing is known.
    Over,
}

/// A question that this look-up waits for.
pub(super) struct Asked {
    pub(super) key: usize,
    pub(super) is_service: bool,
}

/// A look-up in progress.
pub(super) struct LookUp {
    pub(super) waiter: Waiter,
    /// Answers to the SRV questions.
    pub(super) services: [(ServiceKind, ServiceAnswer); 2],
    /// Targets in order, once the services are known.
    pub(super) hosts: Option<Vec<ServerHost>>,
    /// The domain itself, if its addresses are asked for while SRV questions are open.
    pub(super) fallback: Option<ServerHost>,
    /// When the targets found so far may be used, even if better ones may follow.
    pub(super) hold_until: Option<u64>,
    /// When to check this look-up again.
    pub(super) due: Option<u64>,
    pub(super) failure: Option<Error>,
    pub(super) found: bool,
    /// Whether the domain's own addresses may be used.
    pub(super) may_fall_back: bool,
    /// Whether the hosts file contains the domain. Then the DNS gets little time, and these
    /// addresses are used even if the DNS fails.
    pub(super) in_hosts_file: bool,
    pub(super) asked: Vec<Asked>,
}

impl ServerHost {
    pub(super) fn new(name: String, port: u16, direct: bool) -> ServerHost {
        ServerHost {
            name,
            port,
            direct,
            is_fallback: false,
            backup: false,
            server: None,
            socket: None,
            found: [None, None],
        }
    }

    /// A server from the configuration.
    fn configured(server: &Server, direct: bool) -> ServerHost {
        let new = |name, port| ServerHost::new(name, port, direct);
        let host = match &server.address {
            ServerAddress::Tcp { host, port } => match host {
                Host::Name(name) => new(name.clone(), *port),
                Host::Address(address) => {
                    let of_family =
                        |here: bool| Some(here.then_some(*address).into_iter().collect());
                    ServerHost {
                        found: [address.is_ipv6(), address.is_ipv4()].map(of_family),
                        ..new(String::new(), *port)
                    }
                }
            },
            ServerAddress::Unix(path) => ServerHost {
                socket: Some(Arc::clone(path)),
                found: [Some(Vec::new()), Some(Vec::new())],
                ..new(String::new(), 0)
            },
        };
        ServerHost {
            backup: server.backup,
            server: Some(Arc::clone(&server.name)),
            ..host
        }
    }

    /// A domain at the standard port.
    pub(super) fn fallback(domain: &str) -> ServerHost {
        ServerHost {
            is_fallback: true,
            ..ServerHost::new(domain.to_owned(), PORT, false)
        }
    }

    fn has_addresses(&self) -> bool {
        self.socket.is_some() || self.found.iter().flatten().any(|found| !found.is_empty())
    }

    /// Takes the addresses found so far, as targets.
    fn take_targets(&mut self) -> Vec<Target> {
        let found = self.found.iter_mut().flatten();
        let found: Vec<_> = found.flat_map(std::mem::take).collect();
        let port = self.port;
        let by_tcp = interleaved(&found).map(|ip| Address::Tcp(SocketAddr::new(ip, port)));
        let socket = self.socket.take().map(Address::Unix);
        let target = |address| Target {
            address,
            direct: self.direct,
            is_fallback: self.is_fallback,
            backup: self.backup,
            server: self.server.clone(),
        };
        socket.into_iter().chain(by_tcp).map(target).collect()
    }

    fn held_bytes(&self) -> usize {
        let found = self.found.iter().flatten();
        let found: usize = found.map(|found| size_of_val(found.as_slice())).sum();
        size_of::<ServerHost>() + self.name.len() + found
    }

    fn take_addresses(&mut self, question: &Question, addresses: &[IpAddr]) {
        if let Question::Host(name, family) = question
            && *name == self.name
        {
            self.found[*family as usize] = Some(addresses.to_vec());
        }
    }
}

impl LookUp {
    pub(super) fn new(waiter: Waiter) -> LookUp {
        LookUp {
            waiter,
            services: [(ServiceKind::Clear, None), (ServiceKind::Direct, None)],
            hosts: None,
            fallback: None,
            hold_until: None,
            due: None,
            failure: None,
            found: false,
            may_fall_back: false,
            in_hosts_file: false,
            asked: Vec::new(),
        }
    }

    /// Takes the answer to a question.
    pub(super) fn take_answer(&mut self, asked: &Question, result: &Result<Records, DnsError>) {
        if let Question::Service(_) = asked {
            let answer = match result {
                Ok(Records::Services(services)) => Ok(services.clone()),
                Ok(Records::Addresses(_)) => Ok(Vec::new()),
                Err(error) => Err(*error),
            };
            let domain = &self.waiter.domain;
            for (kind, slot) in &mut self.services {
                if slot.is_none() && *asked == service_question(*kind, domain) {
                    *slot = Some(answer.clone());
                }
            }
            return;
        }
        let addresses = match result {
            Ok(Records::Addresses(addresses)) => addresses.as_slice(),
            Ok(Records::Services(_)) | Err(DnsError::NotFound) => &[],
            Err(error) => {
                // A failure matters more than a missing name.
                self.failure = Some(Error::Failed(*error));
                &[]
            }
        };
        for host in self.hosts.iter_mut().flatten().chain(&mut self.fallback) {
            host.take_addresses(asked, addresses);
        }
    }

    /// Whether the domain itself is known to have addresses.
    pub(super) fn can_fall_back(&self) -> bool {
        self.fallback
            .as_ref()
            .is_some_and(ServerHost::has_addresses)
    }

    /// Whether there is a target that may be used after a while.
    fn has_something(&self) -> bool {
        match &self.hosts {
            None => self.in_hosts_file || self.services.iter().any(|(_, answer)| usable(answer)),
            Some(hosts) => hosts.iter().any(ServerHost::has_addresses),
        }
    }

    /// Starts the wait for better targets, if there is any target.
    pub(super) fn hold(&mut self, now_ms: u64) {
        self.hold_until = match self.has_something() {
            true => Some(self.hold_until.unwrap_or(now_ms + HOLD_MS)),
            false => None,
        };
    }

    /// The records of both services, once enough is known.
    pub(super) fn services_known(&self, patience: Patience) -> Option<Result<Mixed, Error>> {
        let any_usable = self.services.iter().any(|(_, answer)| usable(answer));
        let all_there = self.services.iter().all(|(_, answer)| answer.is_some());
        let enough = match patience {
            Patience::All => all_there,
            Patience::UntilUsable => all_there || any_usable || self.in_hosts_file,
            Patience::Over => true,
        };
        enough.then(|| self.mixed_services())
    }

    /// The records of both services so far. Empty if there are none and the domain's own
    /// addresses are used.
    fn mixed_services(&self) -> Result<Mixed, Error> {
        let mut mixed = Vec::new();
        let (mut declined, mut failed, mut direct_only) = (false, None, false);
        for (kind, answer) in &self.services {
            match answer {
                Some(Ok(services)) if services.is_empty() => {
                    direct_only |= *kind == ServiceKind::Clear;
                }
                Some(Ok(services)) => {
                    let there = services.iter().filter(|service| is_there(service));
                    let there: Vec<_> = there.map(|service| (service.clone(), *kind)).collect();
                    declined |= there.is_empty();
                    mixed.extend(there);
                }
                Some(Err(DnsError::NotFound)) | None => {}
                // This question got no answer, although others did.
                Some(Err(DnsError::Failed(c_ares::Error::ETIMEOUT))) if self.can_fall_back() => {}
                Some(Err(error)) => failed = Some(*error),
            }
        }
        match failed {
            _ if !mixed.is_empty() => Ok(mixed),
            _ if declined => Err(Error::NotOffered),
            Some(error) if !self.in_hosts_file => Err(Error::Failed(error)),
            // There is no standard port for direct TLS.
            _ if direct_only => Err(Error::NotFound),
            _ => Ok(mixed),
        }
    }

    /// Chooses the targets of these records, or the domain itself.
    pub(super) fn plan(&mut self, mixed: Mixed, random: fn(u32) -> u32) {
        self.services = [(ServiceKind::Clear, None), (ServiceKind::Direct, None)];
        let fallback = self.fallback.take();
        let mut hosts = Vec::new();
        if mixed.is_empty() {
            hosts.push(ServerHost::fallback(&self.waiter.domain));
        }
        let rank = |(service, _): &(Service, ServiceKind)| (service.priority, service.weight);
        let ordered = by_weight(mixed, rank, random);
        for (service, kind) in ordered.into_iter().take(MAX_TARGETS) {
            let direct = kind == ServiceKind::Direct;
            hosts.push(ServerHost::new(service.host, service.port, direct));
        }
        for host in &mut hosts {
            if let Some(known) = fallback.as_ref().filter(|known| known.name == host.name) {
                host.found.clone_from(&known.found);
            }
        }
        self.hosts = Some(hosts);
    }

    /// Uses the servers from the configuration.
    pub(super) fn plan_configured(
        &mut self,
        servers: &[Server],
        direct: bool,
        random: fn(u32) -> u32,
    ) {
        let rank = |server: &&Server| (u16::from(server.backup), server.weight);
        let ordered = by_weight(servers.iter().collect(), rank, random).into_iter();
        let hosts = ordered.map(|server| ServerHost::configured(server, direct));
        self.hosts = Some(hosts.collect());
    }

    /// Returns the targets that may be used now, and whether these are the last.
    pub(super) fn give(&mut self, overdue: bool) -> (Vec<Target>, bool) {
        let mut targets = Vec::new();
        let mut complete = true;
        for host in self.hosts.iter_mut().flatten() {
            let known = host.found.iter().all(Option::is_some);
            complete &= known;
            if !known && !overdue {
                break;
            }
            targets.extend(host.take_targets());
        }
        (targets, complete)
    }

    /// The memory held, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let answers = self
            .services
            .iter()
            .filter_map(|(_, answer)| answer.as_ref());
        let services = answers.filter_map(|answer| answer.as_ref().ok()).flatten();
        let services: usize = services
            .map(|service| size_of::<Service>() + service.host.len())
            .sum();
        let hosts = self.hosts.iter().flatten().chain(&self.fallback);
        let hosts: usize = hosts.map(ServerHost::held_bytes).sum();
        LOOK_UP_BYTES + 2 * self.waiter.domain.len() + services + hosts
    }

    /// Why nothing was found.
    pub(super) fn why_not_found(&self) -> Error {
        let mut hosts = self.hosts.iter().flatten();
        let unknown = match hosts.all(|host| host.is_fallback) {
            true => Error::NotFound,
            false => Error::HostNotFound,
        };
        self.failure.unwrap_or(unknown)
    }
}

/// The question for a service of a domain.
pub(super) fn service_question(kind: ServiceKind, domain: &str) -> Question {
    Question::Service(match kind {
        ServiceKind::Clear => format!("_xmpp-client._tcp.{domain}"),
        ServiceKind::Direct => format!("_xmpps-client._tcp.{domain}"),
    })
}

fn usable(answer: &ServiceAnswer) -> bool {
    matches!(answer, Some(Ok(services)) if services.iter().any(is_there))
}

fn is_there(service: &Service) -> bool {
    !matches!(service.host.as_str(), "" | ".")
}

#[cfg(test)]
#[path = "look_up_tests.rs"]
mod tests;
