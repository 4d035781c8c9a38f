//! The `listeners` list and the certificates.

use jabsocket::config::Listener;

use super::{address, good, refused, warned};

fn pairs(listener: &Listener) -> Vec<(&str, &str)> {
    listener
        .certificates
        .iter()
        .map(|pair| {
            let texts = (pair.certificate.to_str(), pair.key.to_str());
            (texts.0.unwrap(), texts.1.unwrap())
        })
        .collect()
}

#[test]
fn without_the_list_the_top_level_keys_are_the_one_listener() {
    let config = good("port: 7\nlisten: ::1\nhost: h\nresource: /r\norigin: http://o\n");
    let [listener] = config.listeners.as_slice() else {
        panic!("{:#?}", config.listeners);
    };
    assert_eq!(
        (listener.port, &*listener.listen),
        (7, &[address("::1")][..])
    );
    assert_eq!(listener.host.as_deref(), Some("h"));
    assert_eq!(listener.resource.as_deref(), Some("/r"));
    assert!(listener.origin_allowed(Some("http://o")));
    assert!(!listener.origin_allowed(Some("http://p")));
    assert!(listener.certificates.is_empty());
}

#[test]
fn an_entry_overrides_the_top_level_keys_before_and_after_it() {
    let config = good(
        "listeners:\n- {port: 1, resource: /a, origin: http://a}\n- {port: 2, tls: off}\n\
         - {port: 3, tls_certificate: /own, tls_key: /ownkey, listen: 127.0.0.1, host: x}\n\
         resource: /r\ntls_key: [/k1, /k2]\ntls_certificate: [/c1, /c2]\norigin: http://o\n",
    );
    let [a, b, c] = config.listeners.as_slice() else {
        panic!("{:#?}", config.listeners);
    };
    let top = vec![("/c1", "/k1"), ("/c2", "/k2")];
    assert_eq!(
        (a.port, a.resource.as_deref(), pairs(a)),
        (1, Some("/a"), top)
    );
    assert!(a.origin_allowed(Some("http://a")) && !a.origin_allowed(Some("http://o")));
    assert_eq!(
        (b.port, b.resource.as_deref(), pairs(b)),
        (2, Some("/r"), vec![])
    );
    assert!(b.origin_allowed(Some("http://o")) && !b.origin_allowed(Some("http://a")));
    assert_eq!((c.port, pairs(c)), (3, vec![("/own", "/ownkey")]));
    assert_eq!((c.host.as_deref(), c.listen.len()), (Some("x"), 1));
}

#[test]
fn wrong_entries_are_errors_on_their_lines() {
    for (text, line, named) in [
        (
            "listeners:\n- port: 1\n  prot: 2\n",
            3,
            "'listeners.prot' is not known",
        ),
        ("listeners:\n- port: x\n", 2, "'listeners.port': 'x'"),
        ("listeners:\n- 5000\n", 2, "'listeners': '5000'"),
        ("listeners: []\n", 1, "'listeners': a list"),
        (
            "listeners:\n- port: 1\n- port: 1\n",
            3,
            "port 1, which the entry on line 2 already uses,",
        ),
        (
            "listeners:\n- {name: a, port: 1}\n- {name: a, port: 2}\n",
            3,
            "name 'a', which the entry on line 2 already uses,",
        ),
        ("listeners:\n- name: a:b\n", 2, "'listeners.name': 'a:b'"),
        ("listeners:\n- name: ''\n", 2, "'listeners.name': ''"),
        (
            "listeners:\n- tls: true\n",
            2,
            "'listeners.tls': TLS without a certificate",
        ),
        (
            "listeners:\n- tls: false\n  tls_certificate: /c\n  tls_key: /k\n",
            2,
            "a certificate with 'tls: false'",
        ),
        (
            "listeners:\n- port: 1\n  tls_key: /k\n",
            3,
            "'listeners.tls_certificate': 0 file(s) here and 1 in 'listeners.tls_key'",
        ),
        (
            "port: 1\ntls_certificate: [/a, /b]\ntls_key: /k\n",
            2,
            "2 file(s) here and 1 in 'tls_key'",
        ),
        (
            "tls_certificate: a.pem\ntls_key: /k\n",
            1,
            "'tls_certificate': 'a.pem'",
        ),
    ] {
        let problems = refused(text);
        let start = format!("x.conf:{line}: key ");
        let told =
            problems.len() == 1 && problems[0].starts_with(&start) && problems[0].contains(named);
        assert!(told, "{text:?}: {problems:#?}");
    }
}

#[test]
fn ports_meet_only_at_the_same_address() {
    let config = good("listeners:\n- {port: 1, listen: 127.0.0.1}\n- {port: 1, listen: ::1}\n");
    assert_eq!(config.listeners.len(), 2);
    good("listeners:\n- port: 0\n- port: 0\n");
    let named = good("listeners:\n- {port: 1, name: web}\n- {port: 2, name: tls-web}\n- port: 3\n");
    let names: Vec<_> = named.listeners.iter().map(|l| l.name.as_deref()).collect();
    assert_eq!(names, [Some("web"), Some("tls-web"), None]);
    refused("listeners:\n- {port: 1, listen: 127.0.0.1}\n- {port: 1}\n");
}

#[test]
fn another_order_of_listeners_needs_no_restart() {
    let list = |entries: [&str; 2]| good(&format!("listeners: [{}]", entries.join(", ")));
    let (a, b) = ("{port: 1, host: a}", "{port: 2, listen: ::1}");
    let start = list([a, b]);
    assert_eq!(start.start_keys_changed(&list([b, a])), [""; 0]);
    for other in [
        ["{port: 1}", "{port: 2}"],
        [a, a.replace('1', "3").as_str()],
    ] {
        assert_eq!(start.start_keys_changed(&list(other)), ["listeners"]);
    }
}

#[test]
fn a_key_twice_in_an_entry_is_a_warning() {
    let (config, warnings) = warned("listeners:\n- port: 1\n  port: 2\n");
    assert_eq!(config.listeners[0].port, 2);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}
