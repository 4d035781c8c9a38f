//! Clients choose the names that are looked up. Questions without a waiter are dropped,
//! waiting questions are bounded, and a client with many questions delays only itself.

use crate::common::answering::*;
use crate::common::dns_server::{DnsServer, SRV};
use crate::common::looking_up::LookingUp;
use jabsocket::net::dns::locator::Error;
use jabsocket::net::dns::question::Error as DnsError;
use jabsocket::net::source::Source;

/// The number of look-ups of a client with many questions.
const MANY: u64 = 10_000;
/// Questions that one client may have in flight.
const MOST_OF_ASKER: usize = 16;
/// Maximum memory for all look-ups and questions of one client.
const MOST_BYTES: usize = 2 << 20;

const ONE: Source = Source::V4(1);
const OTHER: Source = Source::V4(2);

const GOOD: &str = "_xmpp-client._tcp.good.example 0 SRV 1 1 5269 a.good.example
    a.good.example 0 A 192.0.2.7";
const GOOD_PLACE: &str = "192.0.2.7:5269";

/// A server that does not answer questions about names under `dead.example`.
fn dns() -> DnsServer {
    let dns = DnsServer::start(GOOD);
    dns.say_nothing_on("dead.example");
    dns
}

fn dead(at: u64) -> String {
    format!("x{at}.dead.example")
}

/// The number of dead names that were asked for.
fn dead_asked(dns: &DnsServer) -> usize {
    let all = dns.all_asked();
    all.iter()
        .filter(|(name, ..)| name.contains("dead"))
        .count()
}

/// Starts look-ups of dead names; returns how many are still waiting.
fn flood(looking_up: &mut LookingUp, asker: Source, ids: std::ops::Range<u64>) -> u64 {
    let mut waiting = ids.end - ids.start;
    for id in ids {
        looking_up.look_up(id, &dead(id), asker, 0);
    }
    looking_up.turn(0);
    for answer in looking_up.answers.drain(..) {
        let error = answer.targets.expect_err("a dead name");
        assert_eq!(error, Error::Failed(DnsError::TooMany));
        assert!(answer.last);
        waiting -= 1;
    }
    waiting
}

#[test]
fn many_dead_names_of_one_asker_do_not_delay_another() {
    let dns = dns();
    let mut looking_up = LookingUp::asking(&dns);
    let waiting = flood(&mut looking_up, ONE, 0..MANY);
    assert!((200..1000).contains(&waiting), "{waiting} wait");
    let held = looking_up.locator.held_bytes();
    assert!((100_000..MOST_BYTES).contains(&held), "{held} bytes");
    looking_up.look_up(MANY, "good.example", OTHER, 0);
    assert_eq!(looking_up.address(MANY, 0), GOOD_PLACE);
    // The dead names were not asked first.
    let asked = dead_asked(&dns);
    assert!(asked <= MOST_OF_ASKER, "{asked} dead names asked");
    for id in 0..MANY {
        looking_up.locator.forget(id);
    }
    let held = looking_up.locator.held_bytes();
    assert!(held < 10_000, "{held} bytes");
}

#[test]
fn a_domain_that_worked_does_not_wait_behind_unknown_ones_of_the_same_asker() {
    let dns = dns();
    let mut looking_up = LookingUp::asking(&dns);
    looking_up.look_up(MANY, "good.example", ONE, 0);
    assert_eq!(looking_up.address(MANY, 0), GOOD_PLACE);
    flood(&mut looking_up, ONE, 0..MANY);
    // Its records have a TTL of 0, so they are asked for again.
    looking_up.look_up(MANY + 1, "good.example", ONE, 0);
    assert_eq!(looking_up.address(MANY + 1, 0), GOOD_PLACE);
    let asked = dead_asked(&dns);
    assert!(asked <= MOST_OF_ASKER, "{asked} dead names asked");
    assert_eq!(dns.asked("_xmpp-client._tcp.good.example", SRV), 2);
    // There was no room for other names.
    looking_up.look_up(MANY + 2, "other.example", ONE, 0);
    let error = looking_up.answer(MANY + 2, 0).targets.expect_err("a place");
    assert_eq!(error, Error::Failed(DnsError::TooMany));
    assert_eq!(error.to_string(), "too many DNS look-ups are waiting");
}

#[test]
fn what_nobody_waits_for_is_dropped_and_not_asked_again_at_a_reload() {
    let first = dns();
    let mut looking_up = LookingUp::asking(&first);
    for round in 0..100 {
        let ids = round * 100..(round + 1) * 100;
        flood(&mut looking_up, ONE, ids.clone());
        for id in ids {
            looking_up.locator.forget(id);
        }
    }
    let held = looking_up.locator.held_bytes();
    assert!(held < 1000, "{held} bytes");
    looking_up.look_up(MANY, "good.example", ONE, 0);
    assert_eq!(looking_up.address(MANY, 0), GOOD_PLACE);
    // One in ten still has a waiter.
    flood(&mut looking_up, ONE, 0..10);
    for id in 0..9 {
        looking_up.locator.forget(id);
    }
    let second = dns();
    looking_up.reload(&second, 0);
    looking_up.look_up(MANY + 1, "good.example", ONE, 0);
    assert_eq!(looking_up.address(MANY + 1, 0), GOOD_PLACE);
    looking_up.until("the one", 0, |_| (dead_asked(&second) >= 2).then_some(()));
    let all = second.all_asked();
    let others = all.iter().filter(|(name, ..)| name.contains("dead"));
    let others = others.filter(|(name, ..)| !name.ends_with(&dead(9)));
    assert_eq!(others.count(), 0, "{all:?}");
}

#[test]
fn what_several_wait_for_is_dropped_with_the_last() {
    let dns = dns();
    let mut looking_up = LookingUp::asking(&dns);
    // All slots are taken, so the name waits for its turn.
    flood(&mut looking_up, ONE, 0..100);
    for (id, asker) in [(200, ONE), (201, ONE), (202, Source::V4(3))] {
        looking_up.look_up(id, "good.example", asker, 0);
        if id != 202 {
            looking_up.locator.forget(id);
        }
    }
    assert_eq!(looking_up.address(202, 0), GOOD_PLACE);
}

#[test]
fn a_turn_does_not_look_at_look_ups_that_wait() {
    const LOOK_UPS: u64 = 8000;
    let dns = dns();
    dns.add("_xmpp-client._tcp.held.dead.example SRV 1 1 5269 a.example");
    let mut looking_up = LookingUp::asking(&dns);
    for id in 0..LOOK_UPS {
        let domain = ["x.dead.example", "held.dead.example"][id as usize % 2];
        looking_up.look_up(id, domain, ONE, 0);
    }
    // By then half of them have results to delay.
    let visited = |this: &mut LookingUp| this.locator.visits() >= LOOK_UPS / 2;
    looking_up.until("the records", 0, |this| visited(this).then_some(()));
    let before = looking_up.locator.visits();
    for now_ms in 0..200 {
        assert_eq!(
            looking_up.locator.due_ms().map(|due| due <= 200),
            Some(true)
        );
        looking_up.locator.advance_look_ups(usize::MAX, now_ms);
    }
    assert_eq!(looking_up.locator.visits(), before);
    // The look-ups that are due are visited.
    looking_up.locator.advance_look_ups(usize::MAX, 200);
    assert!(looking_up.locator.next_answer().is_none());
    let visits = looking_up.locator.visits() - before;
    assert_eq!(visits, LOOK_UPS / 2);
}

#[test]
fn an_answer_that_many_wait_for_comes_in_parts() {
    const PART: usize = 1000;
    let dns = dns();
    let mut looking_up = LookingUp::asking(&dns);
    for id in 0..MANY {
        looking_up.look_up(id, "good.example", ONE, 0);
    }
    let (mut ids, mut visits) = (Vec::new(), 0);
    for _ in 0..10_000 {
        if !looking_up.locator.is_behind(0) {
            looking_up.receive(0);
        }
        looking_up.locator.advance_look_ups(PART, 0);
        let all = looking_up.locator.visits();
        assert!(all - visits < PART as u64 + 64, "{} visits", all - visits);
        visits = all;
        while let Some(answer) = looking_up.locator.next_answer() {
            ids.extend(answer.last.then_some(answer.id));
        }
        if ids.len() == MANY as usize {
            break;
        }
    }
    assert!(ids.into_iter().eq(0..MANY));
}

#[test]
fn sessions_that_left_do_not_delay_those_that_come() {
    let one = Answering::start("one");
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.x.example SRV 1 1 {} a.example
         a.example A 127.0.0.1",
        one.port()
    ));
    dns.say_nothing_on("dead.example");
    let daemon = daemon_asking(&dns, "domains: ['*.dead.example', x.example]\n");
    let clients: Vec<_> = (0..100).map(|at| opening(&daemon, &dead(at))).collect();
    drop(clients);
    drop(reach(&daemon, "x.example", "one"));
    daemon.stop();
}
