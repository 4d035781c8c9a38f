//! Pages that the processes of one family show each other.
//!
//! Owns one memory file, which costs one descriptor and the memory of what is
//! written. Each process has a place in it with two halves, and writes them in
//! turn, so that one is whole whatever happens to the writer; a checksum tells
//! whether. Reading and writing are calls to the kernel that never wait. Knows
//! nothing of what is on a page.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};

/// The longest page, in bytes.
pub const MAX_PAGE: usize = HALF as usize - HEADER;

/// A place's half, header included.
const HALF: u64 = 4 << 20;
/// Number of the page, length, checksum: eight bytes each.
const HEADER: usize = 24;
/// A byte for each place, before the places: whether somebody is there.
const MARKS: u64 = 4096;
/// The master's mark: the last one, which belongs to no place.
const MASTER_MARK: u64 = MARKS - 1;
/// How often a page is read anew that was being written.
const TRIES: usize = 4;

/// The pages of all.
pub struct Board {
    file: File,
    places: usize,
}

/// Who writes in a place.
pub struct Writer {
    board: Rc<Board>,
    place: usize,
    /// Number of the page shown last; even ones are in the first half.
    number: u64,
    marked: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Header {
    number: u64,
    length: u64,
    checksum: u64,
}

impl Board {
    /// An empty board with so many places. Its name appears among the descriptors of the
    /// process.
    ///
    /// # Errors
    /// The kernel has no such files, no descriptor is left, or the process may
    /// not write a file as large as this may become.
    pub fn new(name: &str, places: usize) -> io::Result<Board> {
        let size = half_at(places, 0);
        let (limit, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
        if limit < size || places as u64 > MASTER_MARK {
            // The kernel would end the process.
            return Err(io::Error::other(format!(
                "the limit on the size of files (ulimit -f) is below {} MiB",
                size.div_ceil(1 << 20)
            )));
        }
        let name = format!("jabsocket-{name}");
        let file = memfd_create(name.as_str(), MFdFlags::MFD_CLOEXEC)?.into();
        Ok(Board { file, places })
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places
    }

    /// The last page that was shown whole at a place.
    pub fn read(&self, place: usize) -> Option<Vec<u8>> {
        self.newest(place).map(|(_, page)| page)
    }

    /// Whether somebody is there.
    pub fn is_taken(&self, place: usize) -> bool {
        let mut mark = [0];
        let read = self.file.read_exact_at(&mut mark, place as u64);
        read.is_ok() && mark == [1]
    }

    /// Notes that nobody is there any more. What was shown stays.
    pub fn vacate(&self, place: usize) {
        let _ = self.file.write_all_at(&[0], place as u64);
    }

    /// Notes whether the master has refused the configuration at the last reload.
    pub fn note_refused_reload(&self, refused: bool) {
        let _ = self.file.write_all_at(&[u8::from(refused)], MASTER_MARK);
    }

    /// Whether it has.
    pub fn has_refused_reload(&self) -> bool {
        let mut mark = [0];
        let read = self.file.read_exact_at(&mut mark, MASTER_MARK);
        read.is_ok() && mark == [1]
    }

    /// Takes a place, and what was shown there last. It counts as taken once
    /// something is shown.
    pub fn take(self: &Rc<Board>, place: usize) -> (Writer, Option<Vec<u8>>) {
        let (number, page) = self.newest(place).unzip();
        let writer = Writer {
            board: Rc::clone(self),
            place,
            number: number.unwrap_or(0),
            marked: false,
        };
        (writer, page)
    }

    fn newest(&self, place: usize) -> Option<(u64, Vec<u8>)> {
        for _ in 0..TRIES {
            let mut headers = [0, 1].map(|half| self.header(place, half));
            headers.sort_by_key(|header| std::cmp::Reverse(header.map(|h| h.number)));
            for header in headers.into_iter().flatten() {
                if let Some(page) = self.page(place, header) {
                    return Some((header.number, page));
                }
            }
            if headers == [None; 2] {
                return None;
            }
        }
        None
    }

    fn header(&self, place: usize, half: u64) -> Option<Header> {
        let mut bytes = [0; HEADER];
        let at = half_at(place, half);
        self.file.read_exact_at(&mut bytes, at).ok()?;
        let [number, length, checksum] = [0, 8, 16].map(|at| word(&bytes[at..at + 8]));
        // A number in the other half's header was never written.
        (number > 0 && number % 2 == half).then_some(Header {
            number,
            length,
            checksum,
        })
    }

    fn page(&self, place: usize, header: Header) -> Option<Vec<u8>> {
        let length = usize::try_from(header.length).ok()?;
        if length > MAX_PAGE {
            return None;
        }
        let mut page = vec![0; length];
        let at = half_at(place, header.number % 2) + HEADER as u64;
        self.file.read_exact_at(&mut page, at).ok()?;
        (checksum(header.number, &page) == header.checksum).then_some(page)
    }
}

impl Writer {
    /// Shows a page from now on.
    ///
    /// # Errors
    /// It is too long, or there is no memory; the page before stays.
    pub fn show(&mut self, page: &[u8]) -> io::Result<()> {
        if page.len() > MAX_PAGE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let number = self.number + 1;
        let at = half_at(self.place, number % 2);
        let file = &self.board.file;
        file.write_all_at(page, at + HEADER as u64)?;
        let header = [number, page.len() as u64, checksum(number, page)];
        file.write_all_at(header.map(u64::to_le_bytes).as_flattened(), at)?;
        self.number = number;
        if !self.marked {
            file.write_all_at(&[1], self.place as u64)?;
            self.marked = true;
        }
        Ok(())
    }

    /// The place that it writes in.
    pub fn place(&self) -> usize {
        self.place
    }

    /// The board that the place is on.
    pub fn board(&self) -> &Rc<Board> {
        &self.board
    }
}

/// Where a half begins.
fn half_at(place: usize, half: u64) -> u64 {
    MARKS + (2 * place as u64 + half) * HALF
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// Tells pages that are not whole; no protection against who wants to forge one.
fn checksum(number: u64, page: &[u8]) -> u64 {
    let mix = |sum: u64, word: u64| {
        (sum ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    };
    let start = mix(mix(0, number), page.len() as u64);
    page.chunks(8)
        .fold(start, |sum, chunk| mix(sum, word(chunk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_apart_and_show_the_last_page() {
        let board = Rc::new(Board::new("test", 2).unwrap());
        assert_eq!((board.read(0), board.is_taken(0)), (None, false));
        let (mut first, before) = board.take(0);
        assert_eq!((before, board.is_taken(0)), (None, false));
        for page in [&b"a"[..], b"", b"longer than eight bytes"] {
            first.show(page).unwrap();
            assert_eq!(board.read(0).as_deref(), Some(page));
        }
        assert!(board.is_taken(0) && !board.is_taken(1));
        assert_eq!(board.read(1), None);
        board.vacate(0);
        assert!(!board.is_taken(0));
        let (mut next, before) = board.take(0);
        assert_eq!(before.as_deref(), Some(&b"longer than eight bytes"[..]));
        next.show(b"b").unwrap();
        assert_eq!(board.read(0).as_deref(), Some(&b"b"[..]));
        assert!(board.is_taken(0));
        let long = vec![0; MAX_PAGE + 1];
        assert!(next.show(&long).is_err());
        assert_eq!(board.read(0).as_deref(), Some(&b"b"[..]));
    }

    #[test]
    fn a_page_that_is_not_whole_is_passed_over() {
        let board = Rc::new(Board::new("test", 1).unwrap());
        let (mut writer, _) = board.take(0);
        writer.show(b"first").unwrap();
        writer.show(b"second").unwrap();
        // As a writer leaves it that is killed between two calls.
        let second = half_at(0, 0) + HEADER as u64;
        board.file.write_all_at(b"sec", second).unwrap();
        assert_eq!(board.read(0).as_deref(), Some(&b"second"[..]));
        board.file.write_all_at(b"th", second).unwrap();
        assert_eq!(board.read(0).as_deref(), Some(&b"first"[..]));
        // The next in this place spares the whole one.
        let (mut next, before) = board.take(0);
        assert_eq!(before.as_deref(), Some(&b"first"[..]));
        next.show(b"third").unwrap();
        assert_eq!(board.read(0).as_deref(), Some(&b"third"[..]));
        let first = half_at(0, 1) + HEADER as u64;
        assert_eq!(next.number, 2);
        let mut kept = [0; 5];
        board.file.read_exact_at(&mut kept, first).unwrap();
        assert_eq!(&kept, b"first");
    }
}
