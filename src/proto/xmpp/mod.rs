//! XMPP streams as bytes: RFC 6120 with the server, RFC 7395 or the earlier draft with the
//! client.
//!
//! `header` reads and writes stream headers, including `<open/>`. `server_stream` splits the
//! server's stream into units, and `client_message` checks the client's messages. `framing`
//! makes an element of the server complete in itself. `features` edits stream features, and
//! `known_features` remembers the result. `starttls` negotiates TLS with the server. `address`
//! checks the `to` of a stream header, and `error` has the stream errors.

pub mod address;
pub mod client_message;
pub mod error;
pub mod features;
pub mod framing;
pub mod header;
pub mod known_features;
pub mod server_stream;
pub mod starttls;

use crate::expat::{Limits, Pool};

/// XML namespaces.
pub mod ns {
    /// `<open/>` and `<close/>` (RFC 7395, section 3.3.2).
    pub const FRAMING: &str = "urn:ietf:params:xml:ns:xmpp-framing";
    /// The stream element, its features and errors (RFC 6120, section 4.8.1).
    pub const STREAMS: &str = "http://etherx.jabber.org/streams";
    /// Stanzas between client and server (RFC 6120, section 4.8.3).
    pub const CLIENT: &str = "jabber:client";
    /// Conditions of stream errors (RFC 6120, section 4.9.2).
    pub const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
    /// SASL (RFC 6120, section 6).
    pub const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// STARTTLS (RFC 6120, section 5).
    pub const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
    /// The stream feature of XEP-0138.
    pub const COMPRESS_FEATURE: &str = "http://jabber.org/features/compress";
    /// The elements of XEP-0138.
    pub const COMPRESS: &str = "http://jabber.org/protocol/compress";
}

/// The usual root of a server's stream.
const USUAL_ROOT: &[u8] =
    b"<r xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// The parsers of a worker, shared by all its sessions.
pub struct Parsers {
    /// For the streams of servers.
    pub stream: Pool,
    /// For messages that must be complete documents.
    pub message: Pool,
}

impl Default for Parsers {
    fn default() -> Parsers {
        Parsers {
            stream: Pool::new(USUAL_ROOT),
            message: Pool::new(b"<r>"),
        }
    }
}

impl Parsers {
    /// Sets the limits on future documents.
    pub fn set_limits(&mut self, limits: Limits) {
        self.stream.set_limits(limits);
        self.message.set_limits(limits);
    }
}

/// How the client frames its stream. Its first message shows this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// RFC 7395: `<open/>`, complete elements, `<close/>`.
    Framed,
    /// The drafts of RFC 7395: `<stream:stream>`, inherited namespaces.
    Draft,
}

impl Dialect {
    /// Returns the name for the log.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Framed => "rfc7395",
            Dialect::Draft => "draft",
        }
    }
}

/// Appends `text` escaped for an attribute value in double quotes or for
/// character data.
pub(crate) fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for &byte in text {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(b"&apos;"),
            b'\t' => out.extend_from_slice(b"&#9;"),
            b'\n' => out.extend_from_slice(b"&#10;"),
            b'\r' => out.extend_from_slice(b"&#13;"),
            _ => out.push(byte),
        }
    }
}

/// Appends ` name="value"`, with the value escaped.
pub(crate) fn attribute(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(name);
    out.extend_from_slice(b"=\"");
    escape(out, value);
    out.push(b'"');
}

/// Returns the processor time of this thread, which does not depend on the load of the machine.
#[cfg(test)]
fn cpu_seconds() -> i64 {
    use nix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.expect("the clock of this thread").tv_sec()
}

/// Whether `byte` is white space in XML.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
