//! The route to the server: finds it and connects to it.
//!
//! Exists while a session is being set up: holds the stream header and messages that wait for
//! the server, the look-up and the dial. It is dropped once the server has sent more than its
//! stream header.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mio::Token;

use super::machine::{Cause, Event, Phase};
use super::shared::Shared;
use super::side::Side;
use super::step::Step;
use super::{NEVER, Session, Tick};
use crate::buf::Buf;
use crate::config::server_access::{PrivateAddresses, ProxyProtocol, Tls};
use crate::config::{DomainRule, Host, Server, ServerAddress};
use crate::log::{Escaped, Level};
use crate::net::address::Address;
use crate::net::dial::{Dial, Progress};
use crate::net::dns::locator::{Answer, Error, Locator, PORT, Target, Wanted};
use crate::net::private_addresses::PrivateAddressSet;
use crate::net::servers::Caller;
use crate::net::source::Source;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::starttls::Dialogue;

/// How long to wait for the features of a server at a loopback address before assuming that it
/// offers no TLS. A client gives up 2 s after its `<open/>`.
pub(super) const FEATURES_WAIT_MS: Tick = 200;
/// How long a server may be silent before the next one is tried, if there is one.
const SILENCE_MS: Tick = 3000;

/// The progress of making a connection secure.
pub(super) enum Securing {
    /// Not begun.
    No,
    /// STARTTLS is being negotiated.
    Dialogue(Box<Dialogue>),
    /// The TLS handshake is in progress.
    Handshake,
}

/// The route to the server while a session is being set up.
pub struct Route {
    wanted: Wanted,
    /// The domain as A-labels.
    pub(super) name: String,
    pub(super) tls: Tls,
    pub(super) verify: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// The domain is in `domains`, so it may lead to any address.
    listed: bool,
    /// The server is in the configuration.
    configured: bool,
    /// The client's stream header. It is kept because a redirect needs it again.
    header: Header,
    /// The stream header of the draft, as the client sent it.
    draft_header: Option<Vec<u8>>,
    /// The header was already sent, to start the dialogue.
    pub(super) header_sent: bool,
    /// Messages that wait for the server.
    pub(super) queue: Buf,
    query: Option<u64>,
    dial: Dial,
    pub(super) target: Option<Target>,
    pub(super) securing: Securing,
    /// The end of the wait for the server's features or first bytes.
    pub(super) waits_until: Tick,
    connected_at: Tick,
    /// The server has sent nothing on this connection.
    pub(super) silent: bool,
    /// The target of a redirect.
    pub(super) see_other: Option<(String, u16)>,
    /// Why the last address failed.
    pub(super) failure: Option<String>,
}

impl Route {
    /// Returns when the dial must continue without an edge.
    pub(super) fn next_start(&self) -> Tick {
        self.dial.due_ms().unwrap_or(NEVER)
    }

    /// Whether plain text is allowed with a server that offers no TLS.
    pub(super) fn plain_text_will_do(&self) -> bool {
        self.tls == Tls::Auto && (self.configured || self.leads_to_loopback())
    }

    /// Whether the server is on this machine.
    pub(super) fn leads_to_loopback(&self) -> bool {
        let target = self.target.as_ref();
        target.is_some_and(|target| target.address.is_local())
    }

    /// Returns the bytes of memory that the route holds.
    pub(super) fn memory(&self) -> usize {
        let said = match &self.securing {
            Securing::Dialogue(dialogue) => dialogue.memory(),
            _ => 0,
        };
        let draft = self.draft_header.as_ref().map_or(0, Vec::capacity);
        size_of::<Route>() + self.header.memory() + draft + self.queue.capacity() + said
    }

    /// Appends the client's stream header; `clear` if the connection has no TLS.
    pub(super) fn write_header(&self, clear: bool, out: &mut Vec<u8>) {
        match &self.draft_header {
            _ if clear && self.is_bare() => self.header.write_bare_stream(out),
            Some(bytes) => out.extend_from_slice(bytes),
            None => self.header.write_stream(out),
        }
    }

    /// Whether a target may be dialled. The client chooses an unlisted domain, and the owner of
    /// that domain chooses the addresses in its DNS records.
    fn may_dial(
        &self,
        target: &Target,
        policy: PrivateAddresses,
        inside: &mut PrivateAddressSet,
        now: Tick,
    ) -> bool {
        let Some(address) = target.address.tcp() else {
            return true;
        };
        let standard = !target.by_srv && address.port() == PORT;
        let mut is_outside = || !inside.contains(address.ip(), now);
        self.listed
            || self.configured
            || match policy {
                PrivateAddresses::Allow => true,
                PrivateAddresses::Refuse => is_outside(),
                PrivateAddresses::StandardPort => standard || is_outside(),
            }
    }

    /// Switches to another server. Returns the id of the look-up in progress, which is no
    /// longer needed.
    pub(super) fn lead_to(&mut self, name: String, port: u16) -> Option<u64> {
        self.configured = false;
        let host = Host::Name(name.clone());
        self.wanted = Wanted::Servers {
            name,
            servers: [ServerAddress::Tcp { host, port }.into()].into(),
            direct: self.tls == Tls::Direct,
        };
        let caller = Caller {
            is_listed: self.listed,
            ..self.dial.caller().clone()
        };
        self.dial = Dial::new(caller);
        self.securing = Securing::No;
        self.header_sent = false;
        self.waits_until = NEVER;
        self.failure = None;
        self.query.take()
    }

    /// Describes the look-up and the DNS servers for the log.
    pub(super) fn asked(&self, locator: &Locator) -> String {
        let (Wanted::Domain { name, .. } | Wanted::Servers { name, .. }) = &self.wanted;
        let servers = locator.resolver.servers().join(", ");
        format!("asked DNS server {servers} for {}", Escaped(name))
    }

    /// Describes for the log the addresses that are being dialled, and the one at which the
    /// session waits for a slot.
    pub(super) fn dialled(&self, awaited: Option<&Address>) -> String {
        let addresses = self.dial.addresses().map(|at| at.to_string());
        let waiting = awaited
            .map(|at| format!("waiting for a turn at {at} (see 'max_connecting_per_server')"));
        addresses.chain(waiting).collect::<Vec<_>>().join(", ")
    }

    /// Whether the server gets the bare header while the connection has no TLS: this is so if
    /// TLS must follow, or if the domain is not listed.
    fn is_bare(&self) -> bool {
        let stays = self.tls == Tls::None || self.plain_text_will_do();
        !(stays && self.listed)
    }
}

impl Session {
    /// Creates the route to the session's domain, which is `name` as A-labels, with this stream
    /// header.
    pub(super) fn plan_route(
        &mut self,
        name: String,
        header: Header,
        draft_header: Option<Vec<u8>>,
    ) {
        let domain = self.domain.as_deref().unwrap_or_default();
        let entry = match self.config.domain(domain) {
            DomainRule::Listed(entry) => Some(entry),
            DomainRule::Any | DomainRule::Unlisted => None,
        };
        let access = entry.map(|entry| entry.access.clone()).unwrap_or_default();
        let tls = access.tls.unwrap_or(self.config.server_tls);
        let servers = self.config.servers_of(entry);
        let configured = !servers.is_empty();
        let wanted = match configured {
            true => Wanted::Servers {
                name: hosts(servers),
                servers: Arc::clone(servers),
                direct: tls == Tls::Direct,
            },
            false => Wanted::Domain {
                name: name.clone(),
                clear: tls != Tls::Direct,
                direct: tls != Tls::None,
            },
        };
        let caller = Caller {
            session: self.token as usize,
            source: Source::from(self.log.peer().ip()),
            domain: Rc::from(name.as_str()),
            is_listed: entry.is_some() || configured,
        };
        self.route = Some(Box::new(Route {
            wanted,
            name,
            tls,
            verify: access.verify,
            ca_file: access
                .ca_file
                .or_else(|| self.config.server_ca_file.clone()),
            proxy_protocol: access.proxy_protocol,
            listed: entry.is_some(),
            configured,
            header,
            draft_header,
            header_sent: false,
            queue: Buf::new(),
            query: None,
            dial: Dial::new(caller),
            target: None,
            securing: Securing::No,
            waits_until: NEVER,
            connected_at: 0,
            silent: false,
            see_other: None,
            failure: None,
        }));
    }

    /// Looks up the server.
    pub(super) fn look_up(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let ip = self.log.peer().ip();
        route.query = Some(shared.look_up(self.token as usize, &route.wanted, ip));
    }

    /// Handles the locator's answer.
    pub fn located(&mut self, answer: Answer, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        if route.query != Some(answer.id) {
            return;
        }
        if answer.last {
            route.query = None;
        }
        match answer.targets {
            Ok(targets) => {
                let policy = self.config.private_addresses;
                let (allowed, refused): (Vec<_>, Vec<_>) =
                    targets.into_iter().partition(|target| {
                        route.may_dial(target, policy, &mut shared.private_addresses, shared.now)
                    });
                shared.observer.tell(&Step::Located {
                    allowed: &allowed,
                    refused: &refused,
                });
                if let Some(target) = refused.first() {
                    let address = &target.address;
                    route.failure = Some(format!(
                        "{address} is an inside address (see 'private_addresses')"
                    ));
                }
                let any = !allowed.is_empty();
                route.dial.add(allowed, answer.last);
                if any || answer.last {
                    self.step(Event::Located, "", shared);
                }
            }
            Err(error) => {
                let told = match error {
                    Error::NotFound | Error::NotOffered => StreamError::HostUnknown,
                    Error::HostNotFound => {
                        StreamError::RemoteConnectionFailed("the server cannot be reached")
                    }
                    Error::Failed(_) => {
                        StreamError::RemoteConnectionFailed("the domain could not be looked up")
                    }
                };
                let why = match error {
                    Error::Failed(_) => format!("{error}: {}", route.asked(&shared.locator)),
                    _ => error.to_string(),
                };
                let step = Step::NotLocated { error, why: &why };
                shared.observer.tell(&step);
                self.step(Event::Unreachable(told), &why, shared);
            }
        }
    }

    /// Continues to connect to the server, as far as possible without waiting for its bytes.
    pub(super) fn connect(&mut self, shared: &mut Shared) {
        let patience = self.route.as_ref().map_or(NEVER, |route| route.waits_until);
        if shared.now >= patience {
            self.give_up_waiting(shared);
        }
        while self.machine.phase() == Phase::Connecting && self.dial(shared) {
            self.secure(shared);
        }
    }

    /// Starts or continues the dial. Returns whether there is a connection.
    fn dial(&mut self, shared: &mut Shared) -> bool {
        let Some(route) = &mut self.route else {
            return false;
        };
        let first = self.token as usize + 1;
        let token = |lane| Token(first + lane);
        let (registry, servers) = (&shared.registry, &mut shared.servers);
        let progress = route.dial.progress(registry, token, servers, shared.now);
        shared.count_results();
        match progress {
            Progress::Pending => false,
            Progress::Connected {
                transport,
                target,
                lane,
            } => {
                route.target = Some(target);
                route.connected_at = shared.now;
                route.silent = true;
                if route.dial.has_more() {
                    route.waits_until = shared.now + SILENCE_MS;
                }
                transport.watch(self.config.write_timeout);
                self.lane = lane as u8;
                let missed = std::mem::take(&mut self.missed);
                self.server = Side::connected(transport, missed, shared.now);
                self.step(Event::Connected, "", shared);
                true
            }
            Progress::Failed(why) => {
                let whys: Vec<_> = route.failure.take().into_iter().chain(why).collect();
                let why = match whys.is_empty() {
                    true => "no address".to_owned(),
                    false => whys.join("; "),
                };
                let told = StreamError::RemoteConnectionFailed("the server cannot be reached");
                self.step(Event::Unreachable(told), &why, shared);
                false
            }
        }
    }

    /// Sends the stream header and the queued messages to the server.
    pub(super) fn greet(&mut self, shared: &mut Shared) {
        if let Some(route) = &mut self.route {
            let clear = !self.server.is_tls();
            if !route.header_sent {
                shared.text.clear();
                route.write_header(clear, &mut shared.text);
                self.server.out.extend(&shared.text);
            }
            if clear && route.is_bare() {
                // The stream header is our own, with the usual root.
                self.draft_root = None;
            }
            self.server.out.extend(route.queue.take().as_slice());
        }
    }

    /// Cancels the look-up and the dial.
    pub(super) fn abandon_route(&mut self, shared: &mut Shared) {
        shared.servers.leave(self.token as usize);
        if let Some(query) = self.route.take().and_then(|route| route.query) {
            shared.forget_look_up(query);
        }
    }

    /// Records whether the server opened a stream, and lets other sessions connect to it.
    pub(super) fn remember_server(
        &mut self,
        before: Phase,
        event: Event,
        cause: Option<Cause>,
        shared: &mut Shared,
    ) {
        let (route, servers) = (&self.route, &mut shared.servers);
        if let Some(route) = route
            && let Some(target) = &route.target
            && (Phase::Securing..=Phase::Greeting).contains(&before)
        {
            let caller = route.dial.caller();
            // If little time was left, a timeout says nothing about the server.
            let late = matches!(event, Event::Deadline { .. });
            let had_time = !late || shared.now >= route.connected_at + SILENCE_MS;
            let failed = cause.is_some_and(|cause| cause.unreachable(before).is_some());
            match event {
                Event::Greeted => {
                    servers.has_answered(target, &caller.domain);
                    let server = target.server.as_deref();
                    self.tally.enter_server(server, &mut shared.metrics);
                }
                _ if event != Event::Insecure && !failed => {}
                _ if had_time => servers.is_no_server(target, caller, shared.now),
                _ => {}
            }
        }
        let dials = matches!(
            self.machine.phase(),
            Phase::Connecting | Phase::Securing | Phase::Greeting
        );
        if !dials || event == Event::Insecure {
            servers.leave(self.token as usize);
        }
        shared.count_results();
    }

    /// Logs that the server answers again.
    pub(super) fn note_recovery(&mut self, shared: &mut Shared) {
        let Some(domain) = &self.domain else {
            return;
        };
        if let Some(outage) = shared.outages.recover(domain) {
            let secs = (shared.now - outage.since) / 1000;
            shared.log.notice(format_args!(
                "session {}: the server of {} answers again, after {secs} s and {} failed \
                 sessions",
                self.log.name(),
                Escaped(domain),
                outage.sessions,
            ));
        }
    }

    /// Logs that the server could not be reached: once per minute for each domain, otherwise at
    /// LOG_DEBUG.
    pub(super) fn note_outage(&mut self, why: &str, detail: &str, shared: &mut Shared) {
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
                self.log.name(),
                Escaped(domain),
            ),
        );
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
