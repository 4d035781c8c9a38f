//! Handles the client's request, the opening handshake.
//!
//! The result is a WebSocket, a page or a refusal. `proto::http` checks the request.

use crate::log::{Escaped, start_of};
use crate::metrics::reason;
use crate::proto::http::host_meta::PageRequest;
use crate::proto::http::{self, Accept, Head, Policy, Refusal, Request, Subprotocol};
use crate::session::Session;
use crate::session::admission::ConnectionLimit;
use crate::session::machine::Event;
use crate::session::shared::Shared;

/// Bytes of an Origin that the session keeps. That of a web site has at most 267.
const MAX_ORIGIN: usize = 300;

impl Session {
    /// Takes bytes of the request, and answers it once it is complete or cannot become valid.
    pub(super) fn take_request(&mut self, bytes: &[u8], shared: &mut Shared) {
        let mut old_len = self.client.tail.len();
        self.client.tail.extend(bytes);
        if self.admission.awaits_proxy {
            old_len = 0;
            if !self.take_proxy_header(shared) {
                return;
            }
        }
        let limits = http::Limits {
            head_size: self.config.max_request_bytes,
            lines: self.config.max_request_lines,
        };
        if !http::worth_parsing(self.client.tail.as_slice(), old_len, &limits) {
            return;
        }
        match self.check_request(&limits, shared) {
            Ok(None) => {}
            Ok(Some(Request::Page(page))) => self.serve_page(page, shared),
            Ok(Some(Request::WebSocket(accept))) => self.open_websocket(&accept, shared),
            Err((refusal, asked)) => self.refuse_request(refusal, &asked, shared),
        }
    }

    /// Accepts a valid request, unless the client is over a limit.
    fn open_websocket(&mut self, accept: &Accept, shared: &mut Shared) {
        self.take_forwarded_address(accept, shared);
        let refusal = match self.admission.exceeded() {
            None => {
                accept.write(&mut self.client.out);
                self.deflate = accept.deflate;
                self.client.tail.consume(accept.consumed);
                self.step(Event::Accepted, "", shared);
                return;
            }
            Some(ConnectionLimit::Connections) => Refusal::Overloaded,
            Some(_) => Refusal::AddressOverloaded,
        };
        self.refuse_request(refusal, "", shared);
    }

    /// Checks the request. Returns `None` while it is incomplete. A refusal has a description
    /// of the request for the log.
    fn check_request(
        &mut self,
        limits: &http::Limits,
        shared: &mut Shared,
    ) -> Result<Option<Request>, (Refusal, String)> {
        let head = Head::parse(self.client.tail.as_slice(), limits);
        let Some(head) = head.map_err(|refusal| (refusal, String::new()))? else {
            return Ok(None);
        };
        let origin = head.origin().ok().flatten();
        self.log.origin = origin.map(|origin| {
            let origin = start_of(origin, MAX_ORIGIN);
            shared.names.share(origin)
        });
        let rules = &self.endpoint.rules;
        let policy = Policy {
            host: rules.host.as_deref(),
            resource: rules.resource.as_deref(),
            origin_allowed: &|origin| rules.origin_allowed(origin),
            subprotocol: Subprotocol::Xmpp,
            host_meta: !self.config.host_meta.is_empty(),
            deflate: self.config.compression,
        };
        let verdict = policy.judge(&head);
        verdict.map(Some).map_err(|refusal| {
            let asked = match refusal {
                Refusal::Resource => format!(": {}", Escaped(head.target)),
                Refusal::HostDiffers | Refusal::HostInvalid => {
                    let host = head.host().ok().flatten().unwrap_or_default();
                    format!(": {}", Escaped(&String::from_utf8_lossy(host)))
                }
                _ => String::new(),
            };
            (refusal, asked)
        })
    }

    /// Refuses the request. `asked` describes it for the log.
    fn refuse_request(&mut self, refusal: Refusal, asked: &str, shared: &mut Shared) {
        let key = match refusal {
            Refusal::HeadTooLarge => Some("max_request_size"),
            Refusal::TooManyHeaders => Some("max_request_lines"),
            // Other limits are already in the log.
            _ => None,
        };
        if let Some(key) = key {
            shared.report_limit(self.log.name.peer, key, "");
        }
        self.refuse(refusal, shared);
        let detail = format!("{} {refusal}{asked}", refusal.status());
        self.step(Event::Refused, &detail, shared);
    }

    fn serve_page(&mut self, page: PageRequest, shared: &mut Shared) {
        page.write(&self.config.host_meta, &mut self.client.out);
        let detail = format!("{} plain request", page.status());
        self.step(Event::Served, &detail, shared);
    }

    /// Queues the response to a refused request.
    pub(in crate::session) fn refuse(&mut self, refusal: Refusal, shared: &mut Shared) {
        let address_limit = matches!(refusal, Refusal::AddressOverloaded);
        let reason = match self.admission.exceeded() {
            Some(limit) if address_limit => limit.key(),
            _ => reason(&refusal),
        };
        shared.metrics.refused.count(reason);
        refusal.write(&mut self.client.out);
    }
}
