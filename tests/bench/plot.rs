//! The results as a picture: the ratios of all rows, and the cost of a round trip as the
//! number of sessions grows.

use std::fmt::Write;

use crate::measure::Results;
use crate::row::Row;
use crate::svg::{begin, label, line};

const WIDTH: f64 = 900.0;
/// Where the bars begin.
const LEFT: f64 = 430.0;
/// The width of a ratio of 1.
const ONE: f64 = 200.0;
/// Longer bars are cut off.
const MOST: f64 = 2.2;
const BAR: f64 = 14.0;
const GAP: f64 = 6.0;
const CURVES: f64 = 220.0;
const COLOURS: [&str; 4] = ["#777777", "#2a78b5", "#d98324", "#4c9a4c"];

/// An SVG document.
pub fn svg(results: &Results) -> String {
    let names: Vec<&str> = results.relays.iter().map(|(name, _)| &name[..]).collect();
    let rows: Vec<&Row> = results.rows.iter().filter(|row| is_ratio(row)).collect();
    let group = (names.len() - 1) as f64 * BAR + GAP;
    let bars = 60.0 + rows.len() as f64 * group;
    let height = bars + CURVES + 60.0;
    let mut text = begin(WIDTH, height);
    label(
        &mut text,
        10.0,
        20.0,
        "start",
        "Times HAProxy, less is better; | is the goal",
    );
    for (at, name) in names.iter().enumerate() {
        let x = LEFT + 120.0 * at as f64;
        let colour = COLOURS[at % COLOURS.len()];
        let _ = writeln!(
            text,
            "<rect x='{x}' y='10' width='10' height='10' fill='{colour}'/>"
        );
        label(&mut text, x + 14.0, 20.0, "start", name);
    }
    for (at, row) in rows.iter().enumerate() {
        row_of_bars(&mut text, 50.0 + at as f64 * group, row);
    }
    let (x, end) = (LEFT + ONE, bars - GAP);
    line(&mut text, &[(x, 44.0), (x, end)], COLOURS[0]);
    curves(&mut text, bars + 30.0, results);
    text + "</svg>\n"
}

/// Whether the ratio to the first relay says something.
fn is_ratio(row: &Row) -> bool {
    row.ratios.iter().all(|ratio| ratio.is_finite()) && !row.unit.starts_with("times")
}

fn row_of_bars(text: &mut String, top: f64, row: &Row) {
    let relays = row.ratios.len() - 1;
    let middle = top + relays as f64 * BAR / 2.0 + 4.0;
    label(text, LEFT - 8.0, middle, "end", &row.name);
    let absolute = row.most.map(|most| most / row.values[0]);
    let goal = row.most_ratio.or(absolute).filter(|goal| *goal <= MOST);
    for (at, ratio) in row.ratios.iter().enumerate().skip(1) {
        let y = top + (at - 1) as f64 * BAR;
        let (width, colour) = (ratio.min(MOST) * ONE, COLOURS[at % COLOURS.len()]);
        let _ = writeln!(
            text,
            "<rect x='{LEFT}' y='{y}' width='{width:.1}' height='{}' fill='{colour}'/>",
            BAR - 2.0
        );
        // Right of all lines.
        let x = LEFT + width.max(ONE).max(goal.unwrap_or(1.0) * ONE) + 5.0;
        label(text, x, y + 10.0, "start", &format!("{ratio:.2}"));
    }
    if let Some(goal) = goal {
        let x = LEFT + goal * ONE;
        let end = top + relays as f64 * BAR;
        line(text, &[(x, top - 2.0), (x, end)], "#000000");
    }
}

/// The cost of a round trip by the number of sessions, for rows that differ in nothing else.
fn curves(text: &mut String, top: f64, results: &Results) {
    let (bottom, right) = (top + CURVES - 40.0, WIDTH - 60.0);
    let points: Vec<(f64, &Row)> = results
        .rows
        .iter()
        .filter_map(|row| Some((sessions(&row.name)?, row)))
        .collect();
    let costs = points
        .iter()
        .flat_map(|(_, row)| row.values.iter().copied());
    let most = costs.fold(0.0, f64::max);
    if points.len() < 2 {
        return;
    }
    let title = format!("CPU of a round trip (200 B) by the number of sessions, 0 to {most:.0} us");
    label(text, 10.0, top, "start", &title);
    line(
        text,
        &[(60.0, top + 10.0), (60.0, bottom), (right, bottom)],
        COLOURS[0],
    );
    let place = |sessions: f64| 60.0 + (sessions.log10() - 2.0) / 2.0 * (right - 60.0);
    for (sessions, _) in &points {
        label(
            text,
            place(*sessions),
            bottom + 16.0,
            "middle",
            &sessions.to_string(),
        );
    }
    for relay in 0..results.relays.len() {
        let height = |row: &Row| bottom - row.values[relay] / most * (bottom - top - 20.0);
        let curve: Vec<_> = points
            .iter()
            .map(|(n, row)| (place(*n), height(row)))
            .collect();
        line(text, &curve, COLOURS[relay % COLOURS.len()]);
    }
}

/// The number of sessions in the name of a plain row with one stanza of 200 bytes in flight.
fn sessions(name: &str) -> Option<f64> {
    let rest = name.strip_prefix("200 B, ")?;
    rest.strip_suffix(" sessions, 1 in flight")?.parse().ok()
}
