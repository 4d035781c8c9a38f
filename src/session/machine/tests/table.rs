//! Prints the table of the machine, and compares it with tests/session_table.txt.
//!
//! `WRITE_TABLE=1` writes that file again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use super::{Step, events, explore};
use crate::session::machine::{Event, Machine, Phase, ServerAction};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/session_table.txt");

type Parts = [String; 6];

/// Returns what the answer to an event may depend on besides the phase: names and values.
fn parts(machine: &Machine) -> Parts {
    let text = format!("{machine:?}");
    let value = |name: &str| {
        let at = text.find(&format!("{name}: ")).expect("a part") + name.len() + 2;
        let end = text[at..].find([',', '}']).expect("an end");
        let value = text[at..at + end].trim();
        format!(
            "{name} {}",
            value.trim_start_matches("Some(").trim_end_matches(')')
        )
    };
    let pings = match machine.phase() {
        Phase::Relaying => format!("missed_pings {}", machine.missed_pings),
        _ => String::new(),
    };
    let [client, upstream, dialect, exchanged, redirects] =
        ["client", "upstream", "dialect", "exchanged", "redirects"].map(value);
    [client, upstream, dialect, exchanged, redirects, pings]
}

/// Returns the changes of the parts of the state in each step: a part that ends up the same in
/// all steps is named whatever it was before; otherwise only if it has changed.
fn changes(steps: &[&Step]) -> Vec<(Parts, Vec<String>)> {
    let parts: Vec<_> = steps
        .iter()
        .map(|step| (parts(&step.before), parts(&step.after)))
        .collect();
    let changes_alike = |at: usize| {
        let alike = parts.iter().all(|(_, after)| after[at] == parts[0].1[at]);
        let changes = parts.iter().any(|(before, after)| before[at] != after[at]);
        alike.then_some(changes)
    };
    let alike: Vec<_> = (0..parts[0].0.len()).map(changes_alike).collect();
    let changed = |step: &Step, (before, after): &(Parts, Parts)| {
        let opened = step.actions.error.is_some();
        let at = (0..alike.len()).filter(|&at| alike[at].unwrap_or(before[at] != after[at]));
        let named = at.map(|at| after[at].clone());
        // A stream error opens a stream that was not open.
        let hidden = |part: &String| part.is_empty() || (opened && part.starts_with("client "));
        named.filter(|part| !hidden(part)).collect()
    };
    let changes = steps.iter().zip(&parts);
    changes
        .map(|(step, parts)| (parts.0.clone(), changed(step, parts)))
        .collect()
}

/// Returns what a step does, with the `changes` of the state.
fn outcome(step: &Step, changes: Vec<String>) -> String {
    let actions = &step.actions;
    let mut words = changes;
    words.insert(0, format!("-> {}", step.after.phase().name()));
    let state = words.len();
    let mut say = |does: bool, word: &str| {
        if does {
            words.push(word.trim_end().to_owned());
        }
    };
    say(actions.relay, "relay");
    let refuse = actions.refuse.map(|refuse| format!("refuse {refuse:?}"));
    say(refuse.is_some(), &refuse.unwrap_or_default());
    if let Some(error) = actions.error {
        say(true, &format!("error {}", error.condition()));
    }
    say(actions.end_stream, "end stream");
    say(actions.elsewhere, "elsewhere");
    if let Some((code, reason)) = actions.close {
        say(true, &format!("close {} {reason}", code.0));
    }
    say(actions.echo_close, "echo close");
    say(actions.ping, "ping");
    let server = format!("server: {:?}", actions.server);
    say(actions.server != ServerAction::Keep, &server);
    if let Some((by, why)) = actions.cause.map(|cause| cause.words()) {
        say(true, &format!("cause {by}/{why}"));
    }
    let (state, does) = words.split_at(state);
    match does {
        [] => state.join(", "),
        _ => format!("{}: {}", state.join(", "), does.join(", ")),
    }
}

/// Returns the rows of one phase and event: the fewest conditions that determine the outcome.
fn rows(steps: &[&Step]) -> Vec<(String, String)> {
    let cases: BTreeSet<_> = steps
        .iter()
        .zip(changes(steps))
        .map(|(step, (before, changes))| (before, outcome(step, changes)))
        .collect();
    let mut choices: Vec<u32> = (0..1 << 6).collect();
    choices.sort_by_key(|choice| choice.count_ones());
    for choice in choices {
        let mut rows = BTreeMap::<String, BTreeSet<&str>>::new();
        for (parts, outcome) in &cases {
            let chosen = parts.iter().enumerate();
            let chosen = chosen.filter(|(at, _)| choice & (1 << at) != 0);
            let condition: Vec<_> = chosen.map(|(_, part)| part.as_str()).collect();
            rows.entry(condition.join(", "))
                .or_default()
                .insert(outcome);
        }
        if rows.values().all(|outcomes| outcomes.len() == 1) {
            let rows = rows.into_iter();
            return rows
                .flat_map(|(condition, outcomes)| {
                    outcomes
                        .into_iter()
                        .map(move |outcome| (condition.clone(), outcome.into()))
                })
                .collect();
        }
    }
    unreachable!("the machine is a function of its state");
}

/// Returns the name of an event without its values.
fn kind(event: Event) -> String {
    let text = format!("{event:?}");
    text.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Returns the rows of a phase. If all events of a kind have the same rows, they are merged.
fn phase_rows(steps: &[&Step]) -> Vec<(String, String, String)> {
    let mut kinds = Vec::<(String, Vec<(Event, Vec<(String, String)>)>)>::new();
    for event in events() {
        let here: Vec<_> = steps
            .iter()
            .copied()
            .filter(|step| step.event == event)
            .collect();
        let rows = (event, rows(&here));
        match kinds.iter_mut().find(|(known, _)| *known == kind(event)) {
            Some((_, variants)) => variants.push(rows),
            None => kinds.push((kind(event), vec![rows])),
        }
    }
    let mut all = Vec::new();
    for (kind, variants) in kinds {
        let alike = variants.iter().all(|(_, rows)| *rows == variants[0].1);
        for (event, rows) in variants {
            let name = if alike {
                kind.clone()
            } else {
                format!("{event:?}")
            };
            all.extend(
                rows.into_iter()
                    .map(|(if_, then)| (name.clone(), if_, then)),
            );
            if alike {
                break;
            }
        }
    }
    all
}

fn table() -> String {
    let (_, mut steps) = explore();
    let mut known = HashSet::new();
    steps.retain(|step| known.insert((step.before, format!("{:?}", step.event))));
    let mut text = "\
What a session does, by phase and event; printed by src/session/machine/tests/table.rs from the
machine itself (WRITE_TABLE=1 writes it anew). Each row: the event, in brackets on what else
the answer depends, the next phase with what else changes in the state, the actions. An event
that is missing in a phase changes nothing there. An error goes behind an <open/> or stream
header of our own if the client had none.\n"
        .to_owned();
    for index in 0..Phase::COUNT {
        let here: Vec<_> = steps
            .iter()
            .filter(|step| step.before.phase() as usize == index)
            .collect();
        let name = here[0].before.phase().name();
        write!(text, "\n{name}\n").unwrap();
        for (event, condition, outcome) in phase_rows(&here) {
            if outcome == format!("-> {name}") {
                continue;
            }
            let condition = match condition.is_empty() {
                true => String::new(),
                false => format!("[{condition}] "),
            };
            writeln!(text, "  {event:<26} {condition}{outcome}").unwrap();
        }
    }
    text
}

#[test]
fn the_table_in_tests_is_what_the_machine_does() {
    let now = table();
    if std::env::var_os("WRITE_TABLE").is_some() {
        std::fs::write(TABLE, &now).expect("the table is written");
    }
    let written = std::fs::read_to_string(TABLE).unwrap_or_default();
    let mut lines = written.lines().zip(now.lines());
    if let Some((old, new)) = lines.find(|(old, new)| old != new) {
        panic!("tests/session_table.txt says\n{old}\ninstead of\n{new}\n(WRITE_TABLE=1 writes it)");
    }
    assert_eq!(
        written.len(),
        now.len(),
        "WRITE_TABLE=1 writes the table again"
    );
}
