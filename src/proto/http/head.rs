//! Parses the header block of a request, for every port that speaks HTTP.
//!
//! Checks its syntax and limits, and the rules for every request: Host (RFC 9112 3.2), the
//! target (3.2), lists (RFC 9110 5.6.1), tokens (5.6.2). Never reads a body or the bytes after
//! the blank line. Keeps no state: the caller collects bytes and calls it again.

use super::refusal::Refusal;

/// The limits on a header block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length in bytes, including the request line and the blank line.
    pub head_size: usize,
    /// Maximum number of header lines.
    pub lines: usize,
}

impl Limits {
    /// Room for the largest cookies that browsers send.
    pub const DEFAULT: Limits = Limits {
        head_size: 16 * 1024,
        lines: 100,
    };
}

/// Maximum number of bytes in empty lines before the request line (RFC 9112 2.2).
const MAX_LEADING_EMPTY: usize = 16;

/// Whether the bytes after the first `old_len` of `input` can change the result of
/// [`Head::parse`]. With this check, a request that arrives byte by byte is parsed only once
/// per line.
pub fn worth_parsing(input: &[u8], old_len: usize, limits: &Limits) -> bool {
    old_len == 0
        || input.len() >= limits.head_size
        || memchr::memchr(b'\n', &input[old_len..]).is_some()
}

/// A complete header block.
#[derive(Debug)]
pub struct Head<'a> {
    /// Length of the header block in bytes.
    pub consumed: usize,
    /// The method as received.
    pub method: &'a str,
    /// The request target as received.
    pub target: &'a str,
    /// Whether the version is HTTP/1.1; otherwise it is HTTP/1.0.
    pub is_1_1: bool,
    fields: Vec<httparse::Header<'a>>,
}

impl<'a> Head<'a> {
    /// Reads the header block at the start of `input`. Returns `None` if it is incomplete.
    ///
    /// # Errors
    /// The header block has wrong syntax or exceeds a limit, or it is TLS.
    pub fn parse(input: &'a [u8], limits: &Limits) -> Result<Option<Head<'a>>, Refusal> {
        if input.first() == Some(&0x16) {
            return Err(Refusal::TlsOnPlainPort);
        }
        let empty = input.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
        if empty.count() > MAX_LEADING_EMPTY {
            return Err(Refusal::Malformed);
        }
        let mut fields = vec![httparse::EMPTY_HEADER; limits.lines];
        let mut request = httparse::Request::new(&mut fields);
        let block = &input[..input.len().min(limits.head_size)];
        let consumed = match request.parse(block) {
            Ok(httparse::Status::Complete(consumed)) => consumed,
            Ok(httparse::Status::Partial) if input.len() >= limits.head_size => {
                return Err(Refusal::HeadTooLarge);
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
            Err(httparse::Error::Version) => return Err(Refusal::Version { head: false }),
            Err(_) => return Err(Refusal::Malformed),
        };
        let (method, target) = (request.method, request.path);
        let (version, lines) = (request.version, request.headers.len());
        fields.truncate(lines);
        Ok(Some(Head {
            consumed,
            method: method.unwrap_or_default(),
            target: target.unwrap_or_default(),
            is_1_1: version == Some(1),
            fields,
        }))
    }

    /// Returns the values of all lines with this name, without surrounding white space. Names
    /// are case-insensitive.
    pub(super) fn all<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, '_, 'n> {
        let fields = self.fields.iter();
        let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.trim_ascii())
    }

    /// Returns the value of a field that may appear only once.
    pub(super) fn single(
        &self,
        name: &str,
        repeated: Refusal,
    ) -> Result<Option<&'a [u8]>, Refusal> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(repeated),
        }
    }

    /// Returns the elements of the comma-separated list in all lines with this name.
    pub(super) fn list<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, '_, 'n> {
        let elements = self.all(name).flat_map(|value| value.split(|&b| b == b','));
        elements.map(<[u8]>::trim_ascii).filter(|e| !e.is_empty())
    }

    pub(super) fn lists(&self, name: &str, token: &[u8]) -> bool {
        self.list(name).any(|e| e.eq_ignore_ascii_case(token))
    }

    /// Whether the name of any field begins with `start`.
    pub(super) fn has_prefix(&self, start: &str) -> bool {
        let start = start.as_bytes();
        self.fields.iter().any(|field| {
            let name = field.name.as_bytes().get(..start.len());
            name.is_some_and(|name| name.eq_ignore_ascii_case(start))
        })
    }

    /// Joins all lines with this name to one comma-separated list; `None` if there are none.
    pub(super) fn joined(&self, name: &str) -> Option<Box<str>> {
        let values: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join(", ").into())
    }

    /// Returns the value of Host, which HTTP/1.0 may omit.
    ///
    /// # Errors
    /// Host is missing or repeated.
    pub fn host(&self) -> Result<Option<&'a [u8]>, Refusal> {
        match self.single("Host", Refusal::HostDuplicated)? {
            None if self.is_1_1 => Err(Refusal::HostMissing),
            host => Ok(host),
        }
    }

    /// Returns the value of Origin.
    ///
    /// # Errors
    /// Origin is repeated or not UTF-8.
    pub fn origin(&self) -> Result<Option<&'a str>, Refusal> {
        let origin = self.single("Origin", Refusal::OriginInvalid)?;
        let origin = origin.map(str::from_utf8).transpose();
        origin.map_err(|_| Refusal::OriginInvalid)
    }
}

/// The request target (RFC 9112 3.2).
pub(crate) struct Target<'a> {
    /// Present in the absolute form. It counts instead of the Host field.
    pub authority: Option<&'a str>,
    /// The path without the query.
    pub path: &'a str,
    /// Empty if there is none.
    pub query: &'a str,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(target: &'a str) -> Result<Target<'a>, Refusal> {
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
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Target {
            authority,
            path: if path.is_empty() { "/" } else { path },
            query,
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
    fn splits_targets() {
        let parts = |t| {
            Target::parse(t)
                .ok()
                .map(|t| (t.authority, t.path, t.query))
        };
        assert_eq!(parts("/ws?x=/y"), Some((None, "/ws", "x=/y")));
        assert_eq!(parts("HTTP://h:1?x"), Some((Some("h:1"), "/", "x")));
        assert_eq!(parts("ws://h/p/q"), Some((Some("h"), "/p/q", "")));
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
