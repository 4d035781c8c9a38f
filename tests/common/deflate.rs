//! Compressed messages for tests. The inflater (RFC 1951) is simple. It shares no code with
//! the server's, and reports how far back a message refers.

use flate2::{Compress, Compression, FlushCompress};

/// The payload of a message, compressed on its own at `level`, 0 to 9.
pub fn deflate(message: &[u8], level: u32) -> Vec<u8> {
    let mut compress = Compress::new(Compression::new(level), false);
    let mut out = Vec::with_capacity(2 * message.len() + 1000);
    let flush = FlushCompress::Sync;
    compress.compress_vec(message, &mut out, flush).unwrap();
    assert_eq!(compress.total_in(), message.len() as u64);
    assert!(out.ends_with(&[0, 0, 0xff, 0xff]));
    out.truncate(out.len() - 4);
    out
}

/// A message, and the largest distance in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Inflated {
    pub bytes: Vec<u8>,
    pub distance: usize,
}

/// The message of a compressed payload (RFC 7692, section 7.2.2); panics if it is not
/// DEFLATE, or has bytes after its end.
pub fn inflate(payload: &[u8]) -> Inflated {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    let mut bits = Bits { input, at: 0 };
    let mut out = Inflated {
        bytes: Vec::new(),
        distance: 0,
    };
    while bits.at + 3 <= bits.input.len() * 8 {
        let last = bits.take(1) == 1;
        match bits.take(2) {
            0 => {
                bits.at = bits.at.next_multiple_of(8);
                let (len, not_len) = (bits.take(16), bits.take(16));
                assert_eq!(len, !not_len & 0xffff, "length of a stored block");
                for _ in 0..len {
                    out.bytes.push(bits.take(8) as u8);
                }
            }
            1 => {
                let lengths = [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat();
                let (literals, distances) = (Code::new(&lengths), Code::new(&[5; 30]));
                block(&mut bits, &literals, &distances, &mut out);
            }
            2 => {
                let (literals, distances) = dynamic(&mut bits);
                block(&mut bits, &literals, &distances, &mut out);
            }
            _ => panic!("a reserved kind of block"),
        }
        if last {
            bits.at = bits.at.next_multiple_of(8);
        }
    }
    out
}

struct Bits {
    input: Vec<u8>,
    at: usize,
}

impl Bits {
    fn take(&mut self, n: usize) -> usize {
        let bit = |at: usize| usize::from(self.input[at / 8] >> (at % 8) & 1);
        let value = (0..n).map(|i| bit(self.at + i) << i).sum();
        self.at += n;
        value
    }
}

/// A Huffman code: for each length the number of symbols that have it, and the symbols in
/// the order of their codes (RFC 1951, section 3.2.2).
struct Code {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Code {
    fn new(lengths: &[u8]) -> Code {
        let mut counts = [0; 16];
        let mut symbols = Vec::new();
        for len in 1..16 {
            let with = (0..lengths.len()).filter(|&symbol| lengths[symbol] == len);
            let before = symbols.len();
            symbols.extend(with);
            counts[usize::from(len)] = symbols.len() - before;
        }
        Code { counts, symbols }
    }

    fn read(&self, bits: &mut Bits) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("no such code");
    }
}

fn dynamic(bits: &mut Bits) -> (Code, Code) {
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let (literals, distances) = (bits.take(5) + 257, bits.take(5) + 1);
    let codes = bits.take(4) + 4;
    let mut lengths = [0; 19];
    for &symbol in &ORDER[..codes] {
        lengths[symbol] = bits.take(3) as u8;
    }
    let code = Code::new(&lengths);
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (value, times) = match code.read(bits) {
            16 => (*lengths.last().expect("a length before"), bits.take(2) + 3),
            17 => (0, bits.take(3) + 3),
            18 => (0, bits.take(7) + 11),
            len => (len as u8, 1),
        };
        lengths.extend(std::iter::repeat_n(value, times));
    }
    let (literals, distances) = lengths.split_at(literals);
    (Code::new(literals), Code::new(distances))
}

fn block(bits: &mut Bits, literals: &Code, distances: &Code, out: &mut Inflated) {
    loop {
        let symbol = literals.read(bits);
        let len = match symbol {
            0..256 => {
                out.bytes.push(symbol as u8);
                continue;
            }
            256 => return,
            257..265 => symbol - 254,
            285 => 258,
            // Four lengths for each number of further bits.
            _ => {
                let extra = (symbol - 261) / 4;
                let base = (4 + (symbol - 261) % 4) << extra;
                base + 3 + bits.take(extra)
            }
        };
        let distance = match distances.read(bits) {
            symbol @ 0..4 => symbol + 1,
            symbol => {
                let extra = (symbol - 2) / 2;
                let base = (2 + symbol % 2) << extra;
                base + 1 + bits.take(extra)
            }
        };
        out.distance = out.distance.max(distance);
        let from = out.bytes.len().checked_sub(distance).expect("a distance");
        for at in from..from + len {
            out.bytes.push(out.bytes[at]);
        }
    }
}
