//! Prints the steps and the verdict: as lines for people, in colour on a terminal, or as one
//! JSON object a line.
//!
//! Servers choose parts of the texts, so all texts are escaped and cut.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use crate::log::{Escaped, start_of};

/// Maximum length of a text, in bytes.
const MAX_TEXT: usize = 1000;

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    /// It may be wrong.
    Doubtful,
    Bad,
}

/// A member of a JSON object: its name, and its value as JSON.
pub(super) type Member = (&'static str, String);

#[derive(Clone, Copy)]
pub(super) struct Report {
    pub(super) started: Instant,
    json: bool,
    in_colour: bool,
}

impl Report {
    pub(super) fn new(started: Instant, json: bool) -> Report {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Report {
            started,
            json,
            in_colour: io::stdout().is_terminal() && !is_set("NO_COLOR") && !is_dumb,
        }
    }

    /// Prints a step; `more` is for scripts.
    pub(super) fn step(self, outcome: Outcome, step: &'static str, text: &str, more: &[Member]) {
        let ms = self.started.elapsed().as_millis();
        if self.json {
            let common = [
                ("step", json(step)),
                ("ms", ms.to_string()),
                ("ok", (outcome != Outcome::Bad).to_string()),
                ("text", json(text)),
            ];
            return print(&object(&[&common, more].concat()));
        }
        let colour = match outcome {
            Outcome::Good => "32",
            Outcome::Doubtful => "33",
            Outcome::Bad => "31",
        };
        let step = self.coloured(&format!("{step:<11}"), colour);
        let text = Escaped(start_of(text, MAX_TEXT));
        print(&format!("{ms:>6} ms  {step}  {text}\n"));
    }

    pub(super) fn verdict(self, domain: &str, verdict: &Result<String, String>) {
        let (Ok(text) | Err(text)) = verdict;
        if self.json {
            let members = [
                ("step", json("verdict")),
                ("ok", verdict.is_ok().to_string()),
                ("text", json(text)),
                ("domain", json(domain)),
            ];
            return print(&object(&members));
        }
        let colour = if verdict.is_ok() { "1;32" } else { "1;31" };
        let text = Escaped(start_of(text, MAX_TEXT)).to_string();
        print(&format!("{}\n", self.coloured(&text, colour)));
    }

    fn coloured(self, text: &str, colour: &str) -> String {
        match self.in_colour {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

fn print(line: &str) {
    // If nobody reads the output, the exit status still says the result.
    let _ = io::stdout().write_all(line.as_bytes());
}

/// Lists texts for people.
pub(super) fn list(texts: &[String]) -> String {
    match texts.is_empty() {
        true => "none".to_owned(),
        false => texts.join(", "),
    }
}

fn object(members: &[Member]) -> String {
    let members = members.iter();
    let members = members.map(|(name, value)| format!("\"{name}\":{value}"));
    format!("{{{}}}\n", members.collect::<Vec<_>>().join(","))
}

pub(super) fn json(text: &str) -> String {
    crate::json::quoted(start_of(text, MAX_TEXT).chars())
}

pub(super) fn json_list(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| json(text)).collect();
    format!("[{}]", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_and_bounded() {
        let texts = ["a\"\\\x1b[2J", "\u{202e}\u{1f600}"].map(str::to_owned);
        let list = json_list(&texts);
        assert_eq!(list, r#"["a\"\\\u001b[2J","\u202e\ud83d\ude00"]"#);
        let cut = "\\u00e9".repeat(MAX_TEXT / 2);
        assert_eq!(json(&"\u{e9}".repeat(2000)), format!("\"{cut}\""));
        let members = [("a", 5.to_string()), ("b", json("c"))];
        assert_eq!(object(&members), "{\"a\":5,\"b\":\"c\"}\n");
    }
}
