//! Writes responses, for every port that speaks HTTP.

use crate::buf::Buf;

/// The content type of plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// A response that closes the connection.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// Header lines, each with its line end, except those that describe the content.
    pub fields: &'a str,
    /// The content type, and the body.
    pub content: Option<(&'a str, &'a [u8])>,
    /// Whether the body is omitted, because the request was HEAD.
    pub head_only: bool,
}

impl Response<'_> {
    /// Appends the response.
    pub fn write(self, out: &mut Buf) {
        let (status, reason, fields) = (self.status, reason(self.status), self.fields);
        out.extend(format!("HTTP/1.1 {status} {reason}\r\n{fields}").as_bytes());
        if let Some((content_type, body)) = self.content {
            let length = body.len();
            let fields = format!("Content-Type: {content_type}\r\nContent-Length: {length}\r\n");
            out.extend(fields.as_bytes());
        }
        out.extend(b"\r\n");
        if let Some((_, body)) = self.content
            && !self.head_only
        {
            out.extend(body);
        }
    }
}

/// Returns the reason phrase (RFC 9110 15, RFC 6585 5).
fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        204 => "No Content",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Bad Request",
    }
}
