//! The sample and the manual list all keys of the program, with the same defaults and units.
//! Wherever the keys that need a restart are listed, these are the same.

use std::collections::BTreeSet;
use std::path::Path;

use jabsocket::config::{self, Config, KEYS, Key};

/// Another name for max_total_memory, documented with it.
const OLD_NAME: &str = "max_total_queue_size";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(path).unwrap()
}

fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| key.name != OLD_NAME)
}

/// A manual page without its macros, one paragraph of text for each entry of a list.
fn manual(name: &str) -> String {
    let mut text = String::new();
    for line in file(name).lines() {
        if line.starts_with(".TP") || line.starts_with(".SH") {
            text.push('\n');
            continue;
        }
        let line = match line.strip_prefix('.') {
            Some(line) => line.split_once(' ').map_or("", |(_, text)| text),
            None => line,
        };
        text.push_str(line);
        text.push(' ');
    }
    let text = text.replace("\\-", "-").replace("\\~", "").replace('"', "");
    let text = text
        .replace(" ,", ",")
        .replace(" .", ".")
        .replace(" ;", ";");
    text.split('\n')
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The text of a key, with the paragraphs of its values. A key of an entry in a list may have
/// the same name: their texts follow one another.
fn entry_of_manual(manual: &str, key: &str) -> String {
    let is_entry = |line: &&str| {
        let word = line.split_once(": ").map_or("", |(word, _)| word);
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let start = format!("{key}: ");
    let mut entry = String::new();
    let mut lines = manual.lines().peekable();
    while let Some(first) = lines.find(|line| line.starts_with(&start)) {
        entry.push_str(first);
        while let Some(line) = lines.next_if(|line| !is_entry(line)) {
            entry.push(' ');
            entry.push_str(line);
        }
        entry.push(' ');
    }
    entry
}

/// The sample's paragraph about a key, without comment marks, and the keys in it.
fn paragraph_of_sample(sample: &str, key: &str) -> Option<(String, Vec<String>)> {
    let bare = |line: &str| line.strip_prefix('#').unwrap_or(line).to_owned();
    for paragraph in sample.split("\n\n") {
        let lines: Vec<String> = paragraph.lines().map(bare).collect();
        let key_of = |line: &String| {
            let (key, _) = line.split_once(':')?;
            KEYS.iter().find(|known| known.name == key)?;
            Some(key.to_owned())
        };
        let mut keys: Vec<String> = lines.iter().filter_map(key_of).collect();
        keys.dedup();
        if keys.iter().any(|known| known == key) {
            let words = lines.iter().filter(|line| line.starts_with(' '));
            let words = words.flat_map(|line| line.split_whitespace());
            return Some((words.collect::<Vec<_>>().join(" "), keys));
        }
    }
    None
}

/// The phrase after `Default:`, or each phrase after `Defaults:`, up to the next comma or
/// full stop.
fn defaults(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("Default") else {
        return Vec::new();
    };
    let phrase = |text: &str| {
        let end = [", ", ". ", "; ", ": ", " ("]
            .iter()
            .filter_map(|end| text.find(end))
            .min();
        let text = &text[..end.unwrap_or(text.len())];
        text.trim_end_matches('.').to_owned()
    };
    if let Some(list) = rest.strip_prefix("s: ") {
        let end = list.find(". ").unwrap_or(list.len());
        let items = list[..end].split(", ").flat_map(|part| part.split(" and "));
        return items.map(phrase).collect();
    }
    rest.strip_prefix(": ").map(phrase).into_iter().collect()
}

#[test]
fn the_table_has_the_defaults_of_the_program() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        let loaded = config::parse("-", &format!("{}: {}", key.name, key.default));
        assert_eq!(loaded.unwrap().config, Config::default(), "{}", key.name);
    }
}

#[test]
fn the_sample_and_the_manual_have_each_key_with_the_same_default() {
    let (sample, manual) = (file("conf/jabsocket.conf"), manual("man/jabsocket.conf.5"));
    let mut wrong = Vec::new();
    for Key { name, default, .. } in keys() {
        let of_manual = defaults(&entry_of_manual(&manual, name));
        let in_sample = paragraph_of_sample(&sample, name);
        let of_sample = in_sample.map(|(text, keys)| {
            let all = defaults(&text);
            let at = keys.iter().position(|key| key == name);
            let own = at.and_then(|at| all.get(at)).or(all.first()).cloned();
            own.filter(|_| all.len() == 1 || all.len() == keys.len())
        });
        let of_sample = of_sample.flatten();
        let same = !of_manual.is_empty() && of_manual.first() == of_sample.as_ref();
        let right = default.is_empty() || of_sample.as_deref() == Some(default);
        if !same || !right {
            wrong.push(format!(
                "{name}: program {default:?}, manual {of_manual:?}, sample {of_sample:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_manual_has_the_units() {
    let manual = file("man/jabsocket.conf.5");
    for key in keys() {
        let entry = format!(".BI {}: \\~", key.name);
        let mut lines = manual.lines();
        let value = lines.find_map(|line| line.strip_prefix(&entry)).unwrap();
        let is_unit = ["bytes", "seconds"].contains(&value);
        assert_eq!(key.unit(), is_unit.then_some(value), "{}", key.name);
    }
}

/// The keys that are named between two texts.
fn named_between(text: &str, from: &str, to: &str) -> BTreeSet<&'static str> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{from}"));
    let (list, _) = rest.split_once(to).unwrap_or_else(|| panic!("{to}"));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: Vec<&str> = list.split(|c: char| !is_name(c)).collect();
    let named = keys()
        .map(|key| key.name)
        .filter(|name| words.contains(name));
    named.collect()
}

#[test]
fn everywhere_the_same_keys_need_a_restart() {
    let expected = keys()
        .filter(|key| key.differs.is_some())
        .map(|key| key.name);
    let expected: BTreeSet<_> = expected.collect();
    let conf = manual("man/jabsocket.conf.5");
    let named = named_between(&conf, "A change of", "needs a restart");
    assert_eq!(named, expected, "jabsocket.conf(5)");
    let daemon = manual("man/jabsocket.8");
    let named = named_between(&daemon, "keys that need a restart:", ".");
    assert_eq!(named, expected, "jabsocket(8)");
    let operating = file("man/guide/operating.md");
    let named = named_between(&operating, "Changes to", "need a restart");
    assert_eq!(named, expected, "man/guide/operating.md");
    let sample = file("conf/jabsocket.conf");
    let text = sample.replace('#', "");
    let mut named = named_between(&text, "so do changes to", "All other changes");
    let (_, rest) = sample.split_once("# --- The process").unwrap();
    let (section, _) = rest.split_once("# ---").unwrap();
    let has = |key: &&Key| section.contains(&format!("\n#{}:", key.name));
    named.extend(keys().filter(has).map(|key| key.name));
    assert_eq!(named, expected, "conf/jabsocket.conf");
}
