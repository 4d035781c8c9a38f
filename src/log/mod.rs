//! The log: syslog over our own socket, and standard error with `--nodaemon`.
//!
//! Owns the levels, the datagram socket of syslog, the format of a line, and the count of
//! lost lines. Never blocks: a line that syslog does not accept is dropped and counted, and
//! the next line that gets through reports the count first. A missing socket is not an
//! error; the log tries to open it again at most once per second of [`Log::tick`]. Never
//! writes control characters, or more than 1 KiB per line. Callers pass no stanzas and no
//! credentials.

mod recent;
mod stderr;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syslog::{Facility, Formatter3164, LogFormat, Severity};

use crate::shared_memory::recent_lines::RecentLines;
use recent::Recent;
use stderr::Stderr;

/// The socket of syslog.
const SYSLOG_PATH: &str = "/dev/log";

/// The name on every line.
const IDENT: &str = "jabsocket";

const LINE_CAP_BYTES: usize = 1024;

/// The longest text, which leaves room for level, date, name and process id.
const TEXT_CAP_BYTES: usize = LINE_CAP_BYTES - 64;

/// The end of a text that was too long.
const CUT_MARK: &str = "...";

/// The last lines up to this level are kept if they are enabled.
const KEPT_IF_ENABLED: Level = Level::Notice;

/// The last lines up to this level are kept in any case.
const ALWAYS_KEPT: Level = Level::Warning;

/// The time between two attempts to open the socket.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// The levels of syslog, most important first.
#[expect(missing_docs, reason = "their names are those of syslog(3)")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    Emerg,
    Alert,
    Crit,
    Err,
    Warning,
    Notice,
    Info,
    Debug,
}

/// All levels, with their names and their values in the `syslog` crate.
const LEVELS: [(Level, &str, Severity); 8] = [
    (Level::Emerg, "emerg", Severity::LOG_EMERG),
    (Level::Alert, "alert", Severity::LOG_ALERT),
    (Level::Crit, "crit", Severity::LOG_CRIT),
    (Level::Err, "err", Severity::LOG_ERR),
    (Level::Warning, "warning", Severity::LOG_WARNING),
    (Level::Notice, "notice", Severity::LOG_NOTICE),
    (Level::Info, "info", Severity::LOG_INFO),
    (Level::Debug, "debug", Severity::LOG_DEBUG),
];

impl Level {
    /// The level with this number, as in syslog(3).
    pub(crate) fn from_number(number: u64) -> Option<Level> {
        let (level, ..) = LEVELS.get(usize::try_from(number).ok()?)?;
        Some(*level)
    }

    /// The name in lower case, as on standard error: `err`.
    pub fn name(self) -> &'static str {
        LEVELS[self as usize].1
    }

    /// The level of a name such as `LOG_ERR`, in any case, or without `LOG_`.
    pub fn from_name(name: &str) -> Option<Level> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("log_").unwrap_or(&name);
        let found = LEVELS.iter().find(|(_, known, _)| *known == name);
        found.map(|(level, ..)| *level)
    }
}

/// Shows text and escapes every character that could deceive a terminal or a reader:
/// control characters as `\xNN`; line separators, marks of writing direction and the like
/// as `\u{NNNN}`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plain_from = 0;
        for (at, c) in self.0.char_indices() {
            if !is_deceptive(c) {
                continue;
            }
            f.write_str(&self.0[plain_from..at])?;
            write_escape(f, c)?;
            plain_from = at + c.len_utf8();
        }
        f.write_str(&self.0[plain_from..])
    }
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn write_escape(out: &mut impl fmt::Write, c: char) -> fmt::Result {
    let code = u32::from(c);
    if code < 0x100 {
        write!(out, "\\x{code:02x}")
    } else {
        write!(out, "\\u{{{code:x}}}")
    }
}

/// Returns the start of `text`, at most `bytes` long.
pub(crate) fn start_of(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A local date and time without the year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Counted from 0.
    pub month: u8,
    /// Counted from 1.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60, because of leap seconds.
    pub second: u8,
}

/// Converts seconds since 1970 to local time.
pub type LocalTime = fn(i64) -> Option<Moment>;

/// The log of one process. Callers share a reference to it.
#[derive(Debug)]
pub struct Log {
    level: Cell<Level>,
    on_stderr: Cell<bool>,
    is_journal: Cell<bool>,
    now: Cell<Instant>,
    sinks: RefCell<Sinks>,
}

#[derive(Debug)]
struct Sinks {
    recent: Recent,
    text: Text,
    line: Vec<u8>,
    syslog: Syslog,
    stderr: Stderr,
    lost_by_syslog: u64,
    lost_by_stderr: u64,
}

impl Log {
    /// Creates a log to syslog at `Level::Err`. Opens nothing yet.
    pub fn new(now: Instant) -> Self {
        Self::with_sinks(Path::new(SYSLOG_PATH), None, now)
    }

    /// Creates a log to another socket, and optionally to another descriptor than standard
    /// error.
    pub fn with_sinks(syslog_path: &Path, stderr: Option<OwnedFd>, now: Instant) -> Self {
        Log {
            level: Cell::new(Level::Err),
            on_stderr: Cell::new(false),
            is_journal: Cell::new(false),
            now: Cell::new(now),
            sinks: RefCell::new(Sinks {
                recent: Recent::Own(VecDeque::new()),
                text: Text::default(),
                line: Vec::new(),
                syslog: Syslog {
                    path: syslog_path.to_owned(),
                    formatter: Formatter3164 {
                        facility: Facility::LOG_DAEMON,
                        hostname: None,
                        process: IDENT.to_owned(),
                        pid: std::process::id(),
                    },
                    socket: None,
                    retry_at: now,
                    local_time: None,
                },
                stderr: Stderr { stand_in: stderr },
                lost_by_syslog: 0,
                lost_by_stderr: 0,
            }),
        }
    }

    /// Sets the function for the local time in syslog lines. Without it the time is UTC.
    pub fn set_local_time(&self, local_time: LocalTime) {
        self.sinks.borrow_mut().syslog.local_time = Some(local_time);
    }

    /// Keeps the last important lines in memory that other processes can read.
    pub(crate) fn share_recent(&self, lines: RecentLines) {
        self.sinks.borrow_mut().recent.share(lines);
    }

    /// Must be called in each forked process.
    pub fn forked(&self) {
        let syslog = &mut self.sinks.borrow_mut().syslog;
        syslog.formatter.pid = std::process::id();
        syslog.socket = None;
        syslog.retry_at = self.now.get();
    }

    /// Sets the current time; called once per turn of the loop.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
    }

    /// Drops lines less important than `level`.
    pub fn set_level(&self, level: Level) {
        self.level.set(level);
    }

    /// Sets whether lines go to standard error too.
    pub fn set_stderr(&self, on: bool) {
        self.on_stderr.set(on);
    }

    /// Tells the log that standard error goes to the journal, which also receives the lines
    /// for syslog. Standard error then gets only lines that syslog did not accept.
    pub fn set_journal(&self) {
        self.is_journal.set(true);
    }

    /// Whether a line of that level would be written.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.level.get()
    }

    /// Lines that syslog did not accept, and that no line has reported yet.
    pub fn lost_lines(&self) -> u64 {
        self.sinks.borrow().lost_by_syslog
    }

    /// Writes a line, if its level is enabled. Warnings and errors are kept in any case.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        let enabled = self.enabled(level);
        if enabled || level <= ALWAYS_KEPT {
            self.write(level, text, enabled, self.on_stderr.get());
        }
    }

    /// Writes a startup message, whatever the level, and also to standard error. If both go
    /// to the same journal, the message is written only once.
    pub fn startup(&self, level: Level, text: fmt::Arguments<'_>) {
        self.write(level, text, true, true);
    }

    /// Writes a line at `Level::Err`.
    pub fn err(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Err, text);
    }

    /// Writes a line at `Level::Warning`.
    pub fn warning(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Warning, text);
    }

    /// Writes a line at `Level::Notice`.
    pub fn notice(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Notice, text);
    }

    /// Writes a line at `Level::Info`.
    pub fn info(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Info, text);
    }

    /// Writes a line at `Level::Debug`.
    pub fn debug(&self, text: fmt::Arguments<'_>) {
        self.line(Level::Debug, text);
    }

    fn write(&self, level: Level, text: fmt::Arguments<'_>, enabled: bool, on_stderr: bool) {
        // Already borrowed only if formatting the text logs a line itself.
        let Ok(mut sinks) = self.sinks.try_borrow_mut() else {
            return;
        };
        let sinks = &mut *sinks;
        sinks.text.set(text);
        let (text, line) = (sinks.text.0.as_str(), &mut sinks.line);
        if level <= KEPT_IF_ENABLED {
            sinks.recent.push(level, text);
        }
        if !enabled {
            return;
        }
        let (syslog, now) = (&mut sinks.syslog, self.now.get());
        let taken = send_after_losses(&mut sinks.lost_by_syslog, level, text, |level, text| {
            syslog.send_line(level, text, line, now)
        });
        if on_stderr && !(taken && self.is_journal.get()) {
            let pid = syslog.formatter.pid;
            send_after_losses(&mut sinks.lost_by_stderr, level, text, |level, text| {
                sinks.stderr.send_line(level, text, line, pid)
            });
        }
    }
}

/// The text of a line, escaped and cut at [`TEXT_CAP_BYTES`].
#[derive(Debug, Default)]
struct Text(String);

impl Text {
    fn set(&mut self, text: fmt::Arguments<'_>) {
        self.0.clear();
        if self.write_fmt(text).is_err() {
            self.0.push_str(CUT_MARK);
        }
    }

    /// Appends all of `piece`, or fails and appends nothing.
    fn push(&mut self, piece: &str) -> fmt::Result {
        if self.0.len() + piece.len() > TEXT_CAP_BYTES - CUT_MARK.len() {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        for c in piece.chars() {
            if is_deceptive(c) {
                let mut escape = String::new();
                write_escape(&mut escape, c)?;
                self.push(&escape)?;
            } else {
                self.push(c.encode_utf8(&mut [0; 4]))?;
            }
        }
        Ok(())
    }
}

/// Sends a line with `send`, preceded by the number of lost lines, if any. Returns whether
/// the line was accepted.
fn send_after_losses(
    lost_lines: &mut u64,
    level: Level,
    text: &str,
    mut send: impl FnMut(Level, &str) -> bool,
) -> bool {
    if *lost_lines > 0 && send(Level::Warning, &format!("{lost_lines} log lines were lost")) {
        *lost_lines = 0;
    }
    // If the count was not accepted, there is no room for this line either.
    let accepted = *lost_lines == 0 && send(level, text);
    *lost_lines += u64::from(!accepted);
    accepted
}

/// The datagram socket of syslog.
#[derive(Debug)]
struct Syslog {
    path: PathBuf,
    formatter: Formatter3164,
    socket: Option<UnixDatagram>,
    /// Earliest time of the next attempt to open the socket.
    retry_at: Instant,
    local_time: Option<LocalTime>,
}

impl Syslog {
    /// Formats a line in `line` and sends it. Returns whether it was accepted.
    fn send_line(&mut self, level: Level, text: &str, line: &mut Vec<u8>, now: Instant) -> bool {
        if self.socket.is_none() && !self.open(now) {
            return false;
        }
        line.clear();
        let (.., severity) = LEVELS[level as usize];
        if self.formatter.format(line, severity, text).is_err() {
            return false;
        }
        self.stamp(line);
        self.send(line) || (self.socket.is_none() && self.open(now) && self.send(line))
    }

    /// Replaces the formatter's time, which is UTC, with local time in the format of RFC
    /// 3164.
    fn stamp(&self, line: &mut [u8]) {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let local = || {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
            let moment = (self.local_time?)(i64::try_from(seconds).ok()?)?;
            let month = usize::from(moment.month) * 3;
            let (day, hour) = (moment.day, moment.hour);
            let (minute, second) = (moment.minute, moment.second);
            let month = MONTHS.get(month..month + 3)?;
            Some(format!("{month} {day:2} {hour:02}:{minute:02}:{second:02}"))
        };
        let from = line.iter().position(|byte| *byte == b'>');
        if let (Some(local), Some(from)) = (local(), from)
            && let Some(place) = line.get_mut(from + 1..from + 1 + local.len())
        {
            place.copy_from_slice(local.as_bytes());
        }
    }

    /// Sends a datagram. Closes the socket if no process reads from it.
    fn send(&mut self, line: &[u8]) -> bool {
        let Some(Err(error)) = self.socket.as_ref().map(|socket| socket.send(line)) else {
            return self.socket.is_some();
        };
        const ENOBUFS: i32 = nix::errno::Errno::ENOBUFS as i32;
        let is_full = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
            || error.raw_os_error() == Some(ENOBUFS);
        if !is_full {
            self.socket = None;
        }
        false
    }

    fn open(&mut self, now: Instant) -> bool {
        if now < self.retry_at {
            return false;
        }
        self.retry_at = now + RECONNECT_INTERVAL;
        self.socket = UnixDatagram::unbound()
            .and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                Ok(socket)
            })
            .ok();
        self.socket.is_some()
    }
}
