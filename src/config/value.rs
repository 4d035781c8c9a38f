//! The values of keys: numbers, times, words, lists, files.
//!
//! Owns the conversion from text to values, and the choice of the entries of a mapping that
//! apply. After a refused value nothing of the configuration is used, so a reader may return
//! any value in its place. Knows no keys.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Report, did_you_mean};
use super::yaml::{Entry, Node, Value};

/// The largest number that a key accepts.
pub(super) const MAX: u64 = usize::MAX as u64 >> 1;

/// The longest time that a key accepts: one day.
const MAX_SECONDS: f64 = 86_400.0;

pub(super) const YES_NO: &[(&str, bool)] = &[
    ("true", true),
    ("yes", true),
    ("on", true),
    ("false", false),
    ("no", false),
    ("off", false),
];

/// A key with its value.
pub(super) struct Setting<'a> {
    /// The key in the form for messages: `domains.server` is `server` in an entry of
    /// `domains`.
    pub key: String,
    pub node: &'a Node,
    pub report: &'a mut Report,
}

impl<'a> Setting<'a> {
    /// Refuses the value of a node, which the message shows.
    pub fn refuse(&mut self, node: &Node, allowed: &str) {
        if let Some(found) = node.value.shown() {
            self.report
                .not_allowed(node.place, &self.key, &found, allowed);
        }
    }

    /// Refuses the whole value, which is described as `found`.
    pub fn not_allowed(&mut self, found: &str, allowed: &str) {
        self.report
            .not_allowed(self.node.place, &self.key, found, allowed);
    }

    /// Reads the text of a node with `read`, which returns `None` to refuse it.
    pub fn read<T>(
        &mut self,
        node: &'a Node,
        allowed: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        let value = match &node.value {
            Value::Text(text) => read(text),
            _ => None,
        };
        if value.is_none() {
            self.refuse(node, allowed);
        }
        value
    }

    /// Reads a value that is not a list.
    pub fn one<T>(&mut self, allowed: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        self.read(self.node, allowed, read)
    }

    /// The values of a list. A single value counts as a list of one.
    pub fn nodes(&self) -> &'a [Node] {
        match &self.node.value {
            Value::List(nodes) => nodes,
            _ => std::slice::from_ref(self.node),
        }
    }

    /// Reads all values of a list, and leaves out those that `read` refuses.
    pub fn list<T>(&mut self, allowed: &str, read: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let nodes = self.nodes().iter();
        nodes
            .filter_map(|node| self.read(node, allowed, &read))
            .collect()
    }

    /// Reads text without white space or control characters. Empty text is refused.
    pub fn word(&mut self, allowed: &str) -> Option<String> {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        self.one(allowed, |text| {
            (!text.is_empty() && !text.contains(bad)).then(|| text.to_owned())
        })
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> T {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let allowed = format!("one of {}", words.join(", "));
        let find = |text: &str| choices.iter().find(|(word, _)| *word == text);
        self.one(&allowed, find).unwrap_or(&choices[0]).1
    }

    /// Reads a whole number within a range. `what` and `why` go into the message.
    pub fn whole(&mut self, what: &str, range: &RangeInclusive<u64>, why: &str) -> u64 {
        let allowed = match (*range.start(), *range.end()) {
            (0, MAX) => format!("a whole number{what}{why}"),
            (least, MAX) => format!("a whole number{what}, at least {least}{why}"),
            (least, most) => format!("a whole number{what} from {least} to {most}{why}"),
        };
        let read = |text: &str| whole(text).filter(|number| range.contains(number));
        self.one(&allowed, read).unwrap_or_default()
    }

    /// Reads a whole number, or 0 for no limit.
    pub fn limit(&mut self, what: &str) -> Option<u64> {
        let number = self.whole(what, &(0..=MAX), ", or 0 for no limit");
        Some(number).filter(|number| *number > 0)
    }

    pub fn time(&mut self) -> Duration {
        let allowed = "a number of seconds above 0 and up to 86400, such as 30 or 0.5";
        let read = |text: &str| seconds(text).filter(|time| !time.is_zero());
        self.one(allowed, read).unwrap_or_default()
    }

    pub fn time_or_never(&mut self) -> Option<Duration> {
        let allowed = "a number of seconds up to 86400, such as 30 or 0.5, or 0 for never";
        let read = |text: &str| {
            let time = seconds(text)?;
            // A time that is only rounded to 0 does not mean never.
            let never = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
            (never || !time.is_zero()).then_some((!never).then_some(time))
        };
        self.one(allowed, read).flatten()
    }

    pub fn path(&mut self, example: &str) -> Option<PathBuf> {
        self.one(&path_allowed(example), from_root)
    }

    pub fn paths(&mut self, example: &str) -> Vec<PathBuf> {
        self.list(&path_allowed(example), from_root)
    }
}

fn path_allowed(example: &str) -> String {
    format!("the path of a file, from the root, such as {example}")
}

fn from_root(text: &str) -> Option<PathBuf> {
    text.starts_with('/').then(|| text.into())
}

/// Reads digits only: no sign, no space, no underscore, no other base.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Checks a DNS name. A name that ends in a number is refused, because it is probably a
/// mistyped address.
pub(super) fn host_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels_good = name.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    let last = name.rsplit('.').next()?;
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    (labels_good && !numeric && name.len() <= 253).then(|| name.to_ascii_lowercase())
}

/// Reads seconds as digits with at most one point, up to one day.
fn seconds(text: &str) -> Option<Duration> {
    let plain = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    let seconds: f64 = text.parse().ok().filter(|_| text.bytes().all(plain))?;
    (seconds <= MAX_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

/// Calls `read` with each entry of a mapping that applies, and with its key.
pub(super) fn read_entries(
    entries: &[Entry],
    prefix: &str,
    known: &[&str],
    report: &mut Report,
    mut read: impl FnMut(&str, &mut Setting<'_>),
) {
    for entry in applicable(entries, prefix, known, report) {
        let key = format!("{prefix}{}", entry.key);
        let node = &entry.node;
        read(&entry.key, &mut Setting { key, node, report });
    }
}

/// Returns the entries of a mapping that apply: the last one of each known key, in the
/// order of the file. Reports keys that appear twice. That is a warning, but an error if
/// the two are in different files, or if the last one has no value. `prefix` goes before
/// keys in messages.
pub(super) fn applicable<'a>(
    entries: &'a [Entry],
    prefix: &str,
    known: &[&str],
    report: &mut Report,
) -> Vec<&'a Entry> {
    let mut last: HashMap<&str, &Entry> = HashMap::new();
    for entry in entries {
        let (key, place) = (&entry.key, entry.node.place);
        if !known.contains(&key.as_str()) {
            let meant = did_you_mean(key, known);
            // An inner key may have asked for more security.
            match prefix.is_empty() {
                true => report.warn(
                    entry.place,
                    format!("key '{key}' is not known and has no effect{meant}"),
                ),
                false => {
                    let allowed = known.join(", ");
                    report.error(
                        entry.place,
                        format!("key '{prefix}{key}' is not known; allowed: {allowed}{meant}"),
                    );
                }
            }
        }
        let Some(before) = last.insert(key, entry) else {
            continue;
        };
        let key = format!("{prefix}{key}");
        let earlier = report.earlier(before.place, entry.place);
        let is_null = |entry: &Entry| matches!(entry.node.value, Value::Null);
        if is_null(entry) && !is_null(before) {
            let found = format!("no value, after the value on {earlier},");
            report.not_allowed(entry.place, &key, &found, "one of the two");
        } else if before.place.file != place.file {
            let found = format!("a second value, after the value on {earlier},");
            report.not_allowed(entry.place, &key, &found, "one of the two");
        } else {
            let text = format!("key '{key}' is already set on {earlier}; this value replaces it");
            report.warn(entry.place, text);
        }
    }
    let applies = |entry: &&Entry| {
        known.contains(&entry.key.as_str()) && std::ptr::eq(last[entry.key.as_str()], *entry)
    };
    entries.iter().filter(applies).collect()
}
