//! What the fuzz targets share: how an input is cut into pieces.
//!
//! The cuts follow from the bytes themselves, so that an input is plain traffic
//! and a find repeats.

/// Cuts `input` at random into pieces, none of them empty.
pub fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = Random::seeded(input);
    // Dribble, segments of all lengths, or little more than one cut.
    let longest = [3, 40, input.len().max(1)][random.below(3)];
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(1 + random.below(rest.len().min(longest)));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A small generator of pseudo-random numbers.
pub struct Random(u64);

impl Random {
    /// A generator that depends on all of `input`.
    pub fn seeded(input: &[u8]) -> Random {
        let seed = input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random(seed | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % n as u64) as usize
    }
}
