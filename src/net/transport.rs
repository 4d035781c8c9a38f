//! A connected, non-blocking socket, with or without TLS.
//!
//! Owns the socket's life: registration for both directions at the start, TLS, half close,
//! close. Readiness is edge-triggered, so its owner tries again only after an edge. Bytes
//! inside a TLS object raise no edge, so it must be read until it would block.
//!
//! Records without payload (KeyUpdate, tickets, alerts, refused renegotiation) cause work
//! but contain no data. One call accepts only a few of them, draws on the meter for each,
//! and then returns `Interrupted`: try again without an edge, once the meter allows.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use openssl::ssl::{self, ErrorCode, NameType, Ssl, SslRef, SslStream};
use openssl::x509::X509VerifyResult;

use super::byte_stream::ByteStream;
use super::tls_raw::{free_buffers, free_key_shares};
use super::tls_socket::TlsSocket;
use crate::meter::{self, Meter};

/// Maximum payload of a record, in bytes.
const MAX_RECORD: usize = 16 << 10;

/// Maximum number of records with payload in one read.
const RECORDS_PER_READ: usize = 16;

/// A connection to a client or a server.
#[derive(Debug)]
pub enum Transport {
    /// No TLS, or TLS has not begun.
    Plain(ByteStream),
    /// TLS; the handshake may still be in progress.
    Tls(Box<SslStream<TlsSocket>>),
    /// No socket; a test acts as the peer.
    #[cfg(test)]
    Simulated(super::simulated::Wire),
}

/// Each session has two of these. (In debug builds mio needs more.)
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Transport>() <= 16);

impl Transport {
    /// Takes a connected or connecting socket and registers it for both directions.
    ///
    /// # Errors
    /// The registration failed; the socket is closed.
    pub fn register(
        socket: impl Into<ByteStream>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = socket.into();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), token, both)?;
        Ok(Transport::Plain(socket))
    }

    /// Switches to TLS. [`Transport::shake_hands`] does the handshake.
    ///
    /// # Errors
    /// TLS is in use already, or OpenSSL failed. The socket is closed.
    pub fn start_tls(self, ssl: Ssl) -> io::Result<Transport> {
        match self {
            Transport::Plain(socket) => {
                let stream = SslStream::new(ssl, TlsSocket::new(socket))?;
                Ok(Transport::Tls(Box::new(stream)))
            }
            _ => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// Continues the TLS handshake, in the role of its context.
    ///
    /// # Errors
    /// `WouldBlock` while it waits for the peer, `Interrupted` after much work. Any other
    /// error is final and gives the reason, such as a bad certificate.
    pub fn shake_hands(&mut self, meter: &mut Meter) -> io::Result<()> {
        let Transport::Tls(stream) = self else {
            return Ok(());
        };
        let server = stream.ssl().is_server();
        let done = call(stream, meter, |stream| match server {
            true => stream.accept(),
            false => stream.connect(),
        });
        if done.is_ok() {
            free_key_shares(stream.ssl());
        }
        done.map_err(|error| match waits(stream, &error) {
            Some(kind) => kind.into(),
            None if server => io::Error::other(reason(&error)),
            None => {
                let verdict = stream.ssl().verify_result();
                io::Error::other(match verdict {
                    X509VerifyResult::OK => format!("TLS handshake: {error}"),
                    bad => format!("certificate refused: {}", bad.error_string()),
                })
            }
        })
    }

    /// Makes the connection break if the peer's host does not answer; see
    /// [`ByteStream::watch`].
    pub(crate) fn watch(&self, timeout: Duration) {
        if let Transport::Plain(socket) = self {
            socket.watch(timeout);
        }
    }

    /// The TLS version; `None` for plain text.
    pub(crate) fn tls_version(&self) -> Option<&'static str> {
        self.ssl().map(SslRef::version_str)
    }

    /// The TLS object; `None` for plain text.
    pub(crate) fn ssl(&self) -> Option<&SslRef> {
        match self {
            Transport::Tls(stream) => Some(stream.ssl()),
            _ => None,
        }
    }

    /// The name that the peer asked for with SNI.
    pub(crate) fn tls_name(&self) -> Option<&str> {
        self.ssl()?.servername(NameType::HOST_NAME)
    }

    /// Reads bytes and leaves them on the socket.
    ///
    /// # Errors
    /// `WouldBlock` if there are none. Any other error is final.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| self.socket().peek(buffer))
    }

    /// Notes an edge. `ending`: the peer's end was announced.
    pub fn edge(&mut self, ending: bool) {
        if let Transport::Tls(stream) = self {
            stream.get_mut().edge(ending);
        }
    }

    /// Whether another read may give something after a short one.
    pub(crate) fn may_have_more(&self) -> bool {
        matches!(self, Transport::Tls(stream) if !stream.get_ref().is_dry())
    }

    /// Returns the bytes of memory that hold what was read ahead.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Transport::Tls(stream) => stream.get_ref().memory(),
            _ => 0,
        }
    }

    /// Whether TLS is in use. A short write then does not mean that the next one would block.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// Reads once; with TLS, several records at once.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, `Interrupted` if the records read so far
    /// contained no data. Any other error is final.
    pub fn read(&mut self, buffer: &mut [u8], meter: &mut Meter) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => retry(|| (&*socket).read(buffer)),
            Transport::Tls(stream) => read_records(stream, buffer, meter),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.read(buffer),
        }
    }

    /// Writes once. With TLS, the caller must write the rest of `bytes` at once.
    ///
    /// # Errors
    /// `WouldBlock` if nothing can be written, `Interrupted` if TLS had much to read first.
    /// Any other error is final.
    pub fn write(&mut self, bytes: &[u8], meter: &mut Meter) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => retry(|| (&*socket).write(bytes)),
            Transport::Tls(stream) => write_record(stream, bytes, meter),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.write(bytes),
        }
    }

    /// Ends the direction to the peer, which then reads the end of the stream.
    pub(crate) fn finish(&mut self) {
        #[cfg(test)]
        if let Transport::Simulated(wire) = self {
            return wire.finish();
        }
        // Both calls fail only if the connection is already gone, or so full that the peer
        // learns of the end from TCP alone.
        if let Transport::Tls(stream) = self {
            let _ = stream.shutdown();
        }
        let _ = self.socket().shutdown();
    }

    /// The result of a connect; `None` while it is in progress.
    pub(crate) fn connected(&self) -> Option<io::Result<()>> {
        self.socket().connected()
    }

    /// Our own address.
    ///
    /// # Errors
    /// The connection is gone, or the socket has no IP address.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        #[cfg(test)]
        if let Transport::Simulated(_) = self {
            return Ok(super::simulated::ADDRESS);
        }
        self.socket().local_addr()
    }

    fn socket(&self) -> &ByteStream {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref().socket(),
            #[cfg(test)]
            Transport::Simulated(_) => unreachable!("a simulated connection has no socket"),
        }
    }
}

/// The reason why a handshake failed, in a few words.
fn reason(error: &ssl::Error) -> String {
    if let Some(error) = error.io_error() {
        return error.to_string();
    }
    let errors = error.ssl_error().map(|stack| stack.errors());
    let reason = errors.and_then(|errors| errors.first()?.reason());
    match reason {
        Some("unexpected eof while reading") | None => "the client left".to_owned(),
        Some(reason) => reason.to_owned(),
    }
}

/// Reads records until the buffer is full or nothing is left, but not too many small ones.
fn read_records(
    stream: &mut SslStream<TlsSocket>,
    buffer: &mut [u8],
    meter: &mut Meter,
) -> io::Result<usize> {
    let mut n = 0;
    for _ in 0..RECORDS_PER_READ {
        match call(stream, meter, |stream| stream.ssl_read(&mut buffer[n..])) {
            Ok(more) => n += more,
            Err(error) => {
                if waits(stream, &error) == Some(ErrorKind::Interrupted) {
                    free_buffers(stream.ssl());
                }
                // After data, the next read will meet the error again, or what follows.
                if n > 0 || error.code() == ErrorCode::ZERO_RETURN {
                    break;
                }
                return Err(from_tls(stream, error));
            }
        }
        if n == buffer.len() || meter.is_spent() {
            break;
        }
    }
    Ok(n)
}

fn write_record(
    stream: &mut SslStream<TlsSocket>,
    bytes: &[u8],
    meter: &mut Meter,
) -> io::Result<usize> {
    let written = call(stream, meter, |stream| {
        if bytes.len() > MAX_RECORD {
            stream.get_mut().expect_more_writes();
        }
        stream.ssl_write(bytes)
    });
    written.map_err(|error| from_tls(stream, error))
}

/// Calls the TLS library, and draws on the meter for the records that it read in addition
/// to the one that the call was for.
fn call<T>(
    stream: &mut SslStream<TlsSocket>,
    meter: &mut Meter,
    call: impl FnOnce(&mut SslStream<TlsSocket>) -> Result<T, ssl::Error>,
) -> Result<T, ssl::Error> {
    stream.get_mut().begin_call();
    let done = call(stream);
    let records = stream.get_ref().records_read();
    let records = match &done {
        Ok(_) => records.saturating_sub(1),
        // One record may contain many messages, and is read only once.
        Err(error) if waits(stream, error) == Some(ErrorKind::Interrupted) => records.max(1),
        Err(_) => records,
    };
    if records > 0 {
        meter.draw(records * meter::TLS_RECORD);
    }
    done
}

/// What an unfinished call waits for: an edge (`WouldBlock`), or only the next turn
/// (`Interrupted`). `None` if the call failed.
fn waits(stream: &SslStream<TlsSocket>, error: &ssl::Error) -> Option<ErrorKind> {
    match error.code() {
        ErrorCode::WANT_READ if !stream.get_ref().is_dry() => Some(ErrorKind::Interrupted),
        ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => Some(ErrorKind::WouldBlock),
        _ => None,
    }
}

fn from_tls(stream: &SslStream<TlsSocket>, error: ssl::Error) -> io::Error {
    match waits(stream, &error) {
        Some(kind) => kind.into(),
        None => error
            .into_io_error()
            .unwrap_or_else(|error| io::Error::other(error.to_string())),
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
