//! The jabsocket daemon: command line, start-up, exit status.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use jabsocket::cli::{self, Command};
use jabsocket::config::{self, Config, Loaded, Problem};
use jabsocket::expat;
use jabsocket::log::{Level, Log};
use jabsocket::net::entrance::Entrance;
use jabsocket::net::listener;
use jabsocket::reactor::Reactor;

/// Exit status when the daemon does not start, or its configuration is bad.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = cli::program_name(arguments.next().as_deref());
    let arguments: Vec<OsString> = arguments.collect();
    match cli::parse(&arguments) {
        Ok(Command::Help) => print(&cli::usage_text(&program)),
        Ok(Command::Version) => print(&cli::version_text(&program)),
        Ok(Command::CheckConfig { config }) => check_config(&config),
        Ok(Command::Run { config, foreground }) => match serve(&config, foreground) {
            Ok(()) => ExitCode::SUCCESS,
            Err(()) => ExitCode::from(FAILURE),
        },
        Err(error) => {
            eprint!("{program}: {error}\n{}", cli::usage_text(&program));
            ExitCode::from(cli::USAGE_EXIT_STATUS)
        }
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILURE),
    }
}

/// Judges a configuration file and says so.
fn check_config(path: &Path) -> ExitCode {
    let (problems, good) = match config::load(path) {
        Ok(Loaded { warnings, .. }) => (warnings, true),
        Err(problems) => (problems, false),
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    if !good {
        eprintln!("{}: this configuration cannot be used", path.display());
        return ExitCode::from(FAILURE);
    }
    print(&format!("{}: the configuration is good\n", path.display()))
}

/// Serves until a signal ends it. What goes wrong is in the log already.
#[expect(
    clippy::disallowed_methods,
    reason = "the log is older than the reactor's clock"
)]
fn serve(path: &Path, foreground: bool) -> Result<(), ()> {
    let log = Log::new(Instant::now());
    log.set_stderr(foreground);
    let config = match config::load(path) {
        Ok(Loaded { config, warnings }) => {
            report(&log, &warnings);
            config
        }
        Err(problems) => {
            report(&log, &problems);
            return Err(());
        }
    };
    log.set_level(config.log_level);
    let fail = |why: String| log.startup(Level::Err, format_args!("{why}"));
    expat::check_library().map_err(fail)?;
    let mut listeners = Vec::new();
    for rules in &config.listeners {
        let bound = listener::bind_all(&rules.listen, rules.port);
        listeners.extend(bound.map_err(|error| fail(error.to_string()))?);
    }
    let entrances = Entrance::all(&config).map_err(fail)?;
    if config.domains.is_none() {
        log.startup(
            Level::Warning,
            format_args!(
                "no 'domains' in {}: browsers may reach the XMPP server of any domain through this host",
                path.display()
            ),
        );
    }
    for domain in config.domains.iter().flat_map(|domains| domains.iter()) {
        if !domain.access.verify {
            log.startup(
                Level::Warning,
                format_args!(
                    "'verify: false': any certificate is taken for the server of {}",
                    domain.name
                ),
            );
        }
    }
    let mut addresses = Vec::with_capacity(listeners.len());
    for listener in &listeners {
        match listener.local_addr() {
            Ok(address) => addresses.push(address),
            Err(error) => {
                fail(format!("a listener has no address: {error}"));
                return Err(());
            }
        }
    }
    run(config, log, listeners, &entrances, &addresses)
}

fn run(
    config: Config,
    log: Log,
    listeners: Vec<mio::net::TcpListener>,
    entrances: &[Rc<Entrance>],
    addresses: &[std::net::SocketAddr],
) -> Result<(), ()> {
    let log = Rc::new(log);
    let fail = |why: String| log.startup(Level::Crit, format_args!("{why}"));
    let config = Rc::new(config);
    let mut reactor = Reactor::new(config, Rc::clone(&log), listeners, entrances).map_err(fail)?;
    // Said when signals are taken: who reads it may send one.
    for address in addresses {
        log.startup(
            Level::Notice,
            format_args!(
                "version {} listening on {address}",
                env!("CARGO_PKG_VERSION")
            ),
        );
    }
    reactor
        .run()
        .map_err(|error| fail(format!("the event loop failed: {error}")))?;
    log.notice(format_args!("stopped"));
    Ok(())
}

fn report(log: &Log, problems: &[Problem]) {
    for problem in problems {
        let level = match problem.what.is_warning() {
            true => Level::Warning,
            false => Level::Err,
        };
        log.startup(level, format_args!("{problem:#}"));
    }
}
