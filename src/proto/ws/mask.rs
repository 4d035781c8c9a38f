//! Masks and unmasks the payload of a frame.
//!
//! Works in place (RFC 6455 5.3) and keeps no state: the caller tracks the position in the
//! frame.

/// Masks or unmasks `payload` in place; the operation is its own inverse. `phase` is the number
/// of payload bytes of the frame before these, or that number modulo 4.
pub fn unmask(payload: &mut [u8], mut key: [u8; 4], phase: usize) {
    key.rotate_left(phase % 4);
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasks_the_example_of_the_rfc() {
        let mut hello = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut hello, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&hello, b"Hello");
    }

    #[test]
    fn pieces_add_up_to_the_whole() {
        let key = [1, 2, 4, 8];
        let whole: Vec<u8> = (0..40u8).map(|i| i ^ key[i as usize % 4]).collect();
        for first in 0..whole.len() {
            for second in first..whole.len() {
                let mut bytes = whole.clone();
                unmask(&mut bytes[..first], key, 0);
                unmask(&mut bytes[first..second], key, first);
                unmask(&mut bytes[second..], key, second);
                assert!(bytes.iter().copied().eq(0..40), "{first} {second}");
            }
        }
    }
}
