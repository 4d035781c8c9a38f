//! The tables of the page.

use super::notices::{BAD, GOOD, WARN, of_certificate};
use super::template::Fields;
use super::units::{bytes, count, latency, span};
use crate::log::{Escaped, Level};
use crate::metrics::{Report, name};

/// Maximum number of rows of a table.
const MAX_ROWS: usize = 12;
/// Maximum number of servers and certificates.
const MAX_NAMES: usize = 50;

/// Adds all tables to `fields`. `now_ms` is in milliseconds since the epoch.
pub(super) fn add(report: &Report<'_>, now_ms: u64, fields: Fields) -> Fields {
    let several = (report.slots > 1).then(Fields::default);
    fields
        .rows("phases", phases(report))
        .rows("closed", closed(report))
        .rows("servers", servers(report))
        .rows("domains", domains(report))
        .rows("workers", workers(report))
        .rows("certificates", certificates(report, now_ms / 1000))
        .rows("memory", memory(report))
        .rows("work", work(report))
        .rows("several", several)
        .rows("lines", lines(report, now_ms))
}

fn phases(report: &Report<'_>) -> Vec<Fields> {
    let parts = report.parts(name::SESSIONS);
    let mut rows: Vec<(&str, [u64; 3])> = Vec::new();
    for part in &parts {
        let [phase, dialect] = part.labels.as_slice() else {
            continue;
        };
        if rows.last().is_none_or(|(last, _)| last != phase) {
            rows.push((phase, [0; 3]));
        }
        let column = ["none", "rfc7395", "draft"];
        let column = column.iter().position(|known| known == dialect);
        if let (Some((_, counts)), Some(column)) = (rows.last_mut(), column) {
            counts[column] += part.total;
        }
    }
    let used = rows
        .iter()
        .filter(|(_, counts)| counts.iter().sum::<u64>() > 0);
    used.map(|(phase, [none, framed, draft])| {
        Fields::default()
            .text("phase", phase.replace('_', " "))
            .text("framed", count(*framed))
            .text("draft", count(*draft))
            .text("none", count(*none))
    })
    .collect()
}

fn closed(report: &Report<'_>) -> Vec<Fields> {
    let mut parts = report.parts(name::CLOSED_SESSIONS);
    parts.retain(|part| part.total > 0);
    parts.sort_by_key(|part| std::cmp::Reverse((part.recent, part.total)));
    parts.truncate(MAX_ROWS);
    let rows = parts.into_iter().map(|part| {
        let [by, why] = part.labels.as_slice() else {
            return Fields::default();
        };
        Fields::default()
            .text("severity", if part.recent > 0 { GOOD } else { "quiet" })
            .text("by", by)
            .text("why", why.replace('_', " "))
            .text("recent", count(part.recent))
            .text("total", count(part.total))
    });
    rows.collect()
}

fn servers(report: &Report<'_>) -> Vec<Fields> {
    let mut servers = report.servers();
    servers.sort_by_key(|server| !server.is_down);
    let servers = servers.into_iter().take(MAX_NAMES);
    servers
        .map(|server| {
            let (severity, state) = match server.is_down {
                true => (BAD, "down"),
                false if server.opened == 0 => (GOOD, "unused"),
                false => (GOOD, "up"),
            };
            Fields::default()
                .text("severity", severity)
                .text("name", Escaped(server.name))
                .text("state", state)
                .text("sessions", count(server.sessions))
                .text("failures", count(server.failures))
        })
        .collect()
}

fn domains(report: &Report<'_>) -> Vec<Fields> {
    let mut domains = report.domains();
    domains.retain(|domain| domain.opened > 0);
    domains.sort_by_key(|domain| std::cmp::Reverse((domain.sessions, domain.opened)));
    let domains = domains.into_iter().take(MAX_ROWS);
    domains
        .map(|domain| {
            Fields::default()
                .text("name", Escaped(domain.name))
                .text("sessions", count(domain.sessions))
                .text("total", count(domain.opened))
        })
        .collect()
}

fn workers(report: &Report<'_>) -> Vec<Fields> {
    let workers = report.workers([
        name::SESSIONS,
        name::PROCESS_RESIDENT_MEMORY,
        name::PROCESS_CPU,
        name::PROCESS_OPEN_FDS,
    ]);
    let row = |(worker, [sessions, memory, cpu_us, descriptors]): (usize, [u64; 4])| {
        Fields::default()
            .text("number", worker)
            .text("sessions", count(sessions))
            .text("memory", bytes(memory as f64))
            .text("cpu", span(cpu_us / 1_000_000))
            .text("descriptors", count(descriptors))
    };
    workers.into_iter().map(row).collect()
}

fn certificates(report: &Report<'_>, now: u64) -> Vec<Fields> {
    let certificates = report.own(name::CERTIFICATE_EXPIRY);
    let mut certificates: Vec<(&str, u64)> = certificates.collect();
    certificates.sort_by_key(|(_, expiry)| *expiry);
    let certificates = certificates.into_iter().take(MAX_NAMES);
    certificates
        .map(|(name, expiry)| {
            let left = expiry.saturating_sub(now);
            Fields::default()
                .text("severity", of_certificate(left))
                .text("name", Escaped(name))
                .text("days", left / 86_400)
        })
        .collect()
}

fn row(what: &str, value: String) -> Fields {
    Fields::default().text("what", what).text("value", value)
}

fn memory(report: &Report<'_>) -> Vec<Fields> {
    let parts = [
        ("Queues, messages, headers", "sessions"),
        ("XML parsers", "parsers"),
        ("Compression", "compression"),
        ("Look-ups, DNS cache", "names"),
        ("TLS (not limited)", "tls"),
    ];
    let parts = parts.map(|(what, part)| {
        let held = report.total(name::HELD_BYTES.with(part));
        row(what, bytes(held as f64))
    });
    let limit = match report.total(name::HELD_BYTES_MAX) {
        0 => "none".to_owned(),
        limit => bytes(limit as f64),
    };
    let resident = report.total(name::PROCESS_RESIDENT_MEMORY) as f64;
    let more = [
        row("Limit (max_total_memory)", limit),
        row("Resident memory", bytes(resident)),
        row(
            "Turns that left bytes in a queue, 10 min",
            count(report.growth(name::RELAY_HELD)),
        ),
    ];
    parts.into_iter().chain(more).collect()
}

fn work(report: &Report<'_>) -> Vec<Fields> {
    let turn = report.quantile(name::TURN, 0.99);
    let descriptors = [
        report.total(name::PROCESS_OPEN_FDS),
        report.total(name::PROCESS_MAX_FDS),
    ];
    let [open, most] = descriptors.map(count);
    let grown = |values| count(report.growth(values));
    vec![
        row(
            "Turn of the loop, p99",
            turn.map_or("–".to_owned(), latency),
        ),
        row("Slow turns, 10 min", grown(name::SLOW_TURNS)),
        row("Requests refused, 10 min", grown(name::REFUSED_REQUESTS)),
        row(
            "TLS failures with browsers, 10 min",
            grown(name::CLIENT_TLS_FAILURES),
        ),
        row("Insecure servers, 10 min", grown(name::SERVER_INSECURE)),
        row("DNS queries, 10 min", grown(name::DNS_QUERIES)),
        row("DNS failures, 10 min", grown(name::DNS_FAILURES)),
        row("Log lines lost", count(report.total(name::LOG_LINES_LOST))),
        row("File descriptors", format!("{open} of {most}")),
    ]
}

fn lines(report: &Report<'_>, now_ms: u64) -> Vec<Fields> {
    let lines = report.lines.iter();
    lines
        .map(|(worker, line)| {
            let from = worker.map_or("master".to_owned(), |worker| format!("worker {worker}"));
            let level = Level::from_number(line.level);
            let severity = match level {
                Some(level) if level < Level::Warning => BAD,
                Some(Level::Warning) => WARN,
                _ => GOOD,
            };
            Fields::default()
                .text("at", line.at_ms)
                .text("age", span(now_ms.saturating_sub(line.at_ms) / 1000))
                .text("from", from)
                .text("severity", severity)
                .text("level", level.map_or("", Level::name))
                .text("text", &line.text)
        })
        .collect()
}
