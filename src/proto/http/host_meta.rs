//! host-meta (XEP-0156, RFC 6415), which tells the clients of a domain where the endpoint is.
//!
//! Has the pages for requests that do not ask for a WebSocket: host-meta, and a line of text on
//! the resource, for clients that check whether the endpoint is alive. Any web page may read
//! both.

use super::response::{Response, TEXT};
use crate::buf::Buf;
use crate::proto::xmpp::escape;

/// The path of host-meta.
pub(super) const PATH: &str = "/.well-known/host-meta";
/// The path of host-meta as JSON.
pub(super) const JSON_PATH: &str = "/.well-known/host-meta.json";

/// The link relation of a WebSocket endpoint (XEP-0156, section 4).
const RELATION: &str = "urn:xmpp:alt-connections:websocket";
/// Lets scripts of any origin read the response.
const CORS: &str = "Access-Control-Allow-Origin: *\r\nAccess-Control-Allow-Headers: Accept\r\n";
/// The page on the resource.
const RESOURCE_TEXT: &str = "XMPP over WebSocket: connect with the sub-protocol xmpp\n";

/// The pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The page on the path of the WebSocket.
    Resource,
    /// host-meta in XML.
    HostMeta,
    /// host-meta in JSON.
    HostMetaJson,
}

/// The methods that pages support (RFC 9110 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Returns the page.
    Get,
    /// Returns only the header lines of the page.
    Head,
    /// Returns the supported methods.
    Options,
}

/// A request for a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    /// The requested page.
    pub page: Page,
    /// The method of the request.
    pub method: Method,
}

impl PageRequest {
    /// Returns the status code of the response.
    pub fn status(self) -> u16 {
        match self.method {
            Method::Options => 204,
            Method::Get | Method::Head => 200,
        }
    }

    /// Appends the response. `links` are the endpoints to list in host-meta.
    pub fn write(self, links: &[String], out: &mut Buf) {
        let (content_type, body) = match self.page {
            Page::Resource => (TEXT, RESOURCE_TEXT.into()),
            Page::HostMeta => ("application/xrd+xml", xrd(links)),
            Page::HostMetaJson => ("application/json", jrd(links).into_bytes()),
        };
        let (allow, content) = match self.method {
            Method::Options => ("Allow: GET, HEAD, OPTIONS\r\n", None),
            Method::Get | Method::Head => ("", Some((content_type, &body[..]))),
        };
        let response = Response {
            status: self.status(),
            fields: &format!("Connection: close\r\n{allow}{CORS}"),
            content,
            head_only: self.method == Method::Head,
        };
        response.write(out);
    }
}

fn xrd(links: &[String]) -> Vec<u8> {
    let mut text = b"<?xml version='1.0' encoding='utf-8'?>\n\
        <XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n"
        .to_vec();
    for link in links {
        text.extend_from_slice(format!("  <Link rel='{RELATION}' href='").as_bytes());
        escape(&mut text, link.as_bytes());
        text.extend_from_slice(b"'/>\n");
    }
    text.extend_from_slice(b"</XRD>\n");
    text
}

/// Returns host-meta as JSON. The links are URIs, so they need no escaping.
fn jrd(links: &[String]) -> String {
    let links: Vec<_> = links
        .iter()
        .map(|link| format!("{{\"rel\":\"{RELATION}\",\"href\":\"{link}\"}}"))
        .collect();
    format!("{{\"links\":[{}]}}\n", links.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expat::Parser;

    fn answer(page: Page, method: Method) -> (String, String) {
        let mut out = Buf::new();
        let links = [
            "wss://example.org/ws?a=1&b=2".to_owned(),
            "wss://b.example.org/".to_owned(),
        ];
        PageRequest { page, method }.write(&links, &mut out);
        let text = String::from_utf8(out.take()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[test]
    fn host_meta_names_every_endpoint_in_order() {
        let (head, body) = answer(Page::HostMeta, Method::Get);
        assert!(head.contains("\r\nContent-Type: application/xrd+xml"));
        assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let xml = Parser::new(0).finish(body.as_bytes());
        assert_eq!(xml, Ok(()), "{body}");
        let first = body.find("href='wss://example.org/ws?a=1&amp;b=2'");
        let second = body.find("href='wss://b.example.org/'");
        assert!(first.is_some() && first < second, "{body}");
        let (head, body) = answer(Page::HostMetaJson, Method::Get);
        assert!(head.contains("\r\nContent-Type: application/json\r\n"));
        let link = |href| format!("{{\"rel\":\"{RELATION}\",\"href\":\"{href}\"}}");
        let (a, b) = ("wss://example.org/ws?a=1&b=2", "wss://b.example.org/");
        assert_eq!(body, format!("{{\"links\":[{},{}]}}\n", link(a), link(b)));
    }

    #[test]
    fn a_head_has_no_body_and_options_no_content() {
        for page in [Page::Resource, Page::HostMeta, Page::HostMetaJson] {
            let (get, body) = answer(page, Method::Get);
            let cors = "\r\nAccess-Control-Allow-Origin: *\r\n";
            assert!(get.contains(cors), "{get}");
            assert_eq!(answer(page, Method::Head), (get, String::new()));
            assert!(!body.is_empty());
            let (head, body) = answer(page, Method::Options);
            assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
            assert!(head.contains("\r\nAllow: GET, HEAD, OPTIONS"), "{head}");
            assert!(
                head.contains("\r\nAccess-Control-Allow-Origin: *"),
                "{head}"
            );
            assert!(!head.contains("Content-Length"), "{head}");
            assert_eq!(body, "");
        }
    }
}
