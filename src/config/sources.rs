//! The files of a configuration: the operator's file, and those that its key `include`
//! names.
//!
//! Owns the reading of these files. Their text can be encoded as one string, so several
//! processes can use the same text. Interprets no other key. An included file cannot
//! include others.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc::O_NONBLOCK;

use super::include::{INCLUDE, Include};
use super::problem::{Place, Report, What};
use super::value::Setting;
use super::yaml;
use super::{Config, Loaded, Problem, keys};

/// Maximum size of a file, and of all files together.
const MAX_BYTES: usize = 1024 * 1024;

/// Maximum number of included files.
const MAX_FILES: usize = 1000;

/// The text of a configuration, and the problems that occurred while it was read.
#[derive(Debug, Default)]
pub struct Sources {
    /// Names and texts. The first file is the operator's.
    files: Vec<(String, String)>,
    /// Directories that were searched for files.
    directories: Vec<PathBuf>,
    problems: Vec<(Place, What)>,
}

impl Sources {
    /// Reads a file, and the files that it includes.
    pub fn read(path: &Path) -> Sources {
        let mut sources = Sources::default();
        sources.read_file(File::open(path), path);
        for (place, include) in sources.includes() {
            sources.follow(place, &include);
        }
        sources
    }

    /// Does what [`Sources::read`] does, for a reload. An empty file is then an error,
    /// because another program may be about to write it.
    pub fn read_again(path: &Path) -> Sources {
        let mut sources = Sources::read(path);
        for (file, (_, text)) in sources.files.iter().enumerate() {
            let failed = |(place, what): &(Place, What)| place.file == file && !what.is_warning();
            if text.trim().is_empty() && !sources.problems.iter().any(failed) {
                let text = "is empty; perhaps another program is writing it";
                let what = What::Error(text.to_owned());
                sources.problems.push((Place { file, line: 0 }, what));
            }
        }
        sources
    }

    /// Uses the text of a file that was read elsewhere. Includes nothing.
    pub fn of(name: &str, text: &str) -> Sources {
        let mut sources = Sources::default();
        sources.files.push((name.to_owned(), text.to_owned()));
        if text.len() > MAX_BYTES {
            sources.files[0].1.clear();
            sources.fail(too_large(""));
        }
        sources
    }

    /// Encodes names and texts as one string. NUL separates them, because it cannot occur
    /// in a valid configuration.
    pub fn encode(&self) -> String {
        let pieces = self
            .files
            .iter()
            .map(|(name, text)| format!("{name}\0{text}"));
        pieces.collect::<Vec<_>>().join("\0")
    }

    /// Decodes the string of [`Sources::encode`].
    pub fn decode(text: &str) -> Sources {
        let pieces: Vec<&str> = text.split('\0').collect();
        let file = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
        Sources {
            files: pieces.chunks_exact(2).map(file).collect(),
            ..Sources::default()
        }
    }

    /// Checks the whole configuration. A refusal lists all errors, of which there is at
    /// least one, and all warnings, in the order of files and lines.
    pub fn judge(&self) -> Result<Loaded, Vec<Problem>> {
        let names = self.files.iter().map(|(name, _)| name.clone());
        let mut report = Report::new(names.collect());
        let mut entries = Vec::new();
        for (file, (_, text)) in self.files.iter().enumerate() {
            entries.extend(yaml::entries(file, text, &mut report));
        }
        let mut config = Config::default();
        keys::apply(entries, &mut config, &mut report);
        for (place, what) in &self.problems {
            report.add(*place, what.clone());
        }
        let included = self.files.iter().skip(1).map(|(name, _)| name.into());
        config.included = included.chain(self.directories.iter().cloned()).collect();
        match report.finish() {
            (problems, true) => Err(problems),
            (warnings, false) => Ok(Loaded { config, warnings }),
        }
    }

    /// The files that the operator's file includes. Invalid values are refused later, by
    /// [`Sources::judge`].
    fn includes(&self) -> Vec<(Place, Include)> {
        let (name, text) = &self.files[0];
        let mut report = Report::new(vec![name.clone()]);
        let entries = yaml::entries(0, text, &mut report);
        let mut found = Vec::new();
        for entry in entries.iter().filter(|entry| entry.key == INCLUDE) {
            let mut setting = Setting {
                key: String::new(),
                node: &entry.node,
                report: &mut report,
            };
            for node in setting.nodes() {
                let include = setting.read(node, "", Include::new);
                found.extend(include.map(|include| (node.place, include)));
            }
        }
        found
    }

    fn follow(&mut self, place: Place, include: &Include) {
        let paths = match include.files() {
            Ok(paths) => paths,
            Err(error) => {
                let text = format!("key '{INCLUDE}': {error}");
                return self.problems.push((place, What::Error(text)));
            }
        };
        if include.pattern.is_some() {
            self.directories.push(include.directory.clone());
            if paths.is_empty() {
                let text = format!("key '{INCLUDE}': no file matches '{}'", include.text);
                self.problems.push((place, What::Warning(text)));
            }
        }
        for path in paths {
            if self.files.len() > MAX_FILES {
                let text = format!("key '{INCLUDE}': more than {MAX_FILES} files");
                return self.problems.push((place, What::Error(text)));
            }
            self.read_file(open_regular(&path), &path);
        }
    }

    fn read_file(&mut self, opened: io::Result<File>, path: &Path) {
        self.files
            .push((path.to_string_lossy().into_owned(), String::new()));
        let room: usize = MAX_BYTES - self.files.iter().map(|(_, text)| text.len()).sum::<usize>();
        let mut bytes = Vec::new();
        let read = opened.and_then(|file| file.take(room as u64 + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            let why = error.to_string();
            return self.fail(match error.raw_os_error() {
                Some(_) => What::Unreadable(why),
                None => What::Error(why),
            });
        }
        if bytes.len() > room {
            return self.fail(match self.files.len() {
                1 => too_large(""),
                _ => too_large(" in all files together"),
            });
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                if !text.is_empty() && !text.ends_with('\n') {
                    let warning = "the last line has no newline; if the file is truncated, \
                                   keys may be missing";
                    self.fail_at(text.lines().count(), What::Warning(warning.to_owned()));
                }
                self.files.last_mut().expect("this file").1 = text;
            }
            Err(error) => {
                let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                self.fail_at(line, What::Error("is not UTF-8 text".to_owned()));
            }
        }
    }

    fn fail(&mut self, what: What) {
        self.fail_at(0, what);
    }

    /// Records a problem of the last file.
    fn fail_at(&mut self, line: usize, what: What) {
        let file = self.files.len() - 1;
        self.problems.push((Place { file, line }, what));
    }
}

fn too_large(all: &str) -> What {
    What::Error(format!(
        "is too large; allowed: at most {MAX_BYTES} bytes{all}"
    ))
}

/// Opens a file that can be read without blocking: no pipe, no device.
fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file")),
    }
}
