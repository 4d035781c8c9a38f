//! Errors and warnings for a file, with their words.

use std::path::Path;

use jabsocket::config::{self, Config, What};

use super::{address, refused, warned};

#[test]
fn every_bad_value_is_reported_with_what_is_allowed() {
    let address = "a numeric IPv4 or IPv6 address such as 127.0.0.1 or ::1, a Unix socket such as \
                   unix:/run/jabsocket/ws.sock, or a list of them";
    let time = "a number of seconds above 0 and up to 86400, such as 30 or 0.5";
    let server = "host:port, such as xmpp.example.com:5222, 192.0.2.1:5222 or \
                  '[2001:db8::1]:5222' in quotes, unix:PATH, or a list of these";
    let name = "a domain such as example.com, or '*.example.com' in quotes for all its subdomains";
    let port = "a whole number from 0 to 65535";
    let size = "a whole number of bytes, or 0 for no limit";
    let stanza = "a whole number of bytes, at least 10000 (RFC 6120 13.12)";
    let path = "the path of the request, such as /xmpp-websocket";
    let levels = "one of LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, \
                  LOG_INFO, LOG_DEBUG";
    let host = "the value of the Host header, such as example.com:5000";
    let never = "a number of seconds up to 86400, such as 30 or 0.5, or 0 for never";
    let long = format!("port: {}", "9".repeat(500));
    for (text, key, found, allowed) in [
        ("port: 70000", "port", "'70000'", port),
        ("port: -1", "port", "'-1'", port),
        ("port: +1", "port", "'+1'", port),
        ("port: 0x1388", "port", "'0x1388'", port),
        ("port: ''", "port", "''", port),
        ("port: [1]", "port", "a list", port),
        ("port: {a: 1}", "port", "a mapping", port),
        (&long, "port", &format!("'{}...'", "9".repeat(60)), port),
        ("listen: localhost", "listen", "'localhost'", address),
        ("listen: 0.0.0.0/0", "listen", "'0.0.0.0/0'", address),
        ("listen: '[127.0.0.1]'", "listen", "'[127.0.0.1]'", address),
        ("listen: [[::1]]", "listen", "a list", address),
        ("host: ''", "host", "''", host),
        ("host: a b", "host", "'a b'", host),
        ("resource: ''", "resource", "''", path),
        ("log_level: LOUD", "log_level", "'LOUD'", levels),
        ("max_message_size: 1M", "max_message_size", "'1M'", size),
        (
            "compression: maybe",
            "compression",
            "'maybe'",
            "one of true, yes, on, false, no, off",
        ),
        (
            "compression: on\nmax_message_size: 0",
            "compression",
            "'true' together with 'max_message_size: 0'",
            "a size limit, because a small compressed message can expand without bound",
        ),
        (
            "max_frame_size: 99999999999999999999",
            "max_frame_size",
            "'99999999999999999999'",
            size,
        ),
        ("max_stanza_size: 9999", "max_stanza_size", "'9999'", stanza),
        ("max_stanza_size: 0", "max_stanza_size", "'0'", stanza),
        (
            "max_connections: 0",
            "max_connections",
            "'0'",
            "a whole number, at least 1",
        ),
        ("open_timeout: 0", "open_timeout", "'0'", time),
        ("open_timeout: 86401", "open_timeout", "'86401'", time),
        ("open_timeout: 1e3", "open_timeout", "'1e3'", time),
        ("open_timeout: .", "open_timeout", "'.'", time),
        ("open_timeout: inf", "open_timeout", "'inf'", time),
        (
            "open_timeout: 0.0000000001",
            "open_timeout",
            "'0.0000000001'",
            time,
        ),
        ("open_timeout: 10s", "open_timeout", "'10s'", time),
        ("ping_interval: -1", "ping_interval", "'-1'", never),
        ("domains: ['http://a.b']", "domains", "'http://a.b'", name),
        ("domains: [a.b:5222]", "domains", "'a.b:5222'", name),
        ("domains: [a..b]", "domains", "'a..b'", name),
        ("domains: ['*']", "domains", "'*'", name),
        ("domains: ['a.*.b']", "domains", "'a.*.b'", name),
        (
            "domains: [{name: a.b, server: a}]",
            "domains.server",
            "'a'",
            server,
        ),
        (
            "domains: [{name: a.b, server: 'a:0'}]",
            "domains.server",
            "'a:0'",
            server,
        ),
        (
            "domains: [{name: a.b, server: '1.2.3:1'}]",
            "domains.server",
            "'1.2.3:1'",
            server,
        ),
        (
            "domains: [{name: a.b, server: '::1:1'}]",
            "domains.server",
            "'::1:1'",
            server,
        ),
        (
            "domains: [{name: a.b, server: [[a]]}]",
            "domains.server",
            "a list",
            server,
        ),
    ] {
        let message = format!("x.conf:1: key '{key}': {found} is not allowed; allowed: {allowed}");
        assert_eq!(refused(text), [message], "{text}");
    }
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_lines() {
    let messages =
        refused("\nport: 70000\nlisten:\n  - 127.0.0.1\n  - here\nprt: 1\nlog_level: x\n");
    assert_eq!(messages.len(), 4, "{messages:#?}");
    assert!(messages[0].starts_with("x.conf:2: key 'port': '70000' is not allowed"));
    assert!(messages[1].starts_with("x.conf:5: key 'listen': 'here' is not allowed"));
    assert!(messages[2].starts_with("x.conf:6: warning: key 'prt' is not known"));
    assert!(messages[3].starts_with("x.conf:7: key 'log_level': 'x' is not allowed"));
}

#[test]
fn a_missing_value_is_reported_on_its_own_line() {
    let messages = refused("port: 1\ndomains:\n\n# a comment\nhost: a\n");
    assert!(messages[0].starts_with("x.conf:2: key 'domains': nothing is not allowed"));
    let messages = refused("origin:\n  - a\n  -\n\n  # comment\n  - b\n");
    assert!(
        messages[0].starts_with("x.conf:3: key 'origin': nothing"),
        "{messages:?}"
    );
    let messages = refused("origin:\n  - a\n  -");
    assert!(
        messages[0].starts_with("x.conf:3: key 'origin': nothing"),
        "{messages:?}"
    );
}

#[test]
fn errors_before_broken_yaml_are_reported_too() {
    let messages = refused("port: 70000\nlisten: 127.0.0.1\n\thost: a\n");
    assert!(
        messages[0].starts_with("x.conf:1: key 'port'"),
        "{messages:#?}"
    );
    assert!(
        messages[1].starts_with("x.conf:3: is not valid YAML: "),
        "{messages:#?}"
    );
}

#[test]
fn broken_yaml_is_reported_with_its_line() {
    for (text, line) in [
        ("port: 1\n\tport: 2\n", 2),
        ("port: 1\nhost: 'a\n", 2),
        ("port: 1\nhost: [a\n", 2),
        ("port: 1\n  host: a\n", 2),
        ("port: 1\nhost: `a`\n", 2),
        ("domains:\n - name: a.b\n   server: [2001:db8::1]:5222\n", 3),
        ("port: 1\nlisten: ::\n", 2),
    ] {
        let messages = refused(text);
        let start = format!("x.conf:{line}: is not valid YAML: ");
        let found = messages.iter().find(|message| message.starts_with(&start));
        let told = found.is_some_and(|message| message.ends_with("or ends with a colon"));
        assert!(told, "{text:?} gave {messages:#?}");
    }
}

#[test]
fn yaml_other_than_text_lists_and_mappings_is_refused() {
    for (text, start) in [
        (
            "domains:\n  - *.a.b\n  - *.c.d\n",
            "x.conf:2: unquoted text that begins with * (a YAML",
        ),
        (
            "host: &a b\n",
            "x.conf:1: unquoted text that begins with & (a YAML",
        ),
        (
            "log_level: !LOG_ERR\n",
            "x.conf:1: unquoted text that begins with ! (a YAML",
        ),
        (
            "port: 1\n---\nport: 2\n",
            "x.conf:2: a second YAML document is not allowed",
        ),
        (
            "port",
            "x.conf:1: a file that is not a mapping is not allowed",
        ),
        (
            "- port: 1",
            "x.conf:1: a file that is not a mapping is not allowed",
        ),
        (
            "port: 1\n: 2",
            "x.conf:2: a key that is not text is not allowed",
        ),
        ("[a]: 1", "x.conf:1: a key that is not text is not allowed"),
        (
            "a: [[[[[[[[[[[1]]]]]]]]]]]",
            "x.conf:1: nesting this deep is not allowed",
        ),
    ] {
        let messages = refused(text);
        assert!(
            messages[0].starts_with(start),
            "{text:?} gave {messages:#?}"
        );
    }
    assert_eq!(refused("domains:\n  - *.a.b\n  - *.c.d\n").len(), 2);
    // Only these are told, not also that the text is no port.
    for (text, count) in [("port: !x y", 1), ("port: &x y", 1), ("port: &x !x y", 2)] {
        assert_eq!(refused(text).len(), count, "{text}");
    }
}

#[test]
fn nothing_in_a_file_takes_more_than_its_own_size() {
    let bomb = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n";
    assert!(
        refused(bomb)
            .iter()
            .any(|message| message.contains("anchor"))
    );
    assert!(!refused(&"[".repeat(1024 * 1024)).is_empty());
    assert!(!refused(&"- ".repeat(512 * 1024)).is_empty());
    let large = "#".repeat(1024 * 1024 + 1);
    assert_eq!(
        refused(&large),
        ["x.conf: is too large; allowed: at most 1048576 bytes"]
    );
}

#[test]
fn an_unknown_key_gives_a_warning_and_perhaps_a_hint() {
    for (text, warning) in [
        (
            "\nmax-mesage-size: 1",
            "x.conf:2: warning: key 'max-mesage-size' is not known and has \
          no effect; did you mean 'max_message_size'?",
        ),
        (
            "Port: 1",
            "x.conf:1: warning: key 'Port' is not known and has no effect; did you mean \
          'port'?",
        ),
        (
            "colour: red",
            "x.conf:1: warning: key 'colour' is not known and has no effect",
        ),
        (
            "x: {a: [1]}",
            "x.conf:1: warning: key 'x' is not known and has no effect",
        ),
        (
            "\"a\\e\": 1",
            "x.conf:1: warning: key 'a\\x1b' is not known and has no effect",
        ),
    ] {
        assert_eq!(
            warned(text),
            (Config::default(), vec![warning.to_owned()]),
            "{text}"
        );
    }
}

#[test]
fn values_that_cannot_work_give_a_warning() {
    let (_, warnings) = warned("resource: mychat\n");
    assert_eq!(
        warnings,
        [
            "x.conf:1: warning: key 'resource': no request can match 'mychat': a path must begin with '/'"
        ]
    );
    let (config, warnings) = warned("listen: [::1, '[::1]']\n");
    assert_eq!(config.top.listen, [address("::1")]);
    assert_eq!(warnings.len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let problems = config::load(Path::new("/nonexistent/jabsocket.conf")).unwrap_err();
    assert!(matches!(problems[0].what, What::Unreadable(_)));
    assert!(
        problems[0]
            .to_string()
            .starts_with("/nonexistent/jabsocket.conf: cannot be read: No such file")
    );
}

#[test]
fn a_file_that_is_not_text_is_reported_with_its_line() {
    let path = std::env::temp_dir().join(format!("jabsocket-config-{}", std::process::id()));
    std::fs::write(&path, b"port: 1\nhost: \xff\n").unwrap();
    let problems = config::load(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        (problems[0].line, &problems[0].what),
        (Some(2), &What::Error("is not UTF-8 text".to_owned()))
    );
}
