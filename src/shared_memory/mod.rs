//! Memory that the processes of one daemon share, mapped before the fork.
//!
//! The memory is an array of words, initially zero. It takes physical memory only where it is
//! written, and is never unmapped. Every word has one writer at a time. Reading and writing
//! need no system calls.

pub(crate) mod recent_lines;

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// The longest [`SharedText`], in bytes.
const MAX_TEXT: usize = 4 << 20;
/// Words in each of its two halves.
const HALF: usize = words_for(MAX_TEXT);
/// Maximum number of attempts to read a text that is being overwritten.
const TRIES: usize = 4;

/// Words in shared memory.
pub(crate) type Words = &'static [AtomicU64];

/// Maps `count` words.
///
/// # Errors
/// There is no memory.
#[expect(unsafe_code, reason = "the crate marks mmap so: see SAFETY")]
pub(crate) fn map(count: usize) -> io::Result<Words> {
    let size = count.checked_mul(size_of::<AtomicU64>());
    let size = size.and_then(NonZeroUsize::new);
    let size = size.ok_or(io::ErrorKind::InvalidInput)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let start = unsafe { mmap_anonymous(None, size, access, flags) }?;
    // SAFETY: the mapping is `count` zeroed words long, aligned to a page, and is never
    // unmapped. Every process that has it accesses it only as these atomics.
    Ok(unsafe { std::slice::from_raw_parts(start.cast().as_ptr(), count) })
}

/// Returns the number of words needed for `bytes` bytes and their length.
pub(crate) const fn words_for(bytes: usize) -> usize {
    1 + bytes.div_ceil(8)
}

/// Stores bytes and their length in `words`; false if there is no room.
pub(crate) fn write_bytes(words: &[AtomicU64], bytes: &[u8]) -> bool {
    if words_for(bytes.len()) > words.len() {
        return false;
    }
    for (word, chunk) in words[1..].iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(padded), Relaxed);
    }
    words[0].store(bytes.len() as u64, Relaxed);
    true
}

/// Returns the bytes that [`write_bytes`] stored.
pub(crate) fn read_bytes(words: &[AtomicU64]) -> Vec<u8> {
    let length = usize::try_from(words[0].load(Relaxed)).unwrap_or(usize::MAX);
    let stored = words[1..].iter().take(length.div_ceil(8));
    let mut bytes: Vec<u8> = stored
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

/// A text that one process writes and others read.
///
/// The two halves are written alternately, so readers get a whole text while the next is
/// written.
#[derive(Clone, Copy)]
pub struct SharedText(Words);

impl SharedText {
    /// Maps memory for a text, which is not yet written.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new() -> io::Result<SharedText> {
        map(1 + 2 * HALF).map(SharedText)
    }

    fn half(self, version: u64) -> &'static [AtomicU64] {
        &self.0[1 + (version % 2) as usize * HALF..][..HALF]
    }

    /// Replaces the text.
    ///
    /// # Errors
    /// It is too long.
    pub fn write(self, text: &str) -> io::Result<()> {
        let version = self.0[0].load(Relaxed) + 1;
        // A reader that sees a word written below also sees the previous version number, and so
        // notices that its half is being overwritten.
        fence(Release);
        if !write_bytes(self.half(version), text.as_bytes()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0[0].store(version, Release);
        Ok(())
    }

    /// Returns the last text written, if any.
    pub fn read(self) -> Option<Vec<u8>> {
        (0..TRIES).find_map(|_| {
            let version = self.0[0].load(Acquire);
            let bytes = read_bytes(self.half(version));
            fence(Acquire);
            (version > 0 && self.0[0].load(Relaxed) == version).then_some(bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_were_written() {
        let words = map(3).unwrap();
        assert_eq!(read_bytes(words), b"");
        for bytes in [&b"sixteen bytes..."[..], b"", b"nine byte"] {
            assert!(write_bytes(words, bytes));
            assert_eq!(read_bytes(words), bytes);
        }
        assert!(!write_bytes(words, &[b'x'; 17]));
        assert_eq!(read_bytes(words), b"nine byte");
    }

    #[test]
    fn a_reader_gets_a_whole_text_while_the_next_is_written() {
        let text = SharedText::new().unwrap();
        assert_eq!(text.read(), None);
        let writer = std::thread::spawn(move || {
            for n in 0..2000 {
                text.write(&format!("{n} ").repeat(500)).unwrap();
            }
        });
        let mut last = 0;
        while last < 1999 {
            // None: the text is not yet written, or every attempt met an overwrite.
            let Some(bytes) = text.read() else { continue };
            let read = String::from_utf8(bytes).unwrap();
            let mut numbers = read.split(' ');
            let first: u32 = numbers.next().unwrap().parse().unwrap();
            assert!(first >= last);
            assert_eq!(read, format!("{first} ").repeat(500));
            last = first;
        }
        writer.join().unwrap();
        assert!(text.write(&"x".repeat(MAX_TEXT)).is_ok());
        assert!(text.write(&"x".repeat(MAX_TEXT + 9)).is_err());
        assert_eq!(text.read().map(|bytes| bytes.len()), Some(MAX_TEXT));
    }
}
