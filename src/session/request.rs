//! The client's request: the opening handshake, and the PROXY header before it.
//!
//! Owns the result of a request, which is a WebSocket, a page or a refusal, and decides
//! whose report of the client's address to trust. `proto::http` judges the request.

use std::cell::RefCell;

use super::Session;
use super::admission::{self, Excess};
use super::metrics::reason;
use super::phase::{Event, Phase};
use super::worker::Worker;
use crate::config::ForwardedHeader;
use crate::log::Escaped;
use crate::proto::http::{self, Accept, Policy, Refusal, Subprotocol, forwarded};
use crate::proto::proxy::{self, Proxied};

/// When a client may try again if there was no room.
const RETRY_AFTER_SECS: u32 = 10;

impl Session {
    /// Takes bytes of the request; answers it once it is complete, or cannot become
    /// valid.
    pub(super) fn take_request(&mut self, bytes: &[u8], worker: &mut Worker) {
        let mut old_len = self.client.tail.len();
        self.client.tail.extend(bytes);
        if self.awaits_proxy {
            old_len = 0;
            if !self.take_proxy_header(worker) {
                return;
            }
        }
        let (config, rules) = (&self.config, &self.entrance.rules);
        let limits = http::Limits {
            head_size: config.max_request_bytes,
            lines: config.max_request_lines,
        };
        if !http::worth_parsing(self.client.tail.as_slice(), old_len, &limits) {
            return;
        }
        // Kept also for the log line of a refusal.
        let origin = RefCell::new(None);
        let policy = Policy {
            host: rules.host.as_deref(),
            resource: rules.resource.as_deref(),
            origin_allowed: &|value| {
                *origin.borrow_mut() = value.map(str::to_owned);
                rules.origin_allowed(value)
            },
            subprotocol: Subprotocol::Xmpp,
            limits,
            host_meta: !config.host_meta.is_empty(),
            deflate: config.compression,
        };
        let verdict = http::parse(self.client.tail.as_slice(), &policy);
        self.report.origin = origin
            .into_inner()
            .map(|origin| worker.names.share(&origin));
        match verdict.and_then(|accept| self.admit(accept, worker)) {
            Ok(None) => {}
            Ok(Some(accept)) => {
                accept.write(&mut self.client.out);
                self.deflate = accept.deflate;
                self.client.tail.consume(accept.consumed);
                self.step(Event::Accepted, "", worker);
            }
            Err(refusal) => self.refuse_request(refusal, worker),
        }
    }

    fn refuse_request(&mut self, refusal: Refusal, worker: &mut Worker) {
        let key = match refusal {
            Refusal::HeadTooLarge => Some("max_request_size"),
            Refusal::TooManyHeaders => Some("max_request_lines"),
            // Other limits are in the log already.
            _ => None,
        };
        if let Some(key) = key {
            let (peer, now) = (self.report.peer(), worker.now);
            let admission = &mut worker.admission;
            admission.report(&worker.log, peer, key, "", now);
        }
        self.refuse(refusal, worker);
        let status = refusal.status();
        let asked = http::asked(self.client.tail.as_slice());
        let detail = match (refusal, asked) {
            (Refusal::Resource, (Some(target), _)) => {
                format!("{status} {refusal}: {}", Escaped(&target))
            }
            (Refusal::HostDiffers | Refusal::HostInvalid, (_, Some(host))) => {
                format!("{status} {refusal}: {}", Escaped(&host))
            }
            _ => format!("{status} {refusal}"),
        };
        let event = match refusal {
            Refusal::Plain(_) => Event::Served,
            _ => Event::Refused,
        };
        self.step(event, &detail, worker);
    }

    /// Reads the PROXY header that a proxy may send first; false while bytes of it are
    /// missing, or if it is not valid.
    fn take_proxy_header(&mut self, worker: &mut Worker) -> bool {
        match proxy::parse(self.client.tail.as_slice()) {
            Ok(None) => false,
            Ok(Some(Proxied { consumed, source })) => {
                self.awaits_proxy = false;
                self.client.tail.consume(consumed);
                if let Some(source) = source {
                    self.arrives_from(source, worker);
                    if !self.may_be_told(worker) {
                        self.leave_unanswered(worker);
                    }
                }
                self.phase == Phase::Opening && !self.client.tail.is_empty()
            }
            Err(error) => {
                self.refuse_proxy_header(&error, worker);
                false
            }
        }
    }

    pub(super) fn refuse_proxy_header(&mut self, error: &proxy::Error, worker: &mut Worker) {
        let name = self.report.name();
        let log = &worker.log;
        log.warning(format_args!("session {name}: trusted proxy: {error}"));
        self.refuse(Refusal::Malformed, worker);
        self.step(Event::Refused, &error.to_string(), worker);
    }

    /// Admits a valid request: takes the client's address from a trusted proxy, and checks
    /// the limits.
    fn admit(
        &mut self,
        accept: Option<Accept>,
        worker: &mut Worker,
    ) -> Result<Option<Accept>, Refusal> {
        let Some(accept) = accept else {
            return Ok(None);
        };
        let peer = self.report.peer();
        if admission::is_believed(peer, &self.config) {
            let named = self.config.forwarded_header;
            let list = accept.forwarded_for.as_deref();
            let list = list.filter(|_| named != Some(ForwardedHeader::Forwarded));
            let forwarded = accept.forwarded.as_deref();
            let forwarded = forwarded.filter(|_| named != Some(ForwardedHeader::XForwardedFor));
            let trusted = |address| self.config.is_trusted(address);
            if let Some(client) = forwarded::client(list, forwarded, peer.port(), trusted) {
                self.arrives_from(client, worker);
            }
        }
        match self.excess {
            None => Ok(Some(accept)),
            Some(Excess::Connections) => Err(Refusal::Overloaded {
                retry_after_secs: RETRY_AFTER_SECS,
            }),
            Some(_) => Err(Refusal::AddressOverloaded {
                retry_after_secs: RETRY_AFTER_SECS,
            }),
        }
    }

    /// Queues the answer to a request that is refused.
    pub(super) fn refuse(&mut self, refusal: Refusal, worker: &mut Worker) {
        let address_limit = matches!(refusal, Refusal::AddressOverloaded { .. });
        let reason = match self.excess {
            Some(excess) if address_limit => excess.key(),
            _ => reason(&refusal),
        };
        // A page is not a refusal.
        if !matches!(refusal, Refusal::Plain(_)) {
            worker.metrics.refused.count(reason);
        }
        match refusal {
            Refusal::Plain(plain) => plain.write(&self.config.host_meta, &mut self.client.out),
            other => other.write(&mut self.client.out),
        }
    }
}
