//! The pages of the status port.
//!
//! Requests for another host are refused, because a web page can point its own name at this
//! port (DNS rebinding).

use std::net::{IpAddr, Ipv6Addr};

use super::overview;
use crate::buf::Buf;
use crate::log::{Escaped, Log};
use crate::metrics::{Gauges, Metrics, Publisher};
use crate::proto::http::response::TEXT;
use crate::proto::http::{Head, Refusal, Response};

/// Minimum time between log lines about requests for another host.
const WARNING_PERIOD_MS: u64 = 60_000;

const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state of the worker, for the pages.
pub(crate) struct View<'a> {
    /// Milliseconds since the worker started.
    pub now: u64,
    pub metrics: &'a Metrics,
    pub gauges: Gauges,
    /// Names of this host besides addresses and `localhost`.
    pub hosts: &'a [String],
    pub log: &'a Log,
}

impl View<'_> {
    /// Appends the response to a request.
    pub(super) fn answer(
        &self,
        head: &Head<'_>,
        publisher: &mut Publisher,
        warned_at: &mut Option<u64>,
        out: &mut Buf,
    ) {
        let host = head.host().and_then(|host| {
            let host = host.map(str::from_utf8).transpose();
            host.map_err(|_| Refusal::HostInvalid)
        });
        let host = match host {
            Ok(host) => host,
            Err(refusal) => return refusal.write(out),
        };
        let path = head.target.split('?').next().unwrap_or_default();
        let (metrics, gauges) = (self.metrics, &self.gauges);
        let text = |status, text: &str| (status, TEXT, format!("{text}\n"));
        let (status, content_type, body) = match path {
            _ if !matches!(head.method, "GET" | "HEAD") => text(405, "only GET and HEAD"),
            _ if host.is_some_and(|host| !is_ours(host, self.hosts)) => {
                self.warn(host.unwrap_or_default(), warned_at);
                let why =
                    "unknown host name: use an address, or add the name to the key 'status_host'";
                text(421, why)
            }
            "/" => (
                200,
                HTML,
                overview::page(&publisher.report(metrics, gauges, self.now), &host_name()),
            ),
            "/metrics" => (200, METRICS, publisher.sum(metrics, gauges, self.now)),
            "/metrics/workers" => (200, METRICS, publisher.each(metrics, gauges, self.now)),
            "/healthz" => text(200, "ok"),
            "/readyz" if metrics.draining => text(503, "draining"),
            "/readyz" => text(200, "ready"),
            _ => text(404, "/, /metrics, /metrics/workers, /healthz, /readyz"),
        };
        let mut fields = "Connection: close\r\nCache-Control: no-store\r\n".to_owned();
        match content_type {
            HTML => fields += overview::header_lines(),
            _ if status == 405 => fields += "Allow: GET, HEAD\r\n",
            _ => {}
        }
        let response = Response {
            status,
            fields: &fields,
            content: Some((content_type, body.as_bytes())),
            head_only: head.method == "HEAD",
        };
        response.write(out);
    }

    /// Logs a request for another host, because the operator may have to add a name.
    fn warn(&self, host: &str, warned_at: &mut Option<u64>) {
        if warned_at.is_none_or(|at| self.now >= at + WARNING_PERIOD_MS) {
            *warned_at = Some(self.now);
            self.log.warning(format_args!(
                "status_listen: refused a request for the host {}; if that is this host, \
                 add it to 'status_host'",
                Escaped(host)
            ));
        }
    }
}

/// Returns the name of this host; empty if it is not known.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_owned()
}

/// Whether a request with this Host is for us: `host` is an address, `localhost` or one of
/// `names`, with any port.
fn is_ours(host: &str, names: &[String]) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    if let Some(v6) = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let mut names = names.iter().map(String::as_str).chain(["localhost"]);
    name.parse::<IpAddr>().is_ok() || names.any(|ours| ours.eq_ignore_ascii_case(name))
}
