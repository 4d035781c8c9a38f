//! The log: lines sent to a real datagram socket, and lost lines if nobody reads it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jabsocket::log::{Escaped, Level, Log, Moment};

/// A directory for one test and the path of a socket in it. Dropping it removes the
/// directory.
struct Place {
    directory: PathBuf,
    path: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let unique = format!("jabsocket-log-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(unique);
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("log");
        Place { directory, path }
    }

    /// Binds a listener to the path, replacing an earlier one.
    fn listener(&self) -> UnixDatagram {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixDatagram::bind(&self.path).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn log(&self, now: Instant) -> Log {
        let log = Log::with_sinks(&self.path, None, now);
        log.set_level(Level::Debug);
        log
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[allow(clippy::disallowed_methods)]
fn now() -> Instant {
    Instant::now()
}

/// The lines that have arrived.
fn lines(listener: &UnixDatagram) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = [0; 4096];
    while let Ok(len) = listener.recv(&mut line) {
        lines.push(String::from_utf8(line[..len].to_vec()).unwrap());
    }
    lines
}

/// The texts of the lines that have arrived.
fn texts(listener: &UnixDatagram) -> Vec<String> {
    lines(listener)
        .iter()
        .map(|line| line.split_once("]: ").unwrap().1.to_owned())
        .collect()
}

/// A log with a pipe as standard error, and the reading end of the pipe.
fn with_pipe(place: &Place) -> (Log, File) {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK).unwrap();
    // Like the daemon's standard error.
    nix::fcntl::fcntl(
        &write,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty()),
    )
    .unwrap();
    let write: OwnedFd = write;
    let log = Log::with_sinks(&place.path, Some(write), now());
    log.set_level(Level::Debug);
    (log, File::from(read))
}

fn drained(pipe: &mut File) -> String {
    let mut text = Vec::new();
    let _ = pipe.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn a_line_has_priority_date_name_and_process_id() {
    let place = Place::new("format");
    let listener = place.listener();
    place.log(now()).info(format_args!("{} browsers", 3));
    let line = &lines(&listener)[0];
    // Facility daemon (3), severity info (6).
    assert!(line.starts_with("<30>"), "{line}");
    let end = format!(" jabsocket[{}]: 3 browsers", std::process::id());
    assert!(line.ends_with(&end), "{line}");
    assert_eq!(line.len(), "<30>Nov 23 01:02:03".len() + end.len());
}

#[test]
fn the_date_is_local() {
    let place = Place::new("zone");
    let listener = place.listener();
    let log = place.log(now());
    log.set_local_time(|_| {
        Some(Moment {
            month: 11,
            day: 3,
            hour: 4,
            minute: 5,
            second: 6,
        })
    });
    log.info(format_args!("here"));
    // RFC 3164, section 4.1.2: a day below 10 is preceded by a space.
    let line = &lines(&listener)[0];
    assert!(line.starts_with("<30>Dec  3 04:05:06 jabsocket["), "{line}");
}

#[test]
fn less_important_lines_are_not_even_formatted() {
    struct Untouched;
    impl std::fmt::Display for Untouched {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("was formatted")
        }
    }
    let place = Place::new("filter");
    let listener = place.listener();
    let log = place.log(now());
    log.set_level(Level::Warning);
    assert!(!log.enabled(Level::Notice));
    log.notice(format_args!("{Untouched}"));
    log.warning(format_args!("kept"));
    assert_eq!(texts(&listener), ["kept"]);
}

#[test]
fn a_start_up_line_passes_any_level_and_goes_to_stderr_too() {
    let place = Place::new("startup");
    let listener = place.listener();
    let (log, mut pipe) = with_pipe(&place);
    log.set_level(Level::Emerg);
    log.startup(Level::Notice, format_args!("listening"));
    log.notice(format_args!("dropped"));
    assert_eq!(texts(&listener), ["listening"]);
    let pid = std::process::id();
    assert_eq!(
        drained(&mut pipe),
        format!("jabsocket[{pid}]: notice: listening\n")
    );
}

#[test]
fn stderr_takes_lines_only_when_asked() {
    let place = Place::new("stderr");
    let (log, mut pipe) = with_pipe(&place);
    log.info(format_args!("one"));
    log.set_stderr(true);
    log.info(format_args!("two"));
    let pid = std::process::id();
    assert_eq!(drained(&mut pipe), format!("jabsocket[{pid}]: info: two\n"));
}

#[test]
fn a_full_stderr_never_blocks_and_its_losses_are_reported() {
    let place = Place::new("stderr-full");
    let (log, mut pipe) = with_pipe(&place);
    log.set_stderr(true);
    for number in 0..1000 {
        log.info(format_args!("{number} {}", "x".repeat(500)));
    }
    let taken = drained(&mut pipe).lines().count();
    assert!(taken < 1000);
    log.info(format_args!("after"));
    let text = drained(&mut pipe);
    let mut rest = text.lines();
    let lost = format!("warning: {} log lines were lost", 1000 - taken);
    assert!(rest.next().unwrap().ends_with(&lost), "{text}");
    assert!(rest.next().unwrap().ends_with("info: after"), "{text}");
}

#[test]
fn a_full_queue_never_blocks_and_its_losses_are_reported_first() {
    let place = Place::new("full");
    let listener = place.listener();
    let log = place.log(now());
    for number in 0..5000 {
        log.info(format_args!("{number}"));
    }
    let taken = lines(&listener).len();
    assert!(taken < 5000);
    assert_eq!(log.lost_lines(), 5000 - taken as u64);
    log.info(format_args!("after"));
    let lines = lines(&listener);
    // Severity warning (4).
    assert!(lines[0].starts_with("<28>"), "{lines:?}");
    assert!(lines[0].ends_with(&format!("]: {} log lines were lost", 5000 - taken)));
    assert!(lines[1].ends_with("]: after"));
    assert_eq!((lines.len(), log.lost_lines()), (2, 0));
}

#[test]
fn a_missing_socket_is_looked_for_once_a_second() {
    let place = Place::new("missing");
    let start = now();
    let log = place.log(start);
    log.info(format_args!("one"));
    let listener = place.listener();
    log.tick(start + Duration::from_millis(999));
    log.info(format_args!("two"));
    assert_eq!(log.lost_lines(), 2);
    log.tick(start + Duration::from_secs(1));
    log.info(format_args!("three"));
    assert_eq!(texts(&listener), ["2 log lines were lost", "three"]);
}

#[test]
fn a_replaced_listener_is_found_without_a_loss() {
    let place = Place::new("replaced");
    let start = now();
    let log = place.log(start);
    let first = place.listener();
    log.info(format_args!("one"));
    assert_eq!(texts(&first), ["one"]);
    drop(first);
    let second = place.listener();
    log.tick(start + Duration::from_secs(2));
    log.info(format_args!("two"));
    assert_eq!(texts(&second), ["two"]);
}

#[test]
fn a_listener_replaced_within_the_second_costs_lines_but_nothing_else() {
    let place = Place::new("replaced-soon");
    let start = now();
    let log = place.log(start);
    let first = place.listener();
    log.info(format_args!("one"));
    drop(first);
    let second = place.listener();
    log.info(format_args!("two"));
    assert_eq!(log.lost_lines(), 1);
    log.tick(start + Duration::from_secs(1));
    log.info(format_args!("three"));
    assert_eq!(texts(&second), ["1 log lines were lost", "three"]);
}

#[test]
fn deceptive_characters_are_escaped() {
    let place = Place::new("escape");
    let listener = place.listener();
    let log = place.log(now());
    log.info(format_args!(
        "a\r\n\x1b[2J\x7f\u{85}\u{2028}\u{202e}\u{feff}\u{e9}"
    ));
    let escaped = "a\\x0d\\x0a\\x1b[2J\\x7f\\x85\\u{2028}\\u{202e}\\u{feff}\u{e9}";
    assert_eq!(texts(&listener), [escaped]);
    assert_eq!(Escaped("\u{202e}a\nb").to_string(), "\\u{202e}a\\x0ab");
}

#[test]
fn a_long_line_is_cut_at_a_whole_character() {
    let place = Place::new("cap");
    let listener = place.listener();
    let log = place.log(now());
    for text in ["\u{20ac}".repeat(2000), "\n".repeat(2000), "x".repeat(961)] {
        log.info(format_args!("{text}"));
        let line = lines(&listener).remove(0);
        assert!(line.len() <= 1024, "{}", line.len());
        assert!(line.len() > 900 + "...".len(), "{}", line.len());
        assert!(line.ends_with("..."), "{line}");
        let cut = line.trim_end_matches('.');
        assert!(
            cut.ends_with(['\u{20ac}', 'x']) || cut.ends_with("\\x0a"),
            "{line}"
        );
    }
}

#[test]
fn a_text_that_logs_while_it_is_written_does_no_harm() {
    struct Logging<'a>(&'a Log);
    impl std::fmt::Display for Logging<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.info(format_args!("inner"));
            f.write_str("outer")
        }
    }
    let place = Place::new("nested");
    let listener = place.listener();
    let log = place.log(now());
    log.info(format_args!("{}", Logging(&log)));
    assert_eq!(texts(&listener).last().unwrap(), "outer");
}

#[test]
fn level_names_are_those_of_syslog() {
    let names = [
        "EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG",
    ];
    let levels = names.map(|name| Level::from_name(&format!("LOG_{name}")).unwrap());
    assert!(levels.is_sorted() && levels[0] == Level::Emerg && levels[7] == Level::Debug);
    for (level, name) in levels.into_iter().zip(names) {
        assert_eq!(level.name(), name.to_lowercase());
        assert_eq!(Level::from_name(level.name()), Some(level));
    }
    assert_eq!(Level::from_name("log_log_err"), None);
}

#[test]
fn in_the_journal_a_startup_line_appears_once() {
    let place = Place::new("journal");
    let (mut stderr, writer) = std::io::pipe().unwrap();
    let start = now();
    let listener = place.listener();
    let log = Log::with_sinks(&place.path, Some(OwnedFd::from(writer)), start);
    log.startup(Level::Notice, format_args!("one"));
    log.set_journal();
    log.startup(Level::Notice, format_args!("two"));
    let told = lines(&listener);
    assert_eq!(told.len(), 2, "{told:?}");
    // Syslog does not accept it, so standard error gets it.
    drop(listener);
    log.tick(start + Duration::from_secs(2));
    log.startup(Level::Notice, format_args!("three"));
    drop(log);
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    let ends: Vec<_> = text.lines().map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(ends, [Some("one"), Some("three")], "{text}");
}
