//! The results as a picture: the cost of a session as the number of sessions grows.

use super::result::Result;
use super::svg::{begin, label, line};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
/// The axes.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 560.0;
const BOTTOM: f64 = 320.0;
const TOP: f64 = 40.0;
const COLOURS: [&str; 6] = [
    "#2a78b5", "#d98324", "#4c9a4c", "#b5442a", "#7a4fa3", "#777777",
];

/// An SVG document, with a curve for each row that costs every session something.
pub fn svg(results: &[Result]) -> String {
    let mut text = begin(WIDTH, HEIGHT);
    let last = &results[results.len() - 1];
    let rows: Vec<usize> = (0..last.rows.len())
        .filter(|at| last.rows[*at].ns_per_session > 200.0)
        .filter(|at| last.rows[*at].name != "set-up")
        .collect();
    let value = |result: &Result, at: usize| result.rows[at].ns_per_session;
    let all = results
        .iter()
        .flat_map(|result| rows.iter().map(|at| value(result, *at)));
    let most = all.fold(0.0, f64::max);
    label(
        &mut text,
        10.0,
        20.0,
        "start",
        &format!("Processor time of a session by the number of sessions, 0 to {most:.0} ns"),
    );
    line(
        &mut text,
        &[(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)],
        "#777777",
    );
    let x = |at: usize| LEFT + (RIGHT - LEFT) * at as f64 / (results.len() - 1) as f64;
    for (at, result) in results.iter().enumerate() {
        label(
            &mut text,
            x(at),
            BOTTOM + 16.0,
            "middle",
            &result.sessions.to_string(),
        );
    }
    for (colour, row) in COLOURS.iter().zip(rows) {
        let y = |result: &Result| BOTTOM - value(result, row) / most * (BOTTOM - TOP);
        let points = results.iter().enumerate();
        let points: Vec<_> = points.map(|(at, result)| (x(at), y(result))).collect();
        line(&mut text, &points, colour);
        let words = format!("{}: {:.0} ns", last.rows[row].name, value(last, row));
        label(&mut text, RIGHT + 8.0, y(last) + 4.0, "start", &words);
    }
    text + "</svg>\n"
}
