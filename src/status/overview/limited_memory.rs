//! The memory that `max_total_memory` limits.

use crate::metrics::{Point, Report, name};

/// The parts of `held_bytes` that `max_total_memory` limits.
const LIMITED: [&str; 4] = ["sessions", "parsers", "compression", "names"];

/// Returns the bytes that `max_total_memory` limits.
pub(super) fn held(report: &Report<'_>) -> u64 {
    let parts = LIMITED.iter();
    parts
        .map(|part| report.total(name::HELD_BYTES.with(part)))
        .sum()
}

/// Returns these bytes in the last minutes.
pub(super) fn levels(report: &Report<'_>) -> Vec<Point> {
    let mut sum = report.levels(name::HELD_BYTES.with(LIMITED[0]));
    for part in &LIMITED[1..] {
        let more = report.levels(name::HELD_BYTES.with(part));
        for ((_, sum), (_, level)) in sum.iter_mut().zip(more) {
            *sum += level;
        }
    }
    sum
}
