//! The set-up of sessions, and the memory of idle ones.

use std::thread::sleep;
use std::time::Duration;

use crate::load::Load;
use crate::plan::Part;
use crate::relay::Relay;
use crate::row::{Row, row};

/// Sessions that exist before the others, so that all shared memory is allocated.
const WARM: usize = 50;

/// CPU time from the accept of a client to its first answer.
pub fn setup(rounds: usize, load: &mut Load, relays: &[Relay], count: usize) -> Row {
    let mut all = Vec::new();
    for _ in 0..rounds {
        let mut round = Vec::new();
        for relay in relays {
            let before = relay.cpu_ns();
            let sessions = load.open(relay, count);
            round.push((relay.cpu_ns() - before) as f64 / 1000.0 / count as f64);
            load.close(sessions);
        }
        all.push(round);
    }
    let name = format!("set-up of a session, {count} sessions");
    row(relays[0].form, &name, "us of CPU", &all)
}

/// Resident memory of idle sessions, and what is left of it after their end.
pub fn memory(part: &Part, load: &mut Load, relays: &[Relay]) -> Vec<Row> {
    let count = part.idle_sessions;
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for relay in relays {
        let warm = load.open(relay, WARM);
        load.once_each(&warm, 200);
        load.once_each(&warm, 65_000);
        load.close(warm);
        let warm = load.open(relay, WARM);
        let before = settled(relay);
        let each = |relay: &Relay| (settled(relay) as f64 - before as f64) / count as f64;
        let sessions = load.open(relay, count);
        load.once_each(&sessions, 200);
        rounds[0].push(each(relay));
        load.once_each(&sessions, 65_000);
        rounds[1].push(each(relay));
        load.close_some(sessions);
        load.settle_to(2 * WARM);
        let gone = 10_000usize.saturating_sub(count).div_ceil(count);
        for _ in 0..gone {
            let sessions = load.open(relay, count);
            load.once_each(&sessions, 4096);
            load.close_some(sessions);
            load.settle_to(2 * WARM);
        }
        let sessions = load.open(relay, count);
        load.once_each(&sessions, 200);
        rounds[2].push(each(relay));
        load.close_some(sessions);
        load.settle_to(2 * WARM);
        // Relays may wait a little before they return memory.
        sleep(Duration::from_secs(3));
        rounds[3].push(settled(relay) as f64 / before as f64);
        load.close(warm);
    }
    let idle = "bytes resident";
    let names = [
        ("idle session, fresh", idle, part.most_idle_bytes),
        (
            "idle session that has relayed 64 KiB messages",
            idle,
            part.most_idle_bytes,
        ),
        (
            "idle session after 10,000 others came and went",
            idle,
            part.most_idle_bytes,
        ),
        (
            "memory after all have gone",
            "times that before they came",
            2.0,
        ),
    ];
    let rows = rounds.into_iter().zip(names);
    rows.map(|(round, (name, unit, most))| Row {
        most: Some(most),
        ..row(part.form, name, unit, &[round])
    })
    .collect()
}

/// Resident memory once the relay has nothing left to do.
fn settled(relay: &Relay) -> usize {
    sleep(Duration::from_millis(100));
    relay.resident()
}
