//! What needs an operator's attention.

use super::limited_memory;
use super::template::Fields;
use super::units::{bytes, count, span};
use crate::metrics::{Report, name};

/// Certificates that expire sooner are an alarm, or a warning.
const EXPIRES_NOW_SECS: u64 = 7 * 86_400;
const EXPIRES_SOON_SECS: u64 = 21 * 86_400;
/// Maximum number of servers and certificates that are named.
const MAX_NAMED: usize = 5;

/// How urgent something is: a class of the style sheet.
pub(super) const GOOD: &str = "good";
pub(super) const WARN: &str = "warn";
pub(super) const BAD: &str = "bad";

pub(super) struct Notice {
    severity: &'static str,
    text: String,
}

impl Notice {
    fn new(severity: &'static str, text: impl Into<String>) -> Notice {
        let text = text.into();
        Notice { severity, text }
    }

    pub fn fields(self) -> Fields {
        Fields::default()
            .text("severity", self.severity)
            .text("text", self.text)
    }
}

/// Returns the severity of the first and most urgent notice.
pub(super) fn worst(notices: &[Notice]) -> &'static str {
    // They are sorted.
    notices.first().map_or(GOOD, |notice| notice.severity)
}

/// Returns the severity of a certificate with this time left.
pub(super) fn of_certificate(left_secs: u64) -> &'static str {
    if left_secs < EXPIRES_NOW_SECS {
        BAD
    } else if left_secs < EXPIRES_SOON_SECS {
        WARN
    } else {
        GOOD
    }
}

/// Returns all notices, the most urgent first. `now` is in seconds since the epoch.
pub(super) fn notices(report: &Report<'_>, now: u64) -> Vec<Notice> {
    let mut notices = of_process(report);
    notices.extend(of_servers(report));
    notices.extend(of_certificates(report, now));
    notices.extend(of_limits(report));
    notices.extend(of_last_minutes(report));
    notices.sort_by_key(|notice| notice.severity != BAD);
    notices
}

fn of_process(report: &Report<'_>) -> Vec<Notice> {
    let mut notices = Vec::new();
    if report.total(name::DRAINING) > 0 {
        let text = "jabsocket is stopping: it accepts no clients and ends its sessions.";
        notices.push(Notice::new(WARN, text));
    } else {
        let running = report.total(name::WORKERS) as usize;
        if running < report.slots {
            let text = format!("Only {running} of {} workers are running.", report.slots);
            notices.push(Notice::new(BAD, text));
        }
    }
    if report.total(name::CONFIG_RELOAD_REFUSED) > 0 {
        let text = "The last reload was refused; the old configuration is in force. \
                    'jabsocket --check-config' names the errors.";
        notices.push(Notice::new(BAD, text));
    }
    let lost = report.total(name::LOG_LINES_LOST);
    if lost > 0 {
        let text = format!("The system log did not accept {} lines.", count(lost));
        notices.push(Notice::new(WARN, text));
    }
    notices
}

fn of_servers(report: &Report<'_>) -> Vec<Notice> {
    let servers = report.servers().into_iter();
    let down = servers.filter(|server| server.is_down).take(MAX_NAMED);
    down.map(|server| {
        let text = format!("The server {} does not answer.", server.name);
        Notice::new(BAD, text)
    })
    .collect()
}

fn of_certificates(report: &Report<'_>, now: u64) -> Vec<Notice> {
    let certificates = report.own(name::CERTIFICATE_EXPIRY);
    let notice = |(name, expiry): (&str, u64)| {
        let left = expiry.saturating_sub(now);
        let text = match left {
            0 => format!("The certificate for {name} has expired."),
            _ => format!("The certificate for {name} expires in {}.", span(left)),
        };
        let severity = of_certificate(left);
        (severity != GOOD).then(|| Notice::new(severity, text))
    };
    certificates.filter_map(notice).take(MAX_NAMED).collect()
}

/// Notices about limits that are nearly reached.
fn of_limits(report: &Report<'_>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut check = |used: u64, limit: u64, what: &str, write: fn(u64) -> String| {
        // Without overflow: some limits are very large.
        if limit > 0 && used > limit - limit / 10 {
            let text = format!("{} of {} {what} are in use.", write(used), write(limit));
            notices.push(Notice::new(WARN, text));
        }
    };
    let total = |values| report.total(values);
    let (open, most) = (total(name::SESSIONS), total(name::SESSIONS_MAX));
    check(open, most, "sessions (max_connections)", count);
    let (open, most) = (total(name::PROCESS_OPEN_FDS), total(name::PROCESS_MAX_FDS));
    check(open, most, "file descriptors (LimitNOFILE)", count);
    let (held, most) = (limited_memory::held(report), total(name::HELD_BYTES_MAX));
    let what = "memory for sessions (max_total_memory)";
    check(held, most, what, |number| bytes(number as f64));
    notices
}

/// Notices about events in the last minutes.
fn of_last_minutes(report: &Report<'_>) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut check = |values, what| {
        let growth = report.growth(values);
        if growth > 0 {
            let text = format!("{what}: {} in the last 10 minutes.", count(growth));
            notices.push(Notice::new(WARN, text));
        }
    };
    let what = "Clients refused because max_connections is reached";
    check(name::REFUSED_REQUESTS.with("max_connections"), what);
    let what = "Sessions ended because max_total_memory is reached";
    check(name::CLOSED_SESSIONS.with("max_total_memory"), what);
    let what = "Connections to servers given up because TLS failed";
    check(name::SERVER_INSECURE, what);
    check(name::DNS_FAILURES, "DNS queries without an answer");
    let what = "Turns of one session longer than 50 ms, while all others waited";
    check(name::SLOW_TURNS, what);
    notices
}
