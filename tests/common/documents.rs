//! README.md, the guides and the manual pages, for tests that compare them with the program.

use std::fs;
use std::path::{Path, PathBuf};

/// A page in Markdown.
pub struct Document {
    /// Its path from the top of the source.
    pub name: String,
    pub text: String,
}

/// A block of code, with its language if it names one.
pub struct Block {
    pub language: String,
    pub text: String,
}

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// README.md and all guides.
pub fn all() -> Vec<Document> {
    let guides = fs::read_dir(path("man/guide")).expect("the guides");
    let guides = guides.map(|entry| entry.expect("an entry").file_name());
    let guides = guides.map(|name| format!("man/guide/{}", name.to_string_lossy()));
    let mut names: Vec<String> = guides.filter(|name| name.ends_with(".md")).collect();
    names.push("README.md".to_owned());
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    let document = |name: String| Document {
        text: read(&name),
        name,
    };
    names.into_iter().map(document).collect()
}

impl Document {
    /// The lines outside of blocks, and the blocks: between fences, or indented by four.
    fn split(&self) -> (Vec<&str>, Vec<Block>) {
        let (mut prose, mut blocks) = (Vec::new(), Vec::<Block>::new());
        let (mut fenced, mut indented) = (false, false);
        for line in self.text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fenced = !fenced;
                if fenced {
                    let (language, text) = (language.to_owned(), String::new());
                    blocks.push(Block { language, text });
                }
                continue;
            }
            let is_code = fenced || line.starts_with("    ");
            if is_code && !fenced && !indented {
                let (language, text) = (String::new(), String::new());
                blocks.push(Block { language, text });
            }
            indented = is_code && !fenced;
            match blocks.last_mut().filter(|_| is_code) {
                Some(block) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => prose.push(line),
            }
        }
        assert!(!fenced, "{}: a fence is missing", self.name);
        (prose, blocks)
    }

    pub fn prose(&self) -> Vec<&str> {
        self.split().0
    }

    pub fn blocks(&self) -> Vec<Block> {
        self.split().1
    }

    /// The texts in backticks outside of blocks, on one line each.
    pub fn spans(&self) -> Vec<String> {
        // A text in backticks may continue on the next line, but not in another paragraph.
        let prose = self.prose().join("\n");
        let paragraphs = prose.split("\n\n");
        paragraphs.flat_map(spans_of).collect()
    }
}

/// The texts in backticks of a paragraph.
pub fn spans_of(paragraph: &str) -> Vec<String> {
    let inside = paragraph.split('`').skip(1).step_by(2);
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    inside.map(one_line).collect()
}
