//! Unix sockets in `listen`, and proxies that connect to them.

use std::path::PathBuf;

use jabsocket::config::ListenAddress;

use super::{address, good, refused, warned};

fn path(text: &str) -> ListenAddress {
    ListenAddress::Path(PathBuf::from(text))
}

#[test]
fn unix_sockets_are_allowed_wherever_addresses_are() {
    assert_eq!(
        good("listen: unix:/run/jabsocket/ws.sock").top.listen,
        [path("/run/jabsocket/ws.sock")]
    );
    let name = ListenAddress::Abstract("jabsocket".to_owned());
    assert_eq!(good("listen: unix:@jabsocket").top.listen, [name]);
    assert_eq!(
        good("listen: [127.0.0.1, unix:/a, '::1']").top.listen,
        [address("127.0.0.1"), path("/a"), address("::1")]
    );
    let config = good("listeners:\n- {listen: unix:/a, tls: off}\n- port: 1\n");
    assert_eq!(config.listeners[0].listen, [path("/a")]);
    assert_eq!(config.listeners[1].listen, []);
    // The maximum length for the kernel.
    good(&format!("listen: unix:/{}", "x".repeat(106)));
    good(&format!("listen: unix:@{}", "x".repeat(107)));
}

#[test]
fn the_mode_is_octal_and_an_entry_overrides_the_top_level() {
    assert_eq!(good("").top.socket_mode, 0o666);
    for text in ["0660", "'0660'", "660"] {
        let config = good(&format!("socket_mode: {text}\nlisten: unix:/a"));
        assert_eq!(config.listeners[0].socket_mode, 0o660, "{text}");
    }
    let config = good(
        "socket_mode: 0600\nlisteners:\n- {listen: unix:/a}\n\
         - {listen: unix:/b, socket_mode: 0777}\n",
    );
    let modes = config.listeners.iter().map(|rules| rules.socket_mode);
    assert_eq!(modes.collect::<Vec<_>>(), [0o600, 0o777]);
}

#[test]
fn bad_paths_and_names_are_errors_on_their_lines() {
    let long = format!("listen:\n- ::1\n- unix:/{}\n", "x".repeat(107));
    let long_name = format!("listen: unix:@{}\n", "x".repeat(108));
    for (text, line, named) in [
        ("listen: unix:run/a\n", 1, "'listen': 'unix:run/a'"),
        ("listen: 'unix:'\n", 1, "'listen': 'unix:'"),
        ("listen: unix:@\n", 1, "'listen': 'unix:@'"),
        ("listen: \"unix:/a\\n\"\n", 1, "'listen': 'unix:/a"),
        (&long, 3, "of at most 107 bytes"),
        (&long_name, 1, "of at most 107 bytes"),
        (
            "listeners:\n- listen: unix:a\n",
            2,
            "'listeners.listen': 'unix:a'",
        ),
        (
            "listeners:\n- listen: [unix:/b, unix:/a]\n- listen: unix:/a\n",
            3,
            "'listeners': unix:/a, which the entry on line 2 already uses,",
        ),
        (
            "listeners:\n- listen: unix:/a\n- listen: unix://a\n",
            3,
            "'listeners': unix:/a, which the entry on line 2 already uses,",
        ),
        (
            "listeners:\n- listen: unix:@a\n- port: 1\n  listen: [::1, unix:@a]\n",
            3,
            "unix:@a, which the entry on line 2 already uses,",
        ),
        (
            "listen: unix:/a\nlisteners:\n- listen: ::1\n- port: 443\n",
            4,
            "'listeners.port': a port where 'listen' has only Unix sockets",
        ),
        ("socket_mode: 0668\n", 1, "'socket_mode': '0668'"),
        ("socket_mode: 1777\n", 1, "'socket_mode': '1777'"),
        ("socket_mode: 66\n", 1, "'socket_mode': '66'"),
        ("socket_mode: rw-rw----\n", 1, "'socket_mode': 'rw-rw----'"),
        (
            "listeners:\n- socket_mode: 0o660\n  listen: unix:/a\n",
            2,
            "'listeners.socket_mode': '0o660'",
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
fn ports_do_not_meet_where_there_are_only_unix_sockets() {
    good("listeners:\n- {listen: unix:/a}\n- {listen: unix:/b}\n- {listen: ::1}\n");
    refused("listeners:\n- {listen: [unix:/a, ::1]}\n- {listen: [::1, unix:/b]}\n");
    refused("listeners:\n- {listen: [unix:/a, ::1]}\n- {}\n");
}

#[test]
fn the_same_path_twice_in_a_list_is_a_warning() {
    let (config, warnings) = warned("listen: [unix:/a, unix:/a]\n");
    assert_eq!(config.top.listen, [path("/a")]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn peers_on_unix_sockets_are_trusted_only_if_configured() {
    let config = good("trusted_proxies: [127.0.0.1, 'unix:']");
    assert!(config.trusts_unix);
    assert!(config.is_trusted("127.0.0.1".parse().unwrap()));
    assert!(!good("trusted_proxies: 127.0.0.1").trusts_unix);
    for text in ["unix", "unix:/a"] {
        let problems = refused(&format!("trusted_proxies: {text}"));
        assert!(problems[0].contains("'unix:' in quotes"), "{problems:?}");
    }
    // Without quotes YAML reads it as something else.
    let problems = refused("trusted_proxies:\n- unix:\n");
    assert!(problems[0].contains("'unix:' in quotes"), "{problems:?}");
}

#[test]
fn a_reload_names_keys_that_need_a_restart() {
    let old = good("listen: unix:/a");
    let changed = |text: &str| old.start_keys_changed(&good(text));
    assert_eq!(changed("listen: unix:/b"), ["listen"]);
    assert_eq!(
        changed("listen: unix:/a\nsocket_mode: 600"),
        ["socket_mode"]
    );
    let old = good("listeners: [{listen: unix:/a}]");
    let new = good("listeners: [{listen: unix:/a, socket_mode: 600}]");
    assert_eq!(old.start_keys_changed(&new), ["listeners"]);
}
