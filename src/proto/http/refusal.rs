//! The reasons to refuse a request.
//!
//! Has the response to each refusal and its text for the log. The response closes the
//! connection and names the reason in one line of text. RFC 9110 15 (status codes) and 7.8
//! (Upgrade), RFC 9112 9.6.

use std::fmt;

use super::response::{Response, TEXT};
use crate::buf::Buf;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A TLS handshake arrived on a port for plain HTTP.
    TlsOnPlainPort,
    /// Plain HTTP arrived on a port for TLS.
    PlainOnTlsPort,
    /// The request line or a header line breaks the syntax, folding and white
    /// space before a colon included (RFC 9112 2.2, 3, 5.1, 5.2).
    Malformed,
    /// The header block exceeds [`super::head::Limits::head_size`] (RFC 6585 5).
    HeadTooLarge,
    /// There are more header lines than [`super::head::Limits::lines`] (RFC 6585 5).
    TooManyHeaders,
    /// The version is not HTTP/1.1; older versions have no Upgrade (RFC 6455
    /// 4.2.1, RFC 9110 7.8).
    Version {
        /// Whether the method is HEAD: the response has no body.
        head: bool,
    },
    /// The method is not GET (RFC 6455 4.2.1).
    Method {
        /// Whether the method is HEAD: the response has no body.
        head: bool,
    },
    /// Origin is repeated or not UTF-8 (RFC 6454 7.3).
    OriginInvalid,
    /// The origin is not allowed to use this endpoint (RFC 6455 4.2.2, 10.2).
    Origin,
    /// `xmpp` is not among the sub-protocols (RFC 7395 3.1).
    Subprotocol,
    /// Sec-WebSocket-Key is missing (RFC 6455 4.2.1).
    KeyMissing,
    /// Sec-WebSocket-Key is repeated (RFC 6455 11.3.1).
    KeyDuplicated,
    /// Sec-WebSocket-Key is not base64 of 1 to 64 bytes (RFC 6455 4.2.1 requires 16).
    KeyInvalid,
    /// The target is neither a path nor an absolute http URI (RFC 9112 3.2).
    Target,
    /// Host is missing (RFC 9112 3.2).
    HostMissing,
    /// Host is repeated (RFC 9112 3.2).
    HostDuplicated,
    /// Host is not a host name with an optional port (RFC 9110 7.2).
    HostInvalid,
    /// Host differs from the configured one (RFC 6455 4.2.1).
    HostDiffers,
    /// Upgrade does not list `websocket` (RFC 6455 4.2.1).
    Upgrade,
    /// Connection does not list `upgrade` (RFC 6455 4.2.1).
    Connection,
    /// The path differs from the configured one (RFC 6455 4.2.2).
    Resource,
    /// Sec-WebSocket-Version is repeated (RFC 6455 11.3.5).
    WebSocketVersionDuplicated,
    /// Sec-WebSocket-Version is not 13 (RFC 6455 4.2.2, 4.4).
    WebSocketVersion,
    /// Sec-WebSocket-Extensions breaks its grammar (RFC 6455 9.1).
    Extensions,
    /// The request has a body, which would be read as frames (RFC 9112 6).
    Body,
    /// The request was not complete in time (RFC 9110 15.5.9).
    Timeout,
    /// There is no room for another client (RFC 6455 10.4, RFC 9110 15.6.4).
    Overloaded,
    /// The client's address has too many connections, or opens them too fast (RFC 6455 10.4,
    /// RFC 9110 15.6.4).
    AddressOverloaded,
    /// The server is stopping (RFC 9110 15.6.4).
    Stopping,
}

impl Refusal {
    /// The status code.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Origin => 403,
            Refusal::Resource => 404,
            Refusal::Method { .. } => 405,
            Refusal::Timeout => 408,
            Refusal::WebSocketVersion => 426,
            Refusal::HeadTooLarge | Refusal::TooManyHeaders => 431,
            Refusal::Overloaded | Refusal::AddressOverloaded | Refusal::Stopping => 503,
            _ => 400,
        }
    }

    /// Appends the response.
    pub fn write(self, out: &mut Buf) {
        let fields = match self {
            Refusal::Method { .. } => "Connection: close\r\nAllow: GET, HEAD, OPTIONS\r\n",
            Refusal::WebSocketVersion => {
                "Connection: Upgrade, close\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\n"
            }
            Refusal::Overloaded | Refusal::AddressOverloaded => {
                "Connection: close\r\nRetry-After: 10\r\n"
            }
            Refusal::Stopping => "Connection: close\r\nRetry-After: 5\r\n",
            _ => "Connection: close\r\n",
        };
        let body = format!("{self}\n");
        let response = Response {
            status: self.status(),
            fields,
            content: Some((TEXT, body.as_bytes())),
            head_only: matches!(
                self,
                Refusal::Method { head: true } | Refusal::Version { head: true }
            ),
        };
        response.write(out);
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TlsOnPlainPort => "TLS on a plain port",
            Refusal::PlainOnTlsPort => "plain HTTP on a TLS port (use wss:// or https://)",
            Refusal::Malformed => "malformed HTTP request",
            Refusal::HeadTooLarge => "request header block is too large",
            Refusal::TooManyHeaders => "too many request header fields",
            Refusal::Version { .. } => "HTTP version is not 1.1",
            Refusal::Method { .. } => "method is not GET",
            Refusal::OriginInvalid => "Origin is repeated or not UTF-8",
            Refusal::Origin => "origin is not allowed",
            Refusal::Subprotocol => "sub-protocol xmpp is not offered",
            Refusal::KeyMissing => "Sec-WebSocket-Key is missing",
            Refusal::KeyDuplicated => "Sec-WebSocket-Key is repeated",
            Refusal::KeyInvalid => "Sec-WebSocket-Key is not base64",
            Refusal::Target => "request target is not a path or an http URI",
            Refusal::HostMissing => "Host is missing",
            Refusal::HostDuplicated => "Host is repeated",
            Refusal::HostInvalid => "Host is not a host name",
            Refusal::HostDiffers => "host is not served here",
            Refusal::Upgrade => "Upgrade does not list websocket",
            Refusal::Connection => "Connection does not list Upgrade",
            Refusal::Resource => "resource is not served here",
            Refusal::WebSocketVersionDuplicated => "Sec-WebSocket-Version is repeated",
            Refusal::WebSocketVersion => "Sec-WebSocket-Version is not 13",
            Refusal::Extensions => "Sec-WebSocket-Extensions is malformed",
            Refusal::Body => "opening handshake with a body",
            Refusal::Timeout => "request was not complete in time",
            Refusal::Overloaded => "too many connections",
            Refusal::AddressOverloaded => "too many connections from your address",
            Refusal::Stopping => "this server is stopping",
        })
    }
}

impl std::error::Error for Refusal {}
