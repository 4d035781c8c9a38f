//! The numbers as a table and as JSON.

use std::fmt::Write;
use std::fs;

use crate::measure::Results;
use crate::row::Row;

/// Processor, cores and kernel of this machine.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model
        .unwrap_or_default()
        .trim_start_matches([' ', '\t', ':']);
    let cores = cpu
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// The day, as `date` has it.
fn date() -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "+%F"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn goal(row: &Row) -> String {
    match (row.most_ratio, row.most) {
        (Some(ratio), _) => format!("{ratio:.2} times"),
        (_, Some(most)) => number(most),
        _ => String::new(),
    }
}

/// A table for man/guide/capacity.md.
pub fn markdown(results: &Results) -> String {
    let mut text = format!("{}; {}.\n", date(), machine());
    for (name, version) in &results.relays {
        let _ = writeln!(text, "{name}: {version}.");
    }
    let names: Vec<_> = results.relays.iter().map(|(name, _)| &name[..]).collect();
    text += "The range after a ratio covers the middle half of the rounds.\n";
    let _ = writeln!(text, "\n| | unit | {} | ratio | goal |", names.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(names.len() + 4));
    for row in &results.rows {
        let values: Vec<_> = row.values.iter().map(|value| number(*value)).collect();
        let ratios = row.ratios.iter().zip(&row.spreads).skip(1);
        let ratios: Vec<_> = ratios
            .map(|(ratio, (low, high))| format!("{ratio:.2} ({low:.2} to {high:.2})"))
            .collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            row.name,
            row.unit,
            values.join(" | "),
            ratios.join(", "),
            goal(row)
        );
    }
    text
}

/// The numbers as JSON.
pub fn json(results: &Results) -> String {
    let quoted = |text: &str| format!("{text:?}");
    let list = |values: &[f64]| {
        let texts: Vec<_> = values.iter().map(|value| format!("{value:.3}")).collect();
        format!("[{}]", texts.join(", "))
    };
    let optional = |value: Option<f64>| value.map_or("null".to_owned(), |v| format!("{v:.3}"));
    let relays: Vec<_> = results
        .relays
        .iter()
        .map(|(name, version)| {
            format!(
                "{{\"name\": {}, \"version\": {}}}",
                quoted(name),
                quoted(version)
            )
        })
        .collect();
    let rows: Vec<_> = results
        .rows
        .iter()
        .map(|row| {
            let lower: Vec<_> = row.spreads.iter().map(|spread| spread.0).collect();
            let upper: Vec<_> = row.spreads.iter().map(|spread| spread.1).collect();
            format!(
                "    {{\"name\": {}, \"unit\": {}, \"values\": {}, \"ratios\": {}, \
                 \"lower_quartiles\": {}, \"upper_quartiles\": {}, \
                 \"most_ratio\": {}, \"most\": {}}}",
                quoted(&row.name),
                quoted(row.unit),
                list(&row.values),
                list(&row.ratios),
                list(&lower),
                list(&upper),
                optional(row.most_ratio),
                optional(row.most)
            )
        })
        .collect();
    format!(
        "{{\n  \"date\": {},\n  \"machine\": {},\n  \"relays\": [{}],\n  \"rows\": [\n{}\n  ]\n}}\n",
        quoted(&date()),
        quoted(&machine()),
        relays.join(", "),
        rows.join(",\n")
    )
}
