//! A blocking WebSocket client for tests. It has its own framing, shares no code with the
//! server and can break every rule.

use std::io::{self, Error, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use super::PATIENCE;

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The first byte's FIN bit.
pub const FIN: u8 = 0x80;

/// The masking key of every frame, unless a test gives its own.
pub const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The key of the handshake and the answer to it (RFC 6455 1.3).
pub const HANDSHAKE_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const HANDSHAKE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The head of an HTTP response.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in the order of the response.
    pub fields: Vec<(String, String)>,
    /// The head as received, including the blank line.
    pub head: String,
}

impl Response {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        let found = fields.find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A frame from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    /// RSV1 to RSV3 as a number; RSV1 is 4.
    pub rsv: u8,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// A connection to a WebSocket server over any stream.
pub struct WsClient<S = TcpStream> {
    pub stream: S,
    pending: Vec<u8>,
    /// How much of `pending` has been read.
    start: usize,
}

/// The bytes of an opening handshake.
pub fn request(path: &str, extra: &[(&str, &str)], subprotocol: Option<&str>) -> Vec<u8> {
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {HANDSHAKE_KEY}\r\nSec-WebSocket-Version: 13\r\n"
    );
    let subprotocol = subprotocol.map(|s| ("Sec-WebSocket-Protocol", s));
    for (name, value) in subprotocol.iter().chain(extra) {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// A masked frame with the shortest length; `first` is FIN, RSV and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length_bits = match payload.len() {
        0..126 => 7,
        126..65536 => 16,
        _ => 64,
    };
    frame_with(first, Some(KEY), length_bits, payload)
}

/// A frame with a length field of 7, 16 or 64 bits, masked or not.
pub fn frame_with(first: u8, key: Option<[u8; 4]>, length_bits: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(first, key, length_bits, payload.len() as u64);
    let key = key.unwrap_or_default();
    bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    bytes
}

/// A header alone, which may declare any length.
pub fn header(first: u8, key: Option<[u8; 4]>, length_bits: u8, len: u64) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length_bits {
        7 => bytes.push(mask_bit | len as u8),
        16 => {
            bytes.push(mask_bit | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(key.iter().flatten());
    bytes
}

/// The body of a Close frame.
pub fn close_body(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

impl WsClient<TcpStream> {
    /// Connects without an opening handshake.
    pub fn dial(addr: impl ToSocketAddrs) -> io::Result<WsClient> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(WsClient::new(stream))
    }

    /// Connects and sends the opening handshake; the response may be a refusal.
    pub fn open(
        addr: impl ToSocketAddrs,
        path: &str,
        extra: &[(&str, &str)],
        subprotocol: Option<&str>,
    ) -> io::Result<(WsClient, Response)> {
        let mut client = WsClient::dial(addr)?;
        let response = client.handshake(path, extra, subprotocol)?;
        Ok((client, response))
    }

    /// Connects. Any response other than a valid 101 is an error.
    pub fn connect(
        addr: impl ToSocketAddrs,
        path: &str,
        extra: &[(&str, &str)],
        subprotocol: Option<&str>,
    ) -> io::Result<WsClient> {
        let (client, response) = WsClient::open(addr, path, extra, subprotocol)?;
        let accepted = response.field("Sec-WebSocket-Accept") == Some(HANDSHAKE_ACCEPT);
        if response.status != 101 || !accepted {
            return Err(Error::other(format!("refused: {}", response.head)));
        }
        Ok(client)
    }
}

impl<S: Read + Write> WsClient<S> {
    /// A client on an existing connection, for example with TLS.
    pub fn new(stream: S) -> WsClient<S> {
        WsClient {
            stream,
            pending: Vec::new(),
            start: 0,
        }
    }

    /// Sends the opening handshake and reads the response's head.
    pub fn handshake(
        &mut self,
        path: &str,
        extra: &[(&str, &str)],
        subprotocol: Option<&str>,
    ) -> io::Result<Response> {
        self.send_raw(&request(path, extra, subprotocol))?;
        self.read_response()
    }

    /// Reads the head of an HTTP response; its body stays unread.
    pub fn read_response(&mut self) -> io::Result<Response> {
        let end = loop {
            let unread = &self.pending[self.start..];
            if let Some(at) = unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = self.take(end)?;
        let head = String::from_utf8(head).map_err(Error::other)?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| Error::other(format!("not HTTP: {head}")))?;
        let fields = lines.filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        Ok(Response {
            status,
            fields: fields.collect(),
            head,
        })
    }

    /// Sends raw bytes.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes in pieces of `size`, each in a write of its own.
    pub fn send_chopped(&mut self, bytes: &[u8], size: usize) -> io::Result<()> {
        bytes
            .chunks(size)
            .try_for_each(|piece| self.send_raw(piece))
    }

    /// Sends a masked frame; `first` is FIN, RSV and opcode.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) -> io::Result<()> {
        self.send_raw(&frame(first, payload))
    }

    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send_frame(FIN | TEXT, text.as_bytes())
    }

    pub fn send_close(&mut self, code: u16, reason: &str) -> io::Result<()> {
        self.send_frame(FIN | CLOSE, &close_body(code, reason.as_bytes()))
    }

    /// Reads a frame; `None` if the server has closed the connection. A masked frame, a
    /// reset and a timeout are errors.
    pub fn read_frame(&mut self) -> io::Result<Option<Frame>> {
        if self.start == self.pending.len() {
            match self.fill() {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                result => result?,
            }
        }
        let start = self.take(2)?;
        if start[1] & 0x80 != 0 {
            return Err(Error::other("the server sent a masked frame"));
        }
        let len = match start[1] {
            126 => self.take(2)?,
            127 => self.take(8)?,
            len => vec![len],
        };
        let len = len.iter().fold(0, |len, &b| len << 8 | usize::from(b));
        Ok(Some(Frame {
            fin: start[0] & FIN != 0,
            rsv: start[0] >> 4 & 7,
            opcode: start[0] & 15,
            payload: self.take(len)?,
        }))
    }

    /// Reads a text message that consists of one frame.
    pub fn read_text(&mut self) -> io::Result<String> {
        match self.read_frame()? {
            Some(Frame {
                fin: true,
                rsv: 0,
                opcode: TEXT,
                payload,
            }) => String::from_utf8(payload).map_err(Error::other),
            other => Err(Error::other(format!("not a text message: {other:?}"))),
        }
    }

    /// Reads a Close frame; returns its code, if any, and its reason.
    pub fn read_close(&mut self) -> io::Result<(Option<u16>, String)> {
        let frame = self.read_frame()?;
        let Some(Frame {
            fin: true,
            rsv: 0,
            opcode: CLOSE,
            payload,
        }) = frame
        else {
            return Err(Error::other(format!("not a Close frame: {frame:?}")));
        };
        match payload.split_first_chunk() {
            None if payload.is_empty() => Ok((None, String::new())),
            None => Err(Error::other("a Close body of one byte")),
            Some((code, reason)) => {
                let reason = String::from_utf8(reason.to_vec()).map_err(Error::other)?;
                Ok((Some(u16::from_be_bytes(*code)), reason))
            }
        }
    }

    /// Fails unless the server closes the connection and sends nothing more.
    pub fn read_eof(&mut self) -> io::Result<()> {
        match self.read_frame()? {
            None => Ok(()),
            Some(frame) => Err(Error::other(format!("more after the end: {frame:?}"))),
        }
    }

    /// Reads until the server closes the connection.
    pub fn read_rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = self.pending.split_off(self.start);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.pending.len() - self.start < n {
            self.fill()?;
        }
        let taken = self.pending[self.start..][..n].to_vec();
        self.start += n;
        Ok(taken)
    }

    /// Reads some bytes; the end of the stream is `UnexpectedEof`.
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        let n = loop {
            match self.stream.read(&mut piece) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.pending.drain(..self.start);
        self.start = 0;
        self.pending.extend_from_slice(&piece[..n]);
        Ok(())
    }
}
