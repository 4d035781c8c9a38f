//! `--try DOMAIN`: walks the way of a session to a domain's server and reports each step.
//!
//! Runs the daemon's own event loop with a single session. Its client is this module, at the
//! other end of a pair of sockets; it behaves like a web page. Ends once the server's
//! features have arrived or the session has failed, and says in one sentence what is wrong.
//! Binds no port, and writes no log and no file.
//!
//! `walk` receives the steps, `certificate` and `offers` describe what the server shows,
//! `problem` says what is wrong, and `report` prints.

mod certificate;
mod offers;
mod problem;
mod report;
mod walk;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::check;
use crate::config::Config;
use crate::log::{Level, Log};
use crate::net::endpoint::Endpoint;
use crate::net::signals;
use crate::net::tls_client::Contexts;
use crate::proto::xmpp::framing;
use crate::proto::xmpp::header::Header;
use crate::reactor::{Reactor, Setup};
use crate::session::step::Observer;
use report::{Outcome, Report};
use walk::{Verdict, Walk};

/// How much longer than a session the trial waits, so that the session can end first.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum length of a domain (RFC 7622, section 3.2). All that is sent before the session runs
/// must fit into the socket's buffer.
const MAX_DOMAIN: usize = 1023;

/// The request of a web page.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: https://localhost\r\n\r\n";

/// Tries the way to the server of `domain` with the configuration at `path`, and prints each
/// step. Returns whether a client could log in there.
#[expect(clippy::disallowed_methods, reason = "no reactor runs yet")]
pub fn run(path: &Path, domain: &str, json: bool) -> bool {
    let report = Report::new(Instant::now(), json);
    let verdict = match check::load(path) {
        Some(_) if domain.len() > MAX_DOMAIN => Err(format!(
            "the domain was not tried: it is longer than {MAX_DOMAIN} bytes."
        )),
        Some(config) => attempt(config.into(), domain, report)
            .unwrap_or_else(|why| Err(format!("{domain} was not tried: {why}."))),
        None => {
            check::print_refusal(path);
            Err(format!(
                "{domain} was not tried; correct the errors in the configuration first."
            ))
        }
    };
    report.verdict(domain, &verdict);
    verdict.is_ok()
}

/// # Errors
/// The trial could not be made.
#[expect(clippy::disallowed_methods, reason = "the session begins here")]
fn attempt(config: Rc<Config>, domain: &str, mut report: Report) -> Result<Verdict, String> {
    let (tls, unusable) = Contexts::of_usable(None, config.ca_files())?;
    // Reading certificate authorities is no part of a session.
    report.started = Instant::now();
    for why in &unusable {
        let text = format!("{why} (matters only to domains with this file)");
        report.step(Outcome::Doubtful, "file", &text, &[]);
    }
    for path in ["/etc/hosts", "/etc/resolv.conf"] {
        if let Err(error) = File::open(path) {
            report.step(Outcome::Doubtful, "file", &format!("{path}: {error}"), &[]);
        }
    }
    let text = |error: io::Error| error.to_string();
    let (mut client, ours) = UnixStream::pair().map_err(text)?;
    ours.set_nonblocking(true).map_err(text)?;
    client.write_all(REQUEST).map_err(text)?;
    client.write_all(&frame(&open(domain))).map_err(text)?;
    let endpoints = Endpoint::all(&Config::default())?;
    let endpoint = endpoints.first().ok_or("no endpoint")?;
    let log = Rc::new(silent_log(report.started));
    // The reactor takes the signals of a daemon, but they should end a trial.
    let mask = signals::block().map_err(text)?;
    let mut reactor = Reactor::new(
        Rc::clone(&config),
        tls,
        log,
        Vec::new(),
        Vec::new(),
        Setup::default(),
    )?;
    mask.thread_set_mask().map_err(|error| error.desc())?;
    let limit = config.connect_timeout + GRACE;
    let walk = Walk::new(config, domain, client, report, !unusable.is_empty());
    let walk = Rc::new(RefCell::new(walk));
    let observed = Rc::clone(&walk);
    let observer = Observer::new(move |step| observed.borrow_mut().take(step));
    let ours = mio::net::UnixStream::from_std(ours);
    let served = reactor.serve_one(ours, endpoint, limit, observer);
    served.map_err(text)?;
    let verdict = walk.borrow_mut().verdict.take();
    verdict.ok_or_else(|| "the session did not end".to_owned())
}

/// A log whose lines go nowhere.
fn silent_log(now: Instant) -> Log {
    let null = Path::new("/dev/null");
    let sink = OpenOptions::new().write(true).open(null);
    let log = Log::with_sinks(null, sink.ok().map(Into::into), now);
    log.set_level(Level::Emerg);
    log
}

fn open(domain: &str) -> Vec<u8> {
    let mut open = Vec::new();
    let header = Header {
        to: Some(domain.to_owned()),
        version: Some("1.0".to_owned()),
        ..Header::default()
    };
    header.write_open(&mut open);
    open
}

/// Returns a text message in a frame from a client, with a masking key of zeros (RFC 6455,
/// section 5.2).
fn frame(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let head: &[u8] = match length {
        ..126 => &[0x81, 0x80 | low],
        _ => &[0x81, 0x80 | 126, high, low],
    };
    [head, &[0; 4], text].concat()
}

/// Makes the client end its stream.
fn close(client: &mut UnixStream) {
    // If this fails, the session has already ended.
    let _ = client.write_all(&frame(framing::CLOSE.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the log wants to know when it began"
    )]
    fn no_line_reaches_the_log_of_the_system() {
        let log = silent_log(Instant::now());
        assert!(!log.enabled(Level::Alert));
        log.startup(Level::Err, format_args!("whatever the level"));
        assert_eq!(log.lost_lines(), 1);
    }
}
