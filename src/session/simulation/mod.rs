//! Tests of whole sessions on simulated sockets in simulated time.
//!
//! The property test runs thousands of sessions. In each, both peers follow a script
//! (`script`); bytes, short writes, ends, resets and delays come in a random order (`run`), and
//! the properties are checked (`judge`). Whatever the order, there must be no panic, all bounds
//! must hold, and nothing may be lost, duplicated or reordered on either side. A failure prints
//! its seed; `SEED=n` runs only that session.
//!
//! `crowd` is for tests of the event loop with many sessions.

pub(crate) mod crowd;
mod judge;
mod run;
mod script;

use std::collections::BTreeMap;

use super::machine::Phase;
use super::shared::Shared;
use crate::buf::copied_bytes;
use crate::config;
use crate::expat::parsers_made;
use crate::log::Log;
use crate::meter;
use crate::net::dns::locator::Locator;
use crate::net::dns::resolver::Resolver;
use crate::net::tls_client::Contexts;
use crate::proto::ws::deflate::Codec;
use run::{Fate, Run};
use script::frame;

const SCHEDULES: u64 = 4000;

/// The server has a name: a numeric address would be dialled without the simulation.
const CONFIG: &str = "\
domains:
  - name: example.com
    server: localhost:9
    tls: none
handshake_timeout: 100
open_timeout: 100
connect_timeout: 100
write_timeout: 100
close_timeout: 20
ping_interval: 40
max_message_size: 200000
max_frame_size: 200000
max_stanza_size: 200000
";

/// A small pseudo-random number generator.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Adjacent seeds must give very different sequences.
        Random(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }

    /// Returns true with probability 1 / `n`.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Returns a length up to `most`. Small magnitudes are as likely as large ones.
    fn length(&mut self, most: usize) -> usize {
        let bits = usize::BITS - most.leading_zeros();
        let cap = 1_usize << self.below(bits as usize + 1);
        1 + self.below(cap.min(most))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the log wants to know when it began"
)]
fn shared_with(config: &str) -> (mio::Poll, Shared) {
    let config = config::parse("simulation", config).expect("a good file");
    let log = Log::with_sinks("/nonexistent".as_ref(), None, std::time::Instant::now());
    let poll = mio::Poll::new().expect("a poll");
    let registry = || poll.registry().try_clone().expect("a registry");
    let servers = ["127.0.0.1:9".parse().expect("an address")];
    let resolver = Resolver::new(registry(), mio::Token(0), &servers).expect("a resolver");
    let shared = Shared::new(
        config.config.into(),
        log.into(),
        Locator::new(resolver, |_| 0),
        Contexts::new(std::iter::empty()).expect("TLS contexts"),
        registry(),
    );
    (poll, shared)
}

fn shared() -> (mio::Poll, Shared) {
    shared_with(CONFIG)
}

/// A numeric address needs no look-up, and thus no further turn.
#[test]
fn a_numeric_address_is_dialled_in_the_turn_of_the_first_message() {
    for (server, phase) in [
        ("localhost:9", Phase::Locating),
        ("127.0.0.1:9", Phase::Connecting),
        ("'[::1]:9'", Phase::Connecting),
    ] {
        let (_poll, mut shared) = shared_with(&CONFIG.replace("localhost:9", server));
        let mut run = Run::new(0, &mut shared);
        while run.session.phase() < Phase::Locating {
            run.client_sends(usize::MAX);
            run.turn();
        }
        assert_eq!(run.session.phase(), phase, "{server}");
    }
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order() {
    let (_poll, mut shared) = shared();
    let chosen = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = match chosen {
        Some(seed) => seed..=seed,
        None => 1..=SCHEDULES,
    };
    let mut fates = BTreeMap::<Fate, u32>::new();
    let mut bytes = 0;
    for seed in seeds {
        let report = SeedReport(seed);
        let mut run = Run::new(seed, &mut shared);
        run.play();
        *fates.entry(run.fate).or_default() += 1;
        bytes += run.delivered();
        std::mem::forget(report);
    }
    if chosen.is_none() {
        assert_eq!(fates.len(), Fate::ALL.len(), "{fates:?}");
        assert!(fates.values().all(|n| *n > 100), "{fates:?}");
        assert!(bytes > 50 << 20, "only {bytes} bytes were relayed");
    }
}

/// A message that arrives in several reads is collected once, and becomes the queue to the server.
#[test]
fn a_message_in_pieces_is_relayed_without_a_copy() {
    let text = format!("<a>{}</a>", "x".repeat(100_000));
    let (begin, end) = text.as_bytes().split_at(60_000);
    let (mut whole, mut fragments) = (Vec::new(), Vec::new());
    let mut random = Random::new(0);
    frame(&mut whole, 0x81, text.as_bytes(), &mut random);
    frame(&mut fragments, 1, begin, &mut random);
    frame(&mut fragments, 0x80, end, &mut random);
    for frames in [whole, fragments] {
        let (_poll, mut shared) = shared();
        let mut run = Run::with_frames(&frames, &mut shared);
        let (relayed, copied) = (run.got.len(), copied_bytes());
        while run.metered_turn().1 || run.got.len() < relayed + text.len() {
            run.peers_take();
        }
        assert!(run.got.ends_with(text.as_bytes()));
        assert_eq!(copied_bytes() - copied, 0);
    }
}

/// While the full queue to the server keeps the client's end from being read, the loop must not
/// spin.
#[test]
fn a_reset_client_waits_for_a_stalled_server_without_turning() {
    let (_poll, mut shared) = shared();
    let mut run = Run::with_stalled_server(&mut shared);
    run.reset_client();
    run.bring_to_an_end();
}

/// The kernel announces room only once there is much, which can take longer than the timeout.
#[test]
fn a_server_that_reads_slowly_is_not_given_up() {
    let (_poll, mut shared) = shared();
    let mut run = Run::with_stalled_server(&mut shared);
    for _ in 0..10 {
        run.server_takes_unannounced(10);
        assert!(run.passes_write_timeout(), "given up");
    }
    assert!(!run.passes_write_timeout(), "it reads nothing");
}

/// A stalled write sets a deadline only once, whatever the phase.
#[test]
fn a_stalled_server_is_given_up_while_the_session_closes() {
    let (_poll, mut shared) = shared();
    let mut run = Run::with_stalled_server(&mut shared);
    run.drain_for_long();
    run.bring_to_an_end();
}

/// Plays until nothing moves in three turns, and calls `look` after each with its units of
/// work. Returns all units, and the number of turns that had any.
fn play_out(run: &mut Run<'_>, mut look: impl FnMut(&Run<'_>, usize)) -> (usize, usize) {
    let (mut all, mut turns, mut still) = (0, 0, 0);
    let mut taken = run.peers_take();
    while still < 3 {
        let (units, again) = run.metered_turn();
        look(run, units);
        all += units;
        turns += usize::from(units > 0);
        let now = run.peers_take();
        still = if again || now > taken { 0 } else { still + 1 };
        taken = now;
    }
    (all, turns)
}

/// A few bytes that inflate to many take several turns.
#[test]
fn what_a_turn_inflates_is_bounded() {
    const BLANKS: usize = 100_000;
    let blanks = vec![b' '; BLANKS];
    let mut codec = Codec::default();
    let payload = codec.compress(&[&blanks], None).unwrap();
    assert!(payload.len() < 126 << 10);
    let each = meter::FRAME + payload.len() + BLANKS / meter::INFLATED_BYTES;
    let mut random = Random::new(0);
    let mut frames = Vec::new();
    for _ in 0..40 {
        frame(&mut frames, 0xc1, payload, &mut random);
    }
    let (_poll, mut shared) = shared();
    let mut run = Run::with_frames(&frames, &mut shared);
    let most = meter::UNITS_PER_TURN + each;
    let (all, turns) = play_out(&mut run, |_, units| assert!(units <= most, "{units} units"));
    assert_eq!(all, 40 * each);
    assert!(turns > 10, "{turns} turns");
}

/// A large message is inflated over several turns, and what follows it waits.
#[test]
fn what_a_turn_inflates_of_one_message_is_bounded() {
    let mut random = Random::new(0);
    let letter = |_| char::from(b'a' + random.below(26) as u8);
    let letters: String = (0..190_000).map(letter).collect();
    let large = format!("<a>{letters}</a>");
    let small = "<b/>";
    let mut codec = Codec::default();
    let payload = codec.compress(&[large.as_bytes()], None).unwrap();
    let whole = payload.len() + large.len() / meter::INFLATED_BYTES;
    assert!(whole > 2 * meter::UNITS_PER_TURN);
    let mut frames = Vec::new();
    frame(&mut frames, 0xc1, payload, &mut random);
    frame(&mut frames, 0x81, small.as_bytes(), &mut random);
    let (_poll, mut shared) = shared();
    let mut run = Run::with_frames(&frames, &mut shared);
    let before = run.got.len();
    // The last draw: a slice of the payload, and its inflated bytes.
    let slice = (16 << 10) + (64 << 10) / meter::INFLATED_BYTES;
    let scanned = large.len() / meter::LOOKED_AT_BYTES;
    let most = meter::UNITS_PER_TURN + slice + scanned;
    let mut most_memory = 0;
    let (all, turns) = play_out(&mut run, |run, units| {
        assert!(units <= most, "{units} units");
        most_memory = most_memory.max(run.session.share.total());
    });
    assert!(run.got[before..] == *format!("{large}{small}").as_bytes());
    assert!(all >= whole && turns > 2, "{all} units, {turns} turns");
    let least = payload.len() + large.len() / 2;
    assert!(most_memory > least, "{most_memory} bytes counted");
}

/// Many bytes that inflate to nothing, empty blocks, take several turns too.
#[test]
fn what_a_turn_inflates_to_nothing_is_bounded() {
    const LEN: usize = 20_000;
    let mut random = Random::new(0);
    let mut frames = Vec::new();
    for _ in 0..40 {
        // Final blocks of fixed codes.
        frame(&mut frames, 0xc1, &[3, 0].repeat(LEN / 2), &mut random);
    }
    let (_poll, mut shared) = shared();
    let mut run = Run::with_frames(&frames, &mut shared);
    // The last draw is for one block.
    let most = meter::UNITS_PER_TURN + 16;
    let (all, _) = play_out(&mut run, |_, units| assert!(units <= most, "{units} units"));
    // A block costs more than its two bytes.
    assert!(all > 160 * LEN, "{all} units");
}

/// Expat checks a large message and a large stanza over several turns, alternately. The bytes
/// after them wait.
#[test]
fn what_a_turn_judges_is_bounded() {
    const ELEMENTS: usize = 8000;
    let unit = format!("<a>{}</a>", "<p:b xmlns:p='c'/>".repeat(ELEMENTS));
    let mut random = Random::new(0);
    let mut frames = Vec::new();
    for text in [&unit, "<a/>", &unit, "<b/>"] {
        frame(&mut frames, 0x81, text.as_bytes(), &mut random);
    }
    let (_poll, mut shared) = shared();
    let mut run = Run::with_frames(&frames, &mut shared);
    run.session.deflate = None;
    let before = run.peers_take();
    run.server_says(format!("{unit}<a/>{unit}<b/>").as_bytes());
    // The last draw of each direction, and one scan of a unit in each.
    let most = meter::UNITS_PER_TURN + 2 * (16 << 10) + unit.len();
    let (all, turns) = play_out(&mut run, |_, units| assert!(units <= most, "{units} units"));
    assert!(run.peers_take() - before > 4 * unit.len());
    let judged = 4 * unit.len();
    assert!((judged..2 * judged).contains(&all), "{all} units");
    assert!(turns > 4 * unit.len() / meter::UNITS_PER_TURN, "{turns}");
}

/// Many small elements that each need their own parser take several turns.
#[test]
fn how_many_parsers_a_turn_makes_is_bounded() {
    const EACH: usize = 1500;
    let mut random = Random::new(0);
    let mut frames = Vec::new();
    for _ in 0..EACH {
        frame(&mut frames, 0x81, b"<?xml version='1.0'?><a/>", &mut random);
    }
    for from_server in [0, EACH] {
        let (_poll, mut shared) = shared();
        let from_client = if from_server == 0 { &frames[..] } else { &[] };
        let mut run = Run::with_frames(from_client, &mut shared);
        run.session.deflate = None;
        // The same features would be remembered.
        let features = |n: usize| format!("<stream:features><f{n}/></stream:features>");
        let features: String = (0..from_server).map(features).collect();
        run.server_says(features.as_bytes());
        let most = (meter::UNITS_PER_TURN / meter::PARSER) as u64 + 8;
        let first = parsers_made();
        let mut before = first;
        play_out(&mut run, |_, _| {
            let made = parsers_made() - before;
            assert!(made <= most, "{made}");
            before += made;
        });
        let all = before - first;
        assert!(all >= EACH as u64, "{all} parsers");
    }
}

/// Prints the seed if the thread panics.
struct SeedReport(u64);

impl Drop for SeedReport {
    fn drop(&mut self) {
        eprintln!("the schedule that failed: SEED={}", self.0);
    }
}
