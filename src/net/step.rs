//! The steps of finding and dialling a server, for an observer. Only a trial has one.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;

use super::dns::locator::Target;
use super::dns::question::{Error, Question, Records};

pub(crate) enum Step<'a> {
    /// The addresses of the domain in the hosts file.
    HostsFile(&'a str, &'a [IpAddr]),
    /// A question has a result. `local`: it came from the hosts file or the cache.
    Answered {
        question: &'a Question,
        result: &'a Result<Records, Error>,
        local: bool,
    },
    /// An attempt to connect has begun.
    Dialled(&'a Target),
    NotConnected(&'a Target, &'a io::Error),
}

type Observe = dyn Fn(&Step<'_>);

#[derive(Clone, Default)]
pub(crate) struct Observer(Option<Rc<Observe>>);

impl Observer {
    pub(crate) fn new(observe: impl Fn(&Step<'_>) + 'static) -> Observer {
        Observer(Some(Rc::new(observe)))
    }

    pub(super) fn tell(&self, step: &Step<'_>) {
        if let Some(observe) = &self.0 {
            observe(step);
        }
    }
}
