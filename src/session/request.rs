//! The client's request: the opening handshake, and the PROXY header before it.
//!
//! Owns the result of a request, which is a WebSocket, a page or a refusal, and decides
//! whose report of the client's address to trust. `proto::http` judges the request.

use std::cell::RefCell;

use super::Session;
use super::admission::{self, Excess};
use super::phase::{Event, Phase};
use super::shared::Shared;
use crate::config::ForwardedHeader;
use crate::log::Escaped;
use crate::metrics::reason;
use crate::proto::http::{self, Accept, Policy, Refusal, Subprotocol, forwarded};
use crate::proto::proxy_protocol::{self, Proxied};

/// When a client may try again if there was no room.
const RETRY_AFTER_SECS: u32 = 10;

impl Session {
    /// Takes bytes of the request; answers it once it is complete, or cannot become
    /// valid.
    pub(super) fn take_request(&mut self, bytes: &[u8], shared: &mut Shared) {
        let mut old_len = self.client.tail.len();
        self.client.tail.extend(bytes);
        if self.awaits_proxy {
            old_len = 0;
            if !self.take_proxy_header(shared) {
                return;
            }
        }
        let (config, rules) = (&self.config, &self.endpoint.rules);
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
            .map(|origin| shared.names.share(&origin));
        match verdict.and_then(|accept| self.admit(accept, shared)) {
            Ok(None) => {}
            Ok(Some(accept)) => {
                accept.write(&mut self.client.out);
                self.deflate = accept.deflate;
                self.client.tail.consume(accept.consumed);
                self.step(Event::Accepted, "", shared);
            }
            Err(refusal) => self.refuse_request(refusal, shared),
        }
    }

    fn refuse_request(&mut self, refusal: Refusal, shared: &mut Shared) {
        let key = match refusal {
            Refusal::HeadTooLarge => Some("max_request_size"),
            Refusal::TooManyHeaders => Some("max_request_lines"),
            // Other limits are in the log already.
            _ => None,
        };
        if let Some(key) = key {
            let (peer, now) = (self.report.peer(), shared.now);
            let admission = &mut shared.admission;
            admission.report(&shared.log, peer, key, "", now);
        }
        self.refuse(refusal, shared);
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
        self.step(event, &detail, shared);
    }

    /// Reads the PROXY header that a proxy may send first; false while bytes of it are
    /// missing, or if it is not valid.
    fn take_proxy_header(&mut self, shared: &mut Shared) -> bool {
        match proxy_protocol::parse(self.client.tail.as_slice()) {
            Ok(None) => false,
            Ok(Some(Proxied { consumed, source })) => {
                self.awaits_proxy = false;
                self.client.tail.consume(consumed);
                if let Some(source) = source {
                    self.arrives_from(source, shared);
                    if !self.may_be_told(shared) {
                        self.leave_unanswered(shared);
                    }
                }
                self.phase == Phase::Opening && !self.client.tail.is_empty()
            }
            Err(error) => {
                self.refuse_proxy_header(&error, shared);
                false
            }
        }
    }

    pub(super) fn refuse_proxy_header(
        &mut self,
        error: &proxy_protocol::Error,
        shared: &mut Shared,
    ) {
        let name = self.report.name();
        let log = &shared.log;
        log.warning(format_args!("session {name}: trusted proxy: {error}"));
        self.refuse(Refusal::Malformed, shared);
        self.step(Event::Refused, &error.to_string(), shared);
    }

    /// Admits a valid request: takes the client's address from a trusted proxy, and checks
    /// the limits.
    fn admit(
        &mut self,
        accept: Option<Accept>,
        shared: &mut Shared,
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
                self.arrives_from(client, shared);
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
    pub(super) fn refuse(&mut self, refusal: Refusal, shared: &mut Shared) {
        let address_limit = matches!(refusal, Refusal::AddressOverloaded { .. });
        let reason = match self.excess {
            Some(excess) if address_limit => excess.key(),
            _ => reason(&refusal),
        };
        // A page is not a refusal.
        if !matches!(refusal, Refusal::Plain(_)) {
            shared.metrics.refused.count(reason);
        }
        match refusal {
            Refusal::Plain(plain) => plain.write(&self.config.host_meta, &mut self.client.out),
            other => other.write(&mut self.client.out),
        }
    }
}
