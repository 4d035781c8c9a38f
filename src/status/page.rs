//! A page of the status port as an HTTP response.

use super::overview;
use crate::buf::Buf;
use crate::proto::http::Response;
use crate::proto::http::response::TEXT;

pub(super) const HTML: &str = "text/html; charset=utf-8";

/// Header lines of every response.
const FIELDS: &str = "Connection: close\r\nCache-Control: no-store\r\n";

/// A response that is complete at once.
pub(super) struct Page {
    status: u16,
    content_type: &'static str,
    body: String,
}

impl Page {
    /// A page with status 200.
    pub fn new(content_type: &'static str, body: String) -> Page {
        Page {
            status: 200,
            content_type,
            body,
        }
    }

    /// A page with one line of text.
    pub fn text(status: u16, line: &str) -> Page {
        Page {
            status,
            content_type: TEXT,
            body: format!("{line}\n"),
        }
    }

    pub fn write(&self, head_only: bool, out: &mut Buf) {
        let mut fields = FIELDS.to_owned();
        match self.content_type {
            HTML => fields += overview::header_lines(),
            _ if self.status == 405 => fields += "Allow: GET, HEAD\r\n",
            _ => {}
        }
        let response = Response {
            status: self.status,
            fields: &fields,
            content: Some((self.content_type, self.body.as_bytes())),
            head_only,
        };
        response.write(out);
    }
}
