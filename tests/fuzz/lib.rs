//! Code that the fuzz targets share: splits an input into pieces.
//!
//! The bytes of the input determine the cuts. An input is therefore plain traffic, and a
//! failure is reproducible.

/// Splits `input` at random into pieces that are not empty.
pub fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = Random::seeded(input);
    // Tiny pieces, pieces of all lengths, or only a few cuts.
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
    /// A generator whose seed is a hash of `input`.
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
