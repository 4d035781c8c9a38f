//! The route to the server: finds it and connects to it.
//!
//! Exists while a session is being set up: holds the stream header and messages that wait for
//! the server, the look-up and the dial. It is dropped once the server has sent more than its
//! stream header. Its steps return what happened, for the machine. It stands beside the machine,
//! not inside the phase that needs it, because the test that explores the machine copies and
//! compares states.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use mio::Token;

use crate::buf::Buf;
use crate::config::server_access::{PrivateAddresses, ProxyProtocol, Tls};
use crate::config::{DomainRule, Host, Server, ServerAddress};
use crate::log::Escaped;
use crate::net::address::Address;
use crate::net::dial::{Dial, Progress};
use crate::net::dns::locator::{Answer, Error, Locator, PORT, Target, Wanted};
use crate::net::private_addresses::PrivateAddressSet;
use crate::net::servers::Caller;
use crate::net::source::Source;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::starttls::Dialogue;
use crate::session::machine::Event;
use crate::session::session_log::Name;
use crate::session::settings::Settings;
use crate::session::shared::Shared;
use crate::session::side::Side;
use crate::session::step::Step;
use crate::session::{NEVER, Session, Tick};

/// How long a server may be silent before the next one is tried, if there is one.
pub(super) const SILENCE_MS: Tick = 3000;

/// What happened on the way to the server: an event for the machine, and a detail for the log.
pub(super) type Outcome = Option<(Event, String)>;

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
pub(in crate::session) struct Route {
    wanted: Wanted,
    /// The session's name in the log.
    pub(super) session: Name,
    pub(super) settings: Rc<Settings>,
    /// The domain as the client named it, for the log.
    pub(super) domain: Rc<str>,
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
    pub queue: Buf,
    query: Option<u64>,
    /// The answer, if it was known at once.
    pub(super) answer: Option<Answer>,
    dial: Dial,
    /// The lane of the dial that connected.
    pub(super) lane: u8,
    /// While dialling, an edge reported data, the end or an error, not just a connection.
    pub missed: bool,
    pub target: Option<Target>,
    pub(super) securing: Securing,
    /// The end of the wait for the server's features or first bytes.
    pub waits_until: Tick,
    pub(super) connected_at: Tick,
    /// The server has sent nothing on this connection.
    pub(super) silent: bool,
    /// What the server sent before it turned out to offer no TLS.
    pub(super) received: Vec<u8>,
    /// The target of a redirect.
    pub(super) see_other: Option<(String, u16)>,
    /// Why the last address failed.
    pub(super) failure: Option<String>,
}

impl Route {
    /// Creates the route to the domain of `session`, which is `name` as A-labels, with this
    /// stream header.
    pub fn new(
        session: &Session,
        name: String,
        header: Header,
        draft_header: Option<Vec<u8>>,
    ) -> Route {
        let config = &session.config;
        let domain = session.domain.clone().unwrap_or_default();
        let entry = match config.domain(&domain) {
            DomainRule::Listed(entry) => Some(entry),
            DomainRule::Any | DomainRule::Unlisted => None,
        };
        let access = entry.map(|entry| entry.access.clone()).unwrap_or_default();
        let tls = access.tls.unwrap_or(config.server_tls);
        let servers = config.servers_of(entry);
        let configured = !servers.is_empty();
        let caller = Caller {
            session: session.token as usize,
            source: Source::from(session.log.name.peer.ip()),
            domain: Rc::from(name.as_str()),
            is_listed: entry.is_some() || configured,
        };
        Route {
            wanted: wanted(&name, servers, tls),
            session: session.log.name,
            settings: Rc::clone(config),
            name,
            tls,
            verify: access.verify,
            ca_file: access.ca_file.or_else(|| config.server_ca_file.clone()),
            proxy_protocol: access.proxy_protocol,
            listed: entry.is_some(),
            configured,
            domain,
            header,
            draft_header,
            header_sent: false,
            queue: Buf::new(),
            query: None,
            answer: None,
            dial: Dial::new(caller),
            lane: 0,
            missed: false,
            target: None,
            securing: Securing::No,
            waits_until: NEVER,
            connected_at: 0,
            silent: false,
            received: Vec::new(),
            see_other: None,
            failure: None,
        }
    }

    /// Looks up the server.
    pub fn look_up(&mut self, shared: &mut Shared) {
        let Caller {
            session, source, ..
        } = *self.dial.caller();
        let (query, answer) = shared.look_up(session, &self.wanted, source);
        (self.query, self.answer) = (Some(query), answer);
    }

    /// Takes the locator's answer.
    pub(super) fn take_answer(&mut self, answer: Answer, shared: &mut Shared) -> Outcome {
        if self.query != Some(answer.id) {
            return None;
        }
        if answer.last {
            self.query = None;
        }
        let targets = match answer.targets {
            Ok(targets) => targets,
            Err(error) => return Some(self.not_found(error, shared)),
        };
        let (internal, now) = (&mut shared.private_addresses, shared.now);
        let (allowed, refused): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .partition(|target| self.may_dial(target, internal, now));
        shared.observer.tell(&Step::Located {
            allowed: &allowed,
            refused: &refused,
        });
        if let Some(target) = refused.first() {
            let address = &target.address;
            self.failure = Some(format!(
                "{address} is an internal address (see 'private_addresses')"
            ));
        }
        let any = !allowed.is_empty();
        self.dial.add(allowed, answer.last);
        (any || answer.last).then(|| (Event::Located, String::new()))
    }

    fn not_found(&self, error: Error, shared: &Shared) -> (Event, String) {
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
            Error::Failed(_) => format!("{error}: {}", self.asked(&shared.locator)),
            _ => error.to_string(),
        };
        let step = Step::NotLocated { error, why: &why };
        shared.observer.tell(&step);
        (Event::Unreachable(told), why)
    }

    /// Starts or continues the dial. A connection becomes the side of the `server`.
    pub(super) fn dial(&mut self, server: &mut Side, shared: &mut Shared) -> Outcome {
        let first = self.dial.caller().session + 1;
        let token = |lane| Token(first + lane);
        let (registry, servers) = (&shared.registry, &mut shared.servers);
        let progress = self.dial.progress(registry, token, servers, shared.now);
        shared.count_results();
        match progress {
            Progress::Pending => None,
            Progress::Connected {
                transport,
                target,
                lane,
            } => {
                self.target = Some(target);
                self.connected_at = shared.now;
                self.silent = true;
                if self.dial.has_more() {
                    self.waits_until = shared.now + SILENCE_MS;
                }
                transport.watch(self.settings.write_timeout);
                self.lane = lane as u8;
                let missed = std::mem::take(&mut self.missed);
                *server = Side::connected(transport, missed, shared.now);
                Some((Event::Connected, String::new()))
            }
            Progress::Failed(why) => {
                let whys: Vec<_> = self.failure.take().into_iter().chain(why).collect();
                let why = match whys.is_empty() {
                    true => "no address".to_owned(),
                    false => whys.join("; "),
                };
                let told = StreamError::RemoteConnectionFailed("the server cannot be reached");
                Some((Event::Unreachable(told), why))
            }
        }
    }

    /// Sends the stream header and the queued messages to the server. Returns whether the header
    /// was the bare one, with the usual root.
    pub fn greet(&mut self, server: &mut Side, shared: &mut Shared) -> bool {
        let clear = !server.is_tls();
        if !self.header_sent {
            shared.text.clear();
            self.write_header(clear, &mut shared.text);
            server.out.extend(&shared.text);
        }
        server.out.extend(self.queue.take().as_slice());
        clear && self.is_bare()
    }

    /// Takes the id of the look-up in progress.
    pub(super) fn take_query(&mut self) -> Option<u64> {
        self.query.take()
    }

    pub(super) fn caller(&self) -> &Caller {
        self.dial.caller()
    }

    /// Returns when the dial must continue without an edge.
    pub fn next_start(&self) -> Tick {
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
    pub fn memory(&self) -> usize {
        let dialogue = match &self.securing {
            Securing::Dialogue(dialogue) => dialogue.memory(),
            _ => 0,
        };
        let draft = self.draft_header.as_ref().map_or(0, Vec::capacity);
        size_of::<Route>() + self.header.memory() + draft + self.queue.capacity() + dialogue
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
    fn may_dial(&self, target: &Target, internal: &mut PrivateAddressSet, now: Tick) -> bool {
        let Some(address) = target.address.tcp() else {
            return true;
        };
        let standard = target.is_fallback && address.port() == PORT;
        let mut is_outside = || !internal.contains(address.ip(), now);
        self.listed
            || self.configured
            || match self.settings.private_addresses {
                PrivateAddresses::Allow => true,
                PrivateAddresses::Refuse => is_outside(),
                PrivateAddresses::StandardPort => standard || is_outside(),
            }
    }

    /// Switches to another server. Returns the id of the look-up in progress, which is no
    /// longer needed.
    pub(super) fn lead_to(&mut self, name: String, port: u16) -> Option<u64> {
        self.configured = false;
        let host = Host::Name(name);
        self.wanted = Wanted::Servers {
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
        self.answer = None;
        self.query.take()
    }

    /// Describes the look-up and the DNS servers for the log.
    pub fn asked(&self, locator: &Locator) -> String {
        let name = match &self.wanted {
            Wanted::Domain { name, .. } => name,
            Wanted::Servers { servers, .. } => &hosts(servers),
        };
        let servers = locator.resolver.servers().join(", ");
        format!("asked DNS server {servers} for {}", Escaped(name))
    }

    /// Describes for the log the addresses that are being dialled, and the one at which the
    /// session waits for a slot.
    pub fn dialled(&self, awaited: Option<&Address>) -> String {
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

/// Returns what to look up for the domain `name`, for which `servers` are configured.
fn wanted(name: &str, servers: &Arc<[Server]>, tls: Tls) -> Wanted {
    match servers.is_empty() {
        false => Wanted::Servers {
            servers: Arc::clone(servers),
            direct: tls == Tls::Direct,
        },
        true => Wanted::Domain {
            name: name.to_owned(),
            clear: tls != Tls::Direct,
            direct: tls != Tls::None,
        },
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
