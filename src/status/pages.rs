//! The pages of the status port.
//!
//! Requests for another host are refused, because a web page can point its own name at this
//! port (DNS rebinding).

use std::net::{IpAddr, Ipv6Addr};

use super::overview;
use super::page::{HTML, Page};
use super::query::Query;
use super::sessions::{Job, Listing};
use crate::buf::Buf;
use crate::log::{Escaped, Log};
use crate::metrics::{Gauges, Metrics, Publisher};
use crate::proto::http::{Head, Refusal, Response, Target};

/// Minimum time between log lines about requests for another host.
const WARNING_PERIOD_MS: u64 = 60_000;

/// The beginning of a list, which ends with the connection.
const LIST: Response<'_> = Response {
    status: 200,
    fields: "Connection: close\r\nCache-Control: no-store\r\n\
             Content-Type: application/x-ndjson\r\n",
    content: None,
    head_only: false,
};

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
    /// Appends the response to a request, or returns what has to be done for it. `is_local`:
    /// the client is connected over a Unix socket.
    pub(super) fn answer(
        &self,
        head: &Head<'_>,
        is_local: bool,
        publisher: &mut Publisher,
        warned_at: &mut Option<u64>,
        out: &mut Buf,
    ) -> Option<Job> {
        let (Target { path, query, .. }, host) = match target_and_host(head) {
            Ok(found) => found,
            Err(refusal) => {
                refusal.write(out);
                return None;
            }
        };
        // Web pages cannot reach a Unix socket.
        let host = host.filter(|_| !is_local);
        let is_foreign = host.is_some_and(|host| !is_ours(host, self.hosts));
        let is_of_sessions = path == "/sessions" || path.starts_with("/sessions/");
        let page = match head.method {
            "GET" | "HEAD" | "POST" if is_of_sessions && !is_local => {
                let why = "sessions are served by a unix socket only (status_listen: unix:/path)";
                Page::text(403, why)
            }
            "POST" if is_of_sessions => match number_to_close(path) {
                Some(number) => return Some(Job::Close(number, 0)),
                None => Page::text(404, "POST /sessions/NUMBER/close"),
            },
            "GET" | "HEAD" if is_foreign => {
                self.warn(host.unwrap_or_default(), warned_at);
                let why =
                    "unknown host name: use an address, or add the name to the key 'status_host'";
                Page::text(421, why)
            }
            "GET" | "HEAD" if path == "/sessions" => match Query::parse(query) {
                Ok(query) => {
                    LIST.write(out);
                    return (head.method == "GET").then(|| Job::List(Listing::new(query)));
                }
                Err(why) => Page::text(400, why),
            },
            "GET" | "HEAD" => self.page(path, publisher),
            _ => Page::text(405, "only GET and HEAD"),
        };
        page.write(head.method == "HEAD", out);
        None
    }

    fn page(&self, path: &str, publisher: &mut Publisher) -> Page {
        let (metrics, gauges, now) = (self.metrics, &self.gauges, self.now);
        match path {
            "/" => {
                let report = publisher.report(metrics, gauges, now);
                Page::new(HTML, overview::page(&report, &host_name()))
            }
            "/metrics" => Page::new(METRICS, publisher.sum_page(metrics, gauges, now)),
            "/metrics/workers" => Page::new(METRICS, publisher.workers_page(metrics, gauges, now)),
            "/healthz" => Page::text(200, "ok"),
            "/readyz" if metrics.draining => Page::text(503, "draining"),
            "/readyz" => Page::text(200, "ready"),
            _ => Page::text(
                404,
                "/, /metrics, /metrics/workers, /healthz, /readyz, /sessions",
            ),
        }
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

/// Returns the target of a request, and the host that it is for, if it names one.
fn target_and_host<'a>(head: &Head<'a>) -> Result<(Target<'a>, Option<&'a str>), Refusal> {
    let target = Target::parse(head.target)?;
    let host = head.host()?.map(str::from_utf8).transpose();
    let host = host.map_err(|_| Refusal::HostInvalid)?;
    let host = target.authority.or(host);
    Ok((target, host))
}

/// Returns N of `/sessions/N/close`.
fn number_to_close(path: &str) -> Option<u32> {
    let number = path.strip_prefix("/sessions/")?.strip_suffix("/close")?;
    number.parse().ok()
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
