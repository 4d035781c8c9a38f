//! The hosts file, see hosts(5).
//!
//! Owns the text of the file and an index of its names, and reads the file again when it
//! has changed. Resolves `localhost` even without a file.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::file_start::first_lines;
use super::file_watch::FileWatch;

/// Maximum number of bytes that are read from the file; the rest is ignored. Lists of advertising
/// hosts have up to 6 MiB. All sessions wait while the file is read, 5 ms for each MiB.
const MAX_SIZE: usize = 8 << 20;
/// Maximum number of addresses per name.
const MAX_ADDRESSES: usize = 16;

pub struct Hosts {
    watch: FileWatch,
    text: Vec<u8>,
    /// The hash of each name, and the position of its line; sorted.
    index: Vec<(u32, u32)>,
    hashes: RandomState,
    /// The file is longer than the part that is read.
    is_cut: bool,
}

impl Hosts {
    pub fn new(path: PathBuf) -> Hosts {
        let mut hosts = Hosts {
            watch: FileWatch::new(path),
            text: Vec::new(),
            index: Vec::new(),
            hashes: RandomState::new(),
            is_cut: false,
        };
        hosts.read();
        hosts
    }

    /// Reads the file again if it has changed. Returns whether it has.
    pub fn refresh(&mut self, now_ms: u64) -> bool {
        let changed = self.watch.has_changed(now_ms);
        if changed {
            self.read();
        }
        changed
    }

    /// The addresses of a name, in the order of the file.
    pub fn find(&self, name: &str) -> Vec<IpAddr> {
        let hash = hash(&self.hashes, name.as_bytes());
        let first = self.index.partition_point(|(other, _)| *other < hash);
        let alike = self.index[first..].iter();
        let lines = alike
            .take_while(|(other, _)| *other == hash)
            .map(|(_, at)| first_line(&self.text[*at as usize..]).0);
        let mut found = Vec::new();
        for (address, mut names) in lines.filter_map(entry) {
            if names.any(|other| other.eq_ignore_ascii_case(name.as_bytes()))
                && !found.contains(&address)
                && found.len() < MAX_ADDRESSES
            {
                found.push(address);
            }
        }
        if found.is_empty() && is_localhost(name) {
            found = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        }
        found
    }

    /// Returns a note for the operator about the file, if any, only once.
    pub fn take_note(&mut self) -> Option<String> {
        std::mem::take(&mut self.is_cut).then(|| {
            format!(
                "{} is too large: only its first {} MiB are used",
                self.watch.path().display(),
                MAX_SIZE >> 20
            )
        })
    }

    fn read(&mut self) {
        // Drop the old text first, because both together would need twice the memory.
        self.text = Vec::new();
        self.index = Vec::new();
        (self.text, self.is_cut) = first_lines(self.watch.path(), MAX_SIZE);
        let mut at = 0;
        while at < self.text.len() {
            let (line, len) = first_line(&self.text[at..]);
            if let Some((_, names)) = entry(line) {
                let offset = at as u32;
                self.index
                    .extend(names.map(|name| (hash(&self.hashes, name), offset)));
            }
            at += len;
        }
        self.index.sort_unstable();
        self.index.dedup();
        self.index.shrink_to_fit();
    }
}

/// Whether a name always means this machine (RFC 6761, section 6.3).
pub fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// The first line, and its length including the newline.
fn first_line(text: &[u8]) -> (&[u8], usize) {
    match memchr::memchr(b'\n', text) {
        Some(end) => (&text[..end], end + 1),
        None => (text, text.len()),
    }
}

/// The address and the names of a line, if it has both.
fn entry(line: &[u8]) -> Option<(IpAddr, impl Iterator<Item = &[u8]>)> {
    let end = memchr::memchr(b'#', line).unwrap_or(line.len());
    let mut words = line[..end]
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let address = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    Some((address, words))
}

/// A hash that ignores case.
fn hash(hashes: &RandomState, name: &[u8]) -> u32 {
    let mut hasher = hashes.build_hasher();
    for byte in name {
        hasher.write_u8(byte.to_ascii_lowercase());
    }
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::fs;

    /// A file that is removed when this value is dropped.
    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str, text: &str) -> TestFile {
            let name = format!("jabsocket-hosts-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::write(&path, text).unwrap();
            TestFile(path)
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn found(hosts: &Hosts, name: &str) -> String {
        let found = hosts.find(name).into_iter();
        let found: Vec<_> = found.map(|address| address.to_string()).collect();
        found.join(" ")
    }

    #[test]
    fn names_are_found_as_in_hosts_5() {
        let text = "# 192.0.2.9 a\n\
            192.0.2.1\ta b\tC.Example # d\n\
            \n\
            2001:db8::1 a\r\n\
            no-address a\n\
            192.0.2.2\n  \
            192.0.2.3 a a\n\
            fe80::1%eth0 a\n\
            192.0.2.1 a\n\
            127.0.0.5 x.localhost\n\
            192.0.2.4 last";
        let file = TestFile::new("names", text);
        let hosts = Hosts::new(file.0.clone());
        for (name, expected) in [
            ("a", "192.0.2.1 2001:db8::1 192.0.2.3"),
            ("A", "192.0.2.1 2001:db8::1 192.0.2.3"),
            ("b", "192.0.2.1"),
            ("c.example", "192.0.2.1"),
            ("d", ""),
            ("C", ""),
            ("last", "192.0.2.4"),
            ("192.0.2.2", ""),
            ("", ""),
            ("localhost", "::1 127.0.0.1"),
            ("x.localhost", "127.0.0.5"),
        ] {
            assert_eq!(found(&hosts, name), expected, "{name:?}");
        }
    }

    #[test]
    fn a_large_file_is_read_once_until_it_changes() {
        let mut text = String::new();
        for at in 0..150_000 {
            let _ = writeln!(text, "10.{}.{}.1 host{at}.example", at >> 8 & 255, at & 255);
        }
        let file = TestFile::new("large", &text);
        let mut hosts = Hosts::new(file.0.clone());
        for at in 0..10_000 {
            assert!(!hosts.refresh(at * 10), "read again");
            let name = format!("host{}.example", at * 14);
            assert_eq!(hosts.find(&name).len(), 1, "{name}");
            assert_eq!(hosts.find("missing.example").len(), 0);
        }
        fs::write(&file.0, "192.0.2.1 host0.example").unwrap();
        // The file is checked at most once per second.
        assert!(!hosts.refresh(99_999));
        assert_eq!(found(&hosts, "host0.example"), "10.0.0.1");
        assert!(hosts.refresh(101_000));
        assert_eq!(found(&hosts, "host0.example"), "192.0.2.1");
        assert_eq!(found(&hosts, "host14.example"), "");
        assert!(!hosts.refresh(102_000));
        fs::remove_file(&file.0).unwrap();
        assert!(hosts.refresh(103_000));
        assert_eq!(found(&hosts, "host0.example"), "");
    }

    #[test]
    fn the_part_beyond_the_maximum_size_is_ignored() {
        let mut text = "192.0.2.1 first\n".to_owned();
        text.extend(std::iter::repeat_n("#\n", MAX_SIZE / 2));
        text.push_str("192.0.2.2 last\n");
        let file = TestFile::new("cut", &text);
        let mut hosts = Hosts::new(file.0.clone());
        assert_eq!(found(&hosts, "first"), "192.0.2.1");
        assert_eq!(found(&hosts, "last"), "");
        let note = hosts.take_note().expect("a note");
        assert!(note.ends_with("only its first 8 MiB are used"), "{note}");
        assert_eq!(hosts.take_note(), None);
    }
}
