//! `--try`: a trial says in one sentence whether the server of a domain can be reached, and
//! what is wrong otherwise. It disturbs no daemon and shows no terminal what a server sends.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::common::answering::{Answering, BlackHole, FEATURES, closed};
use crate::common::background::{OTHER, output, signal_to};
use crate::common::certificates::{Authority, Content, Identity, self_signed};
use crate::common::daemon::{Daemon, PROGRAM, TempFile};
use crate::common::dns_server::DnsServer;
use crate::common::stage::{END, HEADER, OPEN_UP};
use crate::common::tls_server::{PROCEED, TlsServer, entry};
use crate::common::xmpp_server::XmppServer;

/// Features with a way to log in.
const LOGIN: &str = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
    <mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>PLAIN</mechanism></mechanisms>\
    </stream:features>";

/// A trial that runs.
struct Trial(JoinHandle<Output>);

/// What a trial has printed.
struct Printed {
    steps: Vec<String>,
    verdict: String,
    status: i32,
}

impl Trial {
    fn start(domain: &str, config: &str) -> Trial {
        Trial::start_with(&["--try", domain], config)
    }

    fn start_with(arguments: &[&str], config: &str) -> Trial {
        let timeout = match config.contains("connect_timeout") {
            true => "",
            false => "connect_timeout: 3600\n",
        };
        let config = TempFile::new(&format!("{timeout}{config}"));
        let mut command = Command::new(PROGRAM);
        command.args(arguments).arg("-c").arg(&config.0);
        let run = move || {
            let output = output(command);
            drop(config);
            output
        };
        Trial(std::thread::spawn(run))
    }

    fn end(self) -> Printed {
        let output = self.0.join().expect("a trial");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        assert_eq!(text(output.stderr), "");
        let mut steps: Vec<_> = text(output.stdout).lines().map(str::to_owned).collect();
        Printed {
            verdict: steps.pop().expect("a verdict"),
            steps,
            status: output.status.code().expect("no signal"),
        }
    }

    /// Fails unless the trial fails with this sentence.
    fn expect_failure(self, sentence: &str) -> Printed {
        let printed = self.end();
        assert_eq!(printed.verdict, sentence, "{:#?}", printed.steps);
        assert_eq!(printed.status, 1);
        printed
    }
}

impl Printed {
    /// Fails unless a line about this step contains `text`.
    fn expect_step(&self, step: &str, text: &str) {
        let is_it = |line: &&String| line.contains(&format!(" ms  {step} ")) && line.contains(text);
        let found = self.steps.iter().any(|line| is_it(&line));
        assert!(found, "{step}: {text} in {:#?}", self.steps);
    }
}

/// A configuration with one domain and its server.
fn listing(server: impl ToString, more: &[&str]) -> String {
    format!(
        "domains:\n{}",
        entry("example.org", &server.to_string(), None, more)
    )
}

/// The sentence about a certificate at this address.
fn certificate_at(address: impl ToString, what: &str) -> String {
    let address = address.to_string();
    format!("example.org does not work: the certificate at {address} {what}.")
}

#[test]
fn no_record_leads_to_a_server() {
    let dns = DnsServer::start("");
    let config = format!("dns_servers: {}\n", dns.address);
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: neither the hosts file nor the DNS has a server for it \
         (_xmpp-client._tcp.example.org SRV, _xmpps-client._tcp.example.org SRV, example.org A, \
         example.org AAAA); create the records, or name its server in the configuration \
         ('server').",
    );
    let server = listing("a.b.example:5222", &[]);
    Trial::start("example.org", &format!("{config}{server}")).expect_failure(
        "example.org does not work: the name of its server has no address (a.b.example A, \
         a.b.example AAAA); correct the SRV record or the configuration ('server').",
    );
    dns.add("_xmpp-client._tcp.example.org SRV 0 0 0 .");
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: its SRV records say that it offers no XMPP service ('.'); \
         correct them, or name its server in the configuration ('server').",
    );
}

#[test]
fn a_port_without_a_server() {
    let address = closed();
    let refused = format!("no server listens at {address} (Connection refused (os error 111))");
    let config = listing(address, &[]);
    Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {refused}; start the server, or correct 'server' in the \
         configuration."
    ));
    let dns = DnsServer::start(&format!(
        "_xmpp-client._tcp.example.org SRV 5 6 {} a.example.org
         a.example.org A {}",
        address.port(),
        address.ip()
    ));
    let config = format!("dns_servers: {}\ndomains: [example.org]\n", dns.address);
    let printed = Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {refused}; start the server, or correct the SRV record."
    ));
    printed.expect_step("hosts", "example.org: none");
    let record = format!(
        "SRV: a.example.org:{} (priority 5, weight 6)",
        address.port()
    );
    printed.expect_step("dns", &format!("_xmpp-client._tcp.example.org {record}"));
    printed.expect_step("dns", "_xmpps-client._tcp.example.org SRV: none");
    printed.expect_step("dns", &format!("a.example.org A: {}", address.ip()));
    printed.expect_step("addresses", &address.to_string());
    printed.expect_step("connect", &format!("{address}: Connection refused"));
}

#[test]
fn a_host_that_does_not_answer() {
    let hole = BlackHole::start("127.0.0.1:0");
    let config = format!("connect_timeout: 1\n{}", listing(hole.address, &[]));
    Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: nothing answers at {}; check that the host is up and that \
         no firewall drops the packets.",
        hole.address
    ));
}

#[test]
fn a_server_that_says_nothing() {
    let server = XmppServer::start();
    for tls in ["tls: required", "tls: none", "tls: direct"] {
        let config = format!("connect_timeout: 1\n{}", listing(server.address, &[tls]));
        let printed = Trial::start("example.org", &config).end();
        let start = format!(
            "example.org does not work: {} accepts the connection and then does not answer; ",
            server.address
        );
        assert!(printed.verdict.starts_with(&start), "{}", printed.verdict);
        assert_eq!(printed.status, 1);
    }
}

/// After the stream header no deadline of the session runs.
#[test]
fn a_server_without_features() {
    // Long enough for a stream header on a slow machine.
    let limits = "connect_timeout: 5\nping_interval: 0\n";
    let trials = [String::new(), "<a/>".repeat(1 << 20)].map(|said| {
        let server = Answering::saying("127.0.0.1:0", "s", &said);
        let config = format!("{limits}{}", listing(server.address, &["tls: none"]));
        (Trial::start("example.org", &config), server)
    });
    for (trial, server) in trials {
        let printed = trial.expect_failure(&format!(
            "example.org does not work: {} offers no usable stream (it sends no features); check \
             that this is the client port of an XMPP server, and see its log.",
            server.address
        ));
        printed.expect_step("stream", "version 1.0, id s");
    }
}

#[test]
fn a_dns_that_does_not_answer() {
    let dns = DnsServer::start("");
    dns.say_nothing_on("example.org");
    let config = format!("dns_servers: {}\n", dns.address);
    let limited = format!("connect_timeout: 1\n{config}");
    Trial::start("example.org", &limited).expect_failure(&format!(
        "example.org does not work: the DNS does not answer (asked DNS server {} for \
         example.org); check 'dns_servers' or /etc/resolv.conf, and that these servers can be \
         reached.",
        dns.address
    ));
    dns.add(
        "_xmpp-client._tcp.example.org SRV SERVFAIL\n_xmpps-client._tcp.example.org SRV SERVFAIL",
    );
    let printed = Trial::start("example.org", &config).end();
    let start = "example.org does not work: the DNS does not answer (DNS look-up failed: ";
    assert!(printed.verdict.starts_with(start), "{}", printed.verdict);
}

#[test]
fn certificates_that_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new_named("another"));
    let ca_file = authority.ca_file();
    let expired = Content {
        dns: &["example.org"],
        not_after: "20210101000000Z",
        ..Content::default()
    };
    let cases: [(Identity, &str, &str); 4] = [
        (
            authority.identity(&["example.com", "a\x1b[2J"]),
            "is for example.com, a\\x1b[2J, not for example.org; install one there that has this \
             domain as a DNS name",
            "expires Dec 31 00:00:00 2099 GMT",
        ),
        (
            authority.sign(&expired),
            "has expired: Jan  1 00:00:00 2021 GMT; renew it",
            "for example.org; issued by CN=an authority of the tests; expires Jan  1",
        ),
        (
            self_signed(&["example.org"]),
            "is self-signed; install one of an authority, or name this one in 'ca_file'",
            "for example.org; issued by CN=a server",
        ),
        (
            other.identity(&["example.org"]),
            "was issued by CN=another, which is not trusted; let the server send the whole \
             chain, or name the authority in 'ca_file'",
            "for example.org; issued by CN=another",
        ),
    ];
    for (identity, sentence, step) in cases {
        let server = TlsServer::start(&identity);
        let address = server.tcp.address;
        for tls in ["tls: required", "tls: direct"] {
            let entry = entry("example.org", &address.to_string(), Some(&ca_file), &[tls]);
            let trial = Trial::start("example.org", &format!("domains:\n{entry}"));
            let connection = match tls {
                "tls: direct" => server.try_handshake(server.tcp.accept().stream),
                _ => server.try_proceed(server.asked()),
            };
            // In TLS 1.3 the server sees the refusal only later.
            drop(connection);
            let printed = trial.expect_failure(&certificate_at(address, sentence));
            printed.expect_step("certificate", step);
        }
    }
}

#[test]
fn a_server_without_starttls() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: required"]);
    Trial::start("example.org", &config).expect_failure(&format!(
        "example.org does not work: {} offers no STARTTLS, and plain text is not allowed; enable \
         TLS there, or say 'tls: direct' if it expects TLS at once.",
        server.address
    ));
}

#[test]
fn a_server_that_does_not_serve_the_domain() {
    let error = "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
        </stream:error></stream:stream>";
    let server = Answering::saying("127.0.0.1:0", "s", error);
    for tls in ["tls: required", "tls: none", "tls: auto"] {
        let config = listing(server.address, &[tls]);
        Trial::start("example.org", &config).expect_failure(&format!(
            "example.org does not work: the server at {} does not serve it (host-unknown); add \
             this domain as a virtual host there, or correct the address.",
            server.address
        ));
    }
}

#[test]
fn a_domain_that_is_not_listed() {
    let printed = Trial::start("example.org", "domains: [example.com]\n").expect_failure(
        "example.org does not work: the configuration does not list it; add it to 'domains'.",
    );
    printed.expect_step("rule", "example.org is not in 'domains'");
    let verdict = Trial::start("a@b", "").end().verdict;
    assert!(
        verdict.starts_with("a@b does not work: the 'to' must be a domain"),
        "{verdict}"
    );
}

#[test]
fn an_inside_address() {
    let dns =
        DnsServer::start("_xmpp-client._tcp.example.org SRV 5 6 7 a.example\na.example A 10.0.0.1");
    let printed = Trial::start("example.org", &format!("dns_servers: {}\n", dns.address))
        .expect_failure(
            "example.org does not work: it leads to 10.0.0.1:7, an inside address; add it to \
             'domains', or see 'private_addresses'.",
        );
    printed.expect_step(
        "rule",
        "there is no 'domains' list, any domain may be reached",
    );
    printed.expect_step("addresses", "10.0.0.1:7: refused as inside addresses");
}

#[test]
fn a_server_that_works_with_tls() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    let server = TlsServer::start(&authority.identity(&["example.org", "*.example.org"]));
    let address = server.tcp.address;
    for (tls, by) in [("tls: required", "by STARTTLS"), ("tls: direct", "at once")] {
        let entry = entry("example.org", &address.to_string(), Some(&ca_file), &[tls]);
        let trial = Trial::start("example.org", &format!("domains:\n{entry}"));
        let mut connection = match tls {
            "tls: direct" => server.direct(),
            _ => server.starttls(),
        };
        connection.expect(OPEN_UP);
        connection.send(HEADER);
        connection.send(LOGIN);
        connection.expect(END);
        let printed = trial.end();
        let verdict = format!("example.org works: {address}, TLSv1.3, login by PLAIN.");
        assert_eq!(
            (printed.verdict.as_str(), printed.status),
            (&verdict[..], 0)
        );
        printed.expect_step(
            "rule",
            &format!("'example.org' in 'domains'; server: {address}"),
        );
        printed.expect_step("connected", &format!("to {address} from 127.0.0.1:"));
        printed.expect_step("tls", &format!("TLSv1.3, TLS_AES_256_GCM_SHA384, {by}"));
        printed.expect_step(
            "certificate",
            "for example.org, *.example.org; issued by CN=an auth",
        );
        printed.expect_step("stream", "from example.org, version 1.0, id s1");
        printed.expect_step("features", "mechanisms: PLAIN; SASL2: none");
        printed.expect_step("removed", "SCRAM-SHA-1-PLUS: not relayed to web pages");
    }
}

/// Some servers work, but not as the operator may think.
#[test]
fn a_server_that_works_in_part() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: none"]);
    let printed = Trial::start("example.org", &config).end();
    let verdict = format!(
        "example.org works: {}, plain text, login by PLAIN.",
        server.address
    );
    assert_eq!((printed.verdict, printed.status), (verdict, 0));
    let server = Answering::saying("127.0.0.1:0", "s", FEATURES);
    let config = listing(server.address, &["tls: none"]);
    Trial::start("example.org", &config).expect_failure(
        "example.org does not work: the server offers no way to log in; enable a mechanism \
         there, and see whether it requires TLS for the login.",
    );
    let server = TlsServer::start(&self_signed(&[]));
    let more = ["tls: required", "verify: false"];
    let trial = Trial::start("example.org", &listing(server.tcp.address, &more));
    let mut connection = server.starttls();
    connection.greet(OPEN_UP);
    let printed = trial.end();
    let end = "login by PLAIN, but its certificate is not verified ('verify: false').";
    assert!(printed.verdict.ends_with(end), "{}", printed.verdict);
    assert_eq!(printed.status, 0);
}

/// Of two servers, the one that a session comes closest to using counts.
#[test]
fn several_servers_that_do_not_work() {
    let authority = Authority::new();
    let ca_file = authority.ca_file();
    let server = TlsServer::start(&self_signed(&["example.org"]));
    let (address, closed) = (server.tcp.address, closed());
    let config = format!(
        "domains:\n  - name: example.org\n    tls: required\n    ca_file: {}\n    server:\n      \
         - {address}\n      - address: {closed}\n        backup: true\n",
        ca_file.0.display()
    );
    let trial = Trial::start("example.org", &config);
    drop(server.try_proceed(server.asked()));
    let sentence = "is self-signed; install one of an authority, or name this one in 'ca_file'";
    let printed = trial.expect_failure(&certificate_at(address, sentence));
    printed.expect_step("connect", &format!("{closed}: Connection refused"));
}

#[test]
fn a_redirect_is_followed() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let error = format!(
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{}\
         </see-other-host></stream:error>",
        server.address
    );
    let first = Answering::saying("127.0.0.1:0", "f", &error);
    let config = listing(first.address, &["tls: none"]);
    let printed = Trial::start("example.org", &config).end();
    let verdict = format!(
        "example.org works: {}, plain text, login by PLAIN.",
        server.address
    );
    assert_eq!(printed.verdict, verdict);
    printed.expect_step("redirect", &server.address.to_string());
}

/// Escaped, the second one is longer than the buffer of a socket.
#[test]
fn a_domain_that_is_far_too_long() {
    for domain in ["a".repeat(1024), "\"".repeat(100_000)] {
        let sentence = "the domain was not tried: it is longer than 1023 bytes.";
        Trial::start(&domain, "").expect_failure(sentence);
    }
}

/// A server cannot send a terminal or a script anything but text.
#[test]
fn what_a_server_sends_is_escaped() {
    let evil = "\u{9b}2J\u{202e}\"\\";
    let long = "x".repeat(50_000);
    let features = LOGIN.replace("PLAIN", &format!("{evil}{long}"));
    let server = Answering::saying("127.0.0.1:0", evil, &features.replace("SCRAM", evil));
    let config = listing(server.address, &["tls: none"]);
    for arguments in [
        &["--try", "example.org"][..],
        &["--json", "--try", "example.org"],
    ] {
        let printed = Trial::start_with(arguments, &config).end();
        assert_eq!(printed.status, 0);
        for line in printed.steps.iter().chain([&printed.verdict]) {
            assert!(
                line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line}"
            );
            assert!(line.len() < 10_000, "{}", line.len());
        }
    }
}

#[test]
fn json_has_an_object_for_each_step() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let config = listing(server.address, &["tls: none"]);
    let printed = Trial::start_with(&["--try", "example.org", "--json"], &config).end();
    let steps = printed.steps.join("\n");
    for part in [
        "{\"step\":\"rule\",\"ms\":",
        "\"step\":\"features\"",
        "\"mechanisms\":[\"PLAIN\"]",
        "\"removed\":[\"SCRAM-SHA-1-PLUS\"]",
    ] {
        assert!(steps.contains(part), "{part} in {steps}");
    }
    assert_eq!(
        printed.verdict,
        format!(
            "{{\"step\":\"verdict\",\"ok\":true,\"text\":\"example.org works: {}, plain text, login \
             by PLAIN.\",\"domain\":\"example.org\"}}",
            server.address
        )
    );
}

/// The files and ports of a daemon are left alone, and the log too.
#[test]
fn a_daemon_is_not_disturbed() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let domains = listing(server.address, &["tls: none"]);
    let pid_file = TempFile::new("");
    let keys = format!("pid_file: {}\n{domains}", pid_file.0.display());
    let daemon = Daemon::start(&keys);
    let port = daemon.address.port();
    let before = fs::read(&pid_file.0).expect("a PID file");
    let config = format!("port: {port}\nlisten: 127.0.0.1\nuser: nobody\n{keys}");
    assert_eq!(Trial::start("example.org", &config).end().status, 0);
    assert_eq!(fs::read(&pid_file.0).expect("a PID file"), before);
    drop(daemon.client());
    let lines = daemon.all_lines();
    let is_trial = |line: &&String| line.contains("domain=example.org");
    assert_eq!(lines.iter().find(is_trial), None);
    daemon.stop();
}

#[test]
fn a_bad_configuration_is_not_tried() {
    let config = TempFile::new("port: x\n");
    let run = |option: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let command = command.args(option).arg("-c").arg(&config.0);
        command.output().expect("run it")
    };
    let (check, trial) = (run(&["--check-config"]), run(&["--try", "example.org"]));
    assert_eq!(check.stderr, trial.stderr);
    assert_eq!(trial.status.code(), Some(1));
    let verdict = "example.org was not tried; correct the errors in the configuration first.\n";
    assert_eq!(String::from_utf8_lossy(&trial.stdout), verdict);
}

/// A file that cannot be read matters only to domains that need it.
#[test]
fn a_file_that_cannot_be_read() {
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let other = "  - name: example.com\n    ca_file: /nowhere/ca.pem\n";
    let config = format!("{}{other}", listing(server.address, &["tls: none"]));
    let printed = Trial::start("example.org", &config).end();
    assert_eq!(printed.status, 0, "{}", printed.verdict);
    printed.expect_step("file", "/nowhere/ca.pem: No such file");
    let tls = TlsServer::start(&self_signed(&["example.org"]));
    let more = ["tls: required", "ca_file: /nowhere/ca.pem"];
    let trial = Trial::start("example.org", &listing(tls.tcp.address, &more));
    let mut connection = tls.asked();
    connection.send(PROCEED);
    trial.expect_failure(&format!(
        "example.org does not work: {}: /nowhere/ca.pem was not read; see which files cannot be \
         used, and try as a user who may read them.",
        tls.tcp.address
    ));
}

/// Not SIGINT: a shell lets the processes that it starts in the background ignore that.
#[test]
fn a_signal_ends_a_trial() {
    let server = XmppServer::start();
    let config = listing(server.address, &["tls: none"]);
    let config = TempFile::new(&format!("connect_timeout: 3600\n{config}"));
    let mut command = Command::new(PROGRAM);
    let command = command.args(["--try", "example.org", "-c"]).arg(&config.0);
    let mut child = command.stdout(Stdio::null()).spawn().expect("a trial");
    let mut connection = server.accept();
    signal_to(child.id(), Signal::SIGTERM);
    connection.read_end();
    let status = child.wait().expect("the end of it");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
}

/// A user without privileges may try too, as far as this user can read the files.
#[test]
fn a_user_who_may_not_read_a_file() {
    if !geteuid().is_root() {
        println!("skipped: only root can start a trial as another user");
        return;
    }
    let server = Answering::saying("127.0.0.1:0", "s", LOGIN);
    let ca_file = Authority::new().ca_file();
    let secret = Permissions::from_mode(0o600);
    fs::set_permissions(&ca_file.0, secret).expect("chmod");
    let more = ["tls: none", &format!("ca_file: {}", ca_file.0.display())];
    let config = TempFile::new(&listing(server.address, &more));
    // The other user may not be allowed to reach the program where it was built.
    let program = TempFile::new("");
    fs::copy(PROGRAM, &program.0).expect("copy the program");
    fs::set_permissions(&program.0, Permissions::from_mode(0o755)).expect("chmod");
    let mut command = Command::new(&program.0);
    command.args(["--try", "example.org", "-c"]).arg(&config.0);
    command.current_dir("/").uid(OTHER).gid(OTHER);
    let output = output(command);
    let printed = String::from_utf8(output.stdout).expect("text");
    let denied = format!("{}: Permission denied", ca_file.0.display());
    assert!(printed.contains(&denied), "{printed}");
    assert_eq!(output.status.code(), Some(0), "{printed}");
}

/// Colours are for terminals.
#[test]
fn colours_only_on_a_terminal_that_wants_them() {
    let config = TempFile::new("domains: [example.com]\n");
    let on_a_terminal = |no_color: &str| {
        let line = format!("{PROGRAM} --try example.org -c {}", config.0.display());
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("NO_COLOR", no_color);
        let output = command.env("TERM", "xterm").output().expect("script");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).expect("text")
    };
    let red = "\u{1b}[1;31mexample.org does not work: ";
    assert!(on_a_terminal("").contains(red));
    assert!(!on_a_terminal("1").contains('\u{1b}'));
    let printed = Trial::start("example.org", "domains: [example.com]\n").end();
    assert!(
        printed.verdict.starts_with("example.org does"),
        "{}",
        printed.verdict
    );
}
