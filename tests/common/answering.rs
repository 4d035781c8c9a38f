//! XMPP servers that answer without a script, each at an address of its own and with its
//! own stream id, so a test can see which server a client reached. And an address that
//! never answers a connect.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{Backlog, listen, shutdown};

use super::PATIENCE;
use super::daemon::Daemon;
use super::dns_server::DnsServer;
use super::stage::{expect_error, expect_stream_close};
use super::ws_client::WsClient;

/// Features of a server that has no TLS.
pub const FEATURES: &str = "<stream:features/>";

/// The standard port of XMPP servers for clients.
pub const PORT: u16 = 5222;

/// A connect without an answer for so long will get none.
const SWALLOWED: Duration = Duration::from_millis(500);

/// What each connection has sent so far.
type Received = Arc<(Mutex<Vec<Vec<u8>>>, Condvar)>;

/// A running server. Dropping it closes the listener.
pub struct Answering {
    pub address: SocketAddr,
    received: Received,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    /// A plain-text server on a free port.
    pub fn start(id: &str) -> Answering {
        Answering::saying("127.0.0.1:0", id, FEATURES)
    }

    /// A plain-text server on a given address and port.
    pub fn start_at(address: impl Into<SocketAddr>, id: &str) -> Answering {
        let address: SocketAddr = address.into();
        Answering::saying(&address.to_string(), id, FEATURES)
    }

    /// A server that sends `text` after its stream header. If a client starts TLS, the
    /// server closes the connection.
    pub fn saying(address: &str, id: &str, text: &str) -> Answering {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        Answering::on(listener, id, text)
    }

    fn on(listener: TcpListener, id: &str, text: &str) -> Answering {
        let said = format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' id='{id}' version='1.0'>{text}"
        );
        let received = Received::default();
        let (for_thread, from) = (
            Arc::clone(&received),
            listener.try_clone().expect("clone a listener"),
        );
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = from.accept() {
                let (received, said) = (Arc::clone(&for_thread), said.clone());
                let mut all = received.0.lock().unwrap();
                let at = all.len();
                all.push(Vec::new());
                received.1.notify_all();
                drop(all);
                std::thread::spawn(move || answer(stream, &said, at, &received));
            }
        });
        Answering {
            address: listener.local_addr().expect("address"),
            received,
            listener,
            thread: Some(thread),
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.received.0.lock().unwrap().len()
    }

    /// Waits until the connection with this number has sent `pattern`; returns all that
    /// it has sent.
    pub fn wait_received(&self, at: usize, pattern: &[u8]) -> Vec<u8> {
        let all = self.received.0.lock().unwrap();
        let there = |all: &Vec<Vec<u8>>| all.get(at).is_some_and(|bytes| contains(bytes, pattern));
        let waited = self
            .received
            .1
            .wait_timeout_while(all, PATIENCE, |all| !there(all));
        let all = waited.unwrap().0;
        let said = all.get(at).map(|bytes| String::from_utf8_lossy(bytes));
        let wanted = String::from_utf8_lossy(pattern);
        assert!(there(&all), "connection {at}: {said:?} without {wanted:?}");
        all[at].clone()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        // Ends `accept`.
        let _ = shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn contains(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}

fn answer(mut stream: TcpStream, said: &str, at: usize, received: &Received) {
    let mut piece = [0; 4096];
    let mut answered = false;
    while let Ok(n) = stream.read(&mut piece)
        && n > 0
    {
        let mut all = received.0.lock().unwrap();
        let bytes = &mut all[at];
        bytes.extend(&piece[..n]);
        let tls = bytes[0] == 0x16;
        let header = contains(bytes, b"<stream:stream ") && bytes.ends_with(b">");
        received.1.notify_all();
        drop(all);
        if tls {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        if header && !answered {
            answered = true;
            let _ = stream.write_all(said.as_bytes());
        }
    }
}

/// A loopback address that no other test uses, with port 5222 free.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, high | 0x80, low, count)
}

/// An address without a listener. A port of 127.0.0.1 might be given to another test.
pub fn closed() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("bind");
    listener.local_addr().expect("address")
}

/// Servers on the same port of 127.0.0.1 and ::1.
pub fn twins(v4: &str, v6: &str) -> (Answering, Answering) {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = first.local_addr().expect("address").port();
        if let Ok(second) = TcpListener::bind(("::1", port)) {
            let first = Answering::on(first, v4, FEATURES);
            return (first, Answering::on(second, v6, FEATURES));
        }
    }
    panic!("no port is free on both 127.0.0.1 and ::1");
}

/// An address that never answers a connect, because its accept queue is full.
pub struct BlackHole {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// Fills the accept queue of a new listener on `address`; its port may be 0.
    pub fn start(address: &str) -> BlackHole {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        listen(&listener, Backlog::new(0).expect("a backlog")).expect("listen");
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, SWALLOWED) {
            queued.push(stream);
            assert!(queued.len() < 100, "a backlog that has no end");
        }
        BlackHole {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}

/// A daemon that asks `dns`.
pub fn daemon_asking(dns: &DnsServer, config: &str) -> Daemon {
    Daemon::start(&format!("dns_servers: {}\n{config}", dns.address))
}

/// The `<open/>` for a domain.
pub fn open_to(domain: &str) -> String {
    format!("<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{domain}' version='1.0'/>")
}

/// A client that has sent its `<open/>`.
pub fn opening(daemon: &Daemon, domain: &str) -> WsClient {
    let mut client = daemon.client();
    client.send_text(&open_to(domain)).expect("send");
    client
}

/// Reads the `<open/>` and returns its id, which identifies the server.
pub fn read_id(client: &mut WsClient, domain: &str) -> String {
    let open = client.read_text().expect("an <open/>");
    let start =
        format!("<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"{domain}\" id=\"");
    let id = open
        .strip_prefix(&start)
        .and_then(|rest| rest.split('"').next());
    id.unwrap_or_else(|| panic!("{open} of {domain}"))
        .to_owned()
}

/// Opens a session with `domain`; fails unless the server with this id answers.
pub fn reach(daemon: &Daemon, domain: &str, id: &str) -> WsClient {
    let mut client = opening(daemon, domain);
    assert_eq!(read_id(&mut client, domain), id, "the server of {domain}");
    client
        .read_text()
        .map(|text| assert!(text.starts_with("<stream:features"), "{text}"))
        .expect("features");
    client
}

/// Fails unless the client receives an `<open/>` (with an empty `from` for an unknown
/// domain), this stream error and the end of the stream.
pub fn expect_no_way(client: &mut WsClient, domain: &str, condition: &str) {
    let from = match condition {
        "host-unknown" => "",
        _ => domain,
    };
    read_id(client, from);
    expect_error(client, condition, domain);
    expect_stream_close(client, 1000);
}

/// Opens a session and expects this error.
pub fn reach_nothing(daemon: &Daemon, domain: &str, condition: &str) {
    expect_no_way(&mut opening(daemon, domain), domain, condition);
}
