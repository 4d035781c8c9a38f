//! Reads a bounded part of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Returns the complete lines in the first `max` bytes of a file, and whether the file is
/// larger. A file that cannot be read has no lines.
pub fn first_lines(path: &Path, max: usize) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What was read before an error is still used.
        let _ = file.take(max as u64 + 1).read_to_end(&mut bytes);
    }
    let is_larger = bytes.len() > max;
    if is_larger {
        let end = memchr::memrchr(b'\n', &bytes);
        bytes.truncate(end.map_or(0, |end| end + 1));
    }
    (bytes, is_larger)
}
