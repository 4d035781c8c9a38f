//! Looks at eight bytes at a time, as one number.

/// The word with this byte in all places.
const fn all(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Returns how many bytes at the front of `bytes` are printable ASCII other than `<`, `&` and
/// `stop`, which must be ASCII, too.
pub(super) fn run(bytes: &[u8], stop: u8) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let word = u64::from_le_bytes(*word);
        // Each difference is negative, and so sets the highest bit of its byte, for a byte that
        // ends the run. It may also do that for later bytes, because it borrows from them.
        let is = |byte| (word ^ all(byte)).wrapping_sub(all(1));
        let control = word.wrapping_sub(all(b' '));
        let ends = (word | control | is(b'<') | is(b'&') | is(stop)) & all(0x80);
        if ends != 0 {
            return at + ends.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let goes_on = |byte: &&u8| {
        (b' '..=0x7f).contains(*byte) && !matches!(**byte, b'<' | b'&') && **byte != stop
    };
    at + bytes[at..].iter().take_while(goes_on).count()
}

/// Returns the first `len` bytes of `bytes`, at least one and at most eight, as a number. Zeros
/// stand for bytes that are missing.
pub(super) fn word(bytes: &[u8], len: usize) -> u64 {
    let word = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        word
    });
    u64::from_le_bytes(word) & (u64::MAX >> (64 - 8 * len.min(8)))
}

/// Whether both begin with the same name of this length, which is not 0.
pub(super) fn share_name(one: &[u8], other: &[u8], len: usize) -> bool {
    match len {
        ..=8 => word(one, len) == word(other, len),
        _ => one.get(..len) == other.get(..len),
    }
}
