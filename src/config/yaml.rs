//! YAML events into a small tree whose every node knows its line.
//!
//! Takes scalars as the text that stands there: `05000` stays `05000`, `no`
//! stays `no`. Only a plain empty value and a plain `~` are null. Refuses what
//! a configuration file does not need: anchors and aliases (so nothing can be
//! multiplied), tags, several documents, deep nesting, characters that YAML does
//! not allow. Goes on after an error where it can; never gives a key or a value a
//! meaning.

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use super::problem::{Report, What};

/// How deep lists and mappings may stand inside each other.
const MAX_DEPTH: usize = 8;

/// A value and the line where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What a key or a list holds.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// An error was reported for it; there is nothing to add.
    Refused,
}

/// One `key: value`.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

/// The end of all reading; the reason is in the report.
struct Stop;

/// The entries of the document's mapping, as far as it can be read.
pub(super) fn entries(text: &str, report: &mut Report) -> Vec<Entry> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        let line = 1 + text[..at].matches('\n').count();
        report.add(line, What::Character(c));
        return Vec::new();
    }
    // With a final newline, the mark behind a missing value is on a later line.
    let newline = (!text.ends_with('\n')).then_some('\n');
    let mut reader = Reader {
        parser: Parser::new(text.chars().chain(newline)),
        lines: text.lines().collect(),
        report,
        top: Vec::new(),
    };
    // The entries before a stop are worth looking at.
    let _: Result<(), Stop> = reader.document();
    reader.top
}

/// Whether a file may have this character (YAML 1.2, sections 5.1 and 5.2). The
/// parser takes a NUL for the end of the file.
fn is_allowed(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' | '\u{85}' => true,
        '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        c => !c.is_control(),
    }
}

struct Reader<'a, T> {
    parser: Parser<T>,
    lines: Vec<&'a str>,
    report: &'a mut Report,
    top: Vec<Entry>,
}

impl<T: Iterator<Item = char>> Reader<'_, T> {
    fn document(&mut self) -> Result<(), Stop> {
        let (mut event, mut mark) = self.next()?;
        while matches!(event, Event::StreamStart | Event::DocumentStart) {
            (event, mark) = self.next()?;
        }
        match event {
            Event::StreamEnd => return Ok(()),
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(mark.line(), anchor, tag.as_ref());
                while let Some(entry) = self.entry(1)? {
                    self.top.push(entry);
                }
            }
            event => {
                let node = self.node(event, mark, 0)?;
                if !matches!(node.value, Value::Null | Value::Refused) {
                    self.refuse(
                        node.line,
                        "a file that is not a mapping",
                        "one 'key: value' a line, such as 'port: 5000'",
                    );
                }
            }
        }
        self.next()?;
        match self.next()? {
            (Event::StreamEnd, _) => Ok(()),
            (_, mark) => {
                self.refuse(mark.line(), "a second YAML document", "one document a file");
                Err(Stop)
            }
        }
    }

    /// The next entry of a mapping, or `None` at its end.
    fn entry(&mut self, depth: usize) -> Result<Option<Entry>, Stop> {
        loop {
            let (event, mark) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(None);
            }
            let key_line = mark.line();
            let key = self.node(event, mark, depth)?;
            let (event, mark) = self.next()?;
            let mut node = self.node(event, mark, depth)?;
            match key.value {
                Value::Text(text) => {
                    if matches!(node.value, Value::Null) {
                        node.line = key.line;
                    }
                    return Ok(Some(Entry {
                        key: text,
                        line: key.line,
                        node,
                    }));
                }
                Value::Refused => {}
                _ => self.refuse(
                    key_line,
                    "a key that is not text",
                    "a name, as in 'port: 5000'",
                ),
            }
        }
    }

    fn node(&mut self, event: Event, mark: Marker, depth: usize) -> Result<Node, Stop> {
        let mut line = mark.line();
        if depth > MAX_DEPTH {
            self.refuse(
                line,
                "nesting this deep",
                "at most 8 lists and mappings inside each other",
            );
            return Err(Stop);
        }
        let mut refused = false;
        let value = match event {
            Event::Alias(_) => {
                self.refuse_alias(line);
                Value::Refused
            }
            Event::Scalar(text, style, anchor, tag) => {
                if style == TScalarStyle::Plain && text.is_empty() {
                    line = self.line_of_nothing(line);
                }
                refused = self.refuse_extras(line, anchor, tag.as_ref());
                if style == TScalarStyle::Plain && matches!(text.as_str(), "" | "~") {
                    Value::Null
                } else {
                    Value::Text(text)
                }
            }
            Event::SequenceStart(anchor, tag) => {
                refused = self.refuse_extras(line, anchor, tag.as_ref());
                let mut nodes = Vec::new();
                loop {
                    let (event, mark) = self.next()?;
                    if event == Event::SequenceEnd {
                        break Value::List(nodes);
                    }
                    nodes.push(self.node(event, mark, depth + 1)?);
                }
            }
            Event::MappingStart(anchor, tag) => {
                refused = self.refuse_extras(line, anchor, tag.as_ref());
                let mut entries = Vec::new();
                while let Some(entry) = self.entry(depth + 1)? {
                    entries.push(entry);
                }
                Value::Mapping(entries)
            }
            _ => Value::Null,
        };
        let value = if refused { Value::Refused } else { value };
        Ok(Node { line, value })
    }

    fn next(&mut self) -> Result<(Event, Marker), Stop> {
        match self.parser.next_token() {
            Ok(next) => Ok(next),
            // The parser has taken the alias and goes on behind it.
            Err(error) if error.info().contains("unknown anchor") => {
                Ok((Event::Alias(0), *error.marker()))
            }
            Err(error) => {
                self.refuse_syntax(&error);
                Err(Stop)
            }
        }
    }

    fn refuse_syntax(&mut self, error: &ScanError) {
        let mut line = error.marker().line().clamp(1, self.lines.len().max(1));
        if error.info().contains("tab") {
            // The mark may be on the text before the tab.
            let indented_by_tab = |text: &&str| {
                let indent = text.len() - text.trim_start().len();
                text[..indent].contains('\t')
            };
            let from_mark = self.lines.iter().skip(line - 1);
            line += from_mark.take_while(|text| !indented_by_tab(text)).count();
            line = line.min(self.lines.len());
        }
        let what = What::Syntax(error.info().to_owned());
        self.report.add(line, what);
    }

    fn refuse(&mut self, line: usize, found: &'static str, allowed: &'static str) {
        self.report.add(line, What::NotSupported { found, allowed });
    }

    fn refuse_alias(&mut self, line: usize) {
        self.refuse(
            line,
            "text that begins with * and stands without quotes (a YAML alias)",
            "the same text in quotes, such as '*.example.org'",
        );
    }

    /// Reports an anchor or a tag, and says whether there was one.
    fn refuse_extras(&mut self, line: usize, anchor: usize, tag: Option<&Tag>) -> bool {
        if anchor > 0 {
            self.refuse(
                line,
                "text that begins with & and stands without quotes (a YAML anchor)",
                "the same text in quotes",
            );
        }
        if tag.is_some() {
            self.refuse(
                line,
                "text that begins with ! and stands without quotes (a YAML tag)",
                "the same text in quotes",
            );
        }
        anchor > 0 || tag.is_some()
    }

    /// The line of a value that is not there: the parser's mark is on whatever
    /// follows, past blank lines and comments.
    fn line_of_nothing(&self, mark_line: usize) -> usize {
        (1..mark_line)
            .rev()
            .find(|line| {
                self.lines.get(line - 1).is_some_and(|text| {
                    let text = text.trim_start();
                    !text.is_empty() && !text.starts_with('#')
                })
            })
            .unwrap_or(mark_line)
    }
}
