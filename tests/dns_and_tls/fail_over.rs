//! Lists of servers, failing servers, and how many connections a server gets at once.
//! These tests count and do not measure times.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use crate::common::answering::*;
use crate::common::background::TempDir;
use crate::common::daemon::Daemon;
use crate::common::dns_server::DnsServer;
use crate::common::patiently;
use crate::common::prometheus::metrics;
use crate::common::stage::*;
use crate::common::ws_client::{FIN, PING, PONG, WsClient};
use crate::common::xmpp_server::{Connection, XmppServer};

const CLEAR: &str = "_xmpp-client._tcp.x.example";

/// A daemon whose `x.example` has these servers.
fn with_servers(tls: &str, servers: &str) -> Daemon {
    Daemon::start(&format!(
        "log_level: LOG_DEBUG\ndomains:\n  - name: x.example\n    tls: {tls}\n    server: {servers}\n"
    ))
}

/// Reads a stream header on a connection and answers it.
fn answer(server: &mut Connection) {
    server.read_until("<stream:stream");
    server.read_until(">");
    server.send(HEADER);
}

/// Reads the `<open/>` of a server that answered.
fn read_open(client: &mut WsClient) {
    let open = client.read_text().expect("an <open/>");
    assert!(open.contains(" id=\"s1\""), "{open}");
}

#[test]
fn of_a_list_the_one_that_lives_serves_and_the_backup_once_it_has_died() {
    // It has its own address, so nobody else takes its port after its end.
    let listener = TcpListener::bind((own_address(), 0)).expect("bind");
    let (living, backup) = (XmppServer::over(listener), Answering::start("backup"));
    let daemon = with_servers(
        "none",
        &format!(
            "[{{address: '{}', backup: true}}, '{}', '{}']",
            backup.address,
            closed(),
            living.address
        ),
    );
    let mut sessions: Vec<_> = (0..20)
        .map(|_| {
            let mut client = opening(&daemon, "x.example");
            let mut server = living.accept();
            answer(&mut server);
            read_open(&mut client);
            (client, server)
        })
        .collect();
    assert_eq!(backup.connections(), 0);
    // The server dies: first its listener, then its connections.
    drop(living);
    for (client, server) in sessions.drain(..) {
        let mut client = client;
        server.reset();
        expect_close(&mut client, 1001, "XMPP server closed");
    }
    for _ in 0..20 {
        drop(reach(&daemon, "x.example", "backup"));
    }
    daemon.stop();
}

#[test]
fn weights_are_shares() {
    let (heavy, light) = (Answering::start("heavy"), Answering::start("light"));
    let daemon = with_servers(
        "none",
        &format!(
            "[{{address: '{}', weight: 9}}, '{}']",
            heavy.address, light.address
        ),
    );
    for _ in 0..300 {
        read_id(&mut opening(&daemon, "x.example"), "x.example");
    }
    // Expected are 270 and 30, with a standard deviation of 5.
    let shares = (heavy.connections(), light.connections());
    assert!((235..=292).contains(&shares.0), "{shares:?}");
    assert_eq!(shares.0 + shares.1, 300);
    daemon.stop();
}

#[test]
fn a_server_that_says_nothing_is_tried_last() {
    const SESSIONS: usize = 10;
    // By a list, and by SRV records.
    for by_srv in [false, true] {
        let (mute, two) = (XmppServer::start(), Answering::start("two"));
        let dns = DnsServer::start(&format!(
            "{CLEAR} SRV 1 1 {} a.example
             {CLEAR} SRV 2 1 {} a.example
             a.example A 127.0.0.1",
            mute.address.port(),
            two.port(),
        ));
        let daemon = match by_srv {
            true => daemon_asking(&dns, "domains: [x.example]\n"),
            false => with_servers(
                "auto",
                &format!(
                    "['{}', {{address: '{}', backup: true}}]",
                    mute.address, two.address
                ),
            ),
        };
        for _ in 0..SESSIONS {
            drop(reach(&daemon, "x.example", "two"));
        }
        mute.accept().read_until("<stream:stream");
        // On a slow machine the daemon may try it again after 1, 2, 4 and 8 s.
        let mut tried = 1;
        while !mute.is_alone() {
            mute.accept();
            tried += 1;
        }
        assert!(tried <= SESSIONS / 2, "tried {tried} times");
        daemon.stop();
    }
}

#[test]
fn a_unix_socket_may_be_a_server() {
    let dir = TempDir::new();
    let path = dir.path("xmpp.sock");
    let listener = UnixListener::bind(&path).expect("bind");
    let daemon = with_servers("auto", &format!("unix:{}", path.display()));
    let mut client = opening(&daemon, "x.example");
    let (mut server, _) = listener.accept().expect("accept");
    let mut header = [0; 4096];
    let n = server.read(&mut header).expect("a header");
    let header = String::from_utf8_lossy(&header[..n]);
    // On this machine plain text will do, and the client's own header goes out.
    assert!(header.contains("to=\"x.example\""), "{header}");
    let features = "<stream:features/>";
    write!(server, "{HEADER}{features}").expect("send");
    read_open(&mut client);
    // When the server closes, the session ends.
    drop((server, listener));
    assert!(
        client
            .read_text()
            .expect("features")
            .starts_with("<stream:features")
    );
    expect_close(&mut client, 1001, "XMPP server closed");
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    daemon.wait_for_line(&format!("unix:{}: ", path.display()));
    daemon.stop();
}

#[test]
fn the_servers_of_the_file_serve_all_domains_that_name_none() {
    let (all, own) = (Answering::start("all"), Answering::start("own"));
    let daemon = Daemon::start(&format!(
        "server: {}\nserver_tls: none\ndomains:\n  - x.example\n  - name: y.example\n    server: {}\n",
        all.address, own.address
    ));
    drop(reach(&daemon, "x.example", "all"));
    drop(reach(&daemon, "y.example", "own"));
    daemon.stop();
    // Without a list, any domain; and an internal address is no obstacle.
    let config = format!("server: {}\nprivate_addresses: refuse\n", all.address);
    let daemon = Daemon::start(&config);
    drop(reach(&daemon, "z.example", "all"));
    let warned = daemon
        .lines()
        .iter()
        .any(|line| line.contains("no 'domains'"));
    assert!(!warned, "{:?}", daemon.lines());
    daemon.stop();
}

#[test]
fn no_more_connections_than_allowed_wait_for_a_stream_header() {
    const MOST: usize = 3;
    const CLIENTS: usize = 20;
    let server = XmppServer::start();
    let daemon = Daemon::start(&format!(
        "max_connecting_per_server: {MOST}\nserver: {}\nserver_tls: none\n",
        server.address
    ));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|at| opening(&daemon, &format!("d{at}.example")))
        .collect();
    // A client that has received its Pong has had its turn. If its session may connect,
    // it has started to.
    let mut take_turns = |from: usize| {
        for client in &mut clients[from..] {
            client.send_frame(FIN | PING, b"").expect("a Ping");
            let pong = client.read_frame().expect("a frame").expect("a Pong");
            assert_eq!(pong.opcode, PONG);
        }
    };
    let mut greeted = Vec::new();
    let mut connecting: Vec<Connection> = (0..MOST).map(|_| server.accept()).collect();
    take_turns(0);
    for at in 0..CLIENTS {
        assert!(server.is_alone(), "more than {MOST} with {at} answered");
        let mut connection = connecting.remove(0);
        answer(&mut connection);
        greeted.push(connection);
        if at + MOST < CLIENTS {
            connecting.push(server.accept());
        }
        // The last sessions have no <open/> yet.
        take_turns((at + MOST + 1).min(CLIENTS));
    }
    for mut client in clients {
        read_open(&mut client);
    }
    daemon.stop();
}

#[test]
fn a_session_can_leave_the_queue_and_a_mute_server_blocks_no_other() {
    let (mute, good) = (XmppServer::start(), Answering::start("good"));
    let daemon = Daemon::start(&format!(
        "max_connecting_per_server: 1\nserver_tls: none\ndomains:\n  \
         - {{name: mute.example, server: '{}'}}\n  - {{name: good.example, server: '{}'}}\n",
        mute.address, good.address
    ));
    let first = opening(&daemon, "mute.example");
    let connection = mute.accept();
    let waiting: Vec<_> = (0..5).map(|_| opening(&daemon, "mute.example")).collect();
    let mut last = opening(&daemon, "mute.example");
    for _ in 0..3 {
        drop(reach(&daemon, "good.example", "good"));
    }
    for mut client in waiting {
        client.send_close(1000, "").expect("send");
        client.read_close().expect("a Close");
    }
    assert!(mute.is_alone());
    // The slot of the first goes to the last, past those that left.
    drop((first, connection));
    answer(&mut mute.accept());
    read_open(&mut last);
    assert!(mute.is_alone());
    daemon.stop();
}

#[test]
fn a_session_that_waits_in_vain_names_the_address() {
    let mute = XmppServer::start();
    let config = |timeout| {
        format!(
            "max_connecting_per_server: 1\nserver_tls: none\nserver: {}\n\
             connect_timeout: {timeout}\n",
            mute.address
        )
    };
    let daemon = Daemon::start(&config("3600"));
    let first = opening(&daemon, "x.example");
    let connection = mute.accept();
    daemon.reload(&config("0.2"));
    let mut second = opening(&daemon, "y.example");
    second.read_text().expect("an <open/>");
    expect_error(&mut second, "remote-connection-failed", "no turn");
    daemon.wait_for_line(&format!(
        "cannot reach the server of y.example: no connection to the server in time: waiting for \
         a turn at {} (see 'max_connecting_per_server')",
        mute.address
    ));
    drop((first, connection));
    daemon.stop();
}

#[test]
fn metrics_have_each_configured_server() {
    let (dead, living) = (closed(), Answering::start("living"));
    let daemon = Daemon::start(&format!(
        "status_listen: 127.0.0.1:0\nserver: ['{dead}', {{address: '{}', backup: true}}]\n",
        living.address
    ));
    let values = || {
        let all = metrics(&daemon);
        let of = |name: &str, server| all[&format!("server_{name}{{server=\"{server}\"}}")];
        let of = |server| {
            let names = ["down", "failures_total", "sessions", "sessions_total"];
            names.map(|name| of(name, server))
        };
        (of(dead), of(living.address))
    };
    assert_eq!(values(), ([0.0; 4], [0.0; 4]));
    let first = reach(&daemon, "x.example", "living");
    let second = reach(&daemon, "x.example", "living");
    let (failing, serving) = values();
    assert_eq!((failing[0], failing[2], failing[3]), (1.0, 0.0, 0.0));
    // The second session may not have tried it.
    assert!((1.0..=2.0).contains(&failing[1]), "{failing:?}");
    assert_eq!(serving, [0.0, 0.0, 2.0, 2.0]);
    drop((first, second));
    let over = [0.0, 0.0, 0.0, 2.0];
    patiently("the end of the sessions", || {
        (values().1 == over).then_some(())
    });
    daemon.stop();
}
