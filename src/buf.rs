//! A byte queue: append at the end, take from the front.
//!
//! Owns the bytes that wait for a socket or for the rest of a unit. It gives
//! its memory back as soon as it is empty, so that an idle session holds none.

/// Room that a queue begins with: header and stanza of a message that is not
/// long fit in without growing.
const FIRST_ROOM: usize = 1000;

/// A growable queue of bytes with a read offset. Empty it is one word.
#[derive(Debug, Default)]
pub struct Buf(Option<Box<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    data: Vec<u8>,
    start: usize,
}

impl Buf {
    /// An empty queue; allocates nothing.
    pub const fn new() -> Self {
        Buf(None)
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, used or not.
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.data.capacity())
    }

    /// The waiting bytes, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Some(bytes) => &bytes.data[bytes.start..],
            None => &[],
        }
    }

    /// Appends `bytes`. Space that was read already is used again before the
    /// queue grows.
    pub fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_default();
        queue.make_room(bytes.len());
        queue.data.extend_from_slice(bytes);
    }

    /// Takes `n` bytes from the front.
    ///
    /// # Panics
    /// If fewer than `n` bytes wait.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.len(), "consumed more bytes than wait");
        if let Some(bytes) = &mut self.0 {
            bytes.start += n;
        }
        if self.is_empty() {
            self.clear();
        }
    }

    /// Drops all bytes and gives the memory back.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Takes all bytes out, leaving the queue empty.
    pub fn take(&mut self) -> Vec<u8> {
        let Some(bytes) = self.0.take() else {
            return Vec::new();
        };
        let Bytes { mut data, start } = *bytes;
        data.drain(..start);
        data
    }
}

impl Bytes {
    /// Moves the waiting bytes to the front when that avoids growing and costs
    /// no more than the space it wins.
    fn make_room(&mut self, extra: usize) {
        let waiting = self.data.len() - self.start;
        let spare = self.data.capacity() - self.data.len();
        if self.start > 0 && spare < extra && self.start >= waiting {
            self.data.drain(..self.start);
            self.start = 0;
        }
        if self.data.capacity() == 0 {
            self.data.reserve_exact(extra.max(FIRST_ROOM));
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
        buf.extend(b"!");
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
    #[should_panic(expected = "consumed more")]
    fn refuses_to_consume_what_is_not_there() {
        Buf::new().consume(1);
    }
}
