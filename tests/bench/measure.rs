//! Measures the parts of a plan, in their order.

use std::time::Duration;

use crate::clock::now;
use crate::idle;
use crate::load::Load;
use crate::plan::{Cell, Plan};
use crate::relay::{Form, Relay};
use crate::row::{Row, row};
use crate::wire;

/// The results.
#[derive(Default)]
pub struct Results {
    pub relays: Vec<(String, String)>,
    pub rows: Vec<Row>,
}

/// Measures everything in the plan. `start` starts the relays of a form.
pub fn all(plan: &Plan, mut load: Load, start: impl Fn(Form, &Load) -> Vec<Relay>) -> Results {
    let mut results = Results::default();
    for part in plan.parts.iter().filter(|part| plan.wants_any(part)) {
        let form = part.form;
        let relays = start(form, &load);
        let names = relays.iter();
        results.relays = names
            .map(|relay| (relay.name.clone(), relay.version.clone()))
            .collect();
        // Before any other load.
        let mut last = Vec::new();
        if plan.wants(form, "memory") {
            last = idle::memory(part, &mut load, &relays);
        }
        for cell in &part.cells {
            if plan.wants(form, &cell.name()) {
                results.rows.push(cpu(plan, &mut load, &relays, cell));
            }
        }
        if part.has_latency() && plan.wants(form, "latency") {
            results.rows.extend(latency(plan, &mut load, &relays));
        }
        if part.has_latency() && plan.wants(form, "fair") {
            results.rows.push(fair(plan, &mut load, &relays));
            results.rows.push(beside_many(plan, &mut load, &relays));
        }
        for &(count, most) in &part.setups {
            if plan.wants(form, "setup") {
                let rounds = plan.rounds.div_ceil(count.div_ceil(1000));
                let row = idle::setup(rounds.max(3), &mut load, &relays, count);
                results.rows.push(Row {
                    most_ratio: Some(most),
                    ..row
                });
            }
        }
        results.rows.append(&mut last);
    }
    results
}

/// CPU time of a round trip.
fn cpu(plan: &Plan, load: &mut Load, relays: &[Relay], cell: &Cell) -> Row {
    let time = Duration::from_millis(plan.round_ms);
    let mut rounds = Vec::new();
    let Cell {
        size,
        clients,
        in_flight,
        most,
    } = *cell;
    let measure = |load: &mut Load, relay: &Relay, sessions: &_| {
        load.closed_loop(sessions, size, in_flight, time / 4);
        let before = relay.cpu_ns();
        let answers = load.closed_loop(sessions, size, in_flight, time);
        (relay.cpu_ns() - before) as f64 / 1000.0 / answers as f64
    };
    // With so many sessions, only one relay at a time has room.
    if clients * relays.len() <= 4000 {
        let sessions: Vec<_> = relays
            .iter()
            .map(|relay| load.open(relay, clients))
            .collect();
        for _ in 0..plan.rounds {
            let pairs = relays.iter().zip(&sessions);
            rounds.push(
                pairs
                    .map(|(relay, sessions)| measure(load, relay, sessions))
                    .collect(),
            );
        }
        for sessions in sessions {
            load.close_some(sessions);
        }
        load.settle_to(0);
    } else {
        for _ in 0..plan.rounds.div_ceil(3) {
            let mut round = Vec::new();
            for relay in relays {
                let sessions = load.open(relay, clients);
                round.push(measure(load, relay, &sessions));
                load.close(sessions);
            }
            rounds.push(round);
        }
    }
    let name = format!("{size} B, {clients} sessions, {in_flight} in flight");
    Row {
        most_ratio: Some(most),
        ..row(relays[0].form, &name, "us of CPU a round trip", &rounds)
    }
}

/// Latency at half of the load that all relays can handle.
fn latency(plan: &Plan, load: &mut Load, relays: &[Relay]) -> Vec<Row> {
    const SIZE: usize = 200;
    const CLIENTS: usize = 100;
    // If the machine pauses for some milliseconds, only one short round is affected.
    const SHORTER: u32 = 4;
    let time = Duration::from_millis(plan.round_ms);
    let sessions: Vec<_> = relays
        .iter()
        .map(|relay| load.open(relay, CLIENTS))
        .collect();
    let mut most = f64::MAX;
    for sessions in &sessions {
        let start = now();
        let answers = load.closed_loop(sessions, SIZE, 1, time);
        most = most.min(answers as f64 / start.elapsed().as_secs_f64());
    }
    let (mut middle, mut high) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds * SHORTER as usize {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        for sessions in &sessions {
            let sorted = load.paced(sessions, SIZE, most / 2.0, time / SHORTER);
            let quantile = |q: f64| sorted[(sorted.len() as f64 * q) as usize] as f64 / 1000.0;
            p50.push(quantile(0.5));
            p99.push(quantile(0.99));
        }
        middle.push(p50);
        high.push(p99);
    }
    for sessions in sessions {
        load.close_some(sessions);
    }
    load.settle_to(0);
    let name = |q: &str| format!("latency at {:.0} round trips/s: {q}", most / 2.0);
    let p99 = Row {
        most_ratio: Some(4.0 / 3.0),
        ..row(relays[0].form, &name("p99"), "us", &high)
    };
    vec![row(relays[0].form, &name("p50"), "us", &middle), p99]
}

/// Measures each relay in each round.
fn in_rounds(
    plan: &Plan,
    relays: &[Relay],
    mut measure: impl FnMut(&Relay) -> f64,
) -> Vec<Vec<f64>> {
    let mut round = || relays.iter().map(&mut measure).collect();
    (0..plan.rounds).map(|_| round()).collect()
}

/// How much slower others get beside a session that streams stanzas of nearly 1 MiB both
/// ways, and one that floods frames of one byte.
fn fair(plan: &Plan, load: &mut Load, relays: &[Relay]) -> Row {
    const SIZE: usize = 200;
    const CLIENTS: usize = 1000;
    const PER_SECOND: f64 = 2000.0;
    let time = Duration::from_millis(plan.round_ms);
    let rounds = in_rounds(plan, relays, |relay| {
        let clients = load.open(relay, CLIENTS);
        let p99 = |load: &mut Load| {
            let sorted = load.paced(&clients, SIZE, PER_SECOND, time);
            sorted[sorted.len() * 99 / 100] as f64
        };
        let alone = p99(load);
        for noise in [wire::large(1_000_000), wire::tiny_frames()] {
            let clients = load.open(relay, 1);
            load.make_noise(clients, noise);
        }
        let beside = p99(load);
        load.end_noise();
        load.close(clients);
        beside / alone
    });
    let name = "p99 of 1000 sessions beside a stream of 1 MB stanzas and a flood of tiny frames";
    Row {
        most: Some(2.0),
        ..row(Form::Plain, name, "times that without them", &rounds)
    }
}

/// How long others wait beside many sessions that always have stanzas in flight, and send one for
/// each answer.
fn beside_many(plan: &Plan, load: &mut Load, relays: &[Relay]) -> Row {
    const SIZE: usize = 200;
    const CLIENTS: usize = 50;
    const PER_SECOND: f64 = 500.0;
    const OTHERS: usize = 200;
    const IN_FLIGHT: usize = 60;
    let time = Duration::from_millis(plan.round_ms);
    let rounds = in_rounds(plan, relays, |relay| {
        let clients = load.open(relay, CLIENTS);
        let others = load.open(relay, OTHERS);
        load.make_steady(others, SIZE, IN_FLIGHT);
        let sorted = load.paced(&clients, SIZE, PER_SECOND, time);
        load.end_noise();
        load.close(clients);
        sorted[sorted.len() / 2] as f64 / 1000.0
    });
    let name = format!("p50 of {CLIENTS} sessions beside {OTHERS} with {IN_FLIGHT} in flight");
    Row {
        most_ratio: Some(1.0),
        ..row(Form::Plain, &name, "us", &rounds)
    }
}
