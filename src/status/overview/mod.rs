//! The page of the status port for people.
//!
//! Owns what the page says; the files next to it are its HTML, style and script. The page is
//! complete without the script, which only replaces it by the current one. It loads nothing
//! from elsewhere. The number of rows of each table is bounded.

mod limited_memory;
mod notices;
mod tables;
mod template;
mod tiles;
mod units;

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::metrics::{Report, name};
use template::{Fields, render};
use units::span;

static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::new);

/// The page before it is filled in.
struct Document {
    template: String,
    /// Header lines of the response.
    fields: String,
}

impl Document {
    fn new() -> Document {
        let (css, js) = (include_str!("page.css"), include_str!("page.js"));
        let html = include_str!("page.html");
        let template = html.replacen("[[css]]", css, 1).replacen("[[js]]", js, 1);
        let hash = |text: &str| BASE64_STANDARD.encode(openssl::sha::sha256(text.as_bytes()));
        let fields = format!(
            "Content-Security-Policy: default-src 'none'; style-src 'sha256-{}'; \
             script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'\r\n\
             X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n",
            hash(css),
            hash(js),
        );
        Document { template, fields }
    }
}

/// Returns the header lines of the page.
pub(super) fn header_lines() -> &'static str {
    &DOCUMENT.fields
}

/// Returns the page. `host` is the name of this host.
pub(super) fn page(report: &Report<'_>, host: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0));
    let since = |time| span(now_ms.saturating_sub(report.total(time)) / 1000);
    let older = report.total(name::OLDER_GENERATIONS);
    let older = (older > 0).then(|| Fields::default().text("count", older));
    let notices = notices::notices(report, now_ms / 1000);
    let severity = notices::worst(&notices);
    let notices = notices.into_iter().map(notices::Notice::fields);
    let alarm = if severity == "bad" { "(!) " } else { "" };
    let fields = Fields::default()
        .text("title", format!("{alarm}jabsocket {host}"))
        .text("host", host)
        .text("severity", severity)
        .text("version", env!("CARGO_PKG_VERSION"))
        .text("generation", report.total(name::GENERATION))
        .rows("older", older)
        .text("uptime", since(name::START_TIME))
        .text("configured", since(name::CONFIG_TIME))
        .rows("notices", notices)
        .rows("tiles", tiles::tiles(report));
    render(&DOCUMENT.template, &tables::add(report, now_ms, fields))
}
