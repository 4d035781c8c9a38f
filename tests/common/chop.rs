//! Feeds a fixture in every way in which the network may split it.

use std::fmt::Debug;

/// Runs `run` on `fixture` in one piece, byte by byte, and in three pieces for every pair
/// of cuts (empty pieces included). Fails unless all outcomes are the same; returns the
/// outcome.
pub fn chop<T: PartialEq + Debug>(fixture: &[u8], mut run: impl FnMut(&[&[u8]]) -> T) -> T {
    let whole = run(&[fixture]);
    let bytes: Vec<&[u8]> = fixture.chunks(1).collect();
    assert_eq!(run(&bytes), whole, "byte by byte");
    for first in 0..=fixture.len() {
        for second in first..=fixture.len() {
            let pieces = [
                &fixture[..first],
                &fixture[first..second],
                &fixture[second..],
            ];
            assert_eq!(run(&pieces), whole, "cut at {first} and {second}");
        }
    }
    whole
}
