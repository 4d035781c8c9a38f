//! How long DNS answers are cached. Many sessions with the same question ask it only
//! once.
#![allow(
    clippy::disallowed_methods,
    reason = "tests have no clock of the reactor"
)]

use std::time::{Duration, Instant};

use crate::common::PATIENCE;
use crate::common::answering::*;
use crate::common::dns_server::{A, DnsServer, SRV};
use crate::common::ws_client::{FIN, PING, PONG};
use jabsocket::net::dns::question::Question;
use jabsocket::net::dns::resolver::{DnsAnswer, Resolver, Waiter};
use jabsocket::net::source::Source;
use mio::{Events, Poll, Token};

const LISTED: &str = "domains: [x.example]\n";

const CLEAR: &str = "_xmpp-client._tcp.x.example";
const DIRECT: &str = "_xmpps-client._tcp.x.example";

/// How often each question for `x.example` was asked: both services and the address.
fn asked(dns: &DnsServer, expected: [usize; 3]) -> [usize; 3] {
    let questions = [(CLEAR, SRV), (DIRECT, SRV), ("a.example", A)];
    // A session does not wait for all answers.
    for ((name, kind), times) in questions.into_iter().zip(expected) {
        dns.wait_asked_times(name, kind, times);
    }
    questions.map(|(name, kind)| dns.asked(name, kind))
}

/// A zone with both services of `x.example` at one server, with these TTLs.
fn zone(server: &Answering, service_ttl: u32, address_ttl: u32) -> String {
    format!(
        "{CLEAR} {service_ttl} SRV 1 1 {} a.example
         {DIRECT} {service_ttl} SRV 2 1 {} a.example
         a.example {address_ttl} A 127.0.0.1",
        server.port(),
        server.port(),
    )
}

#[test]
fn what_holds_is_not_asked_again() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&zone(&one, 300, 300));
    let daemon = daemon_asking(&dns, LISTED);
    for _ in 0..5 {
        drop(reach(&daemon, "x.example", "one"));
        assert_eq!(asked(&dns, [1; 3]), [1; 3]);
    }
    daemon.stop();
}

#[test]
fn what_does_not_hold_is_asked_each_time() {
    let one = Answering::start("one");
    for (service_ttl, address_ttl, expected) in
        [(0, 300, [3, 3, 1]), (300, 0, [1, 1, 3]), (0, 0, [3, 3, 3])]
    {
        let dns = DnsServer::start(&zone(&one, service_ttl, address_ttl));
        let daemon = daemon_asking(&dns, LISTED);
        for times in 1..=3 {
            drop(reach(&daemon, "x.example", "one"));
            // Otherwise the next session could wait for the same answer.
            dns.wait_asked_times(DIRECT, SRV, expected[1].min(times));
        }
        let case = format!("TTL {service_ttl} and {address_ttl}");
        assert_eq!(asked(&dns, expected), expected, "{case}");
        daemon.stop();
    }
}

#[test]
fn the_least_ttl_of_an_answer_counts() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&zone(&one, 300, 300));
    // Between two records with a longer TTL.
    for (ttl, last) in [(0, 2), (300, 3)] {
        let port = one.port();
        dns.add(&format!("{CLEAR} {ttl} SRV 9 1 {port} a.example"));
        dns.add(&format!("a.example {ttl} A 127.0.0.{last}"));
    }
    let daemon = daemon_asking(&dns, LISTED);
    for _ in 0..3 {
        drop(reach(&daemon, "x.example", "one"));
    }
    assert_eq!(asked(&dns, [3, 1, 3]), [3, 1, 3]);
    daemon.stop();
}

#[test]
fn a_ttl_runs_out() {
    let (old, new) = (Answering::start("old"), Answering::start("new"));
    let dns = DnsServer::start(&zone(&old, 1, 300));
    let daemon = daemon_asking(&dns, LISTED);
    let began = Instant::now();
    drop(reach(&daemon, "x.example", "old"));
    dns.remove(CLEAR);
    dns.remove(DIRECT);
    dns.add(&zone(&new, 1, 300));
    loop {
        let mut client = opening(&daemon, "x.example");
        match read_id(&mut client, "x.example").as_str() {
            "new" => break,
            other => assert_eq!(other, "old"),
        }
        assert!(began.elapsed() < PATIENCE, "kept for ever");
    }
    let age = began.elapsed();
    assert!(age >= Duration::from_millis(990), "asked again at {age:?}");
    daemon.stop();
}

#[test]
fn many_sessions_ask_once() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "{CLEAR} SRV HELD\n{DIRECT} SRV HELD\na.example A HELD\na.example AAAA HELD"
    ));
    let daemon = daemon_asking(&dns, LISTED);
    let mut clients: Vec<_> = (0..50).map(|_| opening(&daemon, "x.example")).collect();
    for client in &mut clients {
        // The frame after the `<open/>` is answered, so the daemon has read the
        // `<open/>`.
        client.send_frame(FIN | PING, b"").unwrap();
        let pong = client.read_frame().unwrap().expect("a Pong");
        assert_eq!(pong.opcode, PONG);
    }
    dns.wait_asked(CLEAR, SRV);
    dns.wait_asked(DIRECT, SRV);
    dns.release(&zone(&one, 0, 0));
    for client in &mut clients {
        assert_eq!(read_id(client, "x.example"), "one");
    }
    assert_eq!(asked(&dns, [1; 3]), [1; 3]);
    assert_eq!(one.connections(), clients.len());
    daemon.stop();
}

#[test]
fn a_failure_is_not_kept() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!("{CLEAR} SRV SERVFAIL\n{DIRECT} SRV SERVFAIL"));
    let daemon = daemon_asking(&dns, LISTED);
    reach_nothing(&daemon, "x.example", "remote-connection-failed");
    dns.remove(CLEAR);
    dns.remove(DIRECT);
    dns.add(&zone(&one, 300, 300));
    drop(reach(&daemon, "x.example", "one"));
    daemon.stop();
}

/// How many questions are asked at once. More would exceed a limit.
const AT_ONCE: usize = 400;

/// A resolver with its own event loop. The test sets the time.
struct Asking {
    poll: Poll,
    resolver: Resolver,
}

impl Asking {
    fn start(dns: &DnsServer) -> Asking {
        let poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let resolver = Resolver::new(registry, Token(0), &[dns.address]).unwrap();
        Asking { poll, resolver }
    }

    /// Asks `questions` at `now_ms` and waits for all answers.
    fn ask(&mut self, questions: impl Iterator<Item = Question>, now_ms: u64) -> Vec<DnsAnswer> {
        let questions: Vec<_> = questions.collect();
        let pieces = questions.chunks(AT_ONCE);
        let answers = pieces.flat_map(|piece| self.ask_at_once(piece, now_ms));
        answers.collect()
    }

    fn ask_at_once(&mut self, questions: &[Question], now_ms: u64) -> Vec<DnsAnswer> {
        let waiter = Waiter {
            id: 1,
            asker: Source::Unix,
            domain: "x.example".into(),
        };
        for question in questions {
            self.resolver.ask(&waiter, question.clone(), now_ms);
        }
        let began = Instant::now();
        let mut events = Events::with_capacity(64);
        let mut answers = Vec::new();
        while answers.len() < questions.len() {
            assert!(began.elapsed() < PATIENCE, "{} answers", answers.len());
            if let Some(answer) = self.resolver.next_answer(now_ms) {
                answers.push(answer);
                continue;
            }
            let wait = self
                .resolver
                .due_ms()
                .map(|due| due.saturating_sub(now_ms) + 1);
            let wait = wait.map_or(PATIENCE, Duration::from_millis);
            self.poll.poll(&mut events, Some(wait)).unwrap();
            self.resolver.process(now_ms);
        }
        answers
    }
}

#[test]
fn nothing_is_kept_for_more_than_a_minute() {
    let dns = DnsServer::start(&format!("{CLEAR} 86400 SRV 1 1 5222 a.example"));
    let mut asking = Asking::start(&dns);
    for (now_ms, times) in [(1, 1), (60_000, 1), (60_001, 2), (120_000, 2), (120_001, 3)] {
        let question = Question::Service(CLEAR.to_owned());
        let answers = asking.ask([question].into_iter(), now_ms);
        assert!(answers.iter().all(|answer| answer.result.is_ok()));
        assert_eq!(dns.asked(CLEAR, SRV), times, "at {now_ms} ms");
    }
}

#[test]
fn many_questions_wait_their_turn_and_the_cache_is_bounded() {
    const FEW: usize = 50;
    const MANY: usize = 4096;
    let name = |at: usize| format!("_s._tcp.a{at}.example");
    let zone: String = (0..FEW + MANY)
        .map(|at| format!("{} SRV 1 1 5222 a.example\n", name(at)))
        .collect();
    let dns = DnsServer::start(&zone);
    let mut asking = Asking::start(&dns);
    let questions = |range: std::ops::Range<usize>| range.map(|at| Question::Service(name(at)));
    let asked = |at: usize| dns.asked(&name(at), SRV);
    let answers = asking.ask(questions(0..FEW), 0);
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
    asking.ask(questions(0..FEW), 1);
    assert!((0..FEW).all(|at| asked(at) == 1), "not kept");
    let answers = asking.ask(questions(FEW..FEW + MANY), 2);
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
    // The oldest entries were dropped.
    asking.ask(questions(0..FEW), 3);
    // A question may get the same ID as before and is then not counted again.
    let again = (0..FEW).filter(|at| asked(*at) == 2).count();
    assert!(again >= FEW - 2, "{again} of {FEW}");
    // The newest entry was not.
    asking.ask(questions(FEW + MANY - 1..FEW + MANY), 4);
    assert_eq!(asked(FEW + MANY - 1), 1);
}

#[test]
fn the_lack_of_a_record_is_kept_for_a_moment() {
    let dns = DnsServer::start("");
    let mut asking = Asking::start(&dns);
    for (now_ms, times) in [(1, 1), (5_000, 1), (5_001, 2)] {
        let question = Question::Service(CLEAR.to_owned());
        let answers = asking.ask([question].into_iter(), now_ms);
        assert!(answers.iter().all(|answer| answer.result.is_err()));
        assert_eq!(dns.asked(CLEAR, SRV), times, "at {now_ms} ms");
    }
}
