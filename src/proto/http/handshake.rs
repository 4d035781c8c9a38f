//! The opening handshake: the checks that a request must pass to become a WebSocket.
//!
//! The order of the checks is fixed, because clients and scripts expect certain refusals:
//! method, origin, sub-protocol, key, host, `Upgrade`, `Connection`, resource and version, then
//! mistakes that browsers never make. A request that does not ask for a WebSocket may get a
//! page. RFC 6455 4.2.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use super::extensions::{self, Deflate};
use super::head::{Head, Target, is_token};
use super::host_meta::{self, Method, Page, PageRequest};
use super::refusal::Refusal;
use super::response::Response;
use crate::buf::Buf;

/// Appended to the key before hashing (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 that accepts any trailing bits, because the RFC's own example of a key (4.1)
/// does not end in zeros, and accepts missing padding.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Maximum length of a decoded key.
const MAX_KEY: usize = 64;

/// What an endpoint accepts.
pub struct Policy<'a> {
    /// The only accepted value of Host; `None` accepts any.
    pub host: Option<&'a str>,
    /// The only accepted path; `None` accepts any.
    pub resource: Option<&'a str>,
    /// Decides whether an origin is accepted. It is called once, with the value of Origin as
    /// received, or with `None` if the field is missing.
    pub origin_allowed: &'a dyn Fn(Option<&str>) -> bool,
    /// The sub-protocol that a request must offer.
    pub subprotocol: Subprotocol,
    /// Whether host-meta is served.
    pub host_meta: bool,
    /// Whether an offer of permessage-deflate is accepted (RFC 7692).
    pub deflate: bool,
}

/// The sub-protocol that a request must offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subprotocol {
    /// `xmpp` must be among the offers (RFC 7395 3.1).
    Xmpp,
    /// The first offer is accepted, if there is one.
    Any,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The request becomes a WebSocket.
    WebSocket(Accept),
    /// The request asks for a page.
    Page(PageRequest),
}

/// A request that becomes a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// Length of the header block in bytes; frames follow it.
    pub consumed: usize,
    /// The value of Sec-WebSocket-Accept.
    pub accept_key: String,
    /// The sub-protocol in the client's spelling; `None` if the client offered none.
    pub subprotocol: Option<Box<str>>,
    /// The parameters of compression, if it was negotiated.
    pub deflate: Option<Deflate>,
    /// All X-Forwarded-For fields in one list.
    pub forwarded_for: Option<Box<str>>,
    /// All Forwarded fields in one list.
    pub forwarded: Option<Box<str>>,
}

impl Accept {
    /// Appends the 101 response.
    pub fn write(&self, out: &mut Buf) {
        let mut fields = format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept_key
        );
        if let Some(subprotocol) = &self.subprotocol {
            fields += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
        }
        if let Some(deflate) = self.deflate {
            fields += &format!("Sec-WebSocket-Extensions: {deflate}\r\n");
        }
        let response = Response {
            status: 101,
            fields: &fields,
            content: None,
            head_only: false,
        };
        response.write(out);
    }
}

impl Policy<'_> {
    /// Checks a request.
    ///
    /// # Errors
    /// The rule that the request breaks.
    pub fn judge(&self, head: &Head<'_>) -> Result<Request, Refusal> {
        if let Some(page) = self.page(head)? {
            return Ok(Request::Page(page));
        }
        let to_head = head.method == "HEAD";
        if !head.is_1_1 {
            return Err(Refusal::Version { head: to_head });
        }
        if head.method != "GET" {
            return Err(Refusal::Method { head: to_head });
        }
        if !(self.origin_allowed)(head.origin()?) {
            return Err(Refusal::Origin);
        }
        let subprotocol = self.subprotocol(head)?;
        let key = key(head)?;
        let target = Target::parse(head.target)?;
        self.check_host(head, &target)?;
        if !head.lists("Upgrade", b"websocket") {
            return Err(Refusal::Upgrade);
        }
        if !head.lists("Connection", b"upgrade") {
            return Err(Refusal::Connection);
        }
        if !self.serves(target.path) {
            return Err(Refusal::Resource);
        }
        check_version(head)?;
        if !is_key(key) {
            return Err(Refusal::KeyInvalid);
        }
        let deflate = self.deflate(head)?;
        let has_length = head
            .all("Content-Length")
            .any(|value| value.is_empty() || value.iter().any(|&b| b != b'0'));
        if has_length || head.all("Transfer-Encoding").next().is_some() {
            return Err(Refusal::Body);
        }
        Ok(Request::WebSocket(Accept {
            consumed: head.consumed,
            accept_key: accept_key(key),
            subprotocol,
            deflate,
            forwarded_for: head.joined("X-Forwarded-For"),
            forwarded: head.joined("Forwarded"),
        }))
    }

    /// Returns the page for a request that does not ask for a WebSocket; `None` if it does, or
    /// if no page supports its method. An Upgrade to another protocol may be ignored (RFC 9110
    /// 7.8). HTTP/1.0 is accepted, because load balancers use it for health checks.
    fn page(&self, head: &Head<'_>) -> Result<Option<PageRequest>, Refusal> {
        let method = match head.method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            _ => return Ok(None),
        };
        if head.lists("Upgrade", b"websocket") || head.has_prefix("Sec-WebSocket-") {
            return Ok(None);
        }
        let target = Target::parse(head.target)?;
        head.host()?;
        let page = match target.path {
            host_meta::PATH if self.host_meta => Page::HostMeta,
            host_meta::JSON_PATH if self.host_meta => Page::HostMetaJson,
            path if self.serves(path) => Page::Resource,
            _ => return Err(Refusal::Resource),
        };
        Ok(Some(PageRequest { page, method }))
    }

    fn serves(&self, path: &str) -> bool {
        self.resource.is_none_or(|r| r.eq_ignore_ascii_case(path))
    }

    fn subprotocol(&self, head: &Head<'_>) -> Result<Option<Box<str>>, Refusal> {
        let mut offered = head.list("Sec-WebSocket-Protocol");
        let chosen = match self.subprotocol {
            Subprotocol::Xmpp => {
                let xmpp = offered.find(|token| token.eq_ignore_ascii_case(b"xmpp"));
                Some(xmpp.ok_or(Refusal::Subprotocol)?)
            }
            Subprotocol::Any => offered.find(|token| is_token(token)),
        };
        Ok(chosen.map(|token| String::from_utf8_lossy(token).into()))
    }

    fn check_host(&self, head: &Head<'_>, target: &Target<'_>) -> Result<(), Refusal> {
        let host = head.host()?.ok_or(Refusal::HostMissing)?;
        let host = target.authority.map_or(host, str::as_bytes);
        if !is_host(host) {
            return Err(Refusal::HostInvalid);
        }
        let served = self.host.map(str::as_bytes);
        match served.is_some_and(|served| !served.eq_ignore_ascii_case(host)) {
            true => Err(Refusal::HostDiffers),
            false => Ok(()),
        }
    }

    fn deflate(&self, head: &Head<'_>) -> Result<Option<Deflate>, Refusal> {
        let mut deflate = None;
        for value in head.all("Sec-WebSocket-Extensions") {
            let offered = extensions::deflate(value)?;
            deflate = deflate.or(offered.filter(|_| self.deflate));
        }
        Ok(deflate)
    }
}

/// Returns the key. An empty one counts as missing.
fn key<'a>(head: &Head<'a>) -> Result<&'a [u8], Refusal> {
    let key = head.single("Sec-WebSocket-Key", Refusal::KeyDuplicated)?;
    key.filter(|key| !key.is_empty()).ok_or(Refusal::KeyMissing)
}

fn check_version(head: &Head<'_>) -> Result<(), Refusal> {
    let version = head.single("Sec-WebSocket-Version", Refusal::WebSocketVersionDuplicated)?;
    match version == Some(b"13") {
        true => Ok(()),
        false => Err(Refusal::WebSocketVersion),
    }
}

/// Returns the value of Sec-WebSocket-Accept: a hash of the key as received, not decoded (RFC
/// 6455 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// Whether `key` is valid base64. RFC 6455 4.2.1 requires 16 bytes, but the length protects
/// nothing, and some clients send keys of other lengths.
fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; MAX_KEY.div_ceil(3) * 3];
    let decoded = KEY_BASE64.decode_slice(key, &mut nonce);
    matches!(decoded, Ok(1..=MAX_KEY))
}

/// Whether `host` can be `uri-host [ ":" port ]` (RFC 9110 7.2). A comma shows that a proxy
/// joined two fields, and an `@` that there is user information.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_the_key_of_the_rfc() {
        let answer = accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(answer, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_are_base64_of_any_length_within_bounds() {
        for good in [
            "AQIDBAUGBwgJCgsMDQ4PEC==",
            "AQIDBAUGBwgJCgsMDQ4PEA==",
            "AQIDBAUGBwgJCgsMDQ4PEA",
            "AQIDBAUGBwg=",
            "AQIDBAUGBwg",
            "AQ==",
            &"AAAA".repeat(21),
            &("AAAA".repeat(21) + "AA=="),
        ] {
            assert!(is_key(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "A",
            "====",
            "AQID BAUGBwgJCgsMDQ4PE==",
            "AQIDBAUGBwgJCgsMDQ4PE-==",
            "AQ==AQ==",
            &("AAAA".repeat(21) + "AAA="),
            &"AAAA".repeat(22),
            &"AAAA".repeat(4000),
        ] {
            assert!(!is_key(bad.as_bytes()), "{bad}");
        }
    }
}
