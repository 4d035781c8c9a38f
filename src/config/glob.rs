//! Patterns as fnmatch(3) reads them without flags, for `origin` and `include`.
//!
//! `*` matches any text, including `/` and a leading `.`; `?` matches one character;
//! `[...]` matches one character of a set with ranges and the twelve classes such as
//! `[:digit:]`; `[!...]` and `[^...]` match one character outside the set; `\` makes the
//! next character literal. A `[` that is never closed matches itself. Collating symbols
//! (`[.a.]`, `[=a=]`) are not supported. Matching backtracks only to the last star, so its
//! time is at most proportional to the lengths of pattern and text multiplied. The caller
//! converts both to lower case.

use std::str::Chars;

/// A pattern. Any text is a valid pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// A pattern with this text.
    pub fn new(pattern: &str) -> Glob {
        Glob(pattern.to_owned())
    }

    /// Whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        let (mut pattern, mut text) = (self.0.chars(), text.chars());
        // Where to continue when a later part fails: after the last star, one character
        // further in the text than before.
        let mut retry: Option<(Chars<'_>, Chars<'_>)> = None;
        loop {
            if let Some(rest) = pattern.as_str().strip_prefix('*') {
                pattern = rest.chars();
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            let mut rest = text.clone();
            match rest.next() {
                None if pattern.as_str().is_empty() => return true,
                Some(c) if match_one(&mut pattern, c) => text = rest,
                _ => {
                    let Some((after_star, from)) = &mut retry else {
                        return false;
                    };
                    if from.next().is_none() {
                        return false;
                    }
                    (pattern, text) = (after_star.clone(), from.clone());
                }
            }
        }
    }
}

/// Removes the first part of a pattern, which is not a star, and compares it with `c`.
fn match_one(pattern: &mut Chars<'_>, c: char) -> bool {
    match pattern.next() {
        Some('?') => true,
        Some('\\') => pattern.next() == Some(c),
        Some('[') => match match_set(pattern.clone(), c) {
            Some((found, rest)) => {
                *pattern = rest;
                found
            }
            None => c == '[',
        },
        part => part == Some(c),
    }
}

/// Whether `c` is in the set, and the pattern after the set. The `[` has been removed
/// already. Returns `None` if the set is never closed.
fn match_set(mut set: Chars<'_>, c: char) -> Option<(bool, Chars<'_>)> {
    let negated = set.as_str().starts_with(['!', '^']);
    if negated {
        set.next();
    }
    let (mut found, mut broken) = (false, false);
    let mut is_first = true;
    loop {
        let mut low = set.next()?;
        if low == ']' && !is_first {
            // A set with an error matches nothing, as in fnmatch(3).
            return Some((found != negated && !broken, set));
        }
        is_first = false;
        if low == '['
            && let Some((name, after)) = class_name(set.as_str())
        {
            set = after.chars();
            match class(name) {
                Some(class) => found |= class.iter().any(|(low, high)| (*low..=*high).contains(&c)),
                None => broken = true,
            }
            continue;
        }
        if low == '\\' {
            low = set.next()?;
        }
        let mut high = low;
        if let Some(end) = set
            .as_str()
            .strip_prefix('-')
            .filter(|end| !end.starts_with(']'))
        {
            set = end.chars();
            high = set.next()?;
            if high == '\\' {
                high = set.next()?;
            }
        }
        found |= (low..=high).contains(&c);
    }
}

/// Splits `:name:]` from what follows it.
fn class_name(rest: &str) -> Option<(&str, &str)> {
    let (name, after) = rest.strip_prefix(':')?.split_once(":]")?;
    name.bytes()
        .all(|byte| byte.is_ascii_lowercase())
        .then_some((name, after))
}

/// The ranges of the class with this name in the C locale.
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

    /// Pattern, text, and the result of fnmatch(3) in glibc 2.36.
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
