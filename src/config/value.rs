//! The values of keys: words, numbers, times, files.
//!
//! Owns the reading of a single value and the report on one that is not
//! allowed. Knows no key.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Report, What, quoted};
use super::yaml::{Entry, Node, Value};

/// The longest time that a key takes: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// Returns where each key occurs last; earlier ones get a warning. A key without a
/// value after one with a value is an error.
pub(super) fn last_of_each<'a>(
    entries: &'a [Entry],
    prefix: &str,
    report: &mut Report,
) -> HashMap<&'a str, usize> {
    let mut last: HashMap<&str, usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(before) = last.insert(&entry.key, index) else {
            continue;
        };
        let key = format!("{prefix}{}", entry.key);
        let first_line = entries[before].line;
        let is_null = |entry: &Entry| matches!(entry.node.value, Value::Null);
        let what = match is_null(entry) && !is_null(&entries[before]) {
            true => What::NotAllowed {
                key,
                found: format!("no value, after the value on line {first_line},"),
                allowed: "one of the two".to_owned(),
            },
            false => What::Repeated {
                key,
                value: None,
                first_line,
            },
        };
        report.add(entry.line, what);
    }
    last
}

/// The text of a node; anything else is refused.
pub(super) fn text<'a>(
    key: &str,
    node: &'a Node,
    allowed: &str,
    report: &mut Report,
) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Refused => None,
        _ => {
            refuse(key, node, allowed, report);
            None
        }
    }
}

/// Reports that `node` is not what `key` takes.
pub(super) fn refuse(key: &str, node: &Node, allowed: &str, report: &mut Report) {
    let found = match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Text(text) => quoted(text),
        Value::List(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Refused => return,
    };
    report.add(
        node.line,
        What::NotAllowed {
            key: key.to_owned(),
            found,
            allowed: allowed.to_owned(),
        },
    );
}

/// Digits only: no sign, no space, no underscore, no other base.
pub(super) fn whole(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// Seconds as digits with at most one point, up to a day.
pub(super) fn seconds(text: &str) -> Option<Duration> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = plain.then(|| text.parse().ok()).flatten()?;
    (seconds <= MAX_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    key: &str,
    node: &Node,
    choices: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    let allowed = format!("one of {}", words.join(", "));
    let word = text(key, node, &allowed, report)?;
    let found = choices.iter().find(|(choice, _)| *choice == word);
    if found.is_none() {
        refuse(key, node, &allowed, report);
    }
    found.map(|(_, value)| *value)
}

/// The path of a file.
pub(super) fn file(key: &str, node: &Node, report: &mut Report) -> Option<PathBuf> {
    let allowed = "the path of a file, from the root, such as /etc/ssl/xmpp-ca.pem";
    let path = text(key, node, allowed, report)?;
    if !path.starts_with('/') {
        refuse(key, node, allowed, report);
        return None;
    }
    Some(path.into())
}
