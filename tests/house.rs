//! Rules for the source and its documents: which room may use which, where `unsafe` is
//! allowed, how long files and functions may be, no circles of imports, and documents that
//! name only what exists.

#[path = "house/circles.rs"]
mod circles;
#[allow(dead_code)]
mod common {
    pub mod documents;
}
#[path = "house/documents.rs"]
mod documents;
#[path = "house/functions.rs"]
mod functions;
#[path = "house/standards.rs"]
mod standards;

use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms that it may use. A room may always use itself.
const MAY_USE: [(&str, &[&str]); 21] = [
    ("main", &["check", "cli", "start", "trial"]),
    (
        "start",
        &[
            "config", "daemon", "expat", "log", "master", "net", "reactor", "upgrade",
        ],
    ),
    (
        "trial",
        &[
            "check", "config", "json", "log", "net", "proto", "reactor", "session",
        ],
    ),
    (
        "master",
        &[
            "config",
            "daemon",
            "log",
            "metrics",
            "net",
            "reactor",
            "shared_memory",
            "upgrade",
        ],
    ),
    ("check", &["config", "daemon", "net"]),
    ("daemon", &["log", "net"]),
    ("cli", &[]),
    ("config", &["log"]),
    ("log", &["shared_memory"]),
    (
        "reactor",
        &[
            "config",
            "log",
            "meter",
            "metrics",
            "net",
            "session",
            "shared_memory",
            "status",
            "upgrade",
        ],
    ),
    ("upgrade", &["daemon", "log", "net"]),
    (
        "session",
        &[
            "config", "log", "metrics", "net", "proto", "expat", "buf", "meter",
        ],
    ),
    (
        "status",
        &["buf", "json", "log", "metrics", "net", "proto", "session"],
    ),
    ("metrics", &["config", "proto", "shared_memory"]),
    ("net", &["config", "log", "buf", "meter"]),
    ("proto", &["expat", "buf", "meter"]),
    ("expat", &["meter"]),
    ("buf", &[]),
    ("json", &[]),
    ("meter", &[]),
    ("shared_memory", &[]),
];

/// Rooms that may contain `unsafe`.
const UNSAFE: [&str; 1] = ["expat"];

/// Other files with `unsafe`: calls that OpenSSL's binding leaves out or marks so, changes
/// that a daemon makes to its own process, returning its free memory, and memory that
/// processes share.
const UNSAFE_FILES: [&str; 5] = [
    "net/tls_raw.rs",
    "reactor/trim.rs",
    "daemon/environment.rs",
    "src/daemon/mod.rs",
    "src/shared_memory/mod.rs",
];

const MAX_LINES: usize = 500;

struct Source {
    path: PathBuf,
    /// The file or directory directly under src/.
    room: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut places = vec![root.clone()];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("under src");
                let first = inside.iter().next().expect("a name");
                let room = Path::new(first).with_extension("");
                sources.push(Source {
                    room: room.to_string_lossy().into_owned(),
                    text: fs::read_to_string(&path).expect("UTF-8"),
                    path,
                });
            }
        }
    }
    assert!(sources.len() > 20, "too few files found");
    sources
}

/// The lines of code, without comments.
fn code(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    let lines = source.text.lines().enumerate();
    lines.filter_map(|(at, line)| {
        let code = line.split("//").next().unwrap_or_default();
        (!code.trim().is_empty()).then_some((at + 1, code))
    })
}

/// The rooms in a line of code: `crate::room`, `jabsocket::room`, and those of
/// `use crate::{room, room::...}`.
fn named(line: &str) -> Vec<&str> {
    let mut rooms = Vec::new();
    for root in ["crate::", "jabsocket::"] {
        for path in line.split(root).skip(1) {
            match path.strip_prefix('{') {
                Some(list) => rooms.extend(list.split(',').map(|item| first_word(item.trim()))),
                None => rooms.push(first_word(path)),
            }
        }
    }
    rooms
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn rooms_use_only_what_they_may() {
    let names: Vec<&str> = MAY_USE.iter().map(|(room, _)| *room).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for source in sources().iter().filter(|source| source.room != "lib") {
        let Some((room, known)) = MAY_USE.iter().find(|(room, _)| *room == source.room) else {
            panic!(
                "{}: a room that this test does not know",
                source.path.display()
            );
        };
        for (line, text) in code(source) {
            for name in named(text).into_iter().filter(|name| names.contains(name)) {
                seen += 1;
                if name != *room && !known.contains(&name) {
                    wrong.push(format!(
                        "{}:{line}: {room} names {name}",
                        source.path.display()
                    ));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} names found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn names_are_found_in_every_form() {
    assert_eq!(named("use crate::proto::ws::{self, frame};"), ["proto"]);
    assert_eq!(named("use crate::{buf::Buf, net};"), ["buf", "net"]);
    assert_eq!(
        named("let a: crate::log::Log = jabsocket::config::load();"),
        ["log", "config"]
    );
    assert!(named("use super::crates;").is_empty());
}

#[test]
fn unsafe_is_only_where_it_may_be_and_is_explained() {
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (at, text) in code(&source) {
            let is_unsafe = |word: &str| word == "unsafe";
            let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
            if !words.any(is_unsafe) {
                continue;
            }
            let place = format!("{}:{at}", source.path.display());
            let allowed = UNSAFE.contains(&source.room.as_str())
                || UNSAFE_FILES.iter().any(|file| source.path.ends_with(file));
            assert!(allowed, "{place}: unsafe");
            if text.contains("unsafe {") && !text.contains("unsafe extern") {
                let before = lines[at.saturating_sub(7)..at].iter();
                let explained = before.rev().any(|line| line.contains("// SAFETY:"));
                assert!(explained, "{place}: unsafe without SAFETY");
            }
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    for source in sources() {
        let lines = source.text.lines().count();
        let path = source.path.display();
        assert!(lines <= MAX_LINES, "{path}: {lines} lines");
        assert!(source.text.starts_with("//!"), "{path}: no head");
    }
}
