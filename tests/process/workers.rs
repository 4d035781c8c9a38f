//! Several worker processes. If a worker dies, only its own sessions are lost. Signals
//! reach all workers.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::Write;

use nix::poll::PollFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::background::{
    Background, TempDir, listens_at, signal_to, state, wait_gone, workers,
};
use crate::common::daemon::Daemon;
use crate::common::stage::*;
use crate::common::ws_client::{PING, WsClient, request};
use crate::common::{patiently, wait_for};

/// Sends the opening handshake without waiting for the answer.
fn knock(daemon: &Daemon) -> WsClient {
    let mut client = WsClient::dial(daemon.address).expect("a connection");
    client.send_raw(&request("/", &[], Some("xmpp"))).unwrap();
    client
}

fn is_readable(client: &WsClient, wait_ms: u16) -> bool {
    wait_for(&client.stream, PollFlags::POLLIN, wait_ms)
}

#[test]
fn a_killed_worker_costs_its_own_sessions_and_no_connect() {
    let Stage { server: _, daemon } = Stage::set("workers: 2\n");
    let both = workers(daemon.pid(), 2);
    assert_eq!(listens_at(both[0]), listens_at(both[1]), "the same port");
    // One worker is stopped. Its clients wait in its accept queue.
    signal_to(both[0], Signal::SIGSTOP);
    patiently("a stop", || (state(both[0]) == Some('T')).then_some(()));
    let mut clients: Vec<WsClient> = (0..40).map(|_| knock(&daemon)).collect();
    let served = patiently("clients of the other worker", || {
        let served: Vec<bool> = clients.iter().map(|c| is_readable(c, 20)).collect();
        served.contains(&true).then_some(served)
    });
    assert!(served.contains(&false), "a stopped worker served");
    signal_to(both[0], Signal::SIGKILL);
    for client in &mut clients {
        assert_eq!(client.read_response().expect("an answer").status, 101);
    }
    let line = daemon.wait_for_line("its sessions are lost, restarting");
    assert!(line.contains("was killed by SIGKILL"), "{line}");
    assert!(line.ends_with("in 100 ms"), "{line}");
    let now: HashSet<u32> = workers(daemon.pid(), 2).into_iter().collect();
    assert!(now.contains(&both[1]) && !now.contains(&both[0]));
    // The sessions of the next worker to die are lost. The other worker's sessions
    // continue.
    signal_to(both[1], Signal::SIGKILL);
    daemon.wait_for_line("worker 1: ");
    let mut alive = 0;
    for (mut client, served) in clients.into_iter().zip(served) {
        let answered =
            client.send_frame(PING, b"?").is_ok() && client.read_frame().is_ok_and(|f| f.is_some());
        assert!(!(answered && served), "a session survived its worker");
        alive += usize::from(answered);
    }
    assert!(alive > 0, "all sessions were lost");
    daemon.stop();
}

#[test]
fn a_worker_that_keeps_dying_is_replaced_ever_later() {
    let daemon = Daemon::start("workers: 2\ndomains: [example.org]\n");
    for (before, delay) in [(0, "100 ms"), (1, "200 ms"), (2, "400 ms")] {
        let pid = patiently("worker 0", || {
            daemon.signal(Signal::SIGUSR1);
            let lines = daemon.lines();
            let line = lines
                .iter()
                .rev()
                .find(|line| line.contains("status: master"))?;
            let pids = line.split("(processes ").nth(1)?;
            let replaced = format!("{before} replaced since");
            line.contains(&replaced).then_some(())?;
            pids.split([',', ')']).next()?.trim().parse::<u32>().ok()
        });
        signal_to(pid, Signal::SIGKILL);
        daemon.wait_for_line(&format!("in {delay}"));
    }
    daemon.stop();
}

#[test]
fn signals_reach_all_workers() {
    let mut daemon = Daemon::start("workers: 3\ndomains: [example.org]\n");
    let pids = workers(daemon.pid(), 3);
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_for_line("status: master of 3 workers");
    for pid in &pids {
        daemon.wait_for_line(&format!("jabsocket[{pid}]: notice: status: 0 sessions"));
    }
    daemon.configure("resource: /only\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    // The master logs one line. Each worker reloads in its own time.
    daemon.signal(Signal::SIGUSR1);
    for pid in &pids {
        daemon.wait_for_lines(&format!("jabsocket[{pid}]: notice: status: "), 2);
    }
    for _ in 0..30 {
        let refused = WsClient::connect(daemon.address, "/", &[], Some("xmpp"));
        assert!(refused.is_err(), "a worker goes by the old configuration");
    }
    let told = daemon.lines();
    let told = told
        .iter()
        .filter(|line| line.contains("configuration reloaded"));
    assert_eq!(told.count(), 1);
    let mut clients: Vec<WsClient> = (0..20)
        .map(|_| WsClient::connect(daemon.address, "/only", &[], Some("xmpp")).unwrap())
        .collect();
    daemon.signal(Signal::SIGTERM);
    for client in &mut clients {
        expect_close(client, 1001, "shutting down");
    }
    assert_eq!(daemon.wait_exit().code(), Some(0));
    for pid in pids {
        assert!(state(pid).is_none_or(|state| state == 'Z'), "{pid} is left");
    }
}

#[test]
fn a_reload_is_shared_out_among_the_workers_that_run() {
    let config = "domains: [example.org]\nmax_connections: 6\n";
    let daemon = Daemon::start(&format!("workers: 2\n{config}"));
    let pids = workers(daemon.pid(), 2);
    daemon.configure(&format!("workers: 3\n{config}"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    daemon.signal(Signal::SIGUSR1);
    for pid in pids {
        let line = daemon.wait_for_line(&format!("[{pid}]: notice: status: "));
        assert!(line.contains(", at most 3,"), "{line}");
    }
    daemon.stop();
}

/// The file is a pipe. Opening it a second time would wait forever or return other data.
#[test]
fn the_file_is_read_once_for_all() {
    let daemon = Background::started("workers: 3\n");
    let (master, address) = (daemon.pid(), daemon.address());
    let before = workers(master, 3);
    fs::remove_file(&daemon.config).unwrap();
    mkfifo(&daemon.config, Mode::S_IRWXU).unwrap();
    daemon.signal(Signal::SIGHUP);
    let mut pipe = OpenOptions::new().write(true).open(&daemon.config).unwrap();
    let pid_file = daemon.pid_file.display();
    writeln!(
        pipe,
        "port: 0\nlisten: 127.0.0.1\nworkers: 3\npid_file: {pid_file}\ndomains: [example.org]"
    )
    .unwrap();
    writeln!(pipe, "resource: /only").unwrap();
    drop(pipe);
    let follow = |what: &str| {
        // So many that each worker gets some.
        patiently(what, || {
            let open = |path| WsClient::connect(address, path, &[], Some("xmpp")).is_ok();
            let follow = (0..30).all(|_| !open("/") && open("/only"));
            follow.then_some(())
        });
    };
    follow("workers that go by the new file");
    // A later worker does not read the file either.
    signal_to(before[1], Signal::SIGKILL);
    patiently("another worker", || {
        let now = workers(master, 3);
        (!now.contains(&before[1])).then_some(())
    });
    follow("a new worker that goes by the new file");
    daemon.stop();
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let config = "workers: 2\ndomains: [example.org]\nclose_timeout: 3600\ndrain_timeout: 3600\n";
    let mut daemon = Daemon::start(config);
    let mut client = daemon.client();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(client.read_close().unwrap().0, Some(1001));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code(), Some(0));
}

#[test]
fn workers_do_not_outlive_their_master() {
    let daemon = Background::started("workers: 2\n");
    let master = daemon.pid();
    let pids = workers(master, 2);
    daemon.signal(Signal::SIGKILL);
    for pid in pids {
        wait_gone(pid);
    }
}

#[test]
fn two_daemons_do_not_share_a_port_by_accident() {
    let first = Background::started("workers: 2\n");
    let port = first.address().port();
    for workers in [1, 2] {
        let second = Background::new(&format!("port: {port}\nworkers: {workers}\n"));
        let output = second.start();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("in use"), "{told}");
    }
    first.stop();
}

#[test]
fn workers_get_the_included_text_that_the_master_read() {
    let directory = TempDir::new();
    let include = |text: &str| fs::write(directory.path("a.conf"), text).unwrap();
    include("resource: /old\n");
    let config = format!("workers: 2\ninclude: {}/*.conf\n", directory.0.display());
    let Stage { server: _, daemon } = Stage::set(&config);
    let both = workers(daemon.pid(), 2);
    let all_answer = |path: &str, status: u16| {
        // Enough that each worker has some of them.
        (0..24).all(|_| {
            let mut client = WsClient::dial(daemon.address).unwrap();
            client.handshake(path, &[], Some("xmpp")).unwrap().status == status
        })
    };
    assert!(all_answer("/old", 101));
    include("resource: /new\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    patiently("both workers with the new text", || {
        (all_answer("/old", 404) && all_answer("/new", 101)).then_some(())
    });
    // A worker that reloads uses what the master read, not the file.
    include("resource: /newer\n");
    for worker in both {
        signal_to(worker, Signal::SIGHUP);
        signal_to(worker, Signal::SIGUSR1);
    }
    daemon.wait_for_lines("status: ", 2);
    assert!(all_answer("/new", 101) && all_answer("/newer", 404));
    daemon.stop();
}
