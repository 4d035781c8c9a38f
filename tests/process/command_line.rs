//! The command line from the view of a script: the output, the exit status, and errors
//! that prevent a start.

use std::net::TcpListener;
use std::process::{Command, Output};

use crate::common::certificates::{Authority, Content};
use crate::common::daemon::{Daemon, PROGRAM, TempFile};
use crate::common::ws_client::WsClient;

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .output()
        .expect("run the daemon")
}

/// Standard output, standard error and exit status.
fn told(output: &Output) -> (&str, &str, i32) {
    let text = |bytes| std::str::from_utf8(bytes).expect("text");
    let status = output.status.code().expect("no signal");
    (text(&output.stdout), text(&output.stderr), status)
}

#[test]
fn help_and_version_go_to_standard_output() {
    for option in ["-h", "--help"] {
        let output = run(&[option]);
        let (out, err, status) = told(&output);
        assert_eq!((err, status), ("", 0), "{option}");
        assert!(out.starts_with("Usage: jabsocket [OPTION]...\n"), "{out}");
        for line in [
            "--config, -c",
            "--nodaemon, -n",
            "--version, -v",
            "--help, -h",
        ] {
            assert!(out.contains(line), "{out}");
        }
    }
    for option in ["-v", "--version"] {
        let output = run(&[option]);
        let version = format!("jabsocket version {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(told(&output), (&version[..], "", 0), "{option}");
    }
}

#[test]
fn an_unknown_option_is_an_error() {
    for arguments in [&["-x"][..], &["--bogus"], &["-c"], &["file.conf"]] {
        let output = run(arguments);
        let (out, err, status) = told(&output);
        assert_eq!((out, status), ("", 2), "{arguments:?}");
        assert!(err.contains("Usage: jabsocket"), "{err}");
    }
}

#[test]
fn check_config_judges_a_file() {
    let good = TempFile::new("port: 05000\nlisten: [127.0.0.1, '::1']\nlog_level: LOG_INFO\n");
    let path = good.0.to_str().unwrap();
    let output = run(&["--check-config", "-c", path]);
    let (out, err, status) = told(&output);
    assert_eq!((err, status), ("", 0));
    assert!(out.contains(path), "{out}");

    let warned = TempFile::new("prot: 5000\n");
    let path = warned.0.to_str().unwrap();
    let output = run(&["--check-config", "-c", path]);
    let (_, err, status) = told(&output);
    assert_eq!(status, 0, "an unknown key is no error");
    let warning = format!("{path}:1: warning: key 'prot' is not known");
    assert!(err.starts_with(&warning), "{err}");

    let output = run(&["--check-config", "-c", "/nonexistent/jabsocket.conf"]);
    let (out, err, status) = told(&output);
    assert_eq!((out, status), ("", 1));
    assert!(err.contains("/nonexistent/jabsocket.conf"), "{err}");
}

#[test]
fn a_bad_file_is_reported_by_line_and_starts_nothing() {
    let bad = TempFile::new("log_level: LOG_DEBUG\nport: 99999\nlisten: localhost\n");
    let path = bad.0.to_str().unwrap();
    for arguments in [&["--check-config", "-c", path][..], &["-n", "-c", path]] {
        let output = run(arguments);
        let (out, err, status) = told(&output);
        assert_eq!((out, status), ("", 1), "{arguments:?}");
        for part in [
            &format!("{path}:2: key 'port': '99999' is not allowed; allowed: a whole number")[..],
            &format!("{path}:3: key 'listen': 'localhost' is not allowed; allowed: a numeric"),
        ] {
            assert!(err.contains(part), "{err}");
        }
        assert!(!err.contains("listening"), "{err}");
    }
}

#[test]
fn a_port_in_use_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port();
    let config = TempFile::new(&format!("port: {port}\nlisten: 127.0.0.1\n"));
    let output = run(&["-n", "-c", config.0.to_str().unwrap()]);
    let (out, err, status) = told(&output);
    assert_eq!((out, status), ("", 1));
    assert!(
        err.contains(&format!("cannot listen on {address}")),
        "{err}"
    );
    assert!(err.contains("in use"), "{err}");
}

#[test]
fn a_list_of_addresses_shares_one_port() {
    let daemon = Daemon::start_on("[127.0.0.1, '::1']", "");
    let port = daemon.address.port();
    assert_ne!(port, 0, "the line names the port that the kernel picked");
    let last = daemon.wait_for_line("listening on [");
    let version = env!("CARGO_PKG_VERSION");
    let line = format!("version {version} listening on [::1]:{port}");
    assert!(last.ends_with(&line), "{last}");
    for host in ["127.0.0.1", "::1"] {
        let opened = WsClient::connect((host, port), "/", &[], Some("xmpp"));
        assert!(opened.is_ok(), "{host}: {:?}", opened.err());
    }
    daemon.stop();
}

#[test]
fn open_domains_are_warned_of_once() {
    let warnings = |daemon: &Daemon| {
        let lines = daemon.lines().into_iter();
        lines.filter(|line| line.contains("'domains'")).count()
    };
    // If the warning is logged, it comes before the line with the address.
    let daemon = Daemon::start("log_level: LOG_EMERG\n");
    drop((daemon.client(), daemon.client()));
    assert_eq!(warnings(&daemon), 1);
    daemon.stop();
    let daemon = Daemon::start("domains: [example.org]\n");
    assert_eq!(warnings(&daemon), 0);
    daemon.stop();
}

#[test]
fn in_the_journal_a_line_appears_once() {
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    let config = TempFile::new("port: 0\nlisten: 127.0.0.1\nlog_level: LOG_DEBUG\n");
    let told = |of_journal: bool| {
        let (reader, writer) = std::io::pipe().unwrap();
        let stat = nix::sys::stat::fstat(writer.as_fd()).unwrap();
        let inode = stat.st_ino + u64::from(!of_journal);
        let mut child = Command::new(PROGRAM)
            .args(["-n", "-c"])
            .arg(&config.0)
            .env("JOURNAL_STREAM", format!("{}:{inode}", stat.st_dev))
            .stderr(writer)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("listening on ")).unwrap();
        let address = line.rsplit(' ').next().unwrap();
        drop(WsClient::connect(address, "/", &[], Some("xmpp")).unwrap());
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
        lines.collect::<String>()
    };
    assert!(told(false).contains("stopping, "));
    assert_eq!(told(true), "");
}

/// The output of `--check-config` for a file with these keys.
fn checked(config: &str) -> (String, String, i32) {
    let file = TempFile::new(config);
    let output = run(&["--check-config", "-c", file.0.to_str().unwrap()]);
    let (out, err, status) = told(&output);
    (out.to_owned(), err.to_owned(), status)
}

fn certificate_keys(certificate: &TempFile, key: &TempFile) -> String {
    let (certificate, key) = (certificate.0.display(), key.0.display());
    format!("port: 0\ntls_certificate: {certificate}\ntls_key: {key}\n")
}

#[test]
fn check_config_follows_includes() {
    let included = TempFile::new("domains: [a.example]\n");
    let path = included.0.display();
    let good = checked(&format!("port: 0\ninclude: {path}\n"));
    assert_eq!((&good.1[..], good.2), ("", 0));
    let (_, err, status) = checked(&format!("port: 0\ndomains: [a.example]\ninclude: {path}\n"));
    assert_eq!(status, 1);
    assert!(
        err.starts_with(&format!("{path}:1: key 'domains': 'a.example'")),
        "{err}"
    );
    let (_, err, status) = checked("port: 0\ninclude: /nonexistent/a.conf\n");
    assert_eq!(status, 1);
    assert!(
        err.starts_with("/nonexistent/a.conf: cannot be read: "),
        "{err}"
    );
}

#[test]
fn check_config_opens_what_the_file_names() {
    let authority = Authority::new();
    let identity = |names| authority.identity(names).files(&[]);
    let (certificate, key) = identity(&["a.example"]);
    let (_, other_key) = identity(&["a.example"]);
    let good = checked(&certificate_keys(&certificate, &key));
    assert_eq!((&good.1[..], good.2), ("", 0));
    let nothing = TempFile(std::path::PathBuf::from("/nonexistent/a.pem"));
    let domains = "port: 0\ndomains:\n- name: a.b\n  ca_file: ";
    for (config, why) in [
        (
            certificate_keys(&certificate, &other_key),
            "not the key of the certificate",
        ),
        (certificate_keys(&nothing, &key), "a.pem: No such file"),
        (
            format!(
                "port: 0\nlisteners:\n- {{port: 0, tls_certificate: {0}, tls_key: {0}}}\n",
                key.0.display()
            ),
            "contains no PEM certificate",
        ),
        (
            "port: 0\nserver_ca_file: /nonexistent/ca.pem\n".to_owned(),
            "/nonexistent/ca.pem: No such file",
        ),
        (
            format!("{domains}{}\n", key.0.display()),
            "contains no PEM certificate",
        ),
        (
            "port: 0\nuser: no-such-user\n".to_owned(),
            "key 'user': 'no-such-user': there is no such user",
        ),
    ] {
        let (out, err, status) = checked(&config);
        assert!(err.contains(why), "{config}: {err}");
        assert!(
            err.ends_with(": this configuration cannot be used\n"),
            "{err}"
        );
        assert_eq!((&out[..], status), ("", 1), "{config}");
    }
}

#[test]
fn check_config_warns_of_certificates_that_expire_soon() {
    let authority = Authority::new();
    let date = |when: &str| {
        let date = Command::new("date")
            .args(["-u", "-d", when, "+%Y%m%d%H%M%SZ"])
            .output()
            .unwrap();
        String::from_utf8(date.stdout).unwrap().trim().to_owned()
    };
    for (end, what) in [
        (
            "20200201000000Z",
            Some("for a.example has expired: Feb  1 00:00:00 2020 GMT"),
        ),
        (
            &date("13 days"),
            Some("for a.example expires within 14 days: "),
        ),
        (&date("15 days"), None),
    ] {
        let content = Content {
            dns: &["a.example"],
            not_after: end,
            ..Content::default()
        };
        let (certificate, key) = authority.sign(&content).files(&[]);
        let (_, err, status) = checked(&certificate_keys(&certificate, &key));
        assert_eq!(status, 0, "the daemon starts with it: {err}");
        match what {
            Some(what) => {
                let path = certificate.0.display();
                let warning = format!(": warning: {path}: the certificate {what}");
                assert!(err.contains(&warning), "{err}");
            }
            None => assert_eq!(err, ""),
        }
    }
}

#[test]
fn check_config_tries_addresses_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (out, err, status) = checked(&format!("port: {port}\nlisten: 127.0.0.1\n"));
    assert_eq!(
        (&err[..], status),
        ("", 0),
        "a daemon that serves there may reload"
    );
    let note = format!("note: 127.0.0.1:{port} is in use, by the running daemon");
    assert!(out.contains(&note), "{out}");
    for (config, warning) in [
        (
            "port: 0\nlisten: 192.0.2.1\n",
            "cannot listen on 192.0.2.1:0: Cannot assign requested address",
        ),
        (
            "port: 0\nstatus_listen: 192.0.2.1:1\n",
            "cannot listen on 192.0.2.1:1: Cannot assign requested address",
        ),
        (
            "listen: unix:/nonexistent/a\n",
            "cannot listen on unix:/nonexistent/a: its directory: No such file or directory",
        ),
    ] {
        let (_, err, status) = checked(config);
        assert!(err.contains(&format!(": warning: {warning}")), "{err}");
        assert_eq!(status, 0, "{config}");
    }
}

#[test]
fn check_config_warns_of_addresses_that_this_user_may_not_bind() {
    use std::os::unix::process::CommandExt;
    let root = nix::unistd::geteuid().is_root();
    let may_bind = |port: u16| {
        let first = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let first = std::fs::read_to_string(first).expect("a limit on ports");
        first.trim().parse::<u16>().expect("a port") <= port
    };
    let mut warnings = vec![(
        "listen: unix:/proc/a",
        "cannot listen on unix:/proc/a: its directory: Permission denied",
    )];
    if !may_bind(1) {
        warnings.push((
            "port: 1\nlisten: 127.0.0.1",
            "cannot listen on 127.0.0.1:1: Permission denied (os error 13)",
        ));
    }
    for (config, warning) in warnings {
        let file = TempFile::new(&format!("{config}\n"));
        // Another user must be able to read it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&file.0, mode).expect("its owner may");
        let mut command = Command::new(PROGRAM);
        command.args(["--check-config", "-c", file.0.to_str().unwrap()]);
        if root {
            const NOBODY: u32 = 65534;
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().expect("run the daemon");
        let (_, err, status) = told(&output);
        assert!(err.contains(&format!(": warning: {warning}")), "{err}");
        assert_eq!(status, 0, "another user may start the daemon");
    }
}

#[test]
fn check_config_reads_as_the_user_that_reloads() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let (certificate, key) = Authority::new().identity(&["a.example"]).files(&[]);
    let keys = certificate_keys(&certificate, &key);
    set_permissions(&key.0, Permissions::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        let (_, err, status) = checked(&format!("{keys}user: nobody\n"));
        let path = key.0.display();
        let why =
            format!("{path} cannot be read as user 'nobody': Permission denied (os error 13);");
        assert!(err.contains(&why), "{err}");
        assert!(!err.contains(&certificate.0.display().to_string()), "{err}");
        assert_eq!(status, 0, "the start reads it as root");
    } else {
        let (out, err, status) = checked(&format!("{keys}user: root\n"));
        assert!(
            out.contains("only root can check whether user 'root' can read the files"),
            "{out}"
        );
        assert_eq!((&err[..], status), ("", 0));
    }
}
