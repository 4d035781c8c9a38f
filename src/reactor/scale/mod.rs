//! Tests of the event loop with many sessions: what a turn does is bounded, and what it costs.

mod cost;
mod crowd;
mod handshakes;

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use super::SESSIONS_PER_TURN;
use super::schedule::{GROUP, GROUP_BYTES};
use super::trim::return_memory;
use crate::net::simulated::{Call, calls};
use crate::session::simulation::crowd::{frame, opening};
use cost::Cost;
use crowd::{Crowd, DRAIN_SPREAD, PART, PING_INTERVAL, STANZA, accept};

/// Sessions set up before the memory is measured: the first allocate parsers and buffers.
const FIRST: usize = 100;

/// The resident memory of this process in bytes, without what is free.
fn resident() -> usize {
    return_memory();
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("our memory");
    let line = rollup.lines().find(|line| line.starts_with("Rss:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok()).expect("Rss") * 1024
}

const MANY: usize = 2500;

/// A loop with this many sessions that relay.
fn relaying(sessions: usize) -> Crowd {
    let mut crowd = Crowd::new(sessions);
    crowd.set_up(sessions);
    crowd
}

/// What [`Crowd::told`] returns if all are reached in turns that are full, after one in which
/// nobody was.
fn full_turns() -> Vec<usize> {
    let rest = MANY - 2 * SESSIONS_PER_TURN;
    vec![0, SESSIONS_PER_TURN, SESSIONS_PER_TURN, rest]
}

#[test]
fn many_deadlines_at_once_expire_in_several_turns() {
    let mut crowd = relaying(MANY);
    crowd.pass(PING_INTERVAL);
    assert_eq!(crowd.told(), full_turns());
}

#[test]
fn many_sessions_with_work_take_several_turns() {
    let mut crowd = relaying(MANY);
    for at in 0..MANY {
        crowd.servers[at].send(STANZA);
        crowd
            .reactor
            .poke(at, |session, _| session.server_edge(false));
    }
    assert_eq!(crowd.told(), full_turns()[1..]);
}

/// Lets a server send each of `sessions` a stanza of `size` bytes. Returns how many sessions in
/// turn read, and then write.
fn groups(sessions: usize, size: usize) -> Vec<usize> {
    let mut crowd = relaying(sessions);
    let text = "x".repeat(size - "<a></a>".len());
    for at in 0..sessions {
        crowd.servers[at].send(format!("<a>{text}</a>").as_bytes());
        crowd
            .reactor
            .poke(at, |session, _| session.server_edge(false));
    }
    let calls = calls(|| drop(crowd.told()));
    let runs = calls.chunk_by(|one, next| one == next);
    let (reads, writes): (Vec<_>, Vec<_>) = runs.partition(|run| run[0] == Call::Read);
    let lens = |runs: Vec<&[Call]>| runs.into_iter().map(<[_]>::len).collect::<Vec<_>>();
    let (reads, writes) = (lens(reads), lens(writes));
    assert_eq!(reads, writes);
    reads
}

#[test]
fn the_sessions_of_a_group_write_after_all_have_read() {
    assert_eq!(groups(2 * GROUP + 3, 100), [GROUP, GROUP, 3]);
}

#[test]
fn a_group_that_has_read_much_takes_no_more_sessions() {
    assert_eq!(groups(20, GROUP_BYTES / 8), [8, 8, 4]);
}

/// Lets the servers of all sessions but the first send this, and polls.
fn flood(crowd: &mut Crowd, bytes: &[u8]) {
    let sessions = crowd.servers.len();
    for server in &crowd.servers[1..] {
        server.send(bytes);
    }
    crowd.turn(&mut Cost::default(), |reactor| {
        for at in 1..sessions {
            reactor.poke(at, |session, _| session.server_edge(false));
        }
    });
}

/// The number of clients that got bytes.
fn reached(crowd: &Crowd) -> usize {
    let got = crowd.clients.iter().map(|wire| wire.take(usize::MAX));
    got.filter(|bytes| !bytes.is_empty()).count()
}

/// Bytes of stanzas that make a session busy in one turn.
const BUSY_BYTES: usize = 8 << 10;

/// Whether the bytes of a flood are nearly all of the work that it causes.
fn bytes_are_work() -> bool {
    std::env::var_os("JABSOCKET_ALL_TO_EXPAT").is_none()
}

/// The most busy sessions that a turn serves, if each has done enough to be busy.
const FEW: usize = 8;

#[test]
fn others_wait_only_for_a_few_of_many_busy_sessions() {
    const SESSIONS: usize = 100;
    if !bytes_are_work() {
        return;
    }
    // More than a turn takes, and as much as makes a session busy.
    for len in [60_000, BUSY_BYTES] {
        let mut crowd = relaying(SESSIONS);
        let bytes = STANZA.repeat(len.div_ceil(STANZA.len()));
        flood(&mut crowd, &bytes);
        assert_eq!(reached(&crowd), SESSIONS - 1);
        if len == BUSY_BYTES {
            flood(&mut crowd, &bytes);
            assert!(reached(&crowd) <= FEW);
        }
        crowd.servers[0].send(STANZA);
        crowd.turn(&mut Cost::default(), |reactor| {
            reactor.poke(0, |session, _| session.server_edge(false));
        });
        assert!(!crowd.clients[0].take(usize::MAX).is_empty());
        assert!(reached(&crowd) <= FEW);
        // The others take turns.
        assert!(!crowd.reactor.run_lists.busy.is_empty());
        let turns = crowd.told();
        assert!(turns.iter().all(|&reached| reached <= FEW), "{turns:?}");
        assert!(
            turns.iter().sum::<usize>() >= SESSIONS - 1 - 3 * FEW,
            "{turns:?}"
        );
    }
}

#[test]
fn others_wait_for_little_of_what_many_sessions_begin_to_do() {
    const SESSIONS: usize = 100;
    let mut crowd = relaying(SESSIONS);
    // Expat must check it.
    let costly = format!("<a><![CDATA[{}]]></a>", "x".repeat(10_000));
    for server in &crowd.servers[1..] {
        server.send(costly.as_bytes());
    }
    crowd.turn(&mut Cost::default(), |reactor| {
        for at in 1..SESSIONS {
            reactor.poke(at, |session, _| session.server_edge(false));
        }
    });
    let served = reached(&crowd);
    assert!((1..=2 * FEW).contains(&served), "{served}");
}

/// An end takes longer than a stanza.
#[test]
fn others_wait_only_for_a_part_of_many_ends() {
    const SESSIONS: usize = 1000;
    let mut crowd = relaying(SESSIONS);
    for client in &crowd.clients[1..] {
        client.send(&frame(0x88, &[3, 232]));
    }
    crowd.servers[0].send(STANZA);
    crowd.turn(&mut Cost::default(), |reactor| {
        reactor.poke(0, |session, _| session.server_edge(false));
        for at in 1..SESSIONS {
            reactor.poke(at, |session, _| session.client_edge(false));
        }
    });
    assert!(!crowd.clients[0].take(usize::MAX).is_empty());
    let soon = reached(&crowd);
    assert!((1..SESSIONS / 4).contains(&soon), "{soon}");
    assert_eq!(soon + crowd.told().iter().sum::<usize>(), SESSIONS - 1);
}

/// A session that does a little, but often, is busy too.
#[test]
fn a_session_is_busy_while_it_does_much_in_a_second() {
    if !bytes_are_work() {
        return;
    }
    let mut crowd = relaying(100);
    let little = STANZA.repeat(BUSY_BYTES / 2 / STANZA.len());
    let busy = |crowd: &Crowd| crowd.reactor.sessions.iter().filter(|s| s.1.busy).count();
    // Work of a second ago may count for half.
    let turns = (1..=200).find(|_| {
        flood(&mut crowd, &little);
        assert_eq!(reached(&crowd), 99);
        busy(&crowd) == 99
    });
    assert!(turns.is_some_and(|turns| turns > 32), "{turns:?}");
    flood(&mut crowd, &little);
    assert!(reached(&crowd) <= 2 * FEW);
    crowd.told();
    crowd.pass(Duration::from_secs(2));
    flood(&mut crowd, STANZA);
    assert_eq!((reached(&crowd), busy(&crowd)), (99, 0));
}

#[test]
fn tiny_frames_make_a_session_busy() {
    const SESSIONS: usize = 100;
    let mut crowd = relaying(SESSIONS);
    let pings = frame(0x89, b"").repeat(2000);
    for most in [SESSIONS, FEW] {
        for client in &crowd.clients[1..] {
            client.send(&pings);
        }
        crowd.turn(&mut Cost::default(), |reactor| {
            for at in 1..SESSIONS {
                reactor.poke(at, |session, _| session.client_edge(false));
            }
        });
        let reached = reached(&crowd);
        assert!((1..=most).contains(&reached), "{reached}");
    }
}

/// Even if all clients come back at once.
#[test]
fn others_wait_only_for_a_few_of_many_new_sessions() {
    const NEW: usize = 100;
    let mut crowd = Crowd::new(1 + NEW);
    crowd.set_up(1);
    for at in 1..=NEW {
        crowd.clients[at].send(&opening());
        accept(&mut crowd.reactor, at, &crowd.clients[at]);
    }
    let mut told = 0;
    while told < NEW {
        crowd.servers[0].send(STANZA);
        crowd.turn(&mut Cost::default(), |reactor| {
            reactor.poke(0, |session, _| session.server_edge(false));
        });
        assert!(!crowd.clients[0].take(usize::MAX).is_empty());
        let more = reached(&crowd);
        assert!((1..=16).contains(&more), "{more}");
        told += more;
    }
}

#[test]
fn a_late_drain_takes_several_turns() {
    let mut crowd = relaying(MANY);
    crowd.reactor.drain("test");
    let soon: usize = crowd.told().iter().sum();
    crowd.pass(DRAIN_SPREAD);
    crowd.reactor.drain_those_due();
    let most = SESSIONS_PER_TURN.min(MANY - soon);
    assert_eq!(crowd.reactor.run_lists.light.len(), most);
    assert_eq!(soon + crowd.told().iter().sum::<usize>(), MANY);
}

#[test]
fn sessions_without_a_stream_are_drained_in_several_turns() {
    let mut crowd = Crowd::new(MANY);
    for at in 0..MANY {
        accept(&mut crowd.reactor, at, &crowd.clients[at]);
    }
    crowd.told();
    crowd.reactor.drain("test");
    assert_eq!(crowd.reactor.run_lists.busy.len(), SESSIONS_PER_TURN);
    assert_eq!(crowd.told().iter().sum::<usize>(), MANY);
}

/// Answers a DNS question of A records with 127.0.0.1, and of others with no record.
fn answer(dns: &UdpSocket) {
    let mut packet = [0; 512];
    let (len, asker) = dns.recv_from(&mut packet).expect("a question");
    // After the header come the name, the type and the class.
    let name = packet[12..].iter().position(|&byte| byte == 0);
    let end = 12 + name.expect("a name") + 5;
    assert!(end <= len);
    let is_a = packet[end - 4..end] == [0, 1, 0, 1];
    let mut reply = packet[..end].to_vec();
    // A response without an error, with at most one answer and nothing else.
    reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, is_a.into(), 0, 0, 0, 0]);
    if is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    dns.send_to(&reply, asker).expect("sent");
}

/// All wait for the addresses of one server, and then for a slot to connect to it. Nobody
/// listens there, so the first failure lets all others choose again.
#[test]
fn what_all_wait_for_reaches_them_in_several_turns() {
    let dns = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("bound").port();
    drop(nobody);
    let config = format!(
        "dns_servers: {}\ndomains:\n  - name: example.com\n    server: a.example:{port}\n",
        dns.local_addr().expect("bound")
    );
    let mut crowd = Crowd::with_config(MANY, &config);
    for at in 0..MANY {
        crowd.clients[at].send(&opening());
        accept(&mut crowd.reactor, at, &crowd.clients[at]);
    }
    while !crowd.reactor.run_lists.busy.is_empty() {
        crowd.turn(&mut Cost::default(), |_| {});
    }
    for client in &crowd.clients {
        client.take(usize::MAX);
    }
    // For both kinds of addresses.
    answer(&dns);
    answer(&dns);
    let (mut told, mut visits) = (0, crowd.reactor.shared.locator.visits());
    while told < MANY {
        let waiting = crowd.reactor.run_lists.busy.len();
        crowd.turn(&mut Cost::default(), |_| {});
        let now = crowd.reactor.shared.locator.visits();
        let visited = now - std::mem::replace(&mut visits, now);
        // A turn takes answers twice.
        assert!(visited < 2 * (SESSIONS_PER_TURN as u64 + 64), "{visited}");
        let listed = crowd.reactor.run_lists.busy.len();
        let more = listed.saturating_sub(waiting);
        assert!(more < 2 * SESSIONS_PER_TURN + 128, "{more}");
        let clients = crowd.clients.iter();
        told += clients
            .filter(|wire| !wire.take(usize::MAX).is_empty())
            .count();
    }
}

/// The sessions that hold the most end, and no more of them than necessary.
#[test]
fn too_much_memory_ends_sessions_in_several_turns() {
    let mut crowd = relaying(MANY);
    let holders: Vec<usize> = (0..MANY - 100).collect();
    let (large, small) = holders.split_at(10);
    crowd.serve(&holders, PART);
    crowd.serve(large, &[b'x'; 5000]);
    crowd.reactor.shared.drop_caches();
    let held = |crowd: &Crowd| crowd.reactor.shared.memory().bounded();
    let limit = held(&crowd) / 2;
    crowd.limit_memory(limit);
    let told = crowd.told();
    assert_eq!(told[0], SESSIONS_PER_TURN);
    assert!(told[2..].iter().all(|&more| more == 0), "{told:?}");
    let goal = limit - limit / 8;
    assert!((goal - 1000..=goal).contains(&held(&crowd)));
    let is_open = |at: &usize| crowd.reactor.sessions[*at].session.is_flushed().is_some();
    assert!(!large.iter().any(is_open));
    assert!((MANY - 100..MANY).all(|at| is_open(&at)));
    let kept = small.iter().filter(|at| is_open(at)).count();
    assert_eq!(kept + told.iter().sum::<usize>(), holders.len());
}

/// Looking at all slots would take long even if they are free.
#[test]
fn a_drain_looks_at_the_slots_in_several_turns() {
    let mut crowd = relaying(1);
    crowd.reactor.sessions.reserve(100_000);
    crowd.reactor.drain("test");
    let told = crowd.told();
    assert!(told.len() > 4, "{told:?}");
    assert_eq!(told.last(), Some(&1));
}

/// For `cargo bench -- scale`: writes what the number of sessions in `SESSIONS` costs.
#[test]
#[ignore = "a benchmark"]
fn what_many_sessions_cost() {
    let sessions = std::env::var("SESSIONS").expect("SESSIONS");
    let sessions: usize = sessions.parse().expect("a number");
    let mut crowd = Crowd::new(sessions);
    crowd.open_status();
    let print = |name: &str, of: usize, cost: Cost| println!("scale {name}: {cost} {of}");
    crowd.set_up(FIRST);
    let before = resident();
    print("set-up", sessions - FIRST, crowd.set_up(sessions));
    let after = resident();
    println!("scale memory: {}", (after - before) / (sessions - FIRST));
    crowd.relay();
    print("a stanza each way", sessions, crowd.relay());
    print("Ping and Pong", sessions, crowd.ping());
    for path in [
        "/metrics",
        "/",
        "/sessions?limit=100",
        "/sessions?sort=queued&limit=20",
    ] {
        print(path, sessions, crowd.get(path));
    }
    print("SIGUSR1", sessions, crowd.report());
    print("reload", sessions, crowd.reload());
    let (cost, ended) = crowd.run_short();
    print("too much memory", ended, cost);
    let sessions = crowd.reactor.sessions.len();
    print("half of them leave", sessions / 2, crowd.leave());
    print("drain of the others", sessions / 2, crowd.drain());
}
