//! The status port from the view of a scraper: requests, and a check of each line of a
//! page.

use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;
use super::daemon::Daemon;

/// Values by series, without `jabsocket_`.
pub type Series = BTreeMap<String, f64>;

/// The status address of a daemon with one worker.
pub fn status_address(daemon: &Daemon) -> SocketAddr {
    address(&daemon.wait_for_line("status at http://"))
}

/// The status address of a worker.
pub fn worker_status_address(daemon: &Daemon, pid: u32) -> SocketAddr {
    address(&daemon.wait_for_line(&format!("[{pid}]: info: status at http://")))
}

fn address(line: &str) -> SocketAddr {
    let rest = line.split("http://").nth(1).unwrap();
    rest.strip_suffix("/metrics").unwrap().parse().unwrap()
}

pub fn dial(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads a response up to its end; returns status code, head and body.
pub fn response(stream: &mut TcpStream) -> (u16, String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.strip_prefix("HTTP/1.1 ").expect("HTTP");
    let status = status[..3].parse().expect("a status");
    (status, format!("{head}\r\n"), body.to_owned())
}

pub fn ask(at: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = dial(at);
    stream.write_all(request.as_bytes()).unwrap();
    response(&mut stream)
}

pub fn get(at: SocketAddr, path: &str) -> (u16, String, String) {
    ask(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n"))
}

/// The metrics of a daemon with one worker.
pub fn metrics(daemon: &Daemon) -> Series {
    sum(status_address(daemon))
}

/// The page with the sum over all workers. Each worker serves it.
pub fn sum(at: SocketAddr) -> Series {
    check(&page(at, "/metrics"), false)
}

/// The page with the metrics of each worker.
pub fn of_each(at: SocketAddr) -> Series {
    check(&page(at, "/metrics/workers"), true)
}

fn page(at: SocketAddr, path: &str) -> String {
    let (status, head, body) = get(at, path);
    assert_eq!(status, 200);
    let kind = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n";
    assert!(head.contains(kind), "{head}");
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    body
}

/// Reads a page. Fails if a line breaks the format.
fn check(page: &str, by_worker: bool) -> Series {
    assert!(page.ends_with('\n'));
    let mut series = BTreeMap::new();
    let mut seen = HashSet::new();
    let (mut metric, mut kind) = ("", "");
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            let prefixes = ["jabsocket_", "process_"];
            let known = prefixes.iter().any(|prefix| name.starts_with(prefix));
            assert!(known, "{line}");
            assert!(help.ends_with('.'), "{line}");
            assert!(seen.insert(name), "twice: {line}");
            (metric, kind) = (name, "");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, said) = rest.split_once(' ').expect(line);
            assert_eq!((name, kind), (metric, ""), "{line}");
            assert!(matches!(said, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(said == "counter", name.ends_with("_total"), "{line}");
            kind = said;
        } else {
            let (key, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match key.split_once('{') {
                Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
                None => (key, ""),
            };
            let suffix = name.strip_prefix(metric).expect(line);
            match kind {
                "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
                _ => assert_eq!((suffix, kind.is_empty()), ("", false), "{line}"),
            }
            assert_eq!(labels.starts_with("worker=\""), by_worker, "{line}");
            assert!(key.matches("worker=\"").count() <= 1, "{line}");
            if key.contains('{') {
                check_labels(labels, line);
            }
            let value: f64 = value.parse().expect(line);
            assert!(value >= 0.0, "{line}");
            let key = key.strip_prefix("jabsocket_").unwrap_or(key).to_owned();
            assert_eq!(series.insert(key, value), None, "twice: {line}");
        }
    }
    check_histograms(&series);
    series
}

/// Checks that each histogram has buckets, and that the last bucket counts everything.
fn check_histograms(series: &Series) {
    for (key, count) in series {
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        if let Some(name) = name.strip_suffix("_count") {
            let worker = labels.strip_suffix('}').map(|label| format!("{label},"));
            let worker = worker.unwrap_or_default();
            let buckets = format!("{name}_bucket{{{worker}le=\"");
            let last = series[&format!("{buckets}+Inf\"}}")];
            assert_eq!(*count, last, "{key}");
            let buckets = series.keys().filter(|key| key.starts_with(&buckets));
            assert!(buckets.count() > 5, "{key}");
        }
    }
}

/// `name="value"`, separated by commas.
fn check_labels(mut labels: &str, line: &str) {
    loop {
        let (name, rest) = labels.split_once("=\"").expect(line);
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{line}"
        );
        let mut escaped = false;
        let end = rest.find(|c: char| {
            let end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            end
        });
        match rest[end.expect(line) + 1..].strip_prefix(',') {
            Some(more) => labels = more,
            None => return assert_eq!(&rest[end.unwrap()..], "\"", "{line}"),
        }
    }
}

/// The differences between two pages, without metrics that change by themselves.
pub fn changes(before: &Series, after: &Series) -> Vec<String> {
    assert!(before.keys().eq(after.keys()), "series came or went");
    let moved = after.iter().filter(|(key, value)| {
        let wanders = [
            "log_lines_lost",
            "process_",
            "turn_seconds",
            // On a busy machine any turn may be slow.
            "slow_turns",
            "relay_latency",
            "_seconds_bucket",
            "_seconds_sum",
            "parsers_parked",
        ];
        before[*key] != **value && !wanders.iter().any(|part| key.contains(part))
    });
    moved
        .map(|(key, value)| format!("{key} {}", value - before[key]))
        .collect()
}
