//! The generator's end of a connection, with or without TLS, and the certificate of both
//! its server and the relays.

use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use openssl::ssl::{
    Ssl, SslAcceptor, SslConnector, SslContext, SslContextBuilder, SslMethod, SslStream,
    SslVerifyMode,
};

use crate::common::certificates::Authority;
use crate::common::daemon::TempFile;
use crate::load::DOMAIN;

/// Browsers prefer it. With one suite the relays cannot differ in the cost of the cipher.
const SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// The files that a relay with TLS needs.
pub struct Files {
    pub ca: TempFile,
    pub certificate: TempFile,
    pub key: TempFile,
    /// Certificate and key in one file, for HAProxy.
    pub both: TempFile,
}

/// TLS of the generator.
pub struct Tls {
    pub files: Files,
    client: SslContext,
    server: SslContext,
}

impl Tls {
    /// Makes an authority and a certificate for the domain.
    pub fn new() -> Tls {
        let authority = Authority::new();
        let identity = authority.identity(&[DOMAIN]);
        let (certificate, key) = identity.files(&[]);
        let text = |path: &PathBuf| fs::read_to_string(path).expect("a PEM file");
        let both = TempFile::new(&(text(&certificate.0) + &text(&key.0)));
        let mut client = SslConnector::builder(SslMethod::tls_client()).expect("a context");
        client.set_verify(SslVerifyMode::NONE);
        one_suite(&mut client);
        let mut server =
            SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("a context");
        server
            .set_certificate(&identity.certificate)
            .expect("a certificate");
        server.set_private_key(&identity.key).expect("a key");
        one_suite(&mut server);
        Tls {
            files: Files {
                ca: authority.ca_file(),
                certificate,
                key,
                both,
            },
            client: client.build().into_context(),
            server: server.build().into_context(),
        }
    }

    /// Begins TLS as a client.
    pub fn connect(&self, socket: TcpStream) -> Socket {
        let mut ssl = Ssl::new(&self.client).expect("a TLS object");
        ssl.set_connect_state();
        Socket::tls(ssl, socket)
    }

    /// Begins TLS as the server.
    pub fn accept(&self, socket: TcpStream) -> Socket {
        let mut ssl = Ssl::new(&self.server).expect("a TLS object");
        ssl.set_accept_state();
        Socket::tls(ssl, socket)
    }
}

fn one_suite(context: &mut SslContextBuilder) {
    context.set_ciphersuites(SUITE).expect("a cipher suite");
}

/// A socket, perhaps with TLS. The first reads and writes do the TLS handshake.
pub enum Socket {
    Plain(TcpStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Socket {
    fn tls(ssl: Ssl, socket: TcpStream) -> Socket {
        Socket::Tls(Box::new(SslStream::new(ssl, socket).expect("TLS")))
    }

    pub fn register(&mut self, registry: &Registry, token: Token) {
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = match self {
            Socket::Plain(socket) => socket,
            Socket::Tls(stream) => stream.get_mut(),
        };
        Source::register(socket, registry, token, both).expect("register");
    }

    /// Whether nothing is left after a read that did not fill its buffer.
    pub fn short_read_is_last(&self) -> bool {
        matches!(self, Socket::Plain(_))
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(socket) => socket.read(buffer),
            Socket::Tls(stream) => stream.read(buffer),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(socket) => socket.write(bytes),
            Socket::Tls(stream) => stream.write(bytes),
        }
    }
}
