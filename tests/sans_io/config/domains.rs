//! The `domains` list.

use jabsocket::config::server_access::{ChannelBinding, ProxyProtocol, ServerAccess, Tls};
use jabsocket::config::{DomainRule, Host, Server, ServerAddress};

use super::{good, listed, refused, warned};

#[test]
fn without_a_domains_list_any_domain_may_be_reached() {
    assert_eq!(good("port: 1").domain("example.com"), DomainRule::Any);
}

#[test]
fn an_exact_domain_wins_and_then_the_longest_pattern() {
    let config = good(
        "domains:\n  - example.com\n  - '*.example.org'\n  - '*.b.example.org.'\n\
         \x20 - name: a.b.Example.org\n    server: h:1\n  - B\u{dc}CHER.example\n"
            .replace(
                "'*.b.example.org.'",
                "{name: '*.b.example.org.', server: 'h:2'}",
            )
            .as_str(),
    );
    for (domain, entry) in [
        ("example.com", "example.com"),
        ("EXAMPLE.com.", "example.com"),
        ("a.example.com", "(unlisted)"),
        ("example.org", "(unlisted)"),
        (".example.org", "(unlisted)"),
        ("xexample.org", "(unlisted)"),
        ("a.example.org", "*.example.org"),
        ("x.y.Example.ORG", "*.example.org"),
        ("x.b.example.org", "*.b.example.org"),
        ("b.example.org", "*.example.org"),
        ("a.b.example.org", "a.b.example.org"),
        ("b\u{fc}cher.example", "b\u{fc}cher.example"),
        ("", "(unlisted)"),
        (".", "(unlisted)"),
    ] {
        assert_eq!(listed(&config, domain), entry, "{domain}");
    }
    let long = "a.".repeat(600) + "example.org";
    assert_eq!(listed(&config, &long), "(unlisted)");
}

#[test]
fn a_domain_may_name_its_server() {
    for (text, host, port) in [
        (
            "xmpp.Example.com:5222",
            Host::Name("xmpp.example.com".into()),
            5222,
        ),
        (
            "192.0.2.1:5223",
            Host::Address("192.0.2.1".parse().unwrap()),
            5223,
        ),
        (
            "'[2001:db8::1]:5222'",
            Host::Address("2001:db8::1".parse().unwrap()),
            5222,
        ),
    ] {
        let config = good(&format!(
            "domains:\n  - name: example.com\n    server: {text}\n"
        ));
        let DomainRule::Listed(domain) = config.domain("example.com") else {
            panic!("{text}");
        };
        let address = ServerAddress::Tcp { host, port };
        let shown = text.trim_matches('\'').to_lowercase();
        assert_eq!(address.to_string(), shown);
        assert_eq!(*domain.servers, [address.into()]);
    }
}

#[test]
fn a_list_of_servers_has_weights_and_backups() {
    let config = good(
        "server:\n  - 192.0.2.1:5222\n  - address: unix:/run/xmpp.sock\n    weight: 7\n  \
         - {address: 'h:1', backup: true}\ndomains: [{name: a.b, server: ['g:2']}, c.d]\n",
    );
    let shown = |servers: &[Server]| -> Vec<_> {
        let parts = |server: &Server| (server.address.to_string(), server.weight, server.backup);
        servers.iter().map(parts).collect()
    };
    assert_eq!(
        shown(&config.servers),
        [
            ("192.0.2.1:5222".to_owned(), 1, false),
            ("unix:/run/xmpp.sock".to_owned(), 7, false),
            ("h:1".to_owned(), 1, true),
        ]
    );
    let servers = |domain: &str| match config.domain(domain) {
        DomainRule::Listed(entry) => shown(&entry.servers),
        rule => panic!("{rule:?}"),
    };
    assert_eq!(servers("a.b"), [("g:2".to_owned(), 1, false)]);
    assert!(servers("c.d").is_empty());
    assert!(good("port: 1").servers.is_empty());
}

#[test]
fn a_list_of_servers_that_cannot_serve_is_an_error() {
    let too_many = format!("server: [{}]\n", "'h:1', ".repeat(33));
    let allowed = "1 to 32 servers, one of them without 'backup: true'";
    for (text, found) in [
        ("server: []\n", "an empty list"),
        ("server: [{address: 'h:1', backup: yes}]\n", "only backups"),
        (&too_many, "more than 32 servers"),
    ] {
        let message = format!("x.conf:1: key 'server': {found} is not allowed; allowed: {allowed}");
        assert_eq!(refused(text), [message]);
    }
    for (text, word) in [
        ("server: [{backup: no}]\n", "an entry without 'address'"),
        (
            "server: {address: 'h:1', wait: 1}\n",
            "'server.wait' is not known",
        ),
        (
            "server: {address: 'h:1', weight: 0}\n",
            "'server.weight': '0'",
        ),
        ("server: {address: 'h:1', weight: 65536}\n", "'65536'"),
        ("server: {address: 'h:1', backup: perhaps}\n", "'perhaps'"),
        ("server: unix:xmpp.sock\n", "'unix:xmpp.sock'"),
        ("server: unix:@abstract\n", "'unix:@abstract'"),
    ] {
        let messages = refused(text);
        assert!(messages[0].contains(word), "{messages:?}");
    }
}

#[test]
fn an_unknown_key_of_a_domain_is_an_error() {
    assert_eq!(
        refused("domains:\n  - name: a.b\n    starttls: required\n    servr: x:1\n"),
        [
            "x.conf:3: key 'domains.starttls' is not known; allowed: name, server, tls, verify, \
             ca_file, proxy_protocol, channel_binding",
            "x.conf:4: key 'domains.servr' is not known; allowed: name, server, tls, verify, \
             ca_file, proxy_protocol, channel_binding; did you mean 'server'?",
        ]
    );
}

#[test]
fn a_domains_list_that_would_lock_everybody_out_is_an_error() {
    for (text, found, allowed) in [
        ("domains:", "nothing", "a list of one or more domains ("),
        (
            "domains: []",
            "an empty list",
            "a list of one or more domains (",
        ),
        ("domains: ~", "nothing", "a list of one or more domains ("),
        (
            "domains: any",
            "'any'",
            "a list, each domain on its own line",
        ),
        (
            "domains: {name: a}",
            "a mapping",
            "a list, each domain on its own line",
        ),
    ] {
        let messages = refused(text);
        assert_eq!(messages.len(), 1, "{text}");
        let start = format!("x.conf:1: key 'domains': {found} is not allowed; allowed: {allowed}");
        let end = "; without the key any domain may be reached";
        assert!(
            messages[0].starts_with(&start) && messages[0].ends_with(end),
            "{text} gave {messages:?}"
        );
    }
    let messages = refused("domains:\n  - server: h:1\n");
    assert!(messages[0].starts_with("x.conf:2: key 'domains': an entry without 'name'"));
}

#[test]
fn a_redundant_domain_causes_a_warning() {
    let (config, warnings) = warned(
        "domains:\n  - a.b\n  - {name: A.B., server: 'h:1'}\n  - '*.c.d'\n  - x.c.d\n  - '*.y.c.d'\n",
    );
    assert_eq!(
        warnings,
        [
            "x.conf:3: warning: key 'domains': 'a.b' is already listed on line 2; this entry replaces it",
            "x.conf:5: warning: key 'domains': 'x.c.d' is redundant, '*.c.d' covers it with the \
             same settings",
            "x.conf:6: warning: key 'domains': '*.y.c.d' is redundant, '*.c.d' covers it with the \
             same settings",
        ]
    );
    let DomainRule::Listed(domain) = config.domain("a.b") else {
        panic!();
    };
    assert!(!domain.servers.is_empty());
}

#[test]
fn how_a_server_is_reached_is_read_for_each_domain() {
    let config = good(
        "domains:\n  - a.b\n  - name: c.d\n    tls: required\n    verify: false\n    \
         ca_file: /ca.pem\n    proxy_protocol: v2\n    channel_binding: strip\n",
    );
    let access = |domain| match config.domain(domain) {
        DomainRule::Listed(entry) => entry.access.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(access("a.b"), ServerAccess::default());
    let expected = ServerAccess {
        tls: Some(Tls::Required),
        verify: false,
        ca_file: Some("/ca.pem".into()),
        proxy_protocol: Some(ProxyProtocol::V2),
        channel_binding: ChannelBinding::Strip,
    };
    assert_eq!(access("c.d"), expected);
}

#[test]
fn a_word_that_is_none_of_the_choices_is_an_error() {
    for (line, allowed) in [
        ("tls: always", "one of auto, required, direct, none"),
        ("verify: perhaps", "one of true, yes, on, false, no, off"),
        (
            "ca_file: ca.pem",
            "the path of a file, from the root, such as /etc/ssl/xmpp-ca.pem",
        ),
        ("proxy_protocol: v3", "one of v1, v2, none"),
        ("channel_binding: keep", "one of auto, strip, relay"),
    ] {
        let (key, value) = line.split_once(": ").unwrap();
        assert_eq!(
            refused(&format!("domains:\n  - name: a.b\n    {line}\n")),
            [format!(
                "x.conf:3: key 'domains.{key}': '{value}' is not allowed; allowed: {allowed}"
            )]
        );
    }
}
