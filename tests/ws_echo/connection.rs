//! One client of the echo server.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use jabsocket::buf::Buf;
use jabsocket::meter::Meter;
use jabsocket::proto::http::extensions::Deflate;
use jabsocket::proto::http::{self, Head, Policy, Request, Subprotocol};
use jabsocket::proto::ws::deflate::Codec;
use jabsocket::proto::ws::frame::{write_close, write_compressed, write_control, write_header};
use jabsocket::proto::ws::{Error, Event, Limits, Opcode, Reader};
use mio::net::TcpStream;

/// Reading pauses while more than this is queued.
const HIGH_WATER: usize = 1 << 20;

/// Maximum number of reads and writes per turn.
const BUDGET: usize = 16;

/// How long a client may take to close after the server has closed.
const LINGER: Duration = Duration::from_secs(60);

/// The state after a turn.
pub enum Turn {
    /// Nothing to do until the next event.
    Waiting,
    /// The turn ended because its budget was used up. No event will follow.
    Unfinished,
    /// The connection is over.
    Gone,
}

/// Data that all connections share.
pub struct Shared {
    /// Limits for clients. `deflate` says whether compression may be negotiated.
    pub limits: Limits,
    /// Compression of messages.
    pub codec: Codec,
}

enum Phase {
    /// The request is incomplete.
    Opening(Buf),
    Open(Reader, Option<Deflate>),
    /// The last bytes are queued. Input is discarded until the client closes.
    Closing {
        shut: bool,
    },
}

/// A client and its output queue.
pub struct Connection {
    stream: TcpStream,
    phase: Phase,
    out: Buf,
    deadline: Option<Instant>,
}

impl Connection {
    /// A connection before its opening handshake.
    pub fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            phase: Phase::Opening(Buf::new()),
            out: Buf::new(),
            deadline: None,
        }
    }

    /// When the connection ends at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Reads, answers and writes until there is no progress or the budget is used up.
    pub fn turn(&mut self, now: Instant, scratch: &mut [u8], shared: &mut Shared) -> Turn {
        for _ in 0..BUDGET {
            let mut moved = false;
            if self.out.len() < HIGH_WATER {
                match self.stream.read(scratch) {
                    Ok(0) => {
                        // A client that has finished sending may still read.
                        self.flush();
                        return Turn::Gone;
                    }
                    Ok(n) => {
                        moved = true;
                        self.feed(&mut scratch[..n], shared);
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                    Err(e) if e.kind() == ErrorKind::Interrupted => moved = true,
                    Err(_) => return Turn::Gone,
                }
            }
            match self.flush() {
                Some(wrote) => moved |= wrote,
                None => return Turn::Gone,
            }
            if let Phase::Closing { shut } = &mut self.phase {
                if self.out.is_empty() && !*shut {
                    *shut = true;
                    if self.stream.shutdown(Shutdown::Write).is_err() {
                        return Turn::Gone;
                    }
                }
                self.deadline.get_or_insert(now + LINGER);
            }
            if !moved {
                return Turn::Waiting;
            }
        }
        Turn::Unfinished
    }

    /// Writes queued bytes; returns whether any were written, or `None` if the client is
    /// gone.
    fn flush(&mut self) -> Option<bool> {
        let mut wrote = false;
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slice()) {
                Ok(0) => return None,
                Ok(n) => {
                    wrote = true;
                    self.out.consume(n);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        Some(wrote)
    }

    fn feed(&mut self, input: &mut [u8], shared: &mut Shared) {
        match &mut self.phase {
            Phase::Closing { .. } => {}
            Phase::Open(..) => self.feed_frames(input, shared),
            Phase::Opening(head) => {
                let old_len = head.len();
                head.extend(input);
                if !http::worth_parsing(head.as_slice(), old_len, &http::Limits::DEFAULT) {
                    return;
                }
                let policy = Policy {
                    host: None,
                    resource: None,
                    origin_allowed: &|_| true,
                    subprotocol: Subprotocol::Any,
                    host_meta: false,
                    deflate: shared.limits.deflate,
                };
                let request = Head::parse(head.as_slice(), &http::Limits::DEFAULT);
                let verdict = match request {
                    Ok(None) => return,
                    Ok(Some(head)) => policy.judge(&head),
                    Err(refusal) => Err(refusal),
                };
                match verdict {
                    Ok(Request::WebSocket(accept)) => {
                        accept.write(&mut self.out);
                        let consumed = accept.consumed;
                        let mut rest = head.take();
                        self.phase = Phase::Open(Reader::default(), accept.deflate);
                        self.feed_frames(&mut rest[consumed..], shared);
                    }
                    Ok(Request::Page(page)) => {
                        page.write(&[], &mut self.out);
                        self.phase = Phase::Closing { shut: false };
                    }
                    Err(refusal) => {
                        refusal.write(&mut self.out);
                        self.phase = Phase::Closing { shut: false };
                    }
                }
            }
        }
    }

    fn feed_frames(&mut self, mut input: &mut [u8], shared: &mut Shared) {
        let Phase::Open(reader, deflate) = &mut self.phase else {
            return;
        };
        let Shared { limits, codec } = shared;
        let limits = Limits {
            deflate: deflate.is_some(),
            ..*limits
        };
        let out = &mut self.out;
        let closed = loop {
            let answered = match reader.next(input, &limits) {
                Ok((_, None)) => break false,
                Ok((n, Some(event))) => {
                    let closed = matches!(event, Event::Close { .. });
                    answer(event, *deflate, &limits, codec, out).map(|()| (n, closed))
                }
                Err(error) => Err(error),
            };
            match answered {
                Ok((_, true)) => break true,
                Ok((n, false)) => {
                    reader.release();
                    input = &mut input[n..];
                }
                Err(error) => {
                    write_close(out, Some(error.close_code()), &error.to_string());
                    break true;
                }
            }
        };
        if closed {
            self.phase = Phase::Closing { shut: false };
        }
    }
}

/// Queues the answer to an event.
fn answer(
    event: Event<'_>,
    deflate: Option<Deflate>,
    limits: &Limits,
    codec: &mut Codec,
    out: &mut Buf,
) -> Result<(), Error> {
    let mut echo = |codec: &mut Codec, opcode, payload: &[u8]| {
        let packed = deflate.and_then(|deflate| codec.compress(&[payload], deflate.window_bits));
        match packed {
            Some(packed) => write_compressed(out, opcode, packed),
            None => {
                write_header(out, opcode, payload.len());
                out.extend(payload);
            }
        }
    };
    match event {
        Event::Text(text) => echo(codec, Opcode::Text, text.as_bytes()),
        Event::Binary(bytes) => echo(codec, Opcode::Binary, &bytes),
        Event::Compressed { text, payload } => {
            let (mut begun, mut meter) = (None, Meter::default());
            let message = loop {
                meter.refill();
                let limit = limits.max_message_size;
                if let Some(message) = codec.inflate(&payload, limit, &mut begun, &mut meter)? {
                    break message;
                }
            };
            if text && std::str::from_utf8(&message).is_err() {
                return Err(Error::TextNotUtf8);
            }
            let opcode = if text { Opcode::Text } else { Opcode::Binary };
            echo(codec, opcode, &message);
            codec.recycle(message);
        }
        Event::Ping(payload) => write_control(out, Opcode::Pong, payload),
        Event::Pong(_) => {}
        Event::Close { code, reason } => write_close(out, code, reason),
    }
    Ok(())
}
