//! The way to the server: where it is, and a connection to it.
//!
//! Owns what is known while a session is being set up: the stream header and
//! messages that wait for the server, the look-up, the dial. Gone once the server
//! has said more than its stream header.

use std::fmt;
use std::path::PathBuf;

use mio::Token;

use super::phase::{Event, Phase};
use super::report;
use super::shared::Shared;
use super::side::Side;
use super::{NEVER, Session, Tick};
use crate::buf::Buf;
use crate::config::server_access::{PrivateAddresses, ProxyProtocol, Tls};
use crate::config::{DomainRule, Host};
use crate::log::{Escaped, Level};
use crate::net::dial::{Dial, Progress};
use crate::net::dns::locator::{Answer, Error, Locator, PORT, Target, Wanted};
use crate::net::private_addresses::PrivateAddressSet;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::starttls::Dialogue;

/// How long a server at a loopback address may keep its features to itself
/// before it is taken to offer no TLS: a client gives up 2 s after its `<open/>`.
pub(super) const PATIENCE_MS: Tick = 200;

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
    /// How many redirects were followed.
    pub(super) redirects: u8,
    /// Why the last address was no good.
    pub(super) failure: Option<String>,
}

impl Route {
    /// When the dial is to go on without an edge.
    pub(super) fn next_start(&self) -> Tick {
        self.dial.next_start_ms().unwrap_or(NEVER)
    }

    /// Whether a server that offers no TLS may be spoken to all the same.
    pub(super) fn plain_text_will_do(&self) -> bool {
        self.tls == Tls::Auto && (self.configured || self.leads_to_loopback())
    }

    /// Whether the server is on this very machine.
    pub(super) fn leads_to_loopback(&self) -> bool {
        let at = self.target.map(|target| target.address.ip().to_canonical());
        at.is_some_and(|ip| ip.is_loopback())
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

    /// Whether a place may be dialled. A domain that no list has was chosen by
    /// whoever opened the session, and its DNS leads where its owner likes.
    fn may_dial(
        &self,
        target: &Target,
        policy: PrivateAddresses,
        inside: &mut PrivateAddressSet,
        now: Tick,
    ) -> bool {
        let standard = !target.by_srv && target.address.port() == PORT;
        let mut is_outside = || !inside.contains(target.address.ip(), now);
        self.listed
            || match policy {
                PrivateAddresses::Allow => true,
                PrivateAddresses::Refuse => is_outside(),
                PrivateAddresses::StandardPort => standard || is_outside(),
            }
    }

    /// Switches to another server. Returns the id of the look-up in progress, which is no
    /// longer needed.
    pub(super) fn lead_to(&mut self, name: String, port: u16) -> Option<u64> {
        self.redirects += 1;
        self.configured = false;
        self.wanted = Wanted::Host {
            name,
            port,
            direct: self.tls == Tls::Direct,
        };
        self.dial = Dial::new();
        self.securing = Securing::No;
        self.header_sent = false;
        self.patience = NEVER;
        self.failure = None;
        self.query.take()
    }

    /// Names the look-up and the DNS servers, for the log.
    pub(super) fn asked(&self, locator: &Locator) -> String {
        let (Wanted::Domain { name, .. } | Wanted::Host { name, .. }) = &self.wanted;
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
        let server = entry.and_then(|entry| entry.server.as_ref());
        let wanted = match server {
            Some(server) => Wanted::Host {
                name: match &server.host {
                    Host::Name(name) => name.clone(),
                    Host::Address(address) => address.to_string(),
                },
                port: server.port,
                direct: tls == Tls::Direct,
            },
            None => Wanted::Domain {
                name: name.clone(),
                clear: tls != Tls::Direct,
                direct: tls != Tls::None,
            },
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
            configured: server.is_some(),
            header,
            draft_header,
            header_sent: false,
            queue: Buf::new(),
            query: None,
            dial: Dial::new(),
            target: None,
            securing: Securing::No,
            patience: NEVER,
            redirects: 0,
            failure: None,
        }));
    }

    /// Looks the server up.
    pub(super) fn look_up(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let ip = self.report.peer().ip();
        route.query = Some(shared.look_up(self.token as usize, &route.wanted, ip));
    }

    /// Takes the locator's answer; to be followed by `turn`.
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
                    let address = target.address;
                    route.failure = Some(format!(
                        "{address} is an inside address (see 'private_addresses')"
                    ));
                }
                let any = !allowed.is_empty();
                route.dial.add(&allowed, answer.last);
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
                self.unreachable(told, &why, shared);
            }
        }
    }

    /// Starts or goes on with the dial.
    pub(super) fn dial(&mut self, shared: &mut Shared) {
        let Some(route) = &mut self.route else {
            return;
        };
        let first = self.token as usize + 1;
        let token = |lane| Token(first + lane);
        match route.dial.progress(&shared.registry, token, shared.now) {
            Progress::Pending => {}
            Progress::Connected {
                transport,
                target,
                lane,
            } => {
                route.target = Some(target);
                transport.watch(self.config.write_timeout);
                self.lane = lane as u8;
                let missed = std::mem::take(&mut self.missed);
                self.server = Side::connected(transport, missed, shared.now);
                self.step(Event::Connected, "", shared);
            }
            Progress::Failed(why) => {
                let whys: Vec<_> = route.failure.take().into_iter().chain(why).collect();
                let why = match whys.is_empty() {
                    true => "no address".to_owned(),
                    false => whys.join("; "),
                };
                let told = StreamError::RemoteConnectionFailed("the server cannot be reached");
                self.unreachable(told, &why, shared);
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
            self.server.out.extend(route.queue.as_slice());
        }
    }

    /// Forgets look-up and dial.
    pub(super) fn abandon_route(&mut self, shared: &mut Shared) {
        if let Some(query) = self.route.take().and_then(|route| route.query) {
            shared.forget_look_up(query);
        }
    }

    pub(super) fn unreachable(&mut self, told: StreamError, why: &str, shared: &mut Shared) {
        self.step(Event::Unreachable(told), why, shared);
    }

    /// Logs that the server could not be reached, or that it answers again: once per minute
    /// for each domain, the rest at LOG_DEBUG.
    pub(super) fn note_server(
        &mut self,
        before: Phase,
        event: Event,
        detail: &str,
        shared: &mut Shared,
    ) {
        let Some(domain) = &self.domain else {
            return;
        };
        let name = Escaped(domain);
        if event == Event::Greeted {
            if let Some(outage) = shared.outages.recover(domain) {
                let secs = (shared.now - outage.since) / 1000;
                shared.log.notice(format_args!(
                    "session {}: the server of {name} answers again, after {secs} s and {} \
                     failed sessions",
                    self.report.name(),
                    outage.sessions,
                ));
            }
            return;
        }
        let Some(why) = failure(before, event) else {
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
        let others = Others(others.unwrap_or(0));
        shared.log.line(
            level,
            format_args!(
                "session {}: cannot reach the server of {name}: {why}{separator}{detail}{others}",
                self.report.name(),
            ),
        );
    }
}

/// Why the server could not be reached, if the event means that; empty if the event's
/// detail says it.
fn failure(before: Phase, event: Event) -> Option<&'static str> {
    if !(Phase::Locating..=Phase::Greeting).contains(&before) {
        return None;
    }
    match event {
        Event::Unreachable(_) => Some(""),
        Event::Deadline => Some(report::overdue(before)),
        Event::ServerEnded => Some("it ended the stream"),
        Event::ServerGone => Some("connection lost before its stream header"),
        Event::ServerViolation => Some("it broke a rule"),
        _ => None,
    }
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
