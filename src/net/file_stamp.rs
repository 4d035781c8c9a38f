//! Tells whether a file is still the same, without reading it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Values that change with a file's contents: device, inode, size, and the times of the last
/// change of contents and inode, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileStamp([i64; 7]);

impl FileStamp {
    /// Returns `None` if there is no such file or directory.
    pub fn of(path: &Path) -> Option<FileStamp> {
        let file = fs::metadata(path).ok()?;
        Some(FileStamp([
            file.dev().cast_signed(),
            file.ino().cast_signed(),
            file.size().cast_signed(),
            file.mtime(),
            file.mtime_nsec(),
            file.ctime(),
            file.ctime_nsec(),
        ]))
    }

    /// Returns the stamp of `path` and, if it is a directory, those of the files in it, which may
    /// be overwritten without a change to the directory. A stamp takes 3 µs.
    pub fn of_all(path: &Path) -> Vec<Option<FileStamp>> {
        let files = fs::read_dir(path).into_iter().flatten().flatten();
        let mut stamps: Vec<_> = files.map(|file| FileStamp::of(&file.path())).collect();
        // A directory lists its files in any order.
        stamps.sort_unstable();
        stamps.push(FileStamp::of(path));
        stamps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_a_directory_may_change_without_the_directory() {
        let [directory, elsewhere] = ["directory", "elsewhere"].map(|name| {
            std::env::temp_dir().join(format!("jabsocket-{name}-{}", std::process::id()))
        });
        fs::create_dir(&directory).unwrap();
        let file = directory.join("file");
        fs::write(&file, "one").unwrap();
        fs::write(&elsewhere, "one").unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.join("link")).unwrap();
        let own = || FileStamp::of(&directory);
        let (first, before) = (own(), FileStamp::of_all(&directory));
        assert_eq!(
            (before.len(), FileStamp::of_all(&directory)),
            (3, before.clone())
        );
        let mut seen = vec![before];
        for path in [&file, &elsewhere] {
            // Of another length, so that it differs even if the clock of the file system stands.
            fs::write(path, "three").unwrap();
            let now = FileStamp::of_all(&directory);
            assert!(own() == first && !seen.contains(&now));
            seen.push(now);
        }
        fs::remove_dir_all(&directory).unwrap();
        fs::remove_file(&elsewhere).unwrap();
        assert_eq!(FileStamp::of_all(&directory), [None]);
    }
}
