//! Rules for man/guide/standards.md: each row names tests, and they exist.

use crate::common::documents::{path, read, spans_of};

/// What is wrong with one text in the column of tests, `FILE: NAME, NAME`.
fn wrong_in(span: &str) -> Option<String> {
    let Some((file, names)) = span.split_once(": ") else {
        return Some(format!("{span}: no file"));
    };
    let file = match file.starts_with("src/") {
        true => file.to_owned(),
        false => format!("tests/{file}"),
    };
    let Ok(source) = std::fs::read_to_string(path(&file)) else {
        return Some(format!("no file {file}"));
    };
    let mut lines = source.lines().map(str::trim_start);
    let mut tests = Vec::new();
    while let Some(line) = lines.next() {
        if line == "#[test]" {
            tests.extend(lines.next().and_then(|line| line.strip_prefix("fn ")));
        }
    }
    let is_test = |name: &&str| {
        tests
            .iter()
            .any(|test| test.starts_with(&format!("{name}(")))
    };
    let missing = names.split(", ").find(|name| !is_test(name))?;
    Some(format!("no test {missing} in {file}"))
}

#[test]
fn tests_named_for_the_standards_exist() {
    let text = read("man/guide/standards.md");
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter(|row| !row.starts_with("| section "));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let [_, _, _, tests, _, ""] = cells[..] else {
            panic!("not four columns: {row}");
        };
        let spans = spans_of(tests);
        assert!(!spans.is_empty(), "no test: {row}");
        seen += spans.len();
        wrong.extend(spans.iter().filter_map(|span| wrong_in(span)));
    }
    assert!(seen > 100, "only {seen} files with tests");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
