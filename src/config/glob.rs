//! Patterns as fnmatch(3) reads them without flags, for the `origin` list.
//!
//! `*` matches any text, `/` and a leading `.` included; `?` one character;
//! `[...]` one character of a set with ranges and the twelve classes such as
//! `[:digit:]`, `[!...]` and `[^...]` one outside it; `\` takes the next
//! character literally. A `[` that is never closed stands for itself. Collating
//! symbols (`[.a.]`, `[=a=]`) are not known. Matching remembers one star only,
//! so no pattern takes more than pattern length times text length steps. Never
//! changes the case of anything: the caller folds both sides.

use std::str::Chars;

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Star,
    One,
    Literal(char),
    /// Ranges, first and last character.
    Set {
        negated: bool,
        members: Vec<(char, char)>,
    },
    /// Matches nothing: what fnmatch(3) makes of an error in the pattern.
    Nothing,
}

impl Part {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Star | Self::Nothing => false,
            Self::One => true,
            Self::Literal(literal) => *literal == c,
            Self::Set { negated, members } => {
                let inside = members
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c));
                inside != *negated
            }
        }
    }
}

impl Glob {
    /// Compiles `pattern`. Every text is a pattern.
    pub fn new(pattern: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '*' if parts.last() == Some(&Part::Star) => continue,
                '*' => Part::Star,
                '?' => Part::One,
                '\\' => rest.next().map_or(Part::Nothing, Part::Literal),
                '[' => match set(rest.clone()) {
                    Some((part, after)) => {
                        rest = after;
                        part
                    }
                    None => Part::Literal('['),
                },
                c => Part::Literal(c),
            });
        }
        Glob { parts }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let mut rest = text.chars();
        let mut at = 0;
        // Where to go on when a later part fails: behind the last star, one
        // character further on than before.
        let mut retry: Option<(usize, Chars<'_>)> = None;
        loop {
            if self.parts.get(at) == Some(&Part::Star) {
                at += 1;
                retry = Some((at, rest.clone()));
                continue;
            }
            let after = {
                let mut after = rest.clone();
                after.next().map(|c| (c, after))
            };
            match (self.parts.get(at), after) {
                (None, None) => return true,
                (Some(part), Some((c, after))) if part.matches(c) => {
                    at += 1;
                    rest = after;
                }
                _ => {
                    let Some((star, from)) = &mut retry else {
                        return false;
                    };
                    if from.next().is_none() {
                        return false;
                    }
                    at = *star;
                    rest = from.clone();
                }
            }
        }
    }
}

/// Reads a set from behind its `[`. `None` when it is never closed.
fn set(mut rest: Chars<'_>) -> Option<(Part, Chars<'_>)> {
    let negated = rest.as_str().starts_with(['!', '^']);
    if negated {
        rest.next();
    }
    let mut members = Vec::new();
    let mut broken = false;
    let mut first = true;
    loop {
        let c = rest.next()?;
        if c == ']' && !first {
            break;
        }
        first = false;
        if c == '['
            && let Some((name, after)) = class_name(rest.as_str())
        {
            rest = after.chars();
            match class(name) {
                Some(class) => members.extend(class),
                None => broken = true,
            }
            continue;
        }
        let low = if c == '\\' { rest.next()? } else { c };
        let mut high = low;
        let mut ahead = rest.clone();
        if ahead.next() == Some('-') && !ahead.as_str().starts_with(']') {
            high = match ahead.next()? {
                '\\' => ahead.next()?,
                c => c,
            };
            rest = ahead;
        }
        members.push((low, high));
    }
    let part = if broken {
        Part::Nothing
    } else {
        Part::Set { negated, members }
    };
    Some((part, rest))
}

/// The name in `:name:]`, and what follows.
fn class_name(rest: &str) -> Option<(&str, &str)> {
    let (name, after) = rest.strip_prefix(':')?.split_once(":]")?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase())
        .then_some((name, after))
}

/// The members of the class of that name in the C locale.
fn class(name: &str) -> Option<&'static [(char, char)]> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "blank" => &[(' ', ' '), ('\t', '\t')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[(' ', ' '), ('\t', '\r')],
        "upper" => &[('A', 'Z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pattern, text, and what fnmatch(3) of glibc 2.36 answers.
    const KNOWN: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("", "a", false),
        ("*", "", true),
        ("**", "a/b", true),
        ("*", ".hidden", true),
        ("http://*.example.com", "http://a.b.example.com", true),
        ("http://*.example.com", "http://example.com", false),
        ("http://*", "http://example.com/path", true),
        ("a*b*c", "aXbXbc", true),
        ("a*b*c", "aXbXb", false),
        ("?", "", false),
        ("?", "/", true),
        ("?", "\u{e9}", true),
        ("[abc]", "b", true),
        ("[abc]", "d", false),
        ("[a-c]x", "bx", true),
        ("[!a-c]", "b", false),
        ("[^a-c]", "d", true),
        ("[]a]", "]", true),
        ("[!]a]", "]", false),
        ("[a-]", "-", true),
        ("[-a]", "-", true),
        ("[z-a]", "m", false),
        ("[\\]]", "]", true),
        ("[a\\-c]", "b", false),
        ("[a-\\c]", "b", true),
        ("[/]", "/", true),
        ("[[:digit:]]", "7", true),
        ("[![:digit:]]", "7", false),
        ("[[:nonsense:]]", "n", false),
        ("[abc", "[abc", true),
        ("[", "[", true),
        ("[]", "[]", true),
        ("a]", "a]", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a\\", "a", false),
        ("a\\", "a\\", false),
        ("\\a", "a", true),
    ];

    #[test]
    fn agrees_with_fnmatch() {
        for (pattern, text, expected) in KNOWN {
            assert_eq!(
                Glob::new(pattern).matches(text),
                *expected,
                "{pattern:?} on {text:?}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = "*a".repeat(500);
        let text = "a".repeat(10_000) + "b";
        assert!(!Glob::new(&pattern).matches(&text));
    }
}
