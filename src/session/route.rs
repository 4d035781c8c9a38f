//! The way to the server: where it is, and a connection to it.
//!
//! Owns what is known while a session is being set up: the stream header and
//! messages that wait for the server, the look-up, the dial. Gone once the server
//! has said more than its stream header.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mio::Token;

use super::machine::{Cause, Event, Phase};
use super::shared::Shared;
use super::side::Side;
use super::{NEVER, Session, Tick};
use crate::buf::Buf;
use crate::config::server_access::{PrivateAddresses, ProxyProtocol, Tls};
use crate::config::{DomainRule, Host, Server, ServerAddress};
use crate::log::{Escaped, Level};
use crate::net::dial::{Dial, Progress};
use crate::net::dns::locator::{Answer, Error, Locator, PORT, Target, Wanted};
use crate::net::private_addresses::PrivateAddressSet;
use crate::net::servers::Caller;
use crate::net::source::Source;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::starttls::Dialogue;

/// How long a server at a loopback address may keep its features to itself
/// before it is taken to offer no TLS: a client gives up 2 s after its `<open/>`.
pub(super) const PATIENCE_MS: Tick = 200;
/// How long a server may say nothing before the next one is tried, if there is one.
const SILENCE_MS: Tick = 3000;

/// How a connection is being made secure.
pub(super) enum Securing {
    /// Not begun.
    No,
    /// The server is asked for TLS.
    Dialogue(Box<Dialogue>),
    /// The TLS handshake is under way.
    Handshake,
}

/// The way to the server while a session is set up.
pub struct Route {
    wanted: Wanted,
    /// The domain as A-labels.
    pub(super) name: String,
    pub(super) tls: Tls,
    pub(super) verify: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    /// The domain is in the operator's list: it may lead anywhere.
    listed: bool,
    /// The operator named the server.
    configured: bool,
    /// The client's stream header; kept, because a redirect needs it again.
    header: Header,
    /// The same in the draft, as the client sent it.
    draft_header: Option<Vec<u8>>,
    /// The header went out already, to begin the dialogue.
    pub(super) header_sent: bool,
    /// Messages that wait for the server.
    pub(super) queue: Buf,
    query: Option<u64>,
    dial: Dial,
    pub(super) target: Option<Target>,
    pub(super) securing: Securing,
    /// When the server has kept us waiting long enough.
    pub(super) patience: Tick,
    connected_at: Tick,
    /// The server has said nothing since then.
    pub(super) silent: bool,
    /// Where the server sends its clients.
    pub(super) see_other: Option<(String, u16)>,
    /// Why the last address was no good.
    pub(super) failure: Option<String>,
}

impl Route {
    /// When the dial is to go on without an edge.
    pub(super) fn next_start(&self) -> Tick {
        self.dial.due_ms().unwrap_or(NEVER)
    }

    /// Whether a server that offers no TLS may be spoken to all the same.
    pub(super) fn plain_text_will_do(&self) -> bool {
        self.tls == Tls::Auto && (self.configured || self.leads_to_loopback())
    }

    /// Whether the server is on this very machine.
    pub(super) fn leads_to_loopback(&self) -> bool {
        let target = self.target.as_ref();
        target.is_some_and(|target| target.address.is_local())
    }

    /// Bytes of memory in it.
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

    /// Whether a target may be dialled. Whoever opened the session chose an unlisted domain,
    /// and its DNS leads where its owner likes.
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
        self.patience = NEVER;
        self.failure = None;
        self.query.take()
    }

    /// Names the look-up and the DNS servers, for the log.
    pub(super) fn asked(&self, locator: &Locator) -> String {
        let (Wanted::Domain { name, .. } | Wanted::Servers { name, .. }) = &self.wanted;
        let servers = locator.servers().join(", ");
        format!("{} asked of DNS server {servers}", Escaped(name))
    }

    /// The addresses that are being dialled.
    pub(super) fn dialled(&self) -> String {
        let addresses: Vec<_> = self.dial.addresses().map(|at| at.to_string()).collect();
        addresses.join(", ")
    }

    /// Whether the server gets the bare header while the connection has no TLS: if TLS
    /// must follow, or if the domain is not listed.
    fn is_bare(&self) -> bool {
        let stays = self.tls == Tls::None || self.plain_text_will_do();
        !(stays && self.listed)
    }
}

impl Session {
    /// Prepares the way to the session's domain, which is `name` as A-labels, to
    /// begin there with this stream header.
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
            patience: NEVER,
            connected_at: 0,
            silent: false,
            see_other: None,
            failure: None,
        }));
    }

    /// Looks the server up.
    pub(super) fn look_up(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let ip = self.log.peer().ip();
        route.query = Some(shared.look_up(self.token as usize, &route.wanted, ip));
    }

    /// Takes the locator's answer.
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
                        route.may_dial(target, policy, &mut shared.inside, shared.now)
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
                self.step(Event::Unreachable(told), &why, shared);
            }
        }
    }

    /// Goes on with the way to the server as far as that needs no word of it.
    pub(super) fn connect(&mut self, shared: &mut Shared) {
        let patience = self.route.as_ref().map_or(NEVER, |route| route.patience);
        if shared.now >= patience {
            self.lose_patience(shared);
        }
        while self.machine.phase() == Phase::Connecting && self.dial(shared) {
            self.secure(shared);
        }
    }

    /// Starts or goes on with the dial; whether a connection stands.
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
                    route.patience = shared.now + SILENCE_MS;
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

    /// Sends what is queued for the server, its stream header first.
    pub(super) fn greet(&mut self, shared: &mut Shared) {
        if let Some(route) = &mut self.route {
            let clear = !self.server.is_tls();
            if !route.header_sent {
                shared.text.clear();
                route.write_header(clear, &mut shared.text);
                self.server.out.extend(&shared.text);
            }
            if clear && route.is_bare() {
                // The root is ours.
                self.draft_root = None;
            }
            self.server.out.extend(route.queue.take().as_slice());
        }
    }

    /// Forgets look-up and dial.
    pub(super) fn abandon_route(&mut self, shared: &mut Shared) {
        shared.servers.leave(self.token as usize);
        if let Some(query) = self.route.take().and_then(|route| route.query) {
            shared.forget_look_up(query);
        }
    }

    /// Remembers whether the server gave a stream, and lets others connect to it.
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
            // What little was left of the time says nothing about the server.
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

    /// Logs that the server could not be reached: once per minute for each domain, the rest
    /// at LOG_DEBUG.
    pub(super) fn note_outage(&mut self, why: &str, detail: &str, shared: &mut Shared) {
        let Some(domain) = &self.domain else {
            return;
        };
        let others = shared.outages.fail(domain, shared.now);
        let level = match others {
            Some(_) => Level::Notice,
            None => Level::Debug,
        };
        let separator = match why.is_empty() || detail.is_empty() {
            true => "",
            false => ": ",
        };
        shared.log.line(
            level,
            format_args!(
                "session {}: cannot reach the server of {}: {why}{separator}{detail}{}",
                self.log.name(),
                Escaped(domain),
                Others(others.unwrap_or(0)),
            ),
        );
    }
}

/// The hosts of servers, for the log.
fn hosts(servers: &[Server]) -> String {
    let hosts = servers.iter().map(|server| match &server.address {
        ServerAddress::Tcp { host, .. } => host.to_string(),
        unix => unix.to_string(),
    });
    hosts.collect::<Vec<_>>().join(", ")
}

/// Other failed sessions besides the one in the line.
struct Others(u64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more session since the last such line)"),
            n => write!(f, " (and {n} more sessions since the last such line)"),
        }
    }
}
