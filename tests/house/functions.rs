//! The maximum length of functions in src/, including tests.

use crate::{Source, sources};

const MAX_LINES: usize = 60;

/// The name and number of lines of each function in a formatted source, from `fn` to the
/// closing brace.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = declared(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        // The last line of the declaration.
        let ends = |line: &&str| line.ends_with([';', '{', '}']);
        let begins = at + lines[at..].iter().position(ends).expect("an end");
        let closing = format!("{indent}}}");
        let length = match lines[begins].ends_with('{') {
            true => lines[at..].iter().position(|line| *line == closing),
            false => Some(begins - at),
        };
        found.push((name, length.expect("a closing brace") + 1));
    }
    found
}

/// The name of the function whose declaration starts in this line.
fn declared(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || matches!(word, "const" | "unsafe" | "extern" | "\"C\"")
    };
    let end = rest.find(['(', '<'])?;
    let qualified = before.split_whitespace().all(is_qualifier);
    (qualified && !rest.starts_with(['(', '<'])).then_some(&rest[..end])
}

fn place(source: &Source) -> String {
    let path = source.path.to_string_lossy();
    let (_, inside) = path.split_once("/src/").expect("under src");
    inside.to_owned()
}

#[test]
fn functions_are_short() {
    let sources = sources();
    let mut seen = 0;
    let mut longer = Vec::new();
    for source in &sources {
        for (name, lines) in functions(&source.text) {
            seen += 1;
            if lines > MAX_LINES {
                longer.push((place(source), name));
            }
        }
    }
    assert!(seen > 1000, "only {seen} functions found");
    assert!(
        longer.is_empty(),
        "longer than {MAX_LINES} lines: {longer:?}"
    );
}

#[test]
fn functions_are_counted_from_their_first_line_to_their_last() {
    let text = "
fn one() {}

pub(super) const fn two(
    a: u32,
) -> u32
where
    u32: Copy,
{
    let call = |f: fn(u32)| {
        f(a);
    };
    a
}

trait Three {
    fn three(&self);
    unsafe extern \"C\" fn four() {
    }
}
";
    let expected = [("one", 1), ("two", 11), ("three", 1), ("four", 2)];
    assert_eq!(functions(text), expected);
}
