//! `status_listen` with several workers. Each worker serves the sum over all, which does
//! not fall when a worker dies, and the metrics of each worker.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::common::background::{TempDir, signal_to, status, workers};
use crate::common::daemon::Daemon;
use crate::common::patiently;
use crate::common::prometheus::{Series, ask, get, of_each, sum, worker_status_address};
use crate::common::stage::*;
use crate::common::ws_client::WsClient;

const CONFIG: &str = "workers: 2\nstatus_listen: 127.0.0.1:0\n";
const ACCEPTED: &str = "accepted_connections_total";
const WAITING: &str = "sessions{phase=\"await_open\",dialect=\"none\"}";
const SESSIONS: &str = "domain_sessions_total{domain=\"example.org\"}";

/// The same series on the page of each worker.
fn of(key: &str, worker: usize) -> String {
    match key.split_once('{') {
        Some((name, labels)) => format!("{name}{{worker=\"{worker}\",{labels}"),
        None => format!("{key}{{worker=\"{worker}\"}}"),
    }
}

/// Fails if a counter has fallen.
fn assert_grows(before: &Series, after: &Series) {
    for (key, value) in before {
        let name = key.split('{').next().unwrap_or_default();
        let kinds = ["_total", "_bucket", "_sum", "_count"];
        if kinds.iter().any(|kind| name.ends_with(kind)) {
            let now = after.get(key).copied();
            assert!(
                now.is_some_and(|now| now >= *value),
                "{key}: {value}, {now:?}"
            );
        }
    }
}

/// Waits until the sum has this value.
fn wait_for_sum(daemon: &Daemon, pid: u32, key: &str, value: f64) -> Series {
    patiently(&format!("{key} {value}"), || {
        Some(sum(worker_status_address(daemon, pid))).filter(|sum| sum.get(key) == Some(&value))
    })
}

/// Kills a worker and scrapes the other until there is a new worker; returns the last
/// page and the new process ID.
fn replaced(daemon: &Daemon, staying: u32, old: u32, mut last: Series) -> (Series, u32) {
    signal_to(old, Signal::SIGKILL);
    let pid = patiently("another worker", || {
        let next = sum(worker_status_address(daemon, staying));
        assert_grows(&last, &next);
        last = next;
        let there = workers(daemon.pid(), 2);
        let pid = there
            .into_iter()
            .find(|pid| *pid != staying && *pid != old)?;
        daemon
            .lines()
            .iter()
            .any(|line| line.contains(&format!("[{pid}]: info: status at")))
            .then_some(pid)
    });
    let next = wait_for_sum(daemon, staying, "workers", 2.0);
    assert_grows(&last, &next);
    (next, pid)
}

/// Enough clients that each worker has some.
fn clients(daemon: &Daemon) -> Vec<WsClient> {
    (0..24).map(|_| daemon.client()).collect()
}

#[test]
fn each_worker_serves_the_sum_and_the_values_of_each() {
    let Stage { server: _, daemon } = Stage::set(CONFIG);
    let pids = workers(daemon.pid(), 2);
    let clients = clients(&daemon);
    for pid in &pids {
        let sum = wait_for_sum(&daemon, *pid, ACCEPTED, clients.len() as f64);
        assert_eq!(sum[WAITING], clients.len() as f64);
        assert_eq!(sum["workers"], 2.0);
        let each = of_each(worker_status_address(&daemon, *pid));
        for (key, all) in &sum {
            let parts = [0, 1].map(|worker| each[&of(key, worker)]);
            let name = key.split('{').next().unwrap_or_default();
            match name {
                "start_time_seconds" | "process_start_time_seconds" => {
                    assert_eq!(*all, parts[0].min(parts[1]))
                }
                "config_time_seconds" => assert_eq!(*all, parts[0].max(parts[1])),
                "build_info" | "generation" => assert_eq!([*all; 2], parts),
                // The previous scrape took a turn too.
                _ if name.starts_with("turn_seconds") || name.starts_with("process_") => {}
                _ => assert_eq!(*all, parts[0] + parts[1], "{key}"),
            }
        }
        for worker in [0, 1] {
            assert!(each[&of(ACCEPTED, worker)] > 0.0, "worker {worker}");
        }
        assert_eq!(each.len(), 2 * sum.len());
    }
    drop(clients);
    daemon.stop();
}

#[test]
fn counters_of_a_killed_worker_stay_and_its_gauges_go() {
    let Stage { server: _, daemon } = Stage::set(CONFIG);
    let pids = workers(daemon.pid(), 2);
    let clients = clients(&daemon);
    let all = clients.len() as f64;
    let before = wait_for_sum(&daemon, pids[0], WAITING, all);
    let left = of_each(worker_status_address(&daemon, pids[0]))[&of(WAITING, 0)];
    let (after, second) = replaced(&daemon, pids[0], pids[1], before);
    assert_eq!(after[ACCEPTED], all);
    assert_eq!(after[WAITING], left);
    // The new worker starts at zero but serves the same sum.
    let place = worker_status_address(&daemon, second);
    assert_eq!(of_each(place)[&of(ACCEPTED, 1)], 0.0);
    let told = sum(place);
    assert_grows(&after, &told);
    assert_eq!((told[ACCEPTED], told[WAITING]), (all, left));
    // The sum also includes two dead workers.
    let mut more: Vec<WsClient> = (0..24).map(|_| daemon.client()).collect();
    let both = wait_for_sum(&daemon, second, ACCEPTED, all + 24.0);
    let left = of_each(place)[&of(WAITING, 0)];
    let (after, third) = replaced(&daemon, pids[0], second, both);
    for pid in [pids[0], third] {
        let told = sum(worker_status_address(&daemon, pid));
        assert_eq!((told[ACCEPTED], told[WAITING]), (all + 24.0, left));
        assert_grows(&after, &told);
    }
    more.extend(clients);
    drop(more);
    daemon.stop();
}

#[test]
fn domains_of_all_lists_stay_and_a_hostile_to_adds_none() {
    let Stage { server: _, daemon } = Stage::set(CONFIG);
    let pids = workers(daemon.pid(), 2);
    let before = sum(worker_status_address(&daemon, pids[0]));
    let mut clients = clients(&daemon);
    for (n, client) in clients.iter_mut().enumerate() {
        let hostile = OPEN.replace("example.org", &format!("evil{n}.example"));
        client.send_text(&hostile).unwrap();
    }
    let others = "domain_sessions_total{domain=\"other\"}";
    let after = wait_for_sum(&daemon, pids[0], others, clients.len() as f64);
    assert!(before.keys().eq(after.keys()), "series came");
    for _ in 0..24 {
        let mut client = daemon.client();
        client.send_text(OPEN).unwrap();
        clients.push(client);
    }
    wait_for_sum(&daemon, pids[0], SESSIONS, 24.0);
    daemon.configure("domains: [new.example]\nlog_level: LOG_DEBUG\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded; restart jabsocket to apply");
    let fresh = "domain_sessions_total{domain=\"new.example\"}";
    let before = wait_for_sum(&daemon, pids[0], fresh, 0.0);
    // The new worker has only the new list, but serves the metrics of the old one too.
    let (after, next) = replaced(&daemon, pids[0], pids[1], before);
    let told = sum(worker_status_address(&daemon, next));
    assert!(after.keys().eq(told.keys()), "another has other series");
    assert_eq!((told[SESSIONS], told[fresh]), (24.0, 0.0));
    assert_eq!(told[others], 24.0);
    let own = of_each(worker_status_address(&daemon, next));
    assert!(own.contains_key(&of(SESSIONS, 0)));
    assert!(!own.contains_key(&of(SESSIONS, 1)));
    drop(clients);
    daemon.stop();
}

#[test]
fn the_page_has_all_workers_and_the_warnings_of_all_processes() {
    let Stage { server: _, daemon } = Stage::set(CONFIG);
    let pids = workers(daemon.pid(), 2);
    let page = || get(worker_status_address(&daemon, pids[0]), "/").2;
    let from = |process: &str, level: &str, text: &str| {
        let page = page();
        let start = format!("<td>{process}</td><td>{level}</td><td>");
        let mut lines = page.lines().filter_map(|line| line.split_once(&start));
        lines.any(|(_, line)| line.contains(text))
    };
    let request = "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n";
    assert_eq!(ask(worker_status_address(&daemon, pids[1]), request).0, 421);
    assert!(from("worker 1", "warning", "the host other.example"));
    assert!(!page().contains("workers are running"));
    signal_to(pids[1], Signal::SIGKILL);
    daemon.wait_for_line("its sessions are lost");
    assert!(from("master", "err", "worker 1: "), "{}", page());
    // What the killed worker has written stays.
    assert!(from("worker 1", "warning", "the host other.example"));
    wait_for_sum(&daemon, pids[0], "workers", 2.0);
    let page = page();
    assert!(!page.contains("workers are running"), "{page}");
    for row in ["<tr><td>0</td><td>", "<tr><td>1</td><td>"] {
        assert!(page.contains(row), "{row}: {page}");
    }
    daemon.stop();
}

/// Sends a request to a unix socket; returns the response.
fn ask_local(path: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("connect");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a response");
    text
}

#[test]
fn each_worker_has_a_socket_for_its_sessions() {
    let dir = TempDir::new();
    let paths = ["status.sock", "status-1.sock"].map(|name| dir.path(name));
    let daemon = Daemon::start(&format!(
        "workers: 2\nstatus_listen: 'unix:{}'\ndomains: [example.org]\n",
        paths[0].display()
    ));
    let mut clients = clients(&daemon);
    let lists = || {
        paths.each_ref().map(|path| {
            let text = ask_local(path, "GET /sessions");
            let lines = text.lines().filter(|line| line.starts_with("{\"number\":"));
            // Leaves out the times, which change, and what follows them.
            let lines = lines.filter_map(|line| line.split_once(",\"age\":"));
            lines.map(|(line, _)| line.to_owned()).collect::<Vec<_>>()
        })
    };
    let before = lists();
    assert_eq!(before[0].len() + before[1].len(), clients.len());
    assert!(before.iter().all(|list| !list.is_empty()), "{before:?}");
    // The first session of the second worker.
    let text = ask_local(&paths[1], "POST /sessions/1/close");
    assert!(text.ends_with("closing session 1\n"), "{text}");
    daemon.wait_for_line("Closing (Dismissed)");
    let (_, rest) = before[1][0].split_once("\"address\":\"").unwrap();
    let peer = rest.split('"').next().unwrap();
    let closed = clients
        .iter_mut()
        .find(|client| client.stream.local_addr().unwrap().to_string() == peer);
    assert_eq!(closed.unwrap().read_close().unwrap().0, Some(1001));
    assert_eq!(lists()[0], before[0]);
    drop(clients);
    daemon.stop();
    assert!(paths.iter().all(|path| !path.exists()));
}

#[test]
fn a_drained_worker_is_counted_to_the_end() {
    let Stage {
        server: _,
        mut daemon,
    } = Stage::set(CONFIG);
    let pids = workers(daemon.pid(), 2);
    for client in clients(&daemon) {
        drop(client);
    }
    let closed = "closed_sessions_total{by=\"client\",why=\"connection_lost\"}";
    wait_for_sum(&daemon, pids[0], closed, 24.0);
    let mut client = daemon.client();
    wait_for_sum(&daemon, pids[0], WAITING, 1.0);
    let each = of_each(worker_status_address(&daemon, pids[0]));
    let staying = pids[usize::from(each[&of(WAITING, 1)] > 0.0)];
    daemon.signal(Signal::SIGTERM);
    assert_eq!(client.read_close().unwrap().0, Some(1001));
    let after = wait_for_sum(&daemon, staying, "workers", 1.0);
    assert_eq!(after["draining"], 1.0);
    assert_eq!((after[ACCEPTED], after[closed]), (25.0, 24.0));
    let each = of_each(worker_status_address(&daemon, staying));
    let there = each.keys().filter(|key| key.starts_with("workers{"));
    assert_eq!(there.count(), 1);
    assert_eq!(
        get(worker_status_address(&daemon, staying), "/readyz").0,
        503
    );
    client.send_close(1001, "").unwrap();
    client.read_eof().unwrap();
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

#[test]
fn an_idle_worker_sleeps() {
    let config = "workers: 3\nstatus_listen: 127.0.0.1:0\ndomains: [example.org]\n";
    let config = format!("{config}handshake_timeout: 2\n");
    // No heartbeat is due during the test.
    let environment = [("WATCHDOG_USEC", "36000000000")];
    let daemon = Daemon::start_in("127.0.0.1", &config, &environment);
    let pids = workers(daemon.pid(), 3);
    let wakings = || -> Vec<u32> {
        let count = |pid: &u32| status(*pid, "voluntary_ctxt_switches:");
        pids.iter().map(|pid| count(pid).parse().unwrap()).collect()
    };
    // Two seconds by the daemon's clock. At least one of three workers has no client. It
    // has completed its start before the second client connects.
    let wait = || {
        let mut client = WsClient::dial(daemon.address).unwrap();
        client.read_rest().unwrap();
    };
    wait();
    let before = wakings();
    wait();
    let after = wakings();
    let woken: Vec<u32> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    assert!(woken.contains(&0), "all woke: {woken:?}");
    assert!(woken.iter().any(|count| *count > 0));
    daemon.stop();
}

#[test]
fn metrics_need_no_descriptor_and_memory_only_where_they_are_served() {
    let shared = |daemon: &Daemon| -> Vec<usize> {
        let mut pids = workers(daemon.pid(), 2);
        pids.push(daemon.pid());
        let count = |pid| {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            let shared = |line: &&str| line.contains(" rw-s ") && line.contains("/dev/zero");
            let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
            let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let files = links.filter(|link| link.to_string_lossy().contains("memfd:"));
            assert_eq!(files.count(), 0);
            maps.lines().filter(shared).count()
        };
        pids.into_iter().map(count).collect()
    };
    // The heartbeats and the text of the configuration are in shared memory too.
    for (config, expected) in [(CONFIG, 3), ("workers: 2\n", 2)] {
        let daemon = Daemon::start(&format!("domains: [example.org]\n{config}"));
        assert_eq!(shared(&daemon), [expected; 3], "{config}");
        daemon.stop();
    }
}
