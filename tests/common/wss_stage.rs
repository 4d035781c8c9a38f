//! A daemon with TLS for its browsers, and TLS clients.

use std::net::{SocketAddr, TcpStream};

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use super::PATIENCE;
use super::certificates::Authority;
use super::daemon::{Daemon, TempFile};
use super::ws_client::{HANDSHAKE_ACCEPT, WsClient};
use super::xmpp_server::XmppServer;

pub const VERSIONS: [SslVersion; 2] = [SslVersion::TLS1_2, SslVersion::TLS1_3];

/// A daemon with TLS, the server of its only domain, and the authority that its clients
/// trust.
pub struct WssStage {
    pub authority: Authority,
    pub server: XmppServer,
    pub daemon: Daemon,
    /// The files with the certificates and keys.
    pub files: Vec<(TempFile, TempFile)>,
}

/// The keys `tls_certificate` and `tls_key` for these files.
pub fn keys(files: &[(TempFile, TempFile)]) -> String {
    let list = |file: fn(&(TempFile, TempFile)) -> &TempFile| {
        let paths = files.iter().map(|pair| file(pair).0.display().to_string());
        paths.collect::<Vec<_>>().join(", ")
    };
    let (certificates, keys) = (list(|pair| &pair.0), list(|pair| &pair.1));
    format!("tls_certificate: [{certificates}]\ntls_key: [{keys}]\n")
}

impl WssStage {
    /// Starts a daemon with one certificate for each list of names.
    pub fn set(names: &[&[&str]], config: &str) -> WssStage {
        let authority = Authority::new();
        let files: Vec<_> = names
            .iter()
            .map(|dns| authority.identity(dns).files(&[&authority.0]))
            .collect();
        let server = XmppServer::start();
        let daemon = Daemon::start(&format!(
            "domains:\n  - name: example.org\n    server: {}\n    tls: none\n{}{config}",
            server.address,
            keys(&files),
        ));
        WssStage {
            authority,
            server,
            daemon,
            files,
        }
    }

    /// A client's context that trusts the authority.
    pub fn connector(&self) -> openssl::ssl::SslConnectorBuilder {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a context");
        let mut store = X509StoreBuilder::new().expect("a store");
        let authority: X509 = self.authority.0.certificate.clone();
        store.add_cert(authority).expect("the authority");
        builder.set_cert_store(store.build());
        builder
    }

    pub fn tcp(&self) -> TcpStream {
        connected(self.daemon.address)
    }

    /// Connects with TLS. Fails unless the certificate is valid for this name.
    pub fn tls(&self, name: &str, version: SslVersion) -> SslStream<TcpStream> {
        let mut builder = self.connector();
        builder.set_min_proto_version(Some(version)).expect("it");
        builder.set_max_proto_version(Some(version)).expect("it");
        // As browsers send it.
        builder
            .set_alpn_protos(b"\x02h2\x08http/1.1")
            .expect("ALPN");
        let stream = builder.build().connect(name, self.tcp());
        stream.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn client(&self, version: SslVersion) -> WsClient<SslStream<TcpStream>> {
        let mut client = WsClient::new(self.tls("example.com", version));
        let response = client
            .handshake("/", &[], Some("xmpp"))
            .expect("a response");
        assert_eq!(
            response.field("Sec-WebSocket-Accept"),
            Some(HANDSHAKE_ACCEPT)
        );
        client
    }
}

pub fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// The first name of the server's certificate.
pub fn first_name(stream: &SslStream<TcpStream>) -> String {
    let certificate = stream.ssl().peer_certificate().expect("a certificate");
    let names = certificate.subject_alt_names().expect("names");
    names[0].dnsname().expect("a DNS name").to_owned()
}
