//! The route to the server: finds it and connects to it.
//!
//! Exists while a session is being set up, and is dropped once the server has sent more than its
//! stream header. Owns the dial; `look_up` finds the addresses to dial, `access_rules` says which
//! of them are allowed, `greeting` has the stream header and messages that wait for the server,
//! and `answer_wait` limits the time to its first answer. Each step returns what happened, for
//! the machine. The route stands beside the machine, not inside the phase that needs it, because
//! the test that explores the machine copies and compares states.

use std::rc::Rc;

use mio::Token;

use super::access_rules::AccessRules;
use super::answer_wait::AnswerWait;
use super::greeting::Greeting;
use super::look_up::ServerLookUp;
use crate::config::DomainRule;
use crate::net::address::Address;
use crate::net::dial::{Dial, Progress};
use crate::net::dns::locator::{Answer, Error, Target};
use crate::net::servers::Caller;
use crate::net::source::Source;
use crate::proto::xmpp::error::StreamError;
use crate::proto::xmpp::starttls::Dialogue;
use crate::session::machine::Event;
use crate::session::session_log::Name;
use crate::session::settings::Settings;
use crate::session::shared::Shared;
use crate::session::side::Side;
use crate::session::step::Step;
use crate::session::{NEVER, Session, Tick};

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
    /// The session's name in the log.
    pub(super) session: Name,
    pub(super) settings: Rc<Settings>,
    /// The domain as the client named it, for the log.
    pub(super) domain: Rc<str>,
    /// The domain as A-labels.
    pub(super) name: String,
    pub(super) rules: AccessRules,
    pub greeting: Greeting,
    pub look_up: ServerLookUp,
    pub(super) dial: Dial,
    /// The lane of the dial that connected.
    pub(super) lane: u8,
    /// While dialling, an edge reported data, the end or an error, not just a connection.
    pub missed: bool,
    pub target: Option<Target>,
    pub(super) securing: Securing,
    pub wait: AnswerWait,
    /// The target of a redirect.
    pub(super) see_other: Option<(String, u16)>,
    /// Why the last address failed.
    pub(super) failure: Option<String>,
}

impl Route {
    /// Creates the route to the domain of `session`, which is `name` as A-labels.
    pub fn new(session: &Session, name: String, greeting: Greeting) -> Route {
        let config = &session.config;
        let domain = session.domain.clone().unwrap_or_default();
        let entry = match config.domain(&domain) {
            DomainRule::Listed(entry) => Some(entry),
            DomainRule::Any | DomainRule::Unlisted => None,
        };
        let rules = AccessRules::new(entry, config);
        let servers = config.servers_of(entry);
        let caller = Caller {
            session: session.token as usize,
            source: Source::from(session.log.name.peer.ip()),
            domain: Rc::from(name.as_str()),
            is_listed: rules.is_listed || rules.is_configured,
        };
        Route {
            look_up: ServerLookUp::of_domain(&name, servers, rules.tls),
            session: session.log.name,
            settings: Rc::clone(config),
            domain,
            name,
            rules,
            greeting,
            dial: Dial::new(caller),
            lane: 0,
            missed: false,
            target: None,
            securing: Securing::No,
            wait: AnswerWait::none(),
            see_other: None,
            failure: None,
        }
    }

    /// Looks up the server.
    pub fn look_up(&mut self, shared: &mut Shared) {
        self.look_up.start(self.dial.caller(), shared);
    }

    /// Takes the locator's answer.
    pub(super) fn take_answer(&mut self, answer: Answer, shared: &mut Shared) -> Outcome {
        if !self.look_up.accept(&answer) {
            return None;
        }
        let targets = match answer.targets {
            Ok(targets) => targets,
            Err(error) => return Some(self.not_found(error, shared)),
        };
        let (internal, now) = (&mut shared.private_addresses, shared.now);
        let (allowed, refused): (Vec<_>, Vec<_>) = targets
            .into_iter()
            .partition(|target| self.rules.may_dial(target, internal, now));
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
            Error::Failed(_) => format!("{error}: {}", self.look_up.describe(&shared.locator)),
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
        let (meter, now) = (&mut shared.meter, shared.now);
        let progress = self.dial.progress(registry, token, servers, meter, now);
        shared.count_results();
        match progress {
            Progress::Pending => None,
            Progress::Connected {
                transport,
                target,
                lane,
            } => {
                self.target = Some(target);
                self.wait = AnswerWait::start(shared.now, self.dial.has_more());
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
        let bare = !server.is_tls() && self.wants_bare_header();
        self.greeting.send(bare, &mut shared.text, &mut server.out);
        bare
    }

    /// Whether the server gets the bare header while the connection has no TLS.
    pub(super) fn wants_bare_header(&self) -> bool {
        self.rules.want_bare_header(self.target.as_ref())
    }

    /// Whether plain text is allowed with a server that offers no TLS.
    pub(super) fn plain_text_will_do(&self) -> bool {
        self.rules.allow_plain_text(self.target.as_ref())
    }

    pub(super) fn caller(&self) -> &Caller {
        self.dial.caller()
    }

    /// Returns when the dial must continue without an edge.
    pub fn next_start(&self) -> Tick {
        self.dial.due_ms().unwrap_or(NEVER)
    }

    /// Returns the bytes of memory that the route holds.
    pub fn memory(&self) -> usize {
        let dialogue = match &self.securing {
            Securing::Dialogue(dialogue) => dialogue.memory(),
            _ => 0,
        };
        size_of::<Route>() + self.greeting.memory() + dialogue
    }

    /// Describes for the log the addresses that are being dialled, and the one at which the
    /// session waits for a slot; without any, the last failure.
    pub fn dialled(&self, awaited: Option<&Address>) -> String {
        let addresses = self.dial.addresses().map(|at| at.to_string());
        let waiting = awaited
            .map(|at| format!("waiting for a turn at {at} (see 'max_connecting_per_server')"));
        let all: Vec<String> = addresses.chain(waiting).collect();
        match all.is_empty() {
            true => self.dial.last_failure().unwrap_or_default(),
            false => all.join(", "),
        }
    }
}
