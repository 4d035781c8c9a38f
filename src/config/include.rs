//! The values of `include`: files, and patterns of files in one directory.

use std::path::PathBuf;

use super::Glob;

pub(super) const INCLUDE: &str = "include";

/// A file to include, or a pattern of files in one directory.
pub(super) struct Include {
    pub text: String,
    pub directory: PathBuf,
    pub pattern: Option<Glob>,
}

impl Include {
    pub const ALLOWED: &str = "the path of a file, from the root, with a pattern only after the \
                               last '/', such as /etc/jabsocket.d/*.conf, or a list of them";

    pub fn new(text: &str) -> Option<Include> {
        let (directory, name) = text.rsplit_once('/')?;
        let is_pattern = |part: &str| part.contains(['*', '?', '[', '\\']);
        if !text.starts_with('/') || is_pattern(directory) || name.is_empty() {
            return None;
        }
        Some(Include {
            text: text.to_owned(),
            directory: format!("{directory}/").into(),
            pattern: is_pattern(name).then(|| Glob::new(name)),
        })
    }

    /// Returns the files, sorted by name. Patterns never match names that begin with a dot,
    /// because such files are often backups.
    pub fn files(&self) -> Result<Vec<PathBuf>, String> {
        let Some(pattern) = &self.pattern else {
            return Ok(vec![self.text.as_str().into()]);
        };
        let mut paths = Vec::new();
        let unreadable = |error| format!("'{}' cannot be read: {error}", self.directory.display());
        for entry in self.directory.read_dir().map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let text = name.to_string_lossy();
            if !text.starts_with('.') && pattern.matches(&text) {
                paths.push(self.directory.join(&name));
            }
        }
        paths.sort();
        Ok(paths)
    }
}
