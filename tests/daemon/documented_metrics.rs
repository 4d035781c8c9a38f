//! man/guide/monitoring.md explains each metric and names only metrics and labels that exist.

use std::collections::BTreeSet;

use crate::common::certificates::Authority;
use crate::common::daemon::Daemon;
use crate::common::documents::{read, spans_of};
use crate::common::prometheus::{get, status_address};

/// The text of the page with each metric in use.
fn page() -> String {
    let (certificate, key) = Authority::new().identity(&["a.example"]).files(&[]);
    let config = format!(
        "status_listen: 127.0.0.1:0\nserver: 127.0.0.1:1\ndomains: [a.example]\n\
         tls_certificate: {}\ntls_key: {}\n",
        certificate.0.display(),
        key.0.display()
    );
    let daemon = Daemon::start(&config);
    let (status, _, page) = get(status_address(&daemon), "/metrics");
    assert_eq!(status, 200);
    page
}

#[test]
fn the_guide_has_all_metrics_and_no_others() {
    let page = page();
    let helps = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = helps.filter_map(|rest| rest.split(' ').next());
    let names = names.map(|name| name.strip_prefix("jabsocket_").unwrap_or(name));
    let real: BTreeSet<String> = names.map(str::to_owned).collect();

    let guide = read("man/guide/monitoring.md");
    let (_, section) = guide.split_once("\n## Metrics\n").expect("a section");
    let is_process = |span: &String| span.starts_with("process_");
    let of_process = section.split("\n\n").flat_map(spans_of).filter(is_process);
    let mut explained: BTreeSet<String> = of_process.collect();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cell = row.split(" | ").next().unwrap_or_default();
        for metrics in cell.split(';') {
            let (metrics, labels) = metrics.split_once(" by ").unwrap_or((metrics, ""));
            for label in spans_of(labels) {
                let in_page = format!("{label}=\"");
                assert!(page.contains(&in_page), "no label {label}: {row}");
            }
            explained.extend(spans_of(metrics));
        }
    }
    assert_eq!(explained, real);

    // Everywhere else.
    for document in crate::common::documents::all() {
        for span in document.spans() {
            let name = span.split(['{', ' ']).next().unwrap_or_default();
            if let Some(name) = name
                .strip_prefix("jabsocket_")
                .filter(|name| !name.is_empty())
            {
                assert!(real.contains(name), "{}: {span}", document.name);
            }
            // A label with a value.
            if let Some((_, value)) = span.split_once("=\"") {
                assert!(page.contains(&format!("\"{value}")), "{span}");
            }
        }
    }
}
