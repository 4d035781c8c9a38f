//! The page of `status_listen` for people, as it is without the script. For real browsers
//! see `tests/real/browser/status.mjs`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::prometheus::{ask, get, status_address};
use crate::common::stage::*;

const STATUS: &str = "status_listen: 127.0.0.1:0\n";

fn page(daemon: &Daemon) -> String {
    let (status, head, body) = get(status_address(daemon), "/");
    assert_eq!(status, 200);
    let kind = "Content-Type: text/html; charset=utf-8\r\n";
    assert!(head.contains(kind), "{head}");
    assert!(!body.contains("{{") && !body.contains("[["), "{body}");
    body
}

/// The text between two marks, the first after `from`.
fn between<'a>(text: &'a str, from: &str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(from).expect(from);
    let (_, rest) = rest.split_once(start).expect(start);
    rest.split_once(end).expect(end).0
}

/// The cells of a table's rows, separated by spaces.
fn rows(page: &str, heading: &str) -> Vec<String> {
    let body = between(page, &format!("<h2>{heading}</h2>"), "<tbody>", "</tbody>");
    let rows = body.split("</tr>").map(|row| {
        let cells = row.split("<td").skip(1);
        let cells = cells.map(|cell| between(cell, "", ">", "</td>"));
        cells.collect::<Vec<_>>().join(" ")
    });
    rows.filter(|row| !row.is_empty()).collect()
}

/// The numbers of a tile, each with what it is.
fn values(page: &str, label: &str) -> Vec<String> {
    let values = between(
        page,
        &format!("<h2>{label}</h2>"),
        "<p class=\"values\">",
        "</p>",
    );
    let spans = values.split("</span>").map(|span| {
        let text = span.rsplit_once("<b>").map_or("", |(_, text)| text);
        text.replace("</b>", "")
    });
    spans.filter(|text| !text.is_empty()).collect()
}

#[test]
fn its_numbers_are_those_of_the_sessions() {
    let stage = Stage::set(STATUS);
    let before = page(&stage.daemon);
    assert_eq!(values(&before, "Sessions"), ["0 open"]);
    assert_eq!(values(&before, "Relay latency"), ["– median", "– p99"]);
    let none = [
        "No session is open.",
        "None has ended.",
        "No session has named a domain.",
    ];
    let tables = ["Sessions by phase", "Sessions ended", "Domains"];
    for (table, none) in tables.iter().zip(none) {
        assert_eq!(rows(&before, table), [none]);
    }
    let address = stage.server.address;
    let server = format!("{address} unused 0 0");
    assert_eq!(rows(&before, "Servers"), [server]);
    assert!(before.contains("<title>jabsocket "), "{before}");

    let waiting = stage.daemon.client();
    let (mut client, mut server) = stage.framed();
    let draft = stage.draft();
    for _ in 0..40 {
        client.send_text(PRESENCE).unwrap();
        server.expect(PRESENCE);
    }
    let (mut wrong, _server) = stage.framed();
    wrong.send_text("<a>").unwrap();
    expect_error(&mut wrong, "not-well-formed", "<a>");
    expect_stream_close(&mut wrong, 1000);
    drop(wrong);
    stage.daemon.wait_for_line(" ended by jabsocket: ");

    let page = page(&stage.daemon);
    assert_eq!(values(&page, "Sessions"), ["3 open"]);
    let phases = ["await open 0 0 1", "relaying 1 1 0"];
    assert_eq!(rows(&page, "Sessions by phase"), phases);
    assert_eq!(
        rows(&page, "Sessions ended"),
        ["jabsocket xmpp violation 1 1"]
    );
    assert_eq!(rows(&page, "Domains"), ["example.org 2 3"]);
    assert_eq!(rows(&page, "Servers"), [format!("{address} up 2 0")]);
    let worker = &rows(&page, "Workers")[0];
    assert!(
        worker.starts_with("0 3 ") && worker.contains(" MiB "),
        "{worker}"
    );
    for (tile, what) in [
        ("Messages per second", "to servers"),
        ("Payload per second", "to browsers"),
        ("Time to open", "p99"),
        ("Relay latency", "median"),
        ("Memory for sessions", "held"),
        ("Processor", "of one core"),
    ] {
        let values = values(&page, tile);
        let value = values.iter().find_map(|value| value.strip_suffix(what));
        let value = value.unwrap_or_else(|| panic!("{tile}: {values:?}"));
        assert!(!value.starts_with(['–', '-']), "{tile}: {value}");
    }
    assert!(!values(&page, "Messages per second").contains(&"0 to servers".to_owned()));
    drop((waiting, client, server, draft));
    stage.daemon.stop();
}

#[test]
fn it_loads_nothing_and_runs_only_its_own_script_and_style() {
    let daemon = Daemon::start(STATUS);
    let (status, head, body) = get(status_address(&daemon), "/");
    assert_eq!(status, 200);
    let hash = |text: &str| BASE64_STANDARD.encode(openssl::sha::sha256(text.as_bytes()));
    let style = hash(between(&body, "", "<style>", "</style>"));
    let script = hash(between(&body, "", "<script>", "</script>"));
    let policy = format!(
        "Content-Security-Policy: default-src 'none'; style-src 'sha256-{style}'; \
         script-src 'sha256-{script}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'\r\n"
    );
    assert!(head.contains(&policy), "{head}");
    for field in [
        "X-Content-Type-Options: nosniff\r\n",
        "Cache-Control: no-store\r\n",
        "Connection: close\r\n",
    ] {
        assert!(head.contains(field), "{head}");
    }
    assert!(!head.to_lowercase().contains("cookie"), "{head}");
    for elsewhere in ["http:", "https:", "src=", "url(", "@import", "style="] {
        assert!(!body.contains(elsewhere), "{elsewhere}");
    }
    let (status, head, body) = ask(
        status_address(&daemon),
        "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains(&policy), "{head}");
    daemon.stop();
}

/// The log's level is so high that these lines are not written.
#[test]
fn it_has_the_last_lines_of_the_log_and_what_peers_wrote_is_escaped() {
    let stage = Stage::set(&format!("{STATUS}log_level: LOG_CRIT\n"));
    let at = status_address(&stage.daemon);
    let evil = "<script>alert(1)</script>&\"'";
    let request = format!("GET / HTTP/1.1\r\nHost: {evil}\r\n\r\n");
    assert_eq!(ask(at, &request).0, 421);
    let (mut client, _server) = stage.framed();
    let long = format!("<a xmlns='u'>{}</a>", "x".repeat(2 << 20));
    let sent = client.send_text(&long);
    drop((sent, client.read_text()));
    let key = "max_frame_size";
    let page = page(&stage.daemon);
    let lines = rows(&page, "Last lines of the log");
    let limit = lines.iter().position(|line| line.contains(key));
    let host = lines.iter().position(|line| {
        line.contains("host &lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#39;;")
    });
    assert!(limit.is_some() && limit < host, "{lines:#?}");
    assert!(lines[0].contains(" ago</time> warning "), "{lines:#?}");
    assert!(!page.contains("alert(1)</script>"));
    let log = stage.daemon.lines();
    assert!(!log.iter().any(|line| line.contains(key)), "{log:#?}");
    stage.daemon.stop();
}

#[test]
fn it_names_what_needs_attention() {
    let authority = Authority::new();
    let files = authority.identity(&["chat.example"]).files(&[]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = nobody.local_addr().unwrap();
    drop(nobody);
    let (certificate, key) = (files.0.0.display(), files.1.0.display());
    let listeners = format!(
        "listeners:\n- {{port: 0, listen: 127.0.0.1}}\n- {{port: 0, listen: 127.0.0.2, \
         tls_certificate: {certificate}, tls_key: {key}}}\n"
    );
    let domains = format!("domains: [{{name: example.org, server: '{server}'}}]\n");
    let daemon = Daemon::start(&format!("{STATUS}{listeners}{domains}"));
    let notices = |daemon: &Daemon| between(&page(daemon), "", "<ul ", "</ul>").to_owned();
    assert!(!notices(&daemon).contains("class=\"bad\""));
    let certificates = rows(&page(&daemon), "Certificates");
    assert!(
        certificates[0].starts_with("chat.example "),
        "{certificates:?}"
    );
    let mut client = daemon.client();
    client.send_text(OPEN).unwrap();
    drop(client.read_text());
    daemon.wait_for_line(" ended by jabsocket: ");
    let told = notices(&daemon);
    let down = format!("<li class=\"bad\">The server {server} does not answer.</li>");
    assert!(told.contains(&down), "{told}");
    assert!(page(&daemon).contains("<header class=\"bad\">"));
    let table = rows(&page(&daemon), "Servers");
    assert!(
        table[0].starts_with(&format!("{server} down 0 ")),
        "{table:?}"
    );
    daemon.write_config("port: none\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_for_line("configuration not reloaded");
    let told = notices(&daemon);
    assert!(
        told.contains("<li class=\"bad\">The last reload was refused"),
        "{told}"
    );
    daemon.stop();
}
