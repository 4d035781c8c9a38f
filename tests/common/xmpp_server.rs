//! A scripted XMPP server. It sends what the test tells it to and keeps every byte that
//! it receives. It can send byte by byte, stall, reset and break the rules.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use nix::poll::PollFlags;

use super::stage::error_start;
use super::{PATIENCE, is_reset, reset, wait_for};

/// How a connection ended, seen from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the TLS alert.
    CloseNotify,
    /// By FIN alone.
    Fin,
    /// By a reset.
    Reset,
}

/// The server's end of a connection, with or without TLS.
pub trait Socket: Write {
    /// Waits for bytes, and returns how many, or how the connection ended. There may be none
    /// yet.
    fn read_some(&mut self, piece: &mut [u8]) -> io::Result<Result<usize, End>>;

    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn read_some(&mut self, piece: &mut [u8]) -> io::Result<Result<usize, End>> {
        match self.read(piece) {
            Ok(0) => Ok(Err(End::Fin)),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(Ok(0)),
            Err(error) if is_reset(&error) => Ok(Err(End::Reset)),
            result => result.map(Ok),
        }
    }

    fn tcp(&self) -> &TcpStream {
        self
    }
}

/// A listening server.
pub struct XmppServer {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl XmppServer {
    pub fn start() -> XmppServer {
        XmppServer::over(TcpListener::bind("127.0.0.1:0").expect("bind"))
    }

    /// A server on an existing listener.
    pub fn over(listener: TcpListener) -> XmppServer {
        let address = listener.local_addr().expect("address");
        XmppServer { listener, address }
    }

    /// Waits for the next connection.
    pub fn accept(&self) -> Connection {
        let wait_ms = PATIENCE.as_millis() as u16;
        let came = wait_for(&self.listener, PollFlags::POLLIN, wait_ms);
        assert!(came, "nobody connects to the XMPP server");
        let (stream, _) = self.listener.accept().expect("accept");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("read timeout");
        stream
            .set_write_timeout(Some(PATIENCE))
            .expect("write timeout");
        Connection::new(stream)
    }

    /// Whether there was no connection since the last `accept`.
    pub fn is_alone(&self) -> bool {
        !wait_for(&self.listener, PollFlags::POLLIN, 0)
    }
}

/// One connection from the daemon.
pub struct Connection<S = TcpStream> {
    pub stream: S,
    /// Everything that was received.
    received: Vec<u8>,
    /// How much of `received` the test has read.
    read: usize,
}

impl<S: Socket> Connection<S> {
    pub fn new(stream: S) -> Connection<S> {
        Connection {
            stream,
            received: Vec::new(),
            read: 0,
        }
    }

    /// Reads up to and including `pattern`.
    pub fn read_until(&mut self, pattern: &str) -> String {
        loop {
            let unread = &self.received[self.read..];
            let found = unread
                .windows(pattern.len())
                .position(|window| window == pattern.as_bytes());
            if let Some(at) = found {
                return self.take(at + pattern.len());
            }
            if let Err(end) = self.fill() {
                panic!("{end:?} before {pattern:?}, after {:?}", self.text());
            }
        }
    }

    /// Fails unless the next bytes are these.
    pub fn expect(&mut self, text: &str) {
        while self.received.len() - self.read < text.len() {
            if let Err(end) = self.fill() {
                panic!("{end:?} before {text:?}, after {:?}", self.text());
            }
        }
        let taken = self.take(text.len());
        assert_eq!(taken, text, "what the server received");
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("send");
    }

    /// Sends each byte in a segment, or TLS record, of its own.
    pub fn dribble(&mut self, text: &str) {
        for byte in text.as_bytes() {
            self.stream.write_all(&[*byte]).expect("send");
        }
    }

    /// Closes only the direction from the server, without close_notify.
    pub fn half_close(&mut self) {
        let tcp = self.stream.tcp();
        tcp.shutdown(Shutdown::Write).expect("shutdown");
    }

    /// Resets the connection.
    pub fn reset(self) {
        reset(self.stream.tcp().try_clone().expect("another handle"));
    }

    /// Waits for the end of the connection; returns what the test had not read before it.
    pub fn read_end(&mut self) -> (End, String) {
        let end = loop {
            if let Err(end) = self.fill() {
                break end;
            }
        };
        let rest = self.take(self.received.len() - self.read);
        (end, rest)
    }

    /// Everything that was received, whether the test has read it or not.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.received).into_owned()
    }

    fn take(&mut self, len: usize) -> String {
        let bytes = self.received[self.read..][..len].to_vec();
        self.read += len;
        String::from_utf8(bytes).expect("the daemon sent UTF-8")
    }

    fn fill(&mut self) -> Result<(), End> {
        let mut piece = [0; 16 << 10];
        match self.stream.read_some(&mut piece) {
            Ok(read) => {
                self.received.extend_from_slice(&piece[..read?]);
                Ok(())
            }
            Err(error) => panic!("{error}; received so far: {:?}", self.text()),
        }
    }
}

impl Connection {
    /// Fails unless the connection ends next, without an end tag.
    pub fn expect_cut(&mut self) {
        assert_eq!(self.read_end(), (End::Fin, String::new()), "a cut");
    }

    /// Fails unless a stream error comes next, followed by the stream's end tag and the end of
    /// the connection.
    pub fn expect_failure(&mut self, condition: &str) {
        let (end, said) = self.read_end();
        let failed = said.starts_with(&error_start(condition))
            && said.ends_with("</stream:error></stream:stream>");
        assert!(end == End::Fin && failed, "{end:?} after {said:?}");
    }

    /// Fails unless the stream's end tag comes next, followed by the end of the
    /// connection.
    pub fn expect_end(&mut self) {
        let ended = (End::Fin, "</stream:stream>".to_owned());
        assert_eq!(self.read_end(), ended, "the end of the stream");
    }
}
