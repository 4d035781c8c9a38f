//! The steps of a session's way to its server, for an observer. Only a trial has one.

use std::net::SocketAddr;
use std::rc::Rc;

use openssl::ssl::SslRef;

use crate::config::DomainRule;
use crate::net::dns::locator::{Error, Target};
use crate::net::step::{Observer as NetObserver, Step as NetStep};
use crate::proto::xmpp::header::Header;
use crate::proto::xmpp::starttls;

pub(crate) use super::machine::{Cause, Phase};

pub(crate) enum Step<'a> {
    /// The client named this domain.
    Domain(&'a str, DomainRule<'a>),
    Net(&'a NetStep<'a>),
    Located {
        allowed: &'a [Target],
        /// Internal addresses that the domain may not lead to.
        refused: &'a [Target],
    },
    NotLocated {
        error: Error,
        why: &'a str,
    },
    Connected {
        target: &'a Target,
        /// Our own address; a Unix socket has none.
        from: Option<SocketAddr>,
    },
    /// The server was asked for STARTTLS, whether it offers that or not.
    StartTls {
        is_offered: bool,
    },
    /// The server offers no STARTTLS, and plain text is not allowed.
    TlsNotOffered,
    /// The negotiation of STARTTLS has failed.
    NoStartTls(&'a starttls::Error),
    /// The TLS handshake is over.
    Handshake {
        ssl: &'a SslRef,
        succeeded: bool,
    },
    /// The connection cannot be made secure. The text begins with the address.
    Insecure(&'a str),
    /// The server redirects its clients to this host.
    Redirected(&'a str),
    /// The server's stream header. Before TLS there may have been another.
    Header(&'a Header),
    Features {
        received: &'a [u8],
        relayed: &'a [u8],
    },
    Ended {
        cause: Cause,
        detail: &'a str,
    },
}

type Observe = dyn Fn(&Step<'_>);

#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Rc<Observe>>);

impl Observer {
    pub(crate) fn new(observe: impl Fn(&Step<'_>) + 'static) -> Observer {
        Observer(Some(Rc::new(observe)))
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn tell(&self, step: &Step<'_>) {
        if let Some(observe) = &self.0 {
            observe(step);
        }
    }

    /// Returns an observer of the steps in `net`.
    pub(super) fn of_net(&self) -> NetObserver {
        let own = self.clone();
        NetObserver::new(move |step| own.tell(&Step::Net(step)))
    }
}
