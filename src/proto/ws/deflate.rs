//! permessage-deflate: inflates and compresses messages (RFC 7692 7.2).
//!
//! All connections of a worker share the inflater and the compressors: no context is kept
//! between messages, so a connection needs no memory between them. A message is inflated once
//! it is complete, in slices, over several turns if it is large, and never beyond its limit.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Error;
use crate::meter::{INFLATED_BYTES, Meter};

/// The bytes that are omitted at the end of a compressed message (RFC 7692 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// At this level a chat message shrinks to 0.33 of its size. The usual level, 6, gives 0.30,
/// but takes 1.5 times as long, and for large messages 8 times as long.
const LEVEL: Compression = Compression::new(2);

/// The largest window of DEFLATE, as a power of 2.
const MAX_WINDOW_BITS: u8 = 15;

/// The smallest window that the library supports, as a power of 2. With it, the library refers
/// back at most 250 bytes, so a peer with a window of 256 bytes can inflate the result.
const MIN_WINDOW_BITS: u8 = 9;

/// Maximum memory of a message that is kept for the next one.
const MAX_KEPT: usize = 64 << 10;

/// The library's memory for a compressor with the largest window, and for an inflater.
const COMPRESSOR_BYTES: usize = 320 << 10;
const INFLATER_BYTES: usize = 48 << 10;

/// Bytes of payload inflated at once.
const SLICE: usize = 16 << 10;
/// Units of the meter for a final block, after which the inflater is reset.
const RESET: usize = 8;
/// Minimum room for inflated bytes; the room grows with the message.
const MIN_ROOM: usize = 1 << 10;
const MAX_ROOM: usize = 64 << 10;

/// Inflates and compresses the messages of any number of connections.
#[derive(Default)]
pub struct Codec {
    inflater: Option<Decompress>,
    /// One for each size of window, from the smallest.
    compressors: [Option<Compress>; (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1) as usize],
    inflated: Vec<u8>,
    compressed: Vec<u8>,
}

/// A message that is being inflated.
pub struct Inflation {
    inflater: Decompress,
    /// Bytes of the payload and the [`TAIL`] that the inflater has consumed.
    fed: usize,
    /// The message, and room after it.
    message: Vec<u8>,
    len: usize,
}

impl Codec {
    /// Inflates the message with this `payload`. `max_size` is the maximum length of the
    /// message in bytes; 0 = no limit. Returns `None` if this must continue in another turn;
    /// `begun` then keeps the state. The caller returns the message with [`Codec::recycle`].
    ///
    /// # Errors
    /// The message is too large, or the payload is not DEFLATE.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        max_size: u64,
        begun: &mut Option<Inflation>,
        meter: &mut Meter,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut inflation = begun.take().unwrap_or_else(|| self.begin());
        let done = inflation.proceed(payload, max_size, meter);
        if done == Ok(false) {
            *begun = Some(inflation);
            return Ok(None);
        }
        self.inflater = Some(inflation.inflater);
        match done {
            Ok(_) => {
                inflation.message.truncate(inflation.len);
                Ok(Some(inflation.message))
            }
            Err(error) => {
                self.recycle(inflation.message);
                Err(error)
            }
        }
    }

    fn begin(&mut self) -> Inflation {
        let inflater = self.inflater.take();
        let mut inflater = inflater.unwrap_or_else(|| Decompress::new(false));
        inflater.reset(false);
        Inflation {
            inflater,
            fed: 0,
            message: std::mem::take(&mut self.inflated),
            len: 0,
        }
    }

    /// Takes back a message, to reuse its memory.
    pub fn recycle(&mut self, mut message: Vec<u8>) {
        message.clear();
        message.shrink_to(MAX_KEPT);
        self.inflated = message;
    }

    /// Returns the bytes of memory that the codec holds.
    pub fn memory(&self) -> usize {
        let compressor = |(at, made): (usize, &Option<Compress>)| match made {
            Some(_) => COMPRESSOR_BYTES << at >> (self.compressors.len() - 1),
            None => 0,
        };
        let compressors = self.compressors.iter().enumerate().map(compressor);
        let inflater = self.inflater.as_ref().map_or(0, |_| INFLATER_BYTES);
        let buffers = self.inflated.capacity() + self.compressed.capacity();
        compressors.sum::<usize>() + inflater + buffers
    }

    /// Compresses the message made of `parts`. `window_bits` is the client's limit on our
    /// window, a power of 2 from 8 to 15 (RFC 7692 7.1.2.1). Returns `None` if the result is
    /// not smaller.
    pub fn compress(&mut self, parts: &[&[u8]], window_bits: Option<u8>) -> Option<&[u8]> {
        let bits = window_bits.unwrap_or(MAX_WINDOW_BITS);
        let bits = bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
        let compressor = self.compressors[usize::from(bits - MIN_WINDOW_BITS)]
            .get_or_insert_with(|| Compress::new_with_window_bits(LEVEL, false, bits));
        compressor.reset();
        let out = &mut self.compressed;
        out.clear();
        out.shrink_to(MAX_KEPT);
        let len = parts.iter().map(|part| part.len()).sum();
        for part in parts {
            compress(compressor, part, FlushCompress::None, out)?;
        }
        compress(compressor, &[], FlushCompress::Sync, out)?;
        let payload = out.strip_suffix(&TAIL)?;
        (payload.len() < len).then_some(payload)
    }
}

impl Inflation {
    /// Returns the number of bytes of the message so far.
    pub(crate) fn held(&self) -> usize {
        self.len
    }

    /// Returns the bytes of memory that the message takes.
    pub(crate) fn memory(&self) -> usize {
        INFLATER_BYTES + self.message.capacity()
    }

    /// Inflates more of `payload`, at least one slice, until the meter is spent. Returns true
    /// once the message is complete.
    fn proceed(&mut self, payload: &[u8], max_size: u64, meter: &mut Meter) -> Result<bool, Error> {
        let end = payload.len() + TAIL.len();
        loop {
            let slice = match payload.get(self.fed..) {
                Some(rest @ [_, ..]) => &rest[..rest.len().min(SLICE)],
                _ => &TAIL[self.fed - payload.len()..],
            };
            if self.len == self.message.len() {
                let room = (4 * slice.len()).max(self.len).clamp(MIN_ROOM, MAX_ROOM);
                self.message.resize(self.len + room, 0);
            }
            let room = &mut self.message[self.len..];
            let room_len = room.len();
            let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self
                .inflater
                .decompress(slice, room, FlushDecompress::Sync)
                .map_err(|_| Error::NotDeflate)?;
            let read = (self.inflater.total_in() - read) as usize;
            let written = (self.inflater.total_out() - written) as usize;
            self.len += written;
            self.fed += read;
            let of_payload = read.min(payload.len().saturating_sub(self.fed - read));
            meter.draw(of_payload + written / INFLATED_BYTES);
            if max_size != 0 && self.len as u64 > max_size {
                return Err(Error::MessageTooBig(self.len as u64));
            }
            if status == Status::StreamEnd {
                // A final block; more blocks may follow it (7.2.3.4).
                meter.draw(RESET);
                self.inflater.reset(false);
            } else if written < room_len {
                // The inflater has no more output; an unfinished block waits for more input.
                if read < slice.len() {
                    return Err(Error::NotDeflate);
                }
                if self.fed == end {
                    return Ok(true);
                }
            }
            if meter.is_spent() {
                return Ok(false);
            }
        }
    }
}

/// Appends `input`, compressed. Returns `None` if the library fails.
fn compress(
    compressor: &mut Compress,
    mut input: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> Option<()> {
    loop {
        if out.len() == out.capacity() {
            out.reserve(input.len() / 2 + 512);
        }
        let read = compressor.total_in();
        compressor.compress_vec(input, out, flush).ok()?;
        let read = usize::try_from(compressor.total_in() - read).ok()?;
        input = &input[read..];
        // There is room left, so the library holds no more output.
        if input.is_empty() && out.len() < out.capacity() {
            return Some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Hello" in the encodings of RFC 7692 7.2.3.
    const HELLO: [&[u8]; 4] = [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        &[
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ],
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
        &[
            0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
        ],
    ];

    /// Inflates a message, in any number of turns.
    fn inflate(codec: &mut Codec, payload: &[u8], max_size: u64) -> Result<Vec<u8>, Error> {
        let (mut begun, mut meter) = (None, Meter::default());
        loop {
            meter.refill();
            if let Some(message) = codec.inflate(payload, max_size, &mut begun, &mut meter)? {
                return Ok(message);
            }
            assert!(meter.is_spent());
        }
    }

    #[test]
    fn inflates_the_examples_of_the_rfc() {
        let mut codec = Codec::default();
        for payload in HELLO {
            let message = inflate(&mut codec, payload, 5);
            assert_eq!(message.as_deref(), Ok(&b"Hello"[..]));
            codec.recycle(message.unwrap());
        }
        assert_eq!(inflate(&mut codec, &[0x00], 5).as_deref(), Ok(&b""[..]));
        assert_eq!(inflate(&mut codec, &[], 5).as_deref(), Ok(&b""[..]));
    }

    #[test]
    fn messages_of_several_connections_are_inflated_side_by_side() {
        let mut codec = Codec::default();
        let messages: [Vec<u8>; 3] = [7, 11, 13].map(|n| {
            let byte = |at: usize| (at * at / n % 251) as u8;
            (0..600_000).map(byte).collect()
        });
        let payloads = messages.each_ref().map(|message| {
            let payload = codec.compress(&[message], None).unwrap();
            [payload, &TAIL, HELLO[2]].concat()
        });
        let mut begun = [None, None, None];
        let mut inflated = [None, None, None];
        let mut rounds = 0;
        while inflated.iter().any(Option::is_none) {
            rounds += 1;
            for at in 0..3 {
                if inflated[at].is_none() {
                    let mut meter = Meter::default();
                    let (payload, begun) = (&payloads[at], &mut begun[at]);
                    inflated[at] = codec.inflate(payload, 0, begun, &mut meter).unwrap();
                    let most = crate::meter::UNITS_PER_TURN + SLICE + MAX_ROOM / INFLATED_BYTES;
                    assert!(meter.drawn() <= most, "{} units", meter.drawn());
                    let memory = begun.as_ref().map_or(0, Inflation::memory);
                    assert!(memory == 0 || memory > INFLATER_BYTES);
                }
            }
        }
        assert!(rounds > 2, "{rounds} rounds");
        for (message, inflated) in messages.iter().zip(inflated) {
            assert!(inflated.unwrap() == [message, &b"Hello"[..]].concat());
        }
    }

    #[test]
    fn no_context_is_taken_over() {
        let mut codec = Codec::default();
        inflate(&mut codec, HELLO[0], 0).unwrap();
        // The second "Hello" of 7.2.3.2, which refers to the first.
        let second = inflate(&mut codec, &[0xf2, 0x00, 0x11, 0x00, 0x00], 0);
        assert_eq!(second, Err(Error::NotDeflate));
        let same = |codec: &mut Codec| codec.compress(&[&[b'a'; 50]], None).map(<[u8]>::to_vec);
        assert_eq!(same(&mut codec), same(&mut codec));
    }

    #[test]
    fn gives_up_at_the_limit_and_keeps_no_memory() {
        let mut codec = Codec::default();
        let zeros = vec![0; 10 << 20];
        let bomb = codec.compress(&[&zeros], None).unwrap().to_vec();
        assert!(bomb.len() < 64 << 10);
        let refused = inflate(&mut codec, &bomb, 1 << 20).err();
        let Some(Error::MessageTooBig(size)) = refused else {
            panic!("{refused:?}");
        };
        assert!(size <= (1 << 20) + MAX_ROOM as u64, "{size}");
        assert!(codec.inflated.capacity() <= MAX_KEPT);
        assert_eq!(inflate(&mut codec, &bomb, 0).map(|m| m.len()), Ok(10 << 20));
    }

    #[test]
    fn refuses_what_is_not_deflate() {
        let mut codec = Codec::default();
        for payload in [&[0xff, 0xff, 0xff][..], &[0x01, 0x05, 0x00, 0x00, 0x00]] {
            assert_eq!(inflate(&mut codec, payload, 0), Err(Error::NotDeflate));
        }
        assert_eq!(
            inflate(&mut codec, HELLO[0], 0).as_deref(),
            Ok(&b"Hello"[..]),
            "after a failure"
        );
    }

    #[test]
    fn compresses_what_gets_smaller() {
        let mut codec = Codec::default();
        assert_eq!(codec.compress(&[b"ab"], None), None);
        let text = "<message><body>art thou not Romeo, and a Montague?</body></message>".repeat(40);
        let (head, tail) = text.as_bytes().split_at(1000);
        for bits in [None, Some(8), Some(9), Some(12), Some(15)] {
            let payload = codec.compress(&[head, b"", tail], bits).unwrap().to_vec();
            assert!(payload.len() < 400, "{bits:?}: {}", payload.len());
            let message = inflate(&mut codec, &payload, 0).unwrap();
            assert_eq!(message, text.as_bytes(), "{bits:?}");
        }
    }
}
