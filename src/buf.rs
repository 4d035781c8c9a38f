//! A byte queue: append at the end, take from the front.
//!
//! Owns the bytes that wait for a socket or for the rest of a unit. It gives
//! its memory back as soon as it is empty, so that an idle session holds none.

/// A growable queue of bytes with a read offset.
#[derive(Debug, Default)]
pub struct Buf {
    data: Vec<u8>,
    start: usize,
}

impl Buf {
    /// An empty queue; allocates nothing.
    pub const fn new() -> Self {
        Buf {
            data: Vec::new(),
            start: 0,
        }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, used or not.
    pub fn capacity(&self) -> usize {
        self.data.capacity()
    }

    /// The waiting bytes, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// The waiting bytes, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.data[self.start..]
    }

    /// Appends `bytes`. Space that was read already is used again before the
    /// queue grows.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.data.extend_from_slice(bytes);
    }

    /// Appends one byte.
    pub fn push(&mut self, byte: u8) {
        self.extend(&[byte]);
    }

    /// Takes `n` bytes from the front.
    ///
    /// # Panics
    /// If fewer than `n` bytes wait.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed more bytes than wait");
        self.start += n;
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops the newest bytes until `len` are left.
    pub fn truncate(&mut self, len: usize) {
        self.data.truncate(self.start + len);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops all bytes and gives the memory back.
    pub fn clear(&mut self) {
        *self = Buf::new();
    }

    /// Takes all bytes out, leaving the queue empty.
    pub fn take(&mut self) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.data);
        all.drain(..self.start);
        self.start = 0;
        all
    }

    /// Moves the waiting bytes to the front when that avoids growing and costs
    /// no more than the space it wins.
    fn make_room(&mut self, extra: usize) {
        let spare = self.data.capacity() - self.data.len();
        if self.start > 0 && spare < extra && self.start >= self.len() {
            self.data.drain(..self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_returns_its_memory() {
        let mut buf = Buf::new();
        buf.extend(b"hello ");
        buf.extend(b"world");
        buf.consume(6);
        assert_eq!(buf.as_slice(), b"world");
        buf.push(b'!');
        assert_eq!(buf.take(), b"world!");
        assert_eq!(buf.capacity(), 0);
        buf.extend(&[7; 4096]);
        buf.consume(4096);
        assert_eq!((buf.len(), buf.capacity()), (0, 0));
    }

    #[test]
    fn reuses_space_already_read() {
        let mut buf = Buf::new();
        buf.extend(&[1; 1000]);
        for _ in 0..1000 {
            buf.consume(900);
            buf.extend(&[2; 900]);
        }
        assert_eq!(buf.len(), 1000);
        assert!(buf.capacity() < 8192, "grew to {}", buf.capacity());
    }

    #[test]
    fn truncate_drops_the_newest() {
        let mut buf = Buf::new();
        buf.extend(b"abcdef");
        buf.consume(2);
        buf.truncate(3);
        assert_eq!(buf.as_slice(), b"cde");
        buf.truncate(0);
        assert_eq!(buf.capacity(), 0);
    }

    #[test]
    #[should_panic(expected = "consumed more")]
    fn refuses_to_consume_what_is_not_there() {
        Buf::new().consume(1);
    }
}
