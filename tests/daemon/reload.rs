//! SIGHUP: a valid file applies to new sessions, an invalid file changes nothing, and
//! connected clients do not notice. SIGUSR1: the status line.

use nix::sys::signal::Signal;

use crate::common::answering::{Answering, daemon_asking, opening, read_id};
use crate::common::background::{TempDir, children, descriptors};
use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::dns_server::{DnsServer, SRV};
use crate::common::patiently;
use crate::common::prometheus::{status_address, sum};
use crate::common::stage::*;
use crate::common::tls_server::{TlsServer, entry, expect_greeted, expect_no_way};
use crate::common::ws_client::WsClient;
use crate::common::xmpp_server::XmppServer;

/// The HTTP status of a handshake for a path: 101 if it is accepted.
fn status_of(stage: &Stage, path: &str) -> u16 {
    let mut client = WsClient::dial(stage.daemon.address).unwrap();
    client.handshake(path, &[], Some("xmpp")).unwrap().status
}

#[test]
fn a_good_file_applies_to_new_sessions() {
    let stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    assert_eq!(status_of(&stage, "/"), 101);
    stage
        .daemon
        .configure("user: nobody\nworkers: 2\nresource: /only\nlog_level: LOG_EMERG\n");
    stage.daemon.signal(Signal::SIGHUP);
    let line = stage.daemon.wait_for_line("configuration reloaded");
    let keys = "restart jabsocket to apply: workers, user";
    assert!(line.ends_with(keys), "{line}");
    assert!(line.contains("notice: "), "{line}");
    assert_eq!(status_of(&stage, "/"), 404);
    assert_eq!(status_of(&stage, "/only"), 101);
    // The existing session is unchanged.
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send("<a xmlns='u'/>");
    expect_text(&mut client, "<a xmlns='u'/>");
    stage.daemon.stop();
}

#[test]
fn included_files_are_read_again_too() {
    let directory = TempDir::new();
    let include = |text: &str| std::fs::write(directory.path("a.conf"), text).unwrap();
    include("resource: /old\n");
    let stage = Stage::set(&format!("include: {}/*.conf\n", directory.0.display()));
    assert_eq!(status_of(&stage, "/old"), 101);
    include("resource: /new\n");
    stage.daemon.signal(Signal::SIGHUP);
    stage.daemon.wait_for_line("configuration reloaded");
    assert_eq!(status_of(&stage, "/old"), 404);
    assert_eq!(status_of(&stage, "/new"), 101);
    for (text, why) in [
        ("resource: /old\nport: x\n", "/a.conf:2: key 'port': 'x'"),
        ("", "/a.conf: is empty; "),
        (
            "resource: /old\nlisten: ::1\n",
            "/a.conf:2: key 'listen': a second value",
        ),
    ] {
        let seen = stage.daemon.lines().len();
        include(text);
        stage.daemon.signal(Signal::SIGHUP);
        let kept = "configuration not reloaded, keeping the old one";
        stage.daemon.wait_for_line_after(seen, kept);
        assert!(
            stage.daemon.lines()[seen..]
                .iter()
                .any(|line| line.contains(why)),
            "{why}"
        );
        assert_eq!(status_of(&stage, "/new"), 101);
    }
    stage.daemon.stop();
}

#[test]
fn a_port_that_is_to_change_keeps_its_rules() {
    let stage = Stage::set("resource: /only\n");
    stage
        .daemon
        .write_config("port: 1\nlisten: 127.0.0.1\nresource: /other\n");
    stage.daemon.signal(Signal::SIGHUP);
    let line = stage.daemon.wait_for_line("configuration reloaded");
    assert!(line.ends_with("to apply: port"), "{line}");
    let socket = format!("the socket {} has no listener", stage.daemon.address);
    stage.daemon.wait_for_line(&socket);
    assert_eq!(status_of(&stage, "/other"), 404);
    assert_eq!(status_of(&stage, "/only"), 101);
    stage.daemon.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_every_error_is_logged() {
    let stage = Stage::set("resource: /only\n");
    for (config, whys) in [
        (
            "resource: /other\nport: 99999\nlisten: localhost\n",
            &[":2: key 'port'", ":3: key 'listen'", "has errors"][..],
        ),
        ("", &[": is empty; perhaps another program is writing it"]),
        ("\n\n", &[": is empty; "]),
        (
            "resource: /other\n\0\0\0\0",
            &[":2: the character U+0000 is"],
        ),
        (
            "resource: /other\nserver_ca_file: /nonexistent/ca.pem\n",
            &["/nonexistent/ca.pem: No such file"],
        ),
    ] {
        stage.daemon.write_config(config);
        stage.daemon.signal(Signal::SIGHUP);
        for why in whys {
            stage.daemon.wait_for_line(why);
        }
        let line = stage.daemon.wait_for_line("keeping the old one: ");
        assert!(line.contains("err: "), "{line}");
        assert_eq!(status_of(&stage, "/other"), 404);
        assert_eq!(status_of(&stage, "/only"), 101);
    }
    stage.daemon.stop();
}

#[test]
fn a_refused_reload_is_in_the_metrics_until_one_is_taken() {
    for workers in [1, 2] {
        let base = format!("workers: {workers}\nstatus_listen: 127.0.0.1:0\n");
        let daemon = Daemon::start(&base);
        let at = status_address(&daemon);
        let start = sum(at);
        assert_eq!(start["config_reload_refused"], 0.0);
        let last = "config_last_reload_time_seconds";
        assert_eq!(start[last], 0.0);
        let reload = |config: &str, refused: f64| {
            daemon.configure(&format!("{base}{config}"));
            daemon.signal(Signal::SIGHUP);
            patiently("the metric", || {
                let now = sum(at);
                (now["config_reload_refused"] == refused).then(|| now["config_time_seconds"])
            })
        };
        let after = reload("port: x\n", 1.0);
        assert_eq!(after, start["config_time_seconds"], "it is still that one");
        let refused = sum(at)[last];
        assert!(refused >= after);
        let taken = reload("", 0.0);
        assert!(taken >= after && sum(at)[last] >= taken);
        reload("server_ca_file: /nonexistent\n", 1.0);
        assert!(sum(at)[last] >= taken);
        daemon.stop();
    }
}

#[test]
fn another_certificate_authority_applies_to_the_next_session() {
    let (wrong, right) = (Authority::new(), Authority::new());
    let server = TlsServer::start(&right.identity(&["example.org"]));
    let address = server.tcp.address.to_string();
    let domains = |authority: &Authority| {
        let file = authority.ca_file();
        let text = entry("example.org", &address, Some(&file), &["tls: direct"]);
        (file, format!("domains:\n{text}"))
    };
    let (_file, text) = domains(&wrong);
    let daemon = Daemon::start(&text);
    let mut client = daemon.client();
    client.send_text(OPEN).unwrap();
    let _ = server.try_handshake(server.tcp.accept().stream);
    expect_no_way(&mut client, "the wrong authority");
    let (_file, text) = domains(&right);
    daemon.configure(&text);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("configuration reloaded");
    let mut client = daemon.client();
    client.send_text(OPEN).unwrap();
    server.direct().greet(OPEN_UP);
    expect_greeted(&mut client);
    daemon.stop();
}

#[test]
fn sessions_that_wait_for_the_dns_get_the_answer_of_the_new_server() {
    let one = Answering::start("one");
    let zone = format!(
        "_xmpp-client._tcp.x.example SRV 1 1 {} a.example\na.example A 127.0.0.1",
        one.port()
    );
    let silent = DnsServer::start("_xmpp-client._tcp.x.example SRV HELD");
    let daemon = daemon_asking(&silent, "domains: [x.example]\n");
    let mut client = opening(&daemon, "x.example");
    silent.wait_asked("_xmpp-client._tcp.x.example", SRV);
    let good = DnsServer::start(&zone);
    daemon.configure(&format!("dns_servers: {}\n", good.address));
    daemon.signal(Signal::SIGHUP);
    assert_eq!(read_id(&mut client, "x.example"), "one");
    daemon.stop();
}

#[test]
fn a_thousand_reloads_leave_nothing_behind() {
    let authority = Authority::new();
    let file = authority.ca_file();
    let path = file.0.to_str().unwrap();
    let server = XmppServer::start();
    let address = server.address;
    let config = format!(
        "server_ca_file: {path}\ndomains:\n  - name: example.org\n    server: {address}\n    \
         tls: none\n"
    );
    // Loading the system's authorities would take 0.1 s each time.
    let environment = [("SSL_CERT_FILE", path), ("SSL_CERT_DIR", "/nonexistent")];
    let daemon = Daemon::start_in("127.0.0.1", &config, &environment);
    let pid = daemon.pid();
    let stage = Stage { server, daemon };
    let (mut client, mut server) = stage.framed();
    let mut looks = 0;
    let mut reload = |from: usize, to: usize| {
        for count in from..to {
            stage.daemon.signal(Signal::SIGHUP);
            stage
                .daemon
                .wait_for_lines("configuration reloaded", count + 1);
        }
        // When the daemon handles the next signal, the last reload is complete.
        looks += 1;
        stage.daemon.signal(Signal::SIGUSR1);
        stage.daemon.wait_for_lines("status: ", looks);
        (descriptors(pid), stage.daemon.resident())
    };
    // After these reloads, all allocations that are made only once have been made.
    let (open, resident) = reload(0, 100);
    let (open_then, resident_then) = reload(100, 1100);
    assert_eq!(open_then, open);
    assert_eq!(children(pid), [0; 0]);
    let grown = resident_then.saturating_sub(resident);
    assert!(grown < 2 << 20, "{grown} bytes more");
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    stage.daemon.stop();
}

#[test]
fn the_status_line_is_logged_at_every_level() {
    let stage = Stage::set("log_level: LOG_EMERG\nmax_connections: 7\n");
    let _framed = stage.framed();
    let _awaiting = stage.daemon.client();
    stage.daemon.signal(Signal::SIGUSR1);
    let line = stage.daemon.wait_for_line("status: ");
    let text = "notice: status: 2 sessions (1 AwaitOpen, 1 Relaying), at most 7, \
                2 accepted since the start, ";
    assert!(line.contains(text), "{line}");
    stage.daemon.stop();
}

#[test]
fn a_storm_of_signals_does_not_keep_the_loop_busy() {
    let stage = Stage::set("status_listen: 127.0.0.1:0\nlog_level: LOG_NOTICE\n");
    let reloads = || {
        let lines = stage.daemon.lines().into_iter();
        let lines = lines.filter(|line| line.contains("configuration reloaded"));
        lines.count()
    };
    while reloads() < 100 {
        (0..100).for_each(|_| stage.daemon.signal(Signal::SIGHUP));
    }
    // Each turn of the loop serves all others too.
    let turns = sum(status_address(&stage.daemon))["turn_seconds_count"];
    assert!(turns >= 100.0, "{turns}");
    stage.daemon.stop();
}

#[test]
fn a_signal_to_stop_takes_precedence_over_a_reload() {
    let mut stage = Stage::set("");
    // All of them are there when the loop looks.
    for signal in [
        Signal::SIGSTOP,
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGCONT,
    ] {
        stage.daemon.signal(signal);
    }
    assert!(stage.daemon.wait_exit().success());
    let lines = stage.daemon.lines();
    let stop = lines.iter().position(|line| line.contains(": stopping, "));
    let after = &lines[stop.expect("a line about the stop")..];
    let reloads = after.iter().filter(|line| line.contains("reload"));
    assert_eq!(reloads.count(), 0, "{after:?}");
}
