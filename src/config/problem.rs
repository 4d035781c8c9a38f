//! What is wrong with a configuration file, told to the operator.
//!
//! Owns the wording: every [`Problem`] names the file, the line and the key,
//! what stands there and what may stand there. Knows no key and no YAML, and
//! never decides what is an error: that is each variant's nature.

use std::fmt;

use crate::log::Escaped;

/// One error or warning about a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The line, counted from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: What,
}

/// The kinds of errors and warnings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The file cannot be read; the system's reason.
    Unreadable(String),
    /// The file is larger than this many bytes.
    TooLarge(usize),
    /// The file is not UTF-8 text.
    NotUtf8,
    /// The file has no text, and a configuration is in force.
    Empty,
    /// A character that YAML does not allow (YAML 1.2, section 5.1).
    Character(char),
    /// The file is not YAML; the scanner's reason.
    Syntax(String),
    /// Something that YAML has and a configuration file has not.
    NotSupported {
        /// What stands there.
        found: &'static str,
        /// What to write instead.
        allowed: &'static str,
    },
    /// A value that a key does not take.
    NotAllowed {
        /// The key; `domains.server` is the key `server` of an entry of `domains`.
        key: String,
        /// What stands there: quoted text, or a word for a list or a mapping.
        found: String,
        /// What may stand there.
        allowed: String,
    },
    /// An inner mapping has a key that is not known, and leaving it out could
    /// mean less security than was asked for.
    UnknownInnerKey {
        /// The key; `domains.tls` is the key `tls` of an entry of `domains`.
        key: String,
        /// The keys that are known there.
        allowed: String,
        /// A known key that is spelt much the same.
        meant: Option<&'static str>,
    },
    /// Warning: a key that is not known and has no effect.
    UnknownKey {
        /// The key.
        key: String,
        /// A known key that is spelt much the same.
        meant: Option<&'static str>,
    },
    /// Warning: a key, or a value of a list, that stood there already.
    Repeated {
        /// The key.
        key: String,
        /// The value of the list, or `None` when it is the key that is repeated.
        value: Option<String>,
        /// The line that no longer counts.
        first_line: usize,
    },
    /// Warning: a key without a value, which has no effect.
    NoValue {
        /// The key.
        key: &'static str,
    },
    /// Warning: the last line has no newline; the file may be truncated.
    NoNewline,
    /// Warning: a domain that a pattern covers with the same settings.
    Covered {
        /// The domain or narrower pattern.
        name: String,
        /// The pattern.
        by: String,
    },
    /// Warning: a value that no request can ever match.
    NeverMatches {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// Why.
        reason: &'static str,
    },
}

impl What {
    /// Whether the file can be used all the same.
    pub fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::UnknownKey { .. }
                | Self::Repeated { .. }
                | Self::NoValue { .. }
                | Self::NoNewline
                | Self::Covered { .. }
                | Self::NeverMatches { .. }
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: ", Escaped(&self.file))?,
            None => write!(f, "{}: ", Escaped(&self.file))?,
        }
        // The log says the level itself.
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
            Self::TooLarge(limit_bytes) => {
                write!(f, "is too large; allowed: at most {limit_bytes} bytes")
            }
            Self::NotUtf8 => f.write_str("is not UTF-8 text"),
            Self::Empty => f.write_str("is empty; perhaps another program is writing it"),
            Self::Character(c) => write!(
                f,
                "the character U+{:04X} is not allowed; allowed: printable text; the file may be \
                 damaged",
                u32::from(*c)
            ),
            Self::Syntax(reason) => {
                write!(
                    f,
                    "is not valid YAML: {}; allowed: lines such as 'port: 5000'; \
                    indent with spaces, and quote text that begins with one of *&!@`[]{{}}\"'|>%#",
                    Escaped(reason)
                )
            }
            Self::NotSupported { found, allowed } => {
                write!(f, "{found} is not allowed; allowed: {allowed}")
            }
            Self::NotAllowed {
                key,
                found,
                allowed,
            } => write!(
                f,
                "key '{}': {} is not allowed; allowed: {allowed}",
                Escaped(key),
                Escaped(found)
            ),
            Self::UnknownInnerKey {
                key,
                allowed,
                meant,
            } => {
                write!(f, "key '{}' is not known; allowed: {allowed}", Escaped(key))?;
                DidYouMean(*meant).fmt(f)
            }
            Self::UnknownKey { key, meant } => {
                write!(f, "key '{}' is not known and has no effect", Escaped(key))?;
                DidYouMean(*meant).fmt(f)
            }
            Self::Repeated {
                key,
                value: None,
                first_line,
            } => write!(
                f,
                "key '{}' stands on line {first_line} already; only this one counts",
                Escaped(key)
            ),
            Self::Repeated {
                key,
                value: Some(value),
                first_line,
            } => write!(
                f,
                "key '{}': '{}' stands on line {first_line} already; only this one counts",
                Escaped(key),
                Escaped(value)
            ),
            Self::NoValue { key } => write!(f, "key '{key}' has no value and no effect"),
            Self::NoNewline => f.write_str(
                "the last line has no newline; if the file is truncated, keys may be missing",
            ),
            Self::Covered { name, by } => write!(
                f,
                "key 'domains': '{}' adds nothing, '{}' covers it with the same settings",
                Escaped(name),
                Escaped(by)
            ),
            Self::NeverMatches { key, value, reason } => write!(
                f,
                "key '{}': no request can match '{}': {reason}",
                Escaped(key),
                Escaped(value)
            ),
        }
    }
}

struct DidYouMean(Option<&'static str>);

impl fmt::Display for DidYouMean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean '{name}'?"),
            None => Ok(()),
        }
    }
}

/// Gathers the problems of one file.
pub(super) struct Report {
    file: String,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Report {
            file: file.to_owned(),
            problems: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, line: impl Into<Option<usize>>, what: What) {
        self.problems.push(Problem {
            file: self.file.clone(),
            line: line.into(),
            what,
        });
    }

    /// The problems in the order of their lines, and whether any is an error.
    pub(super) fn finish(mut self) -> (Vec<Problem>, bool) {
        self.problems.sort_by_key(|problem| problem.line);
        let failed = self.problems.iter().any(|p| !p.what.is_warning());
        (self.problems, failed)
    }
}

/// The known name that is spelt most like `name`: at most two letters apart.
pub(super) fn meant(
    name: &str,
    known: impl IntoIterator<Item = &'static str>,
) -> Option<&'static str> {
    let name: Vec<char> = name.to_lowercase().replace('-', "_").chars().collect();
    known
        .into_iter()
        .filter(|known| known.len().abs_diff(name.len()) <= 2)
        .map(|known| (distance(&name, known), known))
        .filter(|(distance, known)| *distance <= 2 && *distance * 2 < known.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Letters to insert, remove or change to make `a` into `b` (Levenshtein).
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

/// Text as it stands in a message: in quotes, and not longer than a line.
pub(super) fn quoted(text: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("'{}...'", &text[..end]),
        None => format!("'{text}'"),
    }
}
