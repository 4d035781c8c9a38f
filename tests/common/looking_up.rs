//! A locator with its own event loop. The test sets the time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use jabsocket::net::dns::locator::{Answer, Locator, Wanted};
use jabsocket::net::dns::resolver::Resolver;
use jabsocket::net::source::Source;
use mio::{Events, Poll, Token};

use super::PATIENCE;
use super::dns_server::DnsServer;

/// The longest wait for the DNS in one turn.
const MOMENT: Duration = Duration::from_millis(5);

/// A locator and its poll.
pub struct LookingUp {
    poll: Poll,
    pub locator: Locator,
    /// Answers that the test has not used yet.
    pub answers: Vec<Answer>,
}

/// A request for the server of a domain, over either service.
pub fn wanted(domain: &str) -> Wanted {
    Wanted::Domain {
        name: domain.to_owned(),
        clear: true,
        direct: true,
    }
}

impl LookingUp {
    /// A locator that asks `dns`.
    pub fn asking(dns: &DnsServer) -> LookingUp {
        let poll = Poll::new().unwrap();
        let resolver = resolver(&poll, dns);
        LookingUp::new(poll, resolver)
    }

    /// A locator that asks the servers of this resolv.conf.
    pub fn following(resolv_conf: PathBuf) -> LookingUp {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let files = [PathBuf::from("/etc/hosts"), resolv_conf];
        let resolver = Resolver::with_files(registry, Token(0), &[], files).unwrap();
        LookingUp::new(poll, resolver)
    }

    fn new(poll: Poll, resolver: Resolver) -> LookingUp {
        LookingUp {
            poll,
            locator: Locator::new(resolver, |_| 0),
            answers: Vec::new(),
        }
    }

    /// Switches to the server `dns`, as a reload does.
    pub fn reload(&mut self, dns: &DnsServer, now_ms: u64) {
        let resolver = resolver(&self.poll, dns);
        self.locator.replace_resolver(resolver, now_ms);
    }

    /// Starts a look-up.
    pub fn look_up(&mut self, id: u64, domain: &str, asker: Source, now_ms: u64) {
        self.locator.look_up(id, &wanted(domain), asker, now_ms);
    }

    /// Waits briefly for the DNS.
    pub fn receive(&mut self, now_ms: u64) {
        let mut events = Events::with_capacity(64);
        self.poll.poll(&mut events, Some(MOMENT)).unwrap();
        self.locator.resolver.process(now_ms);
    }

    /// Waits briefly for the DNS and collects the answers.
    pub fn turn(&mut self, now_ms: u64) {
        self.receive(now_ms);
        self.locator.advance_look_ups(usize::MAX, now_ms);
        while let Some(answer) = self.locator.next_answer() {
            self.answers.push(answer);
        }
    }

    /// Takes turns until `find` succeeds; fails after a time limit.
    #[allow(clippy::disallowed_methods)]
    pub fn until<T>(
        &mut self,
        what: &str,
        now_ms: u64,
        mut find: impl FnMut(&mut LookingUp) -> Option<T>,
    ) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            self.turn(now_ms);
            if let Some(found) = find(self) {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain for {what}");
        }
    }

    /// Waits for the next answer to a look-up.
    pub fn answer(&mut self, id: u64, now_ms: u64) -> Answer {
        self.until("an answer", now_ms, |this| {
            let at = this.answers.iter().position(|answer| answer.id == id)?;
            Some(this.answers.remove(at))
        })
    }

    /// Waits for the first address that a look-up finds.
    pub fn address(&mut self, id: u64, now_ms: u64) -> String {
        let answer = self.answer(id, now_ms);
        let targets = answer
            .targets
            .unwrap_or_else(|error| panic!("{id}: {error}"));
        targets[0].address.to_string()
    }
}

fn resolver(poll: &Poll, dns: &DnsServer) -> Resolver {
    let registry = poll.registry().try_clone().unwrap();
    Resolver::new(registry, Token(0), &[dns.address]).unwrap()
}
