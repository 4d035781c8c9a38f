//! Errors and warnings about a configuration, in words for the operator.
//!
//! Owns the format of a message: the file, the line, the key, the value found and the
//! values allowed. Knows no key and no YAML.

use std::fmt;

use crate::log::Escaped;

/// One error or warning about a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the file as the operator or `include` gave it.
    pub file: String,
    /// Counted from 1; `None` if the problem concerns the file as a whole.
    pub line: Option<usize>,
    /// The error or warning.
    pub what: What,
}

/// The kinds of errors and warnings. Only those that callers distinguish have a variant of
/// their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The file cannot be read, for this reason.
    Unreadable(String),
    /// Any other error.
    Error(String),
    /// Any other warning.
    Warning(String),
}

impl What {
    /// Whether the configuration can still be used.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::Warning(_))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: ", Escaped(&self.file))?,
            None => write!(f, "{}: ", Escaped(&self.file))?,
        }
        // The alternate form is for the log, where the level of the line shows this.
        if self.what.is_warning() && !f.alternate() {
            f.write_str("warning: ")?;
        }
        self.what.fmt(f)
    }
}

impl std::error::Error for Problem {}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
            Self::Error(text) | Self::Warning(text) => Escaped(text).fmt(f),
        }
    }
}

/// A line of one of the files. Line 0 means the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: usize,
    pub line: usize,
}

/// Collects the problems of all files.
pub(super) struct Report {
    files: Vec<String>,
    problems: Vec<(Place, What)>,
}

impl Report {
    pub fn new(files: Vec<String>) -> Report {
        let problems = Vec::new();
        Report { files, problems }
    }

    pub fn add(&mut self, place: Place, what: What) {
        self.problems.push((place, what));
    }

    pub fn error(&mut self, place: Place, text: String) {
        self.add(place, What::Error(text));
    }

    pub fn warn(&mut self, place: Place, text: String) {
        self.add(place, What::Warning(text));
    }

    /// Adds an error: `key` does not accept the value that was found.
    pub fn not_allowed(&mut self, place: Place, key: &str, found: &str, allowed: &str) {
        let text = format!("key '{key}': {found} is not allowed; allowed: {allowed}");
        self.error(place, text);
    }

    /// Describes an earlier place for a message about the place `at`.
    pub fn earlier(&self, place: Place, at: Place) -> String {
        match place.file == at.file {
            true => format!("line {}", place.line),
            false => format!("line {} of {}", place.line, self.files[place.file]),
        }
    }

    /// Returns the problems in the order of files and lines, and whether any is an error.
    pub fn finish(mut self) -> (Vec<Problem>, bool) {
        self.problems.sort_by_key(|(place, _)| *place);
        let failed = self.problems.iter().any(|(_, what)| !what.is_warning());
        let problems = self.problems.into_iter().map(|(place, what)| Problem {
            file: self.files[place.file].clone(),
            line: (place.line > 0).then_some(place.line),
            what,
        });
        (problems.collect(), failed)
    }
}

/// Returns `; did you mean 'name'?` for the known name that is closest to `name`, if they
/// differ in at most two letters.
pub(super) fn did_you_mean(name: &str, known: &[&str]) -> String {
    let name: Vec<char> = name.to_lowercase().replace('-', "_").chars().collect();
    let near = |known: &&&str| known.len().abs_diff(name.len()) <= 2;
    let measured = known.iter().filter(near).map(|k| (distance(&name, k), k));
    let meant = measured.filter(|(distance, known)| *distance <= 2 && *distance * 2 < known.len());
    match meant.min_by_key(|(distance, _)| *distance) {
        Some((_, known)) => format!("; did you mean '{known}'?"),
        None => String::new(),
    }
}

/// Number of letters to insert, remove or change to turn `a` into `b` (Levenshtein
/// distance).
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, b) in b.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, a) in a.iter().enumerate() {
            let changed = diagonal + usize::from(*a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[a.len()]
}
