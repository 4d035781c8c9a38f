//! Turns YAML events into a small tree, in which every node has its place in the file.
//!
//! Keeps scalars as they are written: `05000` stays `05000`, and `no` stays `no`. Only a
//! plain empty value and a plain `~` are null. Refuses what a configuration file does not
//! need: anchors and aliases (which could multiply data), tags, several documents, deep
//! nesting, and characters that YAML does not allow. Continues after an error if possible.
//! Interprets no keys and values.

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use super::problem::{Place, Report};

/// Maximum nesting depth of lists and mappings.
const MAX_DEPTH: usize = 8;

#[derive(Debug)]
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// An error has been reported for it already.
    Refused,
}

impl Value {
    /// Whether there is no value to read.
    pub fn is_absent(&self) -> bool {
        matches!(self, Value::Null | Value::Refused)
    }

    /// The entries of a mapping; empty for any other value.
    pub fn entries(&self) -> &[Entry] {
        match self {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// How a message shows the value; `None` if an error has been reported for it already.
    pub fn shown(&self) -> Option<String> {
        const SHOWN_CHARS: usize = 60;
        match self {
            Value::Null => Some("nothing".to_owned()),
            Value::Text(text) => Some(match text.char_indices().nth(SHOWN_CHARS) {
                Some((end, _)) => format!("'{}...'", &text[..end]),
                None => format!("'{text}'"),
            }),
            Value::List(_) => Some("a list".to_owned()),
            Value::Mapping(_) => Some("a mapping".to_owned()),
            Value::Refused => None,
        }
    }
}

/// One `key: value`.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub place: Place,
    pub node: Node,
}

/// Reading cannot continue. The reason has been reported.
struct Stop;

/// Returns the entries of the mapping in a file, as far as it can be read.
pub(super) fn entries(file: usize, text: &str, report: &mut Report) -> Vec<Entry> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !is_allowed(*c)) {
        let line = 1 + text[..at].matches('\n').count();
        let text = format!(
            "the character U+{:04X} is not allowed; allowed: printable text; the file may be damaged",
            u32::from(c)
        );
        report.error(Place { file, line }, text);
        return Vec::new();
    }
    // With a final newline, the parser's mark after a missing value is on a later line.
    let newline = (!text.ends_with('\n')).then_some('\n');
    // The parser refuses a tab after a colon, which YAML allows. No value may have a tab.
    let mut before = ' ';
    let untabbed = |c| match (std::mem::replace(&mut before, c), c) {
        (':', '\t') => ' ',
        _ => c,
    };
    let mut reader = Reader {
        parser: Parser::new(text.chars().chain(newline).map(untabbed)),
        lines: text.lines().collect(),
        file,
        report,
        top: Vec::new(),
    };
    // After an error, the entries before it are still checked.
    let _: Result<(), Stop> = reader.document();
    reader.top
}

/// Whether a file may contain this character (YAML 1.2, sections 5.1 and 5.2). The parser
/// would treat a NUL as the end of the file.
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
    file: usize,
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
                    let allowed = "one 'key: value' per line, such as 'port: 5000'";
                    self.refuse(node.place.line, "a file that is not a mapping", allowed);
                }
            }
        }
        self.next()?;
        match self.next()? {
            (Event::StreamEnd, _) => Ok(()),
            (_, mark) => {
                self.refuse(
                    mark.line(),
                    "a second YAML document",
                    "one document per file",
                );
                Err(Stop)
            }
        }
    }

    /// Reads the next entry of a mapping; `None` at its end.
    fn entry(&mut self, depth: usize) -> Result<Option<Entry>, Stop> {
        loop {
            let (event, mark) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(None);
            }
            let line = mark.line();
            let key = self.node(event, mark, depth)?;
            let (event, mark) = self.next()?;
            let mut node = self.node(event, mark, depth)?;
            let place = key.place;
            match key.value {
                Value::Text(key) => {
                    if matches!(node.value, Value::Null) {
                        node.place = place;
                    }
                    return Ok(Some(Entry { key, place, node }));
                }
                Value::Refused => {}
                _ => {
                    let allowed = "a name, as in 'port: 5000'";
                    self.refuse(line, "a key that is not text", allowed);
                }
            }
        }
    }

    fn node(&mut self, event: Event, mark: Marker, depth: usize) -> Result<Node, Stop> {
        let mut line = mark.line();
        if depth > MAX_DEPTH {
            let allowed = "at most 8 lists and mappings inside each other";
            self.refuse(line, "nesting this deep", allowed);
            return Err(Stop);
        }
        let mut refused = false;
        let value = match event {
            Event::Alias(_) => {
                let allowed = "the same text in quotes, such as '*.example.org'";
                self.refuse(line, &unquoted('*', "alias"), allowed);
                Value::Refused
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == TScalarStyle::Plain;
                if plain && text.is_empty() {
                    line = self.line_of_nothing(line);
                }
                refused = self.refuse_extras(line, anchor, tag.as_ref());
                match text.as_str() {
                    "" | "~" if plain => Value::Null,
                    _ => Value::Text(text),
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
        let place = self.place(line);
        Ok(Node { place, value })
    }

    fn next(&mut self) -> Result<(Event, Marker), Stop> {
        match self.parser.next_token() {
            Ok(next) => Ok(next),
            // The parser has consumed the alias and can continue after it.
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
        let text = format!(
            "is not valid YAML: {}; allowed: lines such as 'port: 5000'; indent with spaces, and \
             quote text that begins with one of *&!@`[]{{}}\"'|>%# or ends with a colon",
            error.info()
        );
        self.report.error(self.place(line), text);
    }

    fn place(&self, line: usize) -> Place {
        let file = self.file;
        Place { file, line }
    }

    fn refuse(&mut self, line: usize, found: &str, allowed: &str) {
        let text = format!("{found} is not allowed; allowed: {allowed}");
        self.report.error(self.place(line), text);
    }

    /// Reports an anchor or a tag; returns whether there was one.
    fn refuse_extras(&mut self, line: usize, anchor: usize, tag: Option<&Tag>) -> bool {
        let allowed = "the same text in quotes";
        if anchor > 0 {
            self.refuse(line, &unquoted('&', "anchor"), allowed);
        }
        if tag.is_some() {
            self.refuse(line, &unquoted('!', "tag"), allowed);
        }
        anchor > 0 || tag.is_some()
    }

    /// The line of a missing value. The parser's mark is on the next text, after blank
    /// lines and comments.
    fn line_of_nothing(&self, mark_line: usize) -> usize {
        let has_text = |line: &usize| {
            let text = self
                .lines
                .get(line - 1)
                .map_or("", |text| text.trim_start());
            !text.is_empty() && !text.starts_with('#')
        };
        (1..mark_line).rev().find(has_text).unwrap_or(mark_line)
    }
}

fn unquoted(first: char, what: &str) -> String {
    format!("unquoted text that begins with {first} (a YAML {what})")
}
