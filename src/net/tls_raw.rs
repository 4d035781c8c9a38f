//! Calls of OpenSSL that its crate leaves out or marks as unsafe.

use std::ffi::{CStr, OsStr, c_int, c_long, c_uchar};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::null_mut;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContextBuilder, SslMode, SslRef, SslSession};
use openssl_sys::{
    EVP_CIPHER_CTX, EVP_CipherInit_ex, EVP_PKEY_RSA, EVP_PKEY_assign, EVP_aes_256_cbc, EVP_sha256,
    HMAC_CTX, HMAC_Init_ex, SSL, SSL_CTX_callback_ctrl__fixed_rust, SSL_CTX_ctrl,
    X509_get_default_cert_dir, X509_get_default_cert_file,
};

use super::ticket_keys;

// SAFETY: the prototype is that of openssl/ssl.h.
#[expect(unsafe_code, reason = "the crate leaves the call out")]
unsafe extern "C" {
    fn SSL_free_buffers(ssl: *mut SSL) -> c_int;
}

/// Makes a read return after a record without data, such as a KeyUpdate. By default OpenSSL
/// keeps reading as long as such records arrive.
#[expect(unsafe_code, reason = "the crate can set modes, but not clear them")]
pub(super) fn stop_at_records_without_payload(builder: &mut SslContextBuilder) {
    /// From openssl/ssl.h.
    const SSL_CTRL_CLEAR_MODE: c_int = 78;
    let mode = SslMode::AUTO_RETRY.bits() as c_long;
    // SAFETY: the context is alive, and the call takes a number and no pointer.
    unsafe { SSL_CTX_ctrl(builder.as_ptr(), SSL_CTRL_CLEAR_MODE, mode, null_mut()) };
}

/// Limits the certificates that a peer may send, in bytes. By default OpenSSL takes 100 KiB of
/// them, and needs 30 ms to decode these.
#[expect(unsafe_code, reason = "the crate leaves the call out")]
pub(super) fn limit_certificates(builder: &mut SslContextBuilder, bytes: c_long) {
    /// From openssl/ssl.h.
    const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
    // SAFETY: the context is alive, and the call takes a number and no pointer.
    unsafe {
        SSL_CTX_ctrl(
            builder.as_ptr(),
            SSL_CTRL_SET_MAX_CERT_LIST,
            bytes,
            null_mut(),
        )
    };
}

/// The file of the system's authorities, and its directories, unless the environment names
/// others.
#[expect(unsafe_code, reason = "the crate leaves the calls out")]
pub(super) fn default_authorities() -> (PathBuf, PathBuf) {
    // SAFETY: both calls return constant texts of the library.
    let [file, directories] = unsafe {
        let texts = [X509_get_default_cert_file(), X509_get_default_cert_dir()];
        texts.map(|text| CStr::from_ptr(text))
    };
    let path = |text: &CStr| PathBuf::from(OsStr::from_bytes(text.to_bytes()));
    (path(file), path(directories))
}

/// Offers the server a ticket. If the server does not accept it, a full handshake follows.
#[expect(unsafe_code, reason = "the crate marks it so: see SAFETY")]
pub(super) fn resume(ssl: &mut Ssl, ticket: &SslSession) {
    // SAFETY: the ticket comes from the context that also created `ssl`, as the function
    // requires.
    let _ = unsafe { ssl.set_session(ticket) };
}

/// Frees the keys of the key exchange once the handshake is complete. By default OpenSSL keeps
/// them as long as the connection: 8 KiB for ML-KEM, and secrets that nobody needs any more.
#[expect(unsafe_code, reason = "the crate cannot empty a key: see SAFETY")]
pub(super) fn free_key_shares(ssl: &SslRef) {
    let (own, peer) = (ssl.tmp_key().ok(), ssl.peer_tmp_key().ok());
    let own = own.as_ref().map(|key| key.as_ptr());
    let peer = peer.as_ref().map(|key| key.as_ptr());
    for key in [own, peer].into_iter().flatten() {
        // SAFETY: both keys are alive and belong to this connection only, and OpenSSL uses
        // them only in the handshake. A key of a type without a value is valid.
        unsafe { EVP_PKEY_assign(key, EVP_PKEY_RSA, null_mut()) };
    }
}

/// Frees the buffers of records, unless they hold some. OpenSSL does that itself after data,
/// but a ticket leaves an empty buffer of 16 KiB behind until the next write.
#[expect(unsafe_code, reason = "the crate leaves the call out: see SAFETY")]
pub(super) fn free_buffers(ssl: &SslRef) {
    // SAFETY: the connection is alive, and it keeps buffers that are in use.
    unsafe { SSL_free_buffers(ssl.as_ptr()) };
}

/// Makes a listener encrypt its tickets with the keys of `ticket_keys`.
#[expect(unsafe_code, reason = "the crate leaves the call out: see SAFETY")]
pub(super) fn use_ticket_keys(builder: &mut SslContextBuilder) {
    /// From openssl/ssl.h.
    const SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB: c_int = 72;
    let choose = choose_ticket_key as TicketKeyCallback;
    // SAFETY: the function has the type that OpenSSL casts this command's argument to.
    unsafe {
        let choose = std::mem::transmute::<TicketKeyCallback, unsafe extern "C" fn()>(choose);
        let command = SSL_CTRL_SET_TLSEXT_TICKET_KEY_CB;
        SSL_CTX_callback_ctrl__fixed_rust(builder.as_ptr(), command, Some(choose))
    };
}

type TicketKeyCallback = unsafe extern "C" fn(
    *mut SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut EVP_CIPHER_CTX,
    *mut HMAC_CTX,
    c_int,
) -> c_int;

/// Prepares to encrypt or decrypt a ticket. Returns 0 if there is no key for it, which leads
/// to a full handshake, and 2 if the ticket is good but its key is old.
#[expect(unsafe_code, reason = "called by OpenSSL: see SAFETY")]
unsafe extern "C" fn choose_ticket_key(
    _: *mut SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut EVP_CIPHER_CTX,
    mac: *mut HMAC_CTX,
    encrypt: c_int,
) -> c_int {
    let Some(keys) = ticket_keys::valid() else {
        return 0;
    };
    // SAFETY: SSL_CTX_set_tlsext_ticket_key_cb(3): a name has 16 bytes, and an IV has room for
    // that of any cipher, at least 16. Both contexts are valid, and copy the keys.
    unsafe {
        let name = std::slice::from_raw_parts_mut(name, 16);
        let at = match encrypt {
            1 => {
                let iv = std::slice::from_raw_parts_mut(iv, 16);
                if openssl::rand::rand_bytes(iv).is_err() {
                    return 0;
                }
                name.copy_from_slice(&keys[0].name);
                0
            }
            _ => match keys.iter().position(|key| key.name == *name) {
                Some(at) => at,
                None => return 0,
            },
        };
        let (aes, key) = (EVP_aes_256_cbc(), &keys[at]);
        let length = key.mac.len() as c_int;
        let secret = key.mac.as_ptr().cast();
        let ready = EVP_CipherInit_ex(cipher, aes, null_mut(), key.cipher.as_ptr(), iv, encrypt)
            == 1
            && HMAC_Init_ex(mac, secret, length, EVP_sha256(), null_mut()) == 1;
        match (ready, at) {
            (false, _) => 0,
            (true, 0) => 1,
            (true, _) => 2,
        }
    }
}
