//! A byte queue: append at the end, take from the front.
//!
//! Holds bytes that wait for a socket or for the rest of a unit. An empty queue frees its
//! memory, so an idle session holds none.

use std::borrow::Cow;

/// Initial capacity: enough for the frame header and stanza of a short message.
const FIRST_ROOM: usize = 1000;

#[cfg(test)]
thread_local! {
    static COPIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// The number of bytes that this thread has copied into queues.
#[cfg(test)]
pub(crate) fn copied_bytes() -> usize {
    COPIED.get()
}

/// A growable queue of bytes with a read offset. An empty queue takes one word.
#[derive(Debug, Default)]
pub struct Buf(Option<Box<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    data: Vec<u8>,
    start: usize,
}

impl Buf {
    /// Creates an empty queue without allocating.
    pub const fn new() -> Self {
        Buf(None)
    }

    /// Returns the number of waiting bytes.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether no bytes wait.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of memory held, including unused capacity.
    pub fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.data.capacity())
    }

    /// Returns the waiting bytes, oldest first.
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Some(bytes) => &bytes.data[bytes.start..],
            None => &[],
        }
    }

    /// Gives an empty queue room for this many bytes, which are about to be appended.
    pub fn expect(&mut self, room: usize) {
        if self.0.is_none() {
            self.0.insert(Box::default()).make_room(room);
        }
    }

    /// Appends `bytes`. Reuses the space of consumed bytes before it grows.
    pub fn extend(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_default();
        if queue.data.capacity() - queue.data.len() < bytes.len() {
            queue.make_room(bytes.len());
        }
        queue.data.extend_from_slice(bytes);
        #[cfg(test)]
        COPIED.set(COPIED.get() + bytes.len());
    }

    /// Appends `bytes`, without a copy if they are owned and the queue is empty. An empty queue
    /// gets at least this much `room`.
    pub fn append(&mut self, bytes: Cow<'_, [u8]>, room: usize) {
        match bytes {
            Cow::Owned(data) if self.0.is_none() && data.capacity() < 2 * data.len() => {
                self.0 = Some(Box::new(Bytes { data, start: 0 }));
            }
            _ if bytes.is_empty() => {}
            _ => {
                self.expect(room.max(bytes.len()));
                self.extend(&bytes);
            }
        }
    }

    /// Removes `n` bytes from the front.
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

    /// Drops all bytes and frees the memory.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Returns all bytes and leaves the queue empty.
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
    /// Makes room for `extra` bytes. Moves the waiting bytes to the front, if that copies no more
    /// bytes than it frees.
    #[cold]
    fn make_room(&mut self, extra: usize) {
        let waiting = self.data.len() - self.start;
        if self.start > 0 && self.start >= waiting {
            self.data.drain(..self.start);
            self.start = 0;
        }
        match self.data.capacity() {
            0 => self.data.reserve_exact(extra.max(FIRST_ROOM)),
            _ => self.data.reserve(extra),
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
    fn what_is_expected_is_appended_without_growing() {
        let mut buf = Buf::new();
        buf.expect(3000);
        assert_eq!((buf.len(), buf.capacity()), (0, 3000));
        for _ in 0..3 {
            buf.extend(&[1; 1000]);
            buf.expect(10_000);
        }
        assert_eq!((buf.len(), buf.capacity()), (3000, 3000));
        buf.consume(3000);
        assert_eq!(buf.capacity(), 0);
    }

    #[test]
    fn takes_owned_bytes_without_a_copy() {
        let bytes = vec![1; 3000];
        let address = bytes.as_ptr();
        let mut buf = Buf::new();
        buf.append(Vec::new().into(), 5000);
        assert_eq!(buf.capacity(), 0);
        buf.append(bytes.into(), 5000);
        assert_eq!((buf.as_slice().as_ptr(), buf.capacity()), (address, 3000));
        buf.append(vec![2].into(), 5000);
        assert_eq!((buf.len(), buf.take().pop()), (3001, Some(2)));
        // Memory for far more bytes is not kept.
        buf.append(Vec::with_capacity(9000).into(), 0);
        let mut wide = Vec::with_capacity(9000);
        wide.extend([1; 4000]);
        buf.append(wide.into(), 5000);
        assert_eq!((buf.len(), buf.capacity()), (4000, 5000));
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
