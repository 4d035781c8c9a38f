//! The configuration file: which values are accepted, which are refused, and with which
//! messages.

mod damaged;
mod documented;
mod domains;
mod include;
mod listeners;
mod refusals;
mod unix_sockets;

use std::path::Path;
use std::time::Duration;

use jabsocket::config::{self, Config, DomainRule, ListenAddress, Problem};
use jabsocket::log::Level;

/// Parses a text that has no problems.
fn good(text: &str) -> Config {
    let loaded = config::parse("x.conf", text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.config
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn refused(text: &str) -> Vec<String> {
    match config::parse("x.conf", text) {
        Ok(loaded) => panic!("{text:?} gave {loaded:#?}"),
        Err(problems) => shown(&problems),
    }
}

fn warned(text: &str) -> (Config, Vec<String>) {
    let loaded = config::parse("x.conf", text).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let warnings = shown(&loaded.warnings);
    (loaded.config, warnings)
}

fn address(text: &str) -> ListenAddress {
    ListenAddress::Ip(text.parse().unwrap())
}

fn listed<'a>(config: &'a Config, domain: &str) -> &'a str {
    match config.domain(domain) {
        DomainRule::Listed(domain) => &domain.name,
        DomainRule::Any => "(any)",
        DomainRule::Unlisted => "(unlisted)",
    }
}

#[test]
fn a_file_that_says_nothing_gives_the_defaults() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "---\n...\n",
        "~\n",
        "{}",
        "\u{feff}",
    ] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_sample_of_the_original_manual_works_unchanged() {
    let config = good(
        "# jabsocket configuration\n\n\
         # Listening port for WebSocket connection\nport: 5000\n\n\
         # CIDR to listen on (0.0.0.0 for all)\nlisten: 0.0.0.0\n\n\
         # Host - the value of the Host key in the request must match\n# this parameter\n\
         host: example.com:5000\n\n\
         # Resource that is expected in the first line\n\
         # e.g. in the line GET /mychat HTTP/1.1 the resource is /mychat\nresource: /mychat\n\n\
         # Acceptable origin\norigin:\n  - http://firstdomain.com\n  - http://seconddomain.com\n\n\
         # Minimum log level\nlog_level: LOG_DEBUG\n",
    );
    assert_eq!(config.top.port, 5000);
    assert_eq!(config.top.listen, [address("0.0.0.0")]);
    assert_eq!(config.top.host.as_deref(), Some("example.com:5000"));
    assert_eq!(config.top.resource.as_deref(), Some("/mychat"));
    assert!(config.top.origin_allowed(Some("http://seconddomain.com")));
    assert!(!config.top.origin_allowed(Some("http://thirddomain.com")));
    assert_eq!(config.log_level, Level::Debug);
}

#[test]
fn values_are_taken_literally() {
    assert_eq!(good("port: 05000").top.port, 5000);
    assert_eq!(good("port: '5000'").top.port, 5000);
    assert_eq!(good("host: no").top.host.as_deref(), Some("no"));
    assert_eq!(good("host: 1.0").top.host.as_deref(), Some("1.0"));
    assert!(good("origin: null").top.origin_allowed(Some("null")));
}

#[test]
fn tabs_may_separate_a_key_and_its_value() {
    let config = good("port:\t5000\nhost:\t\ta\t# b\norigin:\t[http://a,\tb]\nresource:\t'/'\n");
    assert_eq!(config.top.port, 5000);
    assert_eq!(config.top.host.as_deref(), Some("a"));
    assert!(config.top.origin_allowed(Some("b")));
}

#[test]
fn line_ends_of_other_systems_are_taken() {
    assert_eq!(good("port: 1\r\nlisten: 127.0.0.1\r\n").top.port, 1);
}

#[test]
fn a_key_without_a_value_has_no_effect_and_causes_a_warning() {
    for key in config::KEYS
        .iter()
        .map(|key| key.name)
        .filter(|key| *key != "domains")
    {
        for text in [format!("{key}:\n"), format!("{key}: ~")] {
            let warning = format!("x.conf:1: warning: key '{key}' has no value and no effect");
            assert_eq!(warned(&text), (Config::default(), vec![warning]), "{key}");
        }
    }
}

#[test]
fn workers_share_the_connections_out() {
    let shares = |text: &str| -> Vec<Option<usize>> {
        let config = good(text);
        let share = |worker| config.share(worker, config.workers).max_connections;
        (0..config.workers).map(share).collect()
    };
    assert_eq!(shares("max_connections: 10"), [Some(10)]);
    let three = [Some(4), Some(3), Some(3)];
    assert_eq!(shares("max_connections: 10\nworkers: 3"), three);
    assert_eq!(shares("max_connections: 1\nworkers: 2"), [Some(1); 2]);
    assert_eq!(shares("workers: 2"), [None; 2]);
}

#[test]
fn listen_takes_addresses_of_both_families() {
    for (text, addresses) in [
        ("127.0.0.1", &["127.0.0.1"][..]),
        ("::1", &["::1"]),
        ("'::'", &["::"]),
        ("'[::1]'", &["::1"]),
        ("[::1]", &["::1"]),
        ("[127.0.0.1, '::1']", &["127.0.0.1", "::1"]),
        (
            "\n - 127.0.0.1\n - '[2001:db8::1]'",
            &["127.0.0.1", "2001:db8::1"],
        ),
    ] {
        let addresses: Vec<ListenAddress> = addresses.iter().map(|text| address(text)).collect();
        assert_eq!(
            good(&format!("listen: {text}")).top.listen,
            addresses,
            "{text}"
        );
    }
}

#[test]
fn log_levels_go_by_any_spelling() {
    for (text, level) in [
        ("LOG_EMERG", Level::Emerg),
        ("log_warning", Level::Warning),
        ("Notice", Level::Notice),
        ("ERR", Level::Err),
    ] {
        assert_eq!(
            good(&format!("log_level: {text}")).log_level,
            level,
            "{text}"
        );
    }
}

#[test]
fn size_0_is_no_limit() {
    let config = good("max_message_size: 0\nmax_frame_size: 65536\nmax_stanza_size: 10000");
    assert_eq!(config.max_message_bytes, usize::MAX);
    assert_eq!(config.max_frame_bytes, 65536);
    assert_eq!(config.max_stanza_bytes, 10_000);
}

#[test]
fn times_are_seconds_with_decimals() {
    let config = good("open_timeout: 0.5\nclose_timeout: 86400\nping_interval: 0\n");
    assert_eq!(config.open_timeout, Duration::from_millis(500));
    assert_eq!(config.close_timeout, Duration::from_secs(86_400));
    assert_eq!(config.ping_interval, None);
    assert_eq!(good("ping_interval: 0.0").ping_interval, None);
}

#[test]
fn the_later_of_two_equal_keys_applies() {
    let (config, warnings) = warned("port: 70000\nhost: a\nport: 2\n");
    assert_eq!(config.top.port, 2);
    assert_eq!(
        warnings,
        ["x.conf:3: warning: key 'port' is already set on line 1; this value replaces it"]
    );
}

#[test]
fn origins_are_patterns_without_regard_to_case() {
    let config = good("origin:\n  - HTTP://*.Example.com\n  - https://[a-c]\n");
    assert!(config.top.origin_allowed(Some("http://a.b.EXAMPLE.com")));
    assert!(config.top.origin_allowed(Some("https://B")));
    assert!(!config.top.origin_allowed(Some("http://example.com")));
    assert!(!config.top.origin_allowed(Some("")));
    assert!(!config.top.origin_allowed(None));
}

#[test]
fn a_lone_origin_is_a_list_of_one() {
    let config = good("origin: https://example.com");
    assert!(config.top.origin_allowed(Some("https://example.com")));
    assert!(!config.top.origin_allowed(Some("https://example.org")));
}

#[test]
fn without_origins_any_origin_passes() {
    for text in ["", "origin:", "origin: []"] {
        let (config, _) = warned(text);
        assert!(config.top.origin_allowed(Some("http://anywhere")), "{text}");
        assert!(config.top.origin_allowed(None), "{text}");
    }
}

#[test]
fn a_missing_origin_passes_where_a_pattern_matches_the_empty_text() {
    assert!(good("origin: '*'").top.origin_allowed(None));
    assert!(good("origin: [http://a, '']").top.origin_allowed(None));
}

#[test]
fn each_worker_serves_its_status_at_a_port_of_its_own() {
    let config = good("status_listen: [127.0.0.1:9150, '[::1]:0']");
    let of = |worker| {
        let places = config.status_addresses(worker);
        let texts = places.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(0), "127.0.0.1:9150 [::1]:0");
    assert_eq!(of(3), "127.0.0.1:9153 [::1]:0");
    assert!(good("").status_addresses(0).is_empty());
    for bad in ["127.0.0.1", "9150", "localhost:9150", "127.0.0.1:99999"] {
        let text = format!("status_listen: {bad}");
        assert!(config::parse("-", &text).is_err(), "{bad}");
    }
}

#[test]
fn names_of_the_status_are_host_names() {
    let config = good("status_host: [Metrics.Example., a.example]");
    assert_eq!(config.status_hosts, ["metrics.example", "a.example"]);
    for bad in ["a.example:9150", "'*.example'", "192.0.2.1", "''"] {
        let text = format!("status_host: {bad}");
        assert!(config::parse("-", &text).is_err(), "{bad}");
    }
}

#[test]
fn the_installed_file_is_short_and_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/installed.conf");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(
        text.lines().count() <= 10,
        "a release would ask about each change"
    );
    let loaded = config::load(&path).unwrap();
    assert_eq!(loaded.warnings, []);
    let mut installed = Config {
        log_level: Level::Notice,
        ..Config::default()
    };
    installed.top.listen = vec![address("127.0.0.1")];
    installed.listeners = vec![installed.top.clone()];
    assert_eq!(loaded.config, installed);
    let with_domains = text.replace("#domains", "domains").replace("#  - ", "  - ");
    assert_eq!(listed(&good(&with_domains), "example.com"), "example.com");
}

#[test]
fn the_commented_values_of_the_sample_are_good_too() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/jabsocket.conf");
    let text = std::fs::read_to_string(path).unwrap();
    let mut active = String::new();
    for line in text.lines() {
        // Commented keys begin with '#key', explanations with '# words'.
        let value = line
            .strip_prefix('#')
            .filter(|rest| {
                rest.starts_with(|c: char| c.is_ascii_lowercase()) || rest.starts_with("  ")
            })
            .filter(|rest| !rest.trim_start().starts_with("jabsocket "));
        active.push_str(value.unwrap_or(line));
        active.push('\n');
    }
    let (config, warnings) = warned(&active);
    assert_eq!(warnings.len(), 1, "only listen stands twice: {warnings:?}");
    assert_eq!(listed(&config, "x.example.org"), "*.example.org");
    assert_eq!(config.top.listen.len(), 3);
    let defaults = Config::default();
    assert_eq!(config.handshake_timeout, defaults.handshake_timeout);
    assert_eq!(config.ping_interval, defaults.ping_interval);
    assert_eq!(config.max_stanza_bytes, defaults.max_stanza_bytes);
}
