//! Calls of OpenSSL that its crate leaves out or marks as unsafe.

use std::ffi::{c_int, c_long};
use std::ptr::null_mut;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{Ssl, SslContextBuilder, SslMode, SslRef, SslSession};
use openssl_sys::{EVP_PKEY_RSA, EVP_PKEY_assign, SSL, SSL_CTX_ctrl};

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
