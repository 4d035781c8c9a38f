//! Random numbers for choices that need no secrecy: the order of SRV records and of a drain, and
//! the turns to measure.

use std::cell::Cell;

thread_local! {
    /// The state of the generator; 0 until it is seeded.
    static STATE: Cell<u64> = const { Cell::new(0) };
}

/// A uniformly distributed number from 0 to `most`.
pub(super) fn random(most: u32) -> u32 {
    // Xorshift64*: OpenSSL takes 9,000 instructions and a system call for 8 bytes.
    let mut state = STATE.get();
    if state == 0 {
        state = seed();
    }
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    STATE.set(state);
    let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
    ((high * (u64::from(most) + 1)) >> 32) as u32
}

/// A seed that differs between workers, and is not 0.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness all workers choose alike, which RFC 2782 allows.
    let _ = openssl::rand::rand_bytes(&mut bytes);
    u64::from_ne_bytes(bytes) | 1
}

#[cfg(test)]
mod tests {
    use super::random;

    #[test]
    fn all_numbers_up_to_the_greatest_come_up_and_no_other() {
        let mut counts = [0; 5];
        for _ in 0..50_000 {
            counts[random(4) as usize] += 1;
        }
        // Ten standard deviations.
        assert!(
            counts.iter().all(|count| (9_000..11_000).contains(count)),
            "{counts:?}"
        );
        assert_eq!(random(0), 0);
        assert!((0..100).any(|_| random(u32::MAX) > u32::MAX / 2));
    }
}
