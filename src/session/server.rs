//! The way to the server, and what it sends.
//!
//! Owns look-up and dial until a connection stands, then the path from the
//! server's socket to its stream reader.

use std::net::{IpAddr, SocketAddr};

use mio::Token;

use super::phase::{Event, Phase};
use super::side::Read;
use super::worker::Worker;
use super::{READS_PER_TURN, Session, Tick};
use crate::config::{DomainRule, Host};
use crate::log::Escaped;
use crate::net::dial::{Dial, Progress};
use crate::net::resolver::{Answer, Error};
use crate::proto::xmpp::error::StreamError;

/// Port of XMPP servers for clients (RFC 6120, section 14.7).
const PORT: u16 = 5222;

/// The way to the server while it is sought.
pub struct Route {
    port: u16,
    /// The look-up under way.
    query: Option<u64>,
    addresses: Vec<IpAddr>,
    dial: Option<Dial>,
}

impl Route {
    /// When the dial is to go on.
    pub(super) fn next_start(&self) -> Option<Tick> {
        self.dial.as_ref()?.next_start_ms()
    }
}

impl Session {
    /// Finds out where the domain's server is.
    pub(super) fn look_up(&mut self, worker: &mut Worker) {
        let domain = self.domain.clone().unwrap_or_default();
        let fixed = match self.config.domain(&domain) {
            DomainRule::Listed(entry) => entry.server.clone(),
            DomainRule::Any | DomainRule::Unlisted => None,
        };
        let mut route = Route {
            port: fixed.as_ref().map_or(PORT, |server| server.port),
            query: None,
            addresses: Vec::new(),
            dial: None,
        };
        let name = match fixed.map(|server| server.host) {
            Some(Host::Address(address)) => {
                route.addresses.push(address);
                self.route = Some(Box::new(route));
                self.step(Event::Located, "", worker);
                return;
            }
            Some(Host::Name(name)) => name.into(),
            None => domain,
        };
        let query = worker.next_query;
        worker.next_query += 1;
        route.query = Some(query);
        self.route = Some(Box::new(route));
        worker.look_up(self.token, query, &name);
    }

    /// Takes the resolver's answer; to be followed by `turn`.
    pub fn located(&mut self, answer: Answer, worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        if route.query != Some(answer.id) {
            return;
        }
        route.query = None;
        match answer.addresses {
            Ok(addresses) => {
                route.addresses = addresses;
                self.step(Event::Located, "", worker);
            }
            Err(error) => {
                let told = match error {
                    Error::NotFound => StreamError::HostUnknown,
                    Error::Failed(_) => {
                        StreamError::RemoteConnectionFailed("the domain could not be looked up")
                    }
                };
                self.unreachable(told, &error.to_string(), worker);
            }
        }
    }

    /// Starts or goes on with the dial.
    pub(super) fn dial(&mut self, worker: &mut Worker) {
        let Some(route) = &mut self.route else {
            return;
        };
        let port = route.port;
        let addresses = &route.addresses;
        let dial = route.dial.get_or_insert_with(|| {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|ip| SocketAddr::new(*ip, port))
                .collect();
            Dial::new(&addresses)
        });
        let first = self.token + 1;
        match dial.progress(&worker.registry, |lane| Token(first + lane), worker.now) {
            Progress::Pending => {}
            Progress::Connected {
                transport,
                address,
                lane,
            } => {
                worker.log.debug(format_args!(
                    "session {}: connected to {address} for {}",
                    self.report.peer(),
                    Escaped(self.domain.as_deref().unwrap_or_default()),
                ));
                self.route = None;
                self.lane = lane as u8;
                self.server.connect(transport, worker.now);
                self.step(Event::Connected, "", worker);
            }
            Progress::Failed(why) => {
                let told = StreamError::RemoteConnectionFailed("the server cannot be reached");
                self.unreachable(told, &why, worker);
            }
        }
    }

    /// Forgets look-up and dial.
    pub(super) fn abandon_route(&mut self, worker: &mut Worker) {
        if let Some(query) = self.route.take().and_then(|route| route.query) {
            worker.forget_look_up(query);
        }
    }

    fn unreachable(&mut self, told: StreamError, why: &str, worker: &mut Worker) {
        worker.log.notice(format_args!(
            "session {}: no way to the server of {}: {why}",
            self.report.peer(),
            Escaped(self.domain.as_deref().unwrap_or_default()),
        ));
        self.step(Event::Unreachable(told), why, worker);
    }

    /// Reads from the server while there is something and the queues have room;
    /// true when the turn's budget ended it.
    pub(super) fn take_server(&mut self, worker: &mut Worker, scratch: &mut [u8]) -> bool {
        let mut reads = 0;
        loop {
            let relaying = matches!(self.phase, Phase::Greeting | Phase::Relaying);
            if relaying && self.is_paused() {
                return false;
            }
            if relaying && self.stream_paused {
                self.relay_down(&[], worker);
                continue;
            }
            if !self.server.is_readable() {
                return false;
            }
            if reads == READS_PER_TURN {
                return true;
            }
            reads += 1;
            match (self.server.read(scratch), relaying) {
                (Read::Bytes(n), true) => self.relay_down(&scratch[..n], worker),
                (Read::Bytes(n), false) => {
                    if !self.server.drop_bytes(n) {
                        self.server.close();
                    }
                }
                (Read::Nothing, _) => return false,
                (Read::End | Read::Broken, true) => {
                    // Behind a stream error the end is no surprise.
                    let event = match self.server_erred {
                        true => Event::ServerEnded,
                        false => Event::ServerGone,
                    };
                    self.step(event, "", worker);
                }
                (Read::End, false) => return false,
                (Read::Broken, false) => self.server.close(),
            }
        }
    }
}
