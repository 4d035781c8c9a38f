//! Sends any number of TLS records without payload through a relay that delivers them
//! together.

use std::ffi::{c_int, c_void};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{SslRef, SslStream};
use openssl::symm::{Cipher, encrypt_aead};

use super::wss_stage::connected;

unsafe extern "C" {
    fn SSL_key_update(ssl: *mut c_void, kind: c_int) -> c_int;
    fn SSL_new_session_ticket(ssl: *mut c_void) -> c_int;
    fn SSL_renegotiate(ssl: *mut c_void) -> c_int;
}

/// A TLS 1.3 record without payload; [`Idle::HelloRequest`] is for TLS 1.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    KeyUpdate,
    /// Asks the peer for one as well.
    KeyUpdateRequest,
    /// Sent by a server.
    Ticket,
    /// Sent by a server to ask the client to renegotiate.
    HelloRequest,
}

impl Idle {
    /// Sends one.
    pub fn send<S: Read + Write>(self, stream: &mut SslStream<S>) {
        const NOT_REQUESTED: c_int = 0;
        const REQUESTED: c_int = 1;
        let ssl = std::ptr::from_ref::<SslRef>(stream.ssl()).cast_mut().cast();
        // SAFETY: the connection is alive, and nobody else uses it.
        let done = unsafe {
            match self {
                Idle::KeyUpdate => SSL_key_update(ssl, NOT_REQUESTED),
                Idle::KeyUpdateRequest => SSL_key_update(ssl, REQUESTED),
                Idle::Ticket => SSL_new_session_ticket(ssl),
                Idle::HelloRequest => SSL_renegotiate(ssl),
            }
        };
        assert_eq!(done, 1, "{self:?}");
        stream.do_handshake().expect("what was asked for is sent");
    }
}

/// The cipher that [`Renegotiation`] uses.
pub const TLS12_CIPHER: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";

/// A TLS 1.2 client that asks to renegotiate repeatedly, which OpenSSL does not support
/// (RFC 5246, section 7.4.1; RFC 5288, section 3).
pub struct Renegotiation {
    key: Vec<u8>,
    salt: Vec<u8>,
    /// The number of records sent with this key, including the Finished message.
    sent: u64,
}

impl Renegotiation {
    /// To be called after the handshake and before anything is written.
    pub fn new(ssl: &SslRef) -> Renegotiation {
        assert_eq!(ssl.current_cipher().expect("a cipher").name(), TLS12_CIPHER);
        let mut master = [0; 48];
        let session = ssl.session().expect("a session");
        assert_eq!(session.master_key(&mut master), master.len());
        let (mut seed, mut client) = ([0; 32], [0; 32]);
        ssl.server_random(&mut seed);
        ssl.client_random(&mut client);
        let label = [b"key expansion", &seed[..], &client[..]].concat();
        // Two keys of 16 bytes, two salts of 4.
        let block = prf(&master, &label, 40);
        Renegotiation {
            key: block[..16].to_vec(),
            salt: block[32..36].to_vec(),
            sent: 1,
        }
    }

    /// The next record: a ClientHello with 2 bytes of version, 32 random bytes, no
    /// session, one cipher and no compression.
    pub fn record(&mut self) -> Vec<u8> {
        let mut hello = vec![1, 0, 0, 41, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let number = self.sent.to_be_bytes();
        self.sent += 1;
        let len = u16::try_from(hello.len()).expect("short").to_be_bytes();
        let aad = [&number[..], &[22, 3, 3], &len].concat();
        let nonce = [&self.salt[..], &number].concat();
        let mut tag = [0; 16];
        let cipher = Cipher::aes_128_gcm();
        let sealed = encrypt_aead(cipher, &self.key, Some(&nonce), &aad, &hello, &mut tag);
        let body = [&number[..], &sealed.expect("sealed"), &tag].concat();
        let len = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&[22, 3, 3][..], &len, &body].concat()
    }
}

/// The pseudorandom function of TLS 1.2 (RFC 5246, section 5).
fn prf(secret: &[u8], seed: &[u8], len: usize) -> Vec<u8> {
    let key = PKey::hmac(secret).expect("a key");
    let hmac = |parts: &[&[u8]]| {
        let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("HMAC");
        for part in parts {
            signer.update(part).expect("HMAC");
        }
        signer.sign_to_vec().expect("HMAC")
    };
    let (mut a, mut out) = (hmac(&[seed]), Vec::new());
    while out.len() < len {
        out.extend(hmac(&[&a, seed]));
        a = hmac(&[&a]);
    }
    out
}

/// Passes bytes on in both directions. While a connection is held, the relay collects its
/// bytes.
pub struct Relay {
    pub address: SocketAddr,
    last: Arc<Mutex<Arc<AtomicBool>>>,
}

impl Relay {
    pub fn start(target: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let last = Arc::<Mutex<Arc<AtomicBool>>>::default();
        let noted = Arc::clone(&last);
        std::thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                let held = Arc::<AtomicBool>::default();
                *noted.lock().unwrap() = Arc::clone(&held);
                from.set_nodelay(true).expect("TCP_NODELAY");
                let to = connected(target);
                to.set_read_timeout(None).expect("no timeout");
                for (from, to) in [(&from, &to), (&to, &from)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let held = Arc::clone(&held);
                    std::thread::spawn(move || pass_on(from, to, &held));
                }
            }
        });
        Relay { address, last }
    }

    /// Holds the last connection. When the flag is cleared, the next bytes release the
    /// collected ones.
    pub fn hold(&self) -> Arc<AtomicBool> {
        let held = Arc::clone(&self.last.lock().unwrap());
        held.store(true, Ordering::SeqCst);
        held
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, held: &AtomicBool) {
    let (mut gathered, mut piece) = (Vec::new(), [0; 64 << 10]);
    while let Ok(n @ 1..) = from.read(&mut piece) {
        gathered.extend_from_slice(&piece[..n]);
        if held.load(Ordering::SeqCst) {
            continue;
        }
        if to.write_all(&gathered).is_err() {
            break;
        }
        gathered.clear();
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
