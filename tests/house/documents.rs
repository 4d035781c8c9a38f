//! Rules for README.md, the guides and the manual pages: they are short, their links lead
//! somewhere, and whatever they name exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jabsocket::cli;

use crate::common::documents::{self, Document, path, read, spans_of};

const README_LINES: usize = 200;
const GUIDE_LINES: usize = 250;
const PICTURE_BYTES: u64 = 60 << 10;

/// Texts of the log that come from the system and from OpenSSL.
const FROM_LIBRARIES: [&str; 2] = ["Connection refused", "certificate has expired"];

#[test]
fn documents_are_short() {
    for Document { name, text } in documents::all() {
        let most = match name.as_str() {
            "README.md" => README_LINES,
            _ => GUIDE_LINES,
        };
        let lines = text.lines().count();
        assert!(lines <= most, "{name}: {lines} lines, at most {most}");
        assert!(text.starts_with("# "), "{name}: no heading");
    }
    for entry in fs::read_dir(path("man/guide")).expect("the guides") {
        let entry = entry.expect("an entry");
        let bytes = entry.metadata().expect("its size").len();
        assert!(bytes <= PICTURE_BYTES, "{:?}: {bytes} bytes", entry.path());
    }
}

/// The anchors of the headings in a document, as GitHub makes them.
fn anchors(document: &Document) -> Vec<String> {
    let prose = document.prose();
    let headings = prose.iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &&str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().map(|c| if c == ' ' { '-' } else { c });
        kept.filter(|c| c.is_alphanumeric() || "-_".contains(*c))
            .collect()
    };
    headings.map(anchor).collect()
}

/// The targets of links and pictures outside of code.
fn links(document: &Document) -> Vec<String> {
    let prose = document.prose().join(" ");
    let texts: Vec<&str> = prose.split('`').step_by(2).collect();
    let text = texts.concat();
    let mut links = Vec::new();
    for (start, end) in [("](", ')'), ("src=\"", '"')] {
        let after = text.split(start).skip(1);
        links.extend(after.map(|rest| rest.split(end).next().unwrap_or_default().to_owned()));
    }
    links
}

#[test]
fn links_lead_somewhere() {
    let all = documents::all();
    let (mut wrong, mut from_readme) = (Vec::new(), BTreeSet::new());
    for document in &all {
        let directory = path(&document.name);
        let directory = directory.parent().expect("a directory");
        for link in links(document) {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => path(&document.name),
                _ => directory.join(file),
            };
            let Ok(target) = target.canonicalize() else {
                wrong.push(format!("{}: no file {link}", document.name));
                continue;
            };
            if document.name == "README.md" {
                from_readme.insert(target.clone());
            }
            let is_target = |other: &&Document| path(&other.name) == target;
            let known = all.iter().find(is_target).map(anchors).unwrap_or_default();
            if !anchor.is_empty() && !known.iter().any(|known| known == anchor) {
                wrong.push(format!("{}: no heading for {link}", document.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for document in all.iter().filter(|document| document.name != "README.md") {
        let target = path(&document.name).canonicalize().expect("a guide");
        let name = &document.name;
        assert!(
            from_readme.contains(&target),
            "README.md has no link to {name}"
        );
    }
}

/// The text of all files below a directory that are text.
fn texts_below(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let is_foreign = ["node_modules", "target", "corpus"]
            .iter()
            .any(|name| path.ends_with(name));
        if path.is_dir() && !is_foreign {
            texts_below(&path, text);
        } else if let Ok(more) = fs::read_to_string(&path) {
            text.push_str(&more);
            text.push('\n');
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[test]
fn names_in_the_documents_exist() {
    let mut source = String::new();
    for directory in ["src", "conf"] {
        texts_below(&path(directory), &mut source);
    }
    let known: BTreeSet<&str> = source.split(|c| !is_word(c)).collect();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents::all() {
        for span in document.spans() {
            let name = span.strip_prefix("jabsocket_").unwrap_or(&span);
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.contains('_') && name.chars().all(is_name) {
                seen += 1;
                if !known.contains(name) {
                    wrong.push(format!("{}: {span}", document.name));
                }
            }
        }
        let words = document.text.split(|c| !is_word(c));
        for signal in words.filter(|word| word.starts_with("SIG")) {
            if !source.contains(&format!("Signal::{signal}")) {
                wrong.push(format!("{}: {signal}", document.name));
            }
        }
    }
    assert!(seen > 100, "only {seen} names");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn files_that_the_documents_name_exist() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in documents::all() {
        let blocks = document.blocks();
        let blocks = blocks.iter().map(|block| block.text.clone());
        for text in blocks.chain(document.spans()) {
            for word in text.split([' ', '\n', ';', ':', ',', '`']) {
                let tops = ["src/", "tests/", "conf/", "man/"];
                // npm makes it.
                let is_made = word.contains("node_modules");
                if tops.iter().any(|top| word.starts_with(top)) && !is_made {
                    seen += 1;
                    if !path(word).exists() {
                        wrong.push(format!("{}: {word}", document.name));
                    }
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} files");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn command_lines_are_understood() {
    let mut seen = 0;
    // Its lines are like a block in Markdown.
    let mut all = documents::all();
    all.push(Document {
        name: "jabsocket(8)".to_owned(),
        text: format!("```\n{}\n```\n", section("man/jabsocket.8", "EXAMPLES")),
    });
    for document in all {
        let blocks = document.blocks();
        let lines = blocks.iter().flat_map(|block| block.text.lines());
        let lines: Vec<String> = lines.map(str::to_owned).chain(document.spans()).collect();
        for line in lines {
            let line = line.split(" #").next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let program = words.next().unwrap_or_default();
            if program != "jabsocket" && !program.ends_with("/jabsocket") {
                continue;
            }
            let arguments: Vec<_> = words.map(Into::into).collect();
            seen += 1;
            let parsed = cli::parse(&arguments);
            assert!(parsed.is_ok(), "{}: {line}: {parsed:?}", document.name);
        }
    }
    assert!(seen > 5, "only {seen} command lines");
}

/// A section of a manual page, without the marks of hyphens.
fn section(page: &str, title: &str) -> String {
    let text = read(page).replace("\\-", "-");
    let start = format!(".SH {title}\n");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{title}"));
    rest.split("\n.SH ").next().unwrap_or_default().to_owned()
}

#[test]
fn the_manual_has_the_options_and_the_exit_statuses() {
    let options = |text: &str| -> BTreeSet<String> {
        let words = text.split([' ', ',', '"', '\n', '\\']);
        let options = words.filter(|word| word.starts_with('-') && *word != "-");
        options.map(str::to_owned).collect()
    };
    let section_of_options = section("man/jabsocket.8", "OPTIONS");
    let mut of_manual = BTreeSet::new();
    let tags = section_of_options
        .lines()
        .filter(|line| line.starts_with(".B"));
    tags.for_each(|tag| of_manual.extend(options(tag)));
    let usage = cli::usage_text("jabsocket");
    let columns = usage.lines().filter(|line| line.starts_with("  -"));
    let columns = columns.map(|line| line.split(" - ").next().unwrap_or_default());
    let of_program = options(&columns.collect::<Vec<_>>().join(" "));
    assert_eq!(of_manual, of_program);

    let statuses = section("man/jabsocket.8", "EXIT STATUS");
    let statuses: Vec<_> = statuses
        .lines()
        .filter_map(|line| line.strip_prefix(".B "))
        .collect();
    let failure = read("src/main.rs");
    let (_, failure) = failure.split_once("const FAILURE: u8 = ").expect("FAILURE");
    let failure = failure.split(';').next().expect("a number");
    assert_eq!(
        statuses,
        ["0", failure, &cli::USAGE_EXIT_STATUS.to_string()]
    );
    let operating = read("man/guide/operating.md").replace('\n', " ");
    let text = format!(
        "status is 0 after SIGTERM or SIGINT, {failure} if the daemon could not start or \
         continue, and {} if",
        cli::USAGE_EXIT_STATUS
    );
    assert!(operating.contains(&text), "operating.md: {text}");
}

/// The rows of the tables whose first column has this heading.
fn rows<'a>(document: &'a Document, heading: &str) -> Vec<&'a str> {
    let start = format!("| {heading} |");
    let prose = document.prose();
    let tables = prose.split(|line| !line.starts_with('|'));
    let tables = tables.filter(|table| table.first().is_some_and(|row| row.starts_with(&start)));
    tables
        .flat_map(|table| table.get(2..).unwrap_or_default().to_vec())
        .collect()
}

fn first_cell(row: &str) -> &str {
    row.split(" | ").next().unwrap_or_default()
}

#[test]
fn quoted_log_lines_are_in_the_source() {
    let mut source = String::new();
    texts_below(&path("src"), &mut source);
    // A string that goes on in the next line.
    let mut lines = source.split("\\\n").map(str::trim_start);
    let first = lines.next().unwrap_or_default().to_owned();
    let source = lines.fold(first, |text, line| text + line);
    let name = "man/guide/troubleshooting.md".to_owned();
    let document = Document {
        text: read(&name),
        name,
    };
    let headings = ["the log says", "reason", "you see"];
    let rows = headings.iter().flat_map(|heading| rows(&document, heading));
    let quoted: Vec<String> = rows.flat_map(|row| spans_of(first_cell(row))).collect();
    assert!(quoted.len() > 40, "only {} quotations", quoted.len());
    for text in quoted.iter().filter(|text| !text.contains('=')) {
        let text = text.strip_prefix("jabsocket_").unwrap_or(text);
        let number_of = |text: &str| text.get(..3).is_some_and(|n| n.parse::<u16>().is_ok());
        let text = match text.strip_prefix("refused: ") {
            Some(status) if number_of(status) => status.get(4..).unwrap_or("refused"),
            _ => text,
        };
        let ended = ["client", "server", "jabsocket"].map(|by| format!("ended by {by}"));
        let ended = ended.iter().find_map(|ended| text.strip_prefix(ended));
        let text = ended.map_or(text, |rest| rest.trim_start_matches(": "));
        let known = source.contains(text) || FROM_LIBRARIES.contains(&text);
        assert!(known, "no message in src/ has the text {text:?}");
    }
}

#[test]
fn the_fields_of_the_session_line_are_explained() {
    let name = "man/guide/operating.md".to_owned();
    let document = Document {
        text: read(&name),
        name,
    };
    let rows = rows(&document, "field");
    let explained: Vec<String> = rows
        .iter()
        .flat_map(|row| spans_of(first_cell(row)))
        .collect();
    let blocks = document.blocks();
    let mut lines = blocks.iter().flat_map(|block| block.text.lines());
    let sample = lines.find(|line| line.contains(" ended by ")).expect("one");
    let words = sample
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let fields: Vec<&str> = words.map(|(field, _)| field).collect();
    let mut expected = vec!["session"];
    expected.extend(&fields);
    expected.push("ended by");
    assert_eq!(explained, expected);
    let source = read("src/session/session_log.rs");
    for field in explained {
        let forms = [
            format!("\"{field}\""),
            format!(" {field}={{"),
            format!("{field} {{"),
        ];
        assert!(forms.iter().any(|form| source.contains(form)), "{field}");
    }
    let phases = read("src/session/machine/phase.rs");
    let (_, phases) = phases.split_once("pub fn name").expect("their names");
    let phases = phases.split(']').next().expect("a list");
    let spans = document.spans();
    for phase in phases.split('"').skip(1).step_by(2) {
        assert!(spans.iter().any(|span| span == phase), "{phase}");
    }
}
