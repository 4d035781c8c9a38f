//! A worker that hangs is killed and replaced. The other worker and what the dead one
//! counted stay. A master that did not run itself kills nobody.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::common::background::{TempDir, signal_to, state, workers};
use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::prometheus::{of_each, sum, worker_status_address};
use crate::common::stage::*;
use crate::common::ws_client::{PING, WsClient};
use crate::common::{PATIENCE, patiently};

const ACCEPTED: &str = "accepted_connections_total";

fn is_alive(client: &mut WsClient) -> bool {
    client.send_frame(PING, b"?").is_ok() && client.read_frame().is_ok_and(|f| f.is_some())
}

/// Waits until there are two workers without `old`; returns the newer one.
fn successor(daemon: &Daemon, old: u32) -> u32 {
    patiently("another worker", || {
        let both = workers(daemon.pid(), 2);
        (!both.contains(&old)).then_some(both[1])
    })
}

#[test]
fn a_stopped_worker_is_replaced_and_the_other_serves_on() {
    let config = "workers: 2\nstatus_listen: 127.0.0.1:0\n";
    let Stage { server: _, daemon } = Stage::set_in(config, &[("WATCHDOG_USEC", "2000000")]);
    let [staying, stopped] = workers(daemon.pid(), 2).try_into().expect("two");
    let status = worker_status_address(&daemon, staying);
    let mut clients: Vec<WsClient> = (0..24).map(|_| daemon.client()).collect();
    let all = clients.len() as f64;
    patiently("all clients in the sum", || {
        (sum(status)[ACCEPTED] == all).then_some(())
    });
    let kept = of_each(status)[&format!("{ACCEPTED}{{worker=\"0\"}}")];
    assert!(0.0 < kept && kept < all, "{kept} of {all} on worker 0");
    signal_to(stopped, Signal::SIGSTOP);
    daemon.wait_for_line(&format!(
        "err: worker 1: process {stopped} sent no heartbeat for 2 s: killing it"
    ));
    // It is stopped, so SIGABRT does not reach it.
    daemon.wait_for_line(&format!(
        "err: worker 1: process {stopped} was killed by SIGKILL; its sessions are lost"
    ));
    let new = successor(&daemon, stopped);
    assert!(new != staying, "only one worker is left");
    worker_status_address(&daemon, new);
    let alive = clients
        .iter_mut()
        .filter_map(|client| is_alive(client).then_some(()));
    assert_eq!(alive.count() as f64, kept, "sessions that live on");
    assert!(sum(status)[ACCEPTED] >= all, "counters are lost");
    let lines = daemon.all_lines();
    let other = lines.iter().find(|line| line.contains("worker 0: "));
    assert_eq!(other, None, "the other worker was killed");
    daemon.stop();
}

#[test]
fn a_worker_that_a_system_call_holds_is_aborted() {
    let directory = TempDir::new();
    let ca_file = directory.path("ca.pem");
    let authority = Authority::new().0;
    let pem = authority.certificate.to_pem().expect("PEM");
    fs::write(&ca_file, &pem).expect("a file");
    let config = format!("workers: 2\nserver_ca_file: {}\n", ca_file.display());
    let stage = Stage::set_in(&config, &[("WATCHDOG_USEC", "2000000")]);
    let daemon = &stage.daemon;
    // A worker reloads what the master has read.
    stage.reload(&config);
    let hung = workers(daemon.pid(), 2)[0];
    // Nobody writes to this pipe, so whoever opens it waits.
    fs::remove_file(&ca_file).expect("removed");
    mkfifo(&ca_file, Mode::S_IRWXU).expect("a pipe");
    signal_to(hung, Signal::SIGHUP);
    daemon.wait_for_line(&format!("process {hung} sent no heartbeat for 2 s"));
    let good = directory.path("good.pem");
    fs::write(&good, &pem).expect("a file");
    fs::rename(good, &ca_file).expect("renamed");
    daemon.wait_for_line(&format!("process {hung} was killed by SIGABRT"));
    successor(daemon, hung);
    // Each worker gets some of them.
    for _ in 0..24 {
        daemon.client();
    }
    daemon.signal(Signal::SIGTERM);
}

#[test]
fn no_worker_is_killed_after_a_pause_of_the_master_too() {
    let directory = TempDir::new();
    let path = directory.path("notify");
    let systemd = UnixDatagram::bind(&path).expect("a socket");
    let name = path.to_str().expect("text");
    let environment = [("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "4000000")];
    let Stage { server: _, daemon } = Stage::set_in("workers: 2\n", &environment);
    let next = || {
        let mut message = [0; 100];
        let length = systemd.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    systemd.set_read_timeout(Some(PATIENCE)).expect("set");
    assert!(next().starts_with("READY=1"));
    let before = workers(daemon.pid(), 2);
    let all = [&[daemon.pid()], &before[..]].concat();
    for pid in &all {
        signal_to(*pid, Signal::SIGSTOP);
        patiently("a stop", || (state(*pid) == Some('T')).then_some(()));
    }
    systemd.set_nonblocking(true).expect("set");
    while systemd.recv(&mut [0; 100]).is_ok() {}
    systemd.set_nonblocking(false).expect("set");
    // Longer than the limit.
    let pause = Duration::from_secs(5);
    systemd.set_read_timeout(Some(pause)).expect("set");
    assert!(systemd.recv(&mut [0; 100]).is_err(), "signs of life");
    for pid in &all {
        signal_to(*pid, Signal::SIGCONT);
    }
    systemd.set_read_timeout(Some(PATIENCE)).expect("set");
    // One at each look at the workers, and more than within the limit.
    for _ in 0..6 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    assert_eq!(workers(daemon.pid(), 2), before);
    daemon.stop();
}
