//! The log: syslog over our own socket, and standard error with `--nodaemon`.
//!
//! Owns the levels, the datagram socket to the system's log, the shape of a
//! line, and the count of lines that could not be written. Never waits: a line
//! that nobody takes is counted and dropped, and the count is told with the next
//! line that gets through. A missing socket is no error; it is looked for again
//! at most once a second of [`Log::tick`]. Never writes a control character, or
//! more than 1 KiB a line. Stanzas and credentials are not to be passed in.

mod stderr;

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use syslog::{Facility, Formatter3164, LogFormat, Severity};

use stderr::Stderr;

/// Where the system's log takes datagrams.
pub const SYSLOG_PATH: &str = "/dev/log";

/// The name on every line.
const IDENT: &str = "jabsocket";

/// The longest line, all told.
const LINE_CAP_BYTES: usize = 1024;

/// What is left for the text when level, date, name and process id stand before it.
const TEXT_CAP_BYTES: usize = LINE_CAP_BYTES - 64;

/// What a text that was too long ends with.
const CUT_MARK: &str = "...";

/// How long a socket that could not be opened is left alone.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How important a line is: the levels of syslog, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The system is unusable.
    Emerg,
    /// Somebody has to act at once.
    Alert,
    /// Critical.
    Crit,
    /// Something failed.
    Err,
    /// Something may fail.
    Warning,
    /// Normal, and worth a look.
    Notice,
    /// For the record.
    Info,
    /// For whoever looks for a fault.
    Debug,
}

impl Level {
    /// All levels, most important first.
    pub const ALL: [Level; 8] = [
        Level::Emerg,
        Level::Alert,
        Level::Crit,
        Level::Err,
        Level::Warning,
        Level::Notice,
        Level::Info,
        Level::Debug,
    ];

    /// The name in lower case, as on standard error: `err`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Emerg => "emerg",
            Level::Alert => "alert",
            Level::Crit => "crit",
            Level::Err => "err",
            Level::Warning => "warning",
            Level::Notice => "notice",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }

    /// The level of a name such as `LOG_ERR`, in any case, or without `LOG_`.
    pub fn from_name(name: &str) -> Option<Level> {
        let name = name.to_ascii_lowercase();
        let name = name.strip_prefix("log_").unwrap_or(&name);
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    fn severity(self) -> Severity {
        match self {
            Level::Emerg => Severity::LOG_EMERG,
            Level::Alert => Severity::LOG_ALERT,
            Level::Crit => Severity::LOG_CRIT,
            Level::Err => Severity::LOG_ERR,
            Level::Warning => Severity::LOG_WARNING,
            Level::Notice => Severity::LOG_NOTICE,
            Level::Info => Severity::LOG_INFO,
            Level::Debug => Severity::LOG_DEBUG,
        }
    }
}

/// Shows text with every character that could deceive a terminal or a reader
/// escaped: control characters as `\xNN`; separators of lines, marks of writing
/// direction and the like as `\u{NNNN}`.
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

/// A time of the day, as a clock on the wall has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// 0 is January.
    pub month: u8,
    /// From 1 on.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
}

/// Local time from seconds since 1970.
pub type LocalTime = fn(i64) -> Option<Moment>;

/// The log of one process. Callers share it by reference.
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
    text: Text,
    line: Vec<u8>,
    syslog: Syslog,
    stderr: Stderr,
}

impl Log {
    /// A log to [`SYSLOG_PATH`] at `Level::Err`. Opens nothing yet.
    pub fn new(now: Instant) -> Self {
        Self::with_sinks(Path::new(SYSLOG_PATH), None, now)
    }

    /// A log to other places: a socket elsewhere, and a descriptor that stands
    /// in for standard error.
    pub fn with_sinks(syslog_path: &Path, stderr: Option<OwnedFd>, now: Instant) -> Self {
        Log {
            level: Cell::new(Level::Err),
            on_stderr: Cell::new(false),
            is_journal: Cell::new(false),
            now: Cell::new(now),
            sinks: RefCell::new(Sinks {
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
                    lost_lines: 0,
                    local_time: None,
                },
                stderr: Stderr::new(stderr),
            }),
        }
    }

    /// Lines to the system's log have the time that `local_time` says, as those
    /// of syslog(3); without it, UTC.
    pub fn set_local_time(&self, local_time: LocalTime) {
        self.sinks.borrow_mut().syslog.local_time = Some(local_time);
    }

    /// This process is a fork of that which made the log.
    pub fn forked(&self) {
        let syslog = &mut self.sinks.borrow_mut().syslog;
        syslog.formatter.pid = std::process::id();
        syslog.socket = None;
        syslog.retry_at = self.now.get();
    }

    /// Tells the time, once a turn of the loop.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
    }

    /// Lines less important than `level` are dropped from now on.
    pub fn set_level(&self, level: Level) {
        self.level.set(level);
    }

    /// Whether lines go to standard error too.
    pub fn set_stderr(&self, on: bool) {
        self.on_stderr.set(on);
    }

    /// Standard error leads to the journal, which also gets the lines for syslog; standard
    /// error gets only lines that syslog did not accept.
    pub fn set_journal(&self) {
        self.is_journal.set(true);
    }

    /// Whether a line of that level would be written.
    pub fn enabled(&self, level: Level) -> bool {
        level <= self.level.get()
    }

    /// Lines that the system's log has not taken and has not yet been told of.
    pub fn lost_lines(&self) -> u64 {
        self.sinks.borrow().syslog.lost_lines
    }

    /// Writes a line, if its level is enabled.
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if self.enabled(level) {
            self.write(level, text, self.on_stderr.get());
        }
    }

    /// Writes a startup message at every level, to standard error too; only once if both
    /// lead to the same journal.
    pub fn startup(&self, level: Level, text: fmt::Arguments<'_>) {
        self.write(level, text, true);
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

    fn write(&self, level: Level, text: fmt::Arguments<'_>, on_stderr: bool) {
        // Taken only when a text logs while it is being written.
        let Ok(mut sinks) = self.sinks.try_borrow_mut() else {
            return;
        };
        let Sinks {
            text: buffer,
            line,
            syslog,
            stderr,
        } = &mut *sinks;
        buffer.set(text);
        let taken = syslog.write(level, &buffer.text, line, self.now.get());
        if on_stderr && !(taken && self.is_journal.get()) {
            stderr.write(level, &buffer.text, line, syslog.formatter.pid);
        }
    }
}

/// The text of a line: escaped, and cut at [`TEXT_CAP_BYTES`].
#[derive(Debug, Default)]
struct Text {
    text: String,
}

impl Text {
    fn set(&mut self, text: fmt::Arguments<'_>) {
        self.text.clear();
        if self.write_fmt(text).is_err() {
            self.text.push_str(CUT_MARK);
        }
    }

    /// Appends the whole of `piece` or none of it.
    fn push(&mut self, piece: &str) -> fmt::Result {
        if self.text.len() + piece.len() > TEXT_CAP_BYTES - CUT_MARK.len() {
            return Err(fmt::Error);
        }
        self.text.push_str(piece);
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

fn lost_text(lines: u64) -> String {
    format!("{lines} log lines were lost")
}

/// The datagram socket of the system's log.
#[derive(Debug)]
struct Syslog {
    path: PathBuf,
    formatter: Formatter3164,
    socket: Option<UnixDatagram>,
    /// No attempt to open the socket before this.
    retry_at: Instant,
    lost_lines: u64,
    local_time: Option<LocalTime>,
}

impl Syslog {
    /// Whether the line was taken.
    fn write(&mut self, level: Level, text: &str, line: &mut Vec<u8>, now: Instant) -> bool {
        if self.lost_lines > 0 {
            let lost = lost_text(self.lost_lines);
            if self.send_line(Level::Warning, &lost, line, now) {
                self.lost_lines = 0;
            }
        }
        // With losses still untold there is no room for this line either.
        let taken = self.lost_lines == 0 && self.send_line(level, text, line, now);
        self.lost_lines += u64::from(!taken);
        taken
    }

    fn send_line(&mut self, level: Level, text: &str, line: &mut Vec<u8>, now: Instant) -> bool {
        if self.socket.is_none() && !self.open(now) {
            return false;
        }
        line.clear();
        let formatted = self.formatter.format(line, level.severity(), text).is_ok();
        self.stamp(line);
        formatted
            && (self.send(line) || (self.socket.is_none() && self.open(now) && self.send(line)))
    }

    /// Puts local time, shaped as RFC 3164 has it, in the place of the
    /// formatter's UTC.
    fn stamp(&self, line: &mut [u8]) {
        const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let seconds = unix.and_then(|time| i64::try_from(time.as_secs()).ok());
        let moment = seconds
            .zip(self.local_time)
            .and_then(|(at, local)| local(at));
        let from = line.iter().position(|byte| *byte == b'>');
        if let (Some(moment), Some(from)) = (moment, from) {
            let rest = format!(
                " {:2} {:02}:{:02}:{:02}",
                moment.day, moment.hour, moment.minute, moment.second
            );
            let month = usize::from(moment.month) * 3;
            let Some(month) = MONTHS.get(month..month + 3) else {
                return;
            };
            let stamp = line.iter_mut().skip(from + 1);
            for (place, byte) in stamp.zip(month.iter().chain(rest.as_bytes())) {
                *place = *byte;
            }
        }
    }

    /// Sends a datagram. Gives the socket up when nobody is behind it.
    fn send(&mut self, line: &[u8]) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        match socket.send(line) {
            Ok(_) => true,
            Err(error) => {
                const ENOBUFS: i32 = nix::errno::Errno::ENOBUFS as i32;
                let full = error.kind() == ErrorKind::WouldBlock
                    || error.kind() == ErrorKind::Interrupted
                    || error.raw_os_error() == Some(ENOBUFS);
                if !full {
                    self.socket = None;
                }
                false
            }
        }
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
