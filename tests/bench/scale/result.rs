//! The results, and the tables of them.

use std::fmt::Write;

/// The goal: no turn of the loop is longer.
pub const MOST_MS: f64 = 10.0;

/// What some number of sessions cost.
pub struct Result {
    pub sessions: usize,
    /// Resident memory of a session.
    pub bytes: f64,
    pub rows: Vec<Row>,
}

/// What was done with the sessions, and its cost.
pub struct Row {
    pub name: String,
    pub ns_per_session: f64,
    pub total_ms: f64,
    pub longest_ms: f64,
    pub turns: f64,
}

impl Result {
    /// Reads what the simulation writes: `scale NAME: NUMBER...` in each line.
    pub fn parse(sessions: usize, text: &str) -> Option<Result> {
        let (mut bytes, mut rows) = (None, Vec::new());
        // The name of the test may precede the first.
        let lines = text.lines().filter_map(|line| line.split_once("scale "));
        for (name, values) in lines.filter_map(|(_, line)| line.split_once(": ")) {
            let values: Vec<f64> = values.split(' ').flat_map(str::parse).collect();
            match values[..] {
                [value] => bytes = Some(value),
                [total, longest, turns, of] => rows.push(Row {
                    name: name.to_owned(),
                    ns_per_session: total / of,
                    total_ms: total / 1e6,
                    longest_ms: longest / 1e6,
                    turns,
                }),
                _ => return None,
            }
        }
        let bytes = bytes.filter(|_| !rows.is_empty())?;
        Some(Result {
            sessions,
            bytes,
            rows,
        })
    }

    pub fn longest_ms(&self) -> f64 {
        self.rows
            .iter()
            .map(|row| row.longest_ms)
            .fold(0.0, f64::max)
    }
}

/// Tables for man/guide/capacity.md.
pub fn markdown(results: &[Result]) -> String {
    let mut text = String::new();
    table(&mut text, results, "ns a session", |row| row.ns_per_session);
    let bytes = results.iter().map(|result| number(result.bytes));
    let _ = writeln!(
        text,
        "| memory, bytes a session | {} |\n",
        join(bytes.collect())
    );
    table(&mut text, results, "longest turn, ms", |row| row.longest_ms);
    text.push('\n');
    table(&mut text, results, "total, ms (turns)", |row| row.total_ms);
    text
}

fn table(text: &mut String, results: &[Result], unit: &str, value: impl Fn(&Row) -> f64) {
    let heads = results.iter().map(|result| result.sessions.to_string());
    let _ = writeln!(text, "| {unit} | {} |", join(heads.collect()));
    let _ = writeln!(text, "|{}", "---|".repeat(results.len() + 1));
    for (at, row) in results[0].rows.iter().enumerate() {
        let values = results.iter().map(|result| {
            let value = number(value(&result.rows[at]));
            match unit.ends_with("(turns)") {
                true => format!("{value} ({})", result.rows[at].turns),
                false => value,
            }
        });
        let _ = writeln!(text, "| {} | {} |", row.name, join(values.collect()));
    }
}

fn join(cells: Vec<String>) -> String {
    cells.join(" | ")
}

fn number(value: f64) -> String {
    match value {
        0.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.0}"),
    }
}
