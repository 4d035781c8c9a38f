//! What is measured, and in what order.

use std::thread::sleep;
use std::time::Duration;

use crate::clock::now;
use crate::load::Load;
use crate::relay::Relay;

/// One kind of traffic.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Bytes of a stanza.
    pub size: usize,
    pub clients: usize,
    /// Stanzas on the way in each session.
    pub in_flight: usize,
    /// The goal: how many times HAProxy's cost.
    pub most: Option<f64>,
}

impl Cell {
    fn name(&self) -> String {
        format!("{}x{}x{}", self.size, self.clients, self.in_flight)
    }
}

/// Everything to measure.
pub struct Plan {
    pub cells: Vec<Cell>,
    pub rounds: usize,
    pub round_ms: u64,
    pub idle_sessions: usize,
    pub only: Option<String>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

/// A row with one number per relay.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    /// For each relay, the median over all rounds of the ratio to the first relay.
    pub ratios: Vec<f64>,
    /// The goal for the ratio, or for the value.
    pub most_ratio: Option<f64>,
    pub most: Option<f64>,
}

/// The results.
pub struct Results {
    pub relays: Vec<(String, String)>,
    pub rows: Vec<Row>,
}

/// Measures everything in the plan.
pub fn all(plan: &Plan, mut load: Load, relays: &[Relay]) -> Results {
    let mut rows = Vec::new();
    // Before any other load.
    if plan.wants("memory") || plan.wants("setup") {
        rows.extend(memory(plan, &mut load, relays));
    }
    let mut relaying = Vec::new();
    for cell in plan.cells.iter().filter(|cell| plan.wants(&cell.name())) {
        relaying.push(cpu(plan, &mut load, relays, cell));
    }
    if plan.wants("latency") {
        relaying.extend(latency(plan, &mut load, relays));
    }
    relaying.extend(rows);
    Results {
        relays: relays
            .iter()
            .map(|relay| (relay.name.clone(), relay.version.clone()))
            .collect(),
        rows: relaying,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Rows of rounds: values by round and relay.
fn row(name: String, unit: &'static str, rounds: &[Vec<f64>]) -> Row {
    let relays = 0..rounds[0].len();
    let over = |f: &dyn Fn(&Vec<f64>) -> f64| median(rounds.iter().map(f).collect());
    Row {
        name,
        unit,
        values: relays.clone().map(|at| over(&|round| round[at])).collect(),
        ratios: relays
            .map(|at| over(&|round| round[at] / round[0]))
            .collect(),
        most_ratio: None,
        most: None,
    }
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
        most_ratio: most,
        ..row(name, "us of CPU a round trip", &rounds)
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
        ..row(name("p99"), "us", &high)
    };
    vec![row(name("p50"), "us", &middle), p99]
}

/// Resident memory of idle sessions, and the CPU time of setting them up.
fn memory(plan: &Plan, load: &mut Load, relays: &[Relay]) -> Vec<Row> {
    let count = plan.idle_sessions;
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for relay in relays {
        // All shared allocations have been made before.
        let warm = load.open(relay, 50);
        load.once_each(&warm, 200);
        load.once_each(&warm, 65_000);
        load.close(warm);
        let warm = load.open(relay, 50);
        let before = relay.resident();
        let each = |relay: &Relay| (relay.resident() as f64 - before as f64) / count as f64;
        let cpu = relay.cpu_ns();
        let sessions = load.open(relay, count);
        rounds[0].push((relay.cpu_ns() - cpu) as f64 / 1000.0 / count as f64);
        load.once_each(&sessions, 200);
        sleep(Duration::from_millis(100));
        rounds[1].push(each(relay));
        load.once_each(&sessions, 65_000);
        sleep(Duration::from_millis(100));
        rounds[2].push(each(relay));
        load.close_some(sessions);
        load.settle_to(2 * 50);
        let gone = 10_000usize.saturating_sub(count).div_ceil(count);
        for _ in 0..gone {
            let sessions = load.open(relay, count);
            load.once_each(&sessions, 4096);
            load.close_some(sessions);
            load.settle_to(2 * 50);
        }
        let sessions = load.open(relay, count);
        load.once_each(&sessions, 200);
        sleep(Duration::from_millis(100));
        rounds[3].push(each(relay));
        load.close_some(sessions);
        load.close(warm);
    }
    let goals = [80.0, 512.0, 512.0, 512.0];
    let names = [
        ("set-up of a session", "us of CPU"),
        ("idle session, fresh", "bytes resident"),
        (
            "idle session that has relayed 64 KiB messages",
            "bytes resident",
        ),
        (
            "idle session after 10,000 others came and went",
            "bytes resident",
        ),
    ];
    let mut rows = Vec::new();
    for ((round, (name, unit)), most) in rounds.into_iter().zip(names).zip(goals) {
        rows.push(Row {
            most: Some(most),
            ..row(name.to_owned(), unit, &[round])
        });
    }
    rows
}
