//! The request of the opening handshake and the rules it has to keep.
//!
//! Owns the order of the checks: syntax first, then method, origin,
//! sub-protocol, version, key, host, `Upgrade`, `Connection` and resource, so
//! that clients and scripts meet the refusals they know; last what no browser
//! sends. It never writes a response. RFC 6455 4.2.1, RFC 9112 3.2 (target and
//! Host), RFC 9110 5.6.1 (lists).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha1::{Digest, Sha1};

use super::extensions;
use super::page::{self, Method, Page, Plain};
use super::response::{Accept, Refusal};

/// What a request may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest header block, request line and blank line included, in bytes.
    pub head_size: usize,
    /// The most header lines.
    pub lines: usize,
}

impl Limits {
    /// Room for the largest cookies that browsers send.
    pub const DEFAULT: Limits = Limits {
        head_size: 16 * 1024,
        lines: 100,
    };
}

/// The most bytes of empty lines before the request line (RFC 9112 2.2).
const MAX_LEADING_EMPTY: usize = 16;

/// What is appended to the key before it is hashed (RFC 6455 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Base64 that accepts any trailing bits, because the RFC's own example of a key (4.1)
/// does not end in zeros, and accepts missing padding.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The longest key, decoded.
const MAX_KEY: usize = 64;

/// What the endpoint serves.
pub struct Policy<'a> {
    /// The only value of Host that is served; `None` = any.
    pub host: Option<&'a str>,
    /// The only path that is served; `None` = any.
    pub resource: Option<&'a str>,
    /// Whether a request of this origin passes; asked once, with the value as
    /// it came, `None` without an Origin field.
    pub origin_allowed: &'a dyn Fn(Option<&str>) -> bool,
    /// The sub-protocol that is spoken.
    pub subprotocol: Subprotocol,
    /// What a request may be made of.
    pub limits: Limits,
    /// Whether host-meta is served.
    pub host_meta: bool,
    /// Whether permessage-deflate is accepted where it is offered (RFC 7692).
    pub deflate: bool,
}

/// Which sub-protocol a request has to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subprotocol {
    /// `xmpp` has to be among those offered (RFC 7395 3.1).
    Xmpp,
    /// The first one offered is taken, if any.
    Any,
}

/// Whether bytes beyond the first `old_len` of `input` can change the outcome
/// of [`parse`]. Asking keeps the cost of a request that comes byte by byte
/// linear in its lines.
pub fn worth_parsing(input: &[u8], old_len: usize, limits: &Limits) -> bool {
    old_len == 0
        || input.len() >= limits.head_size
        || memchr::memchr(b'\n', &input[old_len..]).is_some()
}

/// Judges the request at the front of `input`; `None` while bytes are missing.
pub fn parse(input: &[u8], policy: &Policy<'_>) -> Result<Option<Accept>, Refusal> {
    if input.first() == Some(&0x16) {
        return Err(Refusal::TlsOnPlainPort);
    }
    let empty = input.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    if empty.count() > MAX_LEADING_EMPTY {
        return Err(Refusal::Malformed);
    }
    let limits = &policy.limits;
    let mut fields = vec![httparse::EMPTY_HEADER; limits.lines];
    let mut request = httparse::Request::new(&mut fields);
    let head = &input[..input.len().min(limits.head_size)];
    match request.parse(head) {
        Ok(httparse::Status::Complete(consumed)) => judge(&request, consumed, policy).map(Some),
        Ok(httparse::Status::Partial) if input.len() >= limits.head_size => {
            Err(Refusal::HeadTooLarge)
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::TooManyHeaders),
        Err(httparse::Error::Version) => Err(Refusal::Version { head: false }),
        Err(_) => Err(Refusal::Malformed),
    }
}

/// The target and the Host of the request at the start of `input`, for the log.
pub fn asked(input: &[u8]) -> (Option<String>, Option<String>) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut fields);
    // As far as it can be read.
    let _ = request.parse(input);
    let host = Fields(request.headers).all("Host").next();
    let host = host.map(|host| String::from_utf8_lossy(host).into_owned());
    (request.path.map(str::to_owned), host)
}

fn judge(
    request: &httparse::Request<'_, '_>,
    consumed: usize,
    policy: &Policy<'_>,
) -> Result<Accept, Refusal> {
    let fields = Fields(request.headers);
    if let Some(plain) = plain(request, &fields, policy)? {
        return Err(Refusal::Plain(plain));
    }
    let head = request.method == Some("HEAD");
    if request.version != Some(1) {
        return Err(Refusal::Version { head });
    }
    if request.method != Some("GET") {
        return Err(Refusal::Method { head });
    }
    let origin = match fields
        .single("Origin")
        .map_err(|_| Refusal::OriginInvalid)?
    {
        Some(value) => Some(std::str::from_utf8(value).map_err(|_| Refusal::OriginInvalid)?),
        None => None,
    };
    if !(policy.origin_allowed)(origin) {
        return Err(Refusal::Origin);
    }
    let mut offered = fields.list("Sec-WebSocket-Protocol");
    let subprotocol = match policy.subprotocol {
        Subprotocol::Xmpp => {
            let xmpp = offered.find(|token| token.eq_ignore_ascii_case(b"xmpp"));
            Some(xmpp.ok_or(Refusal::Subprotocol)?)
        }
        Subprotocol::Any => offered.find(|token| is_token(token)),
    };
    match fields.single("Sec-WebSocket-Version") {
        Err(Repeated) => return Err(Refusal::WebSocketVersionDuplicated),
        Ok(Some(b"13")) => {}
        Ok(_) => return Err(Refusal::WebSocketVersion),
    }
    let key = fields
        .single("Sec-WebSocket-Key")
        .map_err(|_| Refusal::KeyDuplicated)?
        .ok_or(Refusal::KeyMissing)?;
    if !is_key(key) {
        return Err(Refusal::KeyInvalid);
    }
    let target = Target::parse(request.path.unwrap_or_default())?;
    let host = fields
        .single("Host")
        .map_err(|_| Refusal::HostDuplicated)?
        .ok_or(Refusal::HostMissing)?;
    let host = target.authority.map_or(host, str::as_bytes);
    if !is_host(host) {
        return Err(Refusal::HostInvalid);
    }
    if policy
        .host
        .is_some_and(|h| !h.as_bytes().eq_ignore_ascii_case(host))
    {
        return Err(Refusal::HostDiffers);
    }
    if !fields.lists("Upgrade", b"websocket") {
        return Err(Refusal::Upgrade);
    }
    if !fields.lists("Connection", b"upgrade") {
        return Err(Refusal::Connection);
    }
    if policy
        .resource
        .is_some_and(|r| !r.eq_ignore_ascii_case(target.path))
    {
        return Err(Refusal::Resource);
    }
    let mut deflate = None;
    for value in fields.all("Sec-WebSocket-Extensions") {
        let offered = extensions::deflate(value).map_err(|_| Refusal::Extensions)?;
        deflate = deflate.or(offered.filter(|_| policy.deflate));
    }
    let has_length = fields
        .all("Content-Length")
        .any(|value| value.is_empty() || value.iter().any(|&b| b != b'0'));
    if has_length || fields.all("Transfer-Encoding").next().is_some() {
        return Err(Refusal::Body);
    }
    Ok(Accept {
        consumed,
        accept_key: accept_key(key),
        subprotocol: subprotocol.map(|t| String::from_utf8_lossy(t).into()),
        deflate,
        origin: origin.map(Into::into),
        forwarded_for: fields.joined("X-Forwarded-For"),
        forwarded: fields.joined("Forwarded"),
    })
}

/// The page that a request asks for that does not want a WebSocket; `None` if it
/// wants one, or if no page supports its method. An Upgrade to something else may
/// be ignored (RFC 9110 7.8). HTTP/1.0 is accepted, because load balancers use it
/// for health checks.
fn plain(
    request: &httparse::Request<'_, '_>,
    fields: &Fields<'_>,
    policy: &Policy<'_>,
) -> Result<Option<Plain>, Refusal> {
    let method = match request.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("OPTIONS") => Method::Options,
        _ => return Ok(None),
    };
    if fields.lists("Upgrade", b"websocket") || fields.begins("Sec-WebSocket-") {
        return Ok(None);
    }
    let target = Target::parse(request.path.unwrap_or_default())?;
    let host = fields.single("Host").map_err(|_| Refusal::HostDuplicated)?;
    if host.is_none() && request.version == Some(1) {
        return Err(Refusal::HostMissing);
    }
    let page = match target.path {
        page::HOST_META if policy.host_meta => Page::HostMeta,
        page::HOST_META_JSON if policy.host_meta => Page::HostMetaJson,
        path if policy.resource.is_none_or(|r| r.eq_ignore_ascii_case(path)) => Page::Resource,
        _ => return Err(Refusal::Resource),
    };
    Ok(Some(Plain { page, method }))
}

/// The answer to a key: hashed as it came, not as it decodes (RFC 6455 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    base64::engine::general_purpose::STANDARD.encode(hash)
}

/// Whether `key` is base64 of something. RFC 6455 4.2.1 wants 16 bytes, but the
/// length protects nothing, and there are clients that send others.
fn is_key(key: &[u8]) -> bool {
    let mut nonce = [0; MAX_KEY.div_ceil(3) * 3];
    let decoded = KEY_BASE64.decode_slice(key, &mut nonce);
    matches!(decoded, Ok(1..=MAX_KEY))
}

/// Whether `host` can be `uri-host [ ":" port ]` (RFC 9110 7.2). A comma is
/// the trace of two fields joined by a proxy, an `@` one of user information.
fn is_host(host: &[u8]) -> bool {
    !host.is_empty()
        && host
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

/// A field stands more than once.
struct Repeated;

/// The header fields of a request; names compare without case.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all lines of this name, without white space around them.
    fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let fields = self.0.iter();
        let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    /// The value of a field that may stand once.
    fn single(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }

    /// The elements of a comma list over all lines of this name.
    fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let elements = self.all(name).flat_map(|value| value.split(|&b| b == b','));
        elements.map(<[u8]>::trim_ascii).filter(|e| !e.is_empty())
    }

    fn lists(&self, name: &str, token: &[u8]) -> bool {
        self.list(name).any(|e| e.eq_ignore_ascii_case(token))
    }

    /// Whether the name of any field begins with this.
    fn begins(&self, start: &str) -> bool {
        let start = start.as_bytes();
        self.0.iter().any(|field| {
            let name = field.name.as_bytes().get(..start.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(start))
        })
    }

    /// All lines of this name as one comma list; `None` without any.
    fn joined(&self, name: &str) -> Option<Box<str>> {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(", ").into())
    }
}

/// The request target (RFC 9112 3.2).
struct Target<'a> {
    /// Present in the absolute form.
    authority: Option<&'a str>,
    /// The path without the query.
    path: &'a str,
}

impl<'a> Target<'a> {
    fn parse(target: &'a str) -> Result<Target<'a>, Refusal> {
        if target.contains('#') {
            return Err(Refusal::Target);
        }
        let (authority, rest) = if target.starts_with('/') {
            (None, target)
        } else {
            let (scheme, rest) = target.split_once("://").ok_or(Refusal::Target)?;
            let schemes = ["http", "https", "ws", "wss"];
            if !schemes.iter().any(|s| scheme.eq_ignore_ascii_case(s)) {
                return Err(Refusal::Target);
            }
            let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            (Some(authority), rest)
        };
        let path = rest.split_once('?').map_or(rest, |(path, _)| path);
        Ok(Target {
            authority,
            path: if path.is_empty() { "/" } else { path },
        })
    }
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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

    #[test]
    fn targets() {
        let parts = |t| Target::parse(t).ok().map(|t| (t.authority, t.path));
        assert_eq!(parts("/ws?x=/y"), Some((None, "/ws")));
        assert_eq!(parts("HTTP://h:1?x"), Some((Some("h:1"), "/")));
        assert_eq!(parts("ws://h/p/q"), Some((Some("h"), "/p/q")));
        for bad in ["*", "host:80", "/a#b", "ftp://h/", ""] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn is_worth_parsing_when_a_line_ends() {
        let limits = Limits {
            head_size: 32,
            lines: 1,
        };
        let worth = |input: &[u8], old_len| worth_parsing(input, old_len, &limits);
        assert!(worth(b"G", 0));
        assert!(!worth(b"GE", 1));
        assert!(worth(b"GET / HTTP/1.1\r\n", 15));
        assert!(!worth(b"GET / HTTP/1.1\r\nH", 16));
        assert!(worth(&[b'a'; 32], 31));
    }
}
