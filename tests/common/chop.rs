//! Feeds one fixture in every way the network may cut it.

use std::fmt::Debug;

/// Runs `run` on `fixture` in one piece, byte by byte, and in three pieces at
/// every two cuts (empty pieces included). All outcomes must be the same; it is
/// returned.
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
