//! The jabsocket daemon: command line, start-up, exit status.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use jabsocket::check;
use jabsocket::cli::{self, Command};
use jabsocket::config::{self, Config, Listener, Loaded};
use jabsocket::daemon::pid_file::PidFile;
use jabsocket::daemon::privileges::Identity;
use jabsocket::daemon::{self, Environment, Process};
use jabsocket::expat;
use jabsocket::log::{Level, Log};
use jabsocket::master::{Master, Role, WorkerSetup};
use jabsocket::net::allot::Named;
use jabsocket::net::listener::{self, Socket};
use jabsocket::net::notify::Notify;
use jabsocket::net::socket_file::SocketFile;
use jabsocket::net::tls_client::Contexts;
use jabsocket::net::tls_server::{self, Endpoint};
use jabsocket::reactor::Reactor;
use jabsocket::reactor::upkeep::{Upkeep, report, tell_expiring};

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

/// Checks a configuration file and what it names, and prints the result.
fn check_config(path: &Path) -> ExitCode {
    let file = path.display();
    let (problems, config) = match config::load(path) {
        Ok(Loaded { config, warnings }) => (warnings, Some(config)),
        Err(problems) => (problems, None),
    };
    for problem in &problems {
        eprintln!("{problem}");
    }
    let findings = config.map(|config| check::look(path, &config));
    if let Some(findings) = &findings {
        findings
            .errors
            .iter()
            .for_each(|text| eprintln!("{file}: {text}"));
        let warnings = findings.warnings.iter();
        warnings.for_each(|text| eprintln!("{file}: warning: {text}"));
        findings
            .notes
            .iter()
            .for_each(|text| println!("{file}: note: {text}"));
    }
    if findings.is_none_or(|findings| !findings.errors.is_empty()) {
        eprintln!("{}: this configuration cannot be used", path.display());
        return ExitCode::from(FAILURE);
    }
    print(&format!("{}: the configuration is good\n", path.display()))
}

/// Starts and serves until a signal ends it. What goes wrong is told already.
#[expect(
    clippy::disallowed_methods,
    reason = "the log is older than the reactor's clock"
)]
fn serve(path: &Path, foreground: bool) -> Result<(), ()> {
    let mut environment = Environment::take();
    if !foreground {
        environment.close_others();
    }
    let log = Rc::new(Log::new(Instant::now()));
    log.set_local_time(daemon::local_time);
    match daemon::stderr_is_journal() {
        true => log.set_journal(),
        false => log.set_stderr(foreground),
    }
    let mut notify = Notify::default();
    if let Some(socket) = &environment.notify_socket
        && let Err(error) = notify.add_systemd(socket, environment.watchdog)
    {
        let (socket, why) = (socket.display(), error.desc());
        let text = format_args!("NOTIFY_SOCKET={socket}: {why}: systemd is told nothing");
        log.startup(Level::Warning, text);
    }
    let fail = |why: String| {
        // Of several errors each has its line; this is the last.
        if !why.is_empty() {
            log.startup(Level::Err, format_args!("{why}"));
        }
    };
    let plan = Plan::make(path, &mut environment, &log).map_err(fail)?;
    if !foreground {
        match daemon::detach() {
            Err(why) => {
                plan.traces.remove();
                fail(why);
                return Err(());
            }
            Ok(Process::Daemon(starter)) => notify.add_starter(starter),
            Ok(Process::Parent(Ok(()))) => return Ok(()),
            Ok(Process::Parent(Err(why))) => {
                // It is in the log already.
                eprintln!("jabsocket: {why}");
                return Err(());
            }
        }
        log.forked();
    }
    plan.carry_out(notify, &log)
}

/// What could be made ready, and go wrong, before the operator's process ends.
struct Plan {
    config: Config,
    path: PathBuf,
    /// One for each listener of a set.
    endpoints: Vec<Rc<Endpoint>>,
    identity: Identity,
    traces: OwnedFiles,
    /// Listeners, a set for each worker.
    sets: Vec<Vec<Socket>>,
}

/// The files that go with the daemon. Dropped they stay: a worker, or whoever
/// started the daemon, has copies.
#[derive(Default)]
struct OwnedFiles {
    pid_file: Option<PidFile>,
    sockets: Vec<SocketFile>,
}

impl OwnedFiles {
    fn remove(self) {
        self.sockets.into_iter().for_each(SocketFile::remove);
        self.pid_file.into_iter().for_each(PidFile::remove);
    }
}

impl Plan {
    fn make(path: &Path, environment: &mut Environment, log: &Log) -> Result<Plan, String> {
        let Loaded { config, warnings } = config::load(path).map_err(|problems| {
            report(log, &problems);
            String::new()
        })?;
        report(log, &warnings);
        log.set_level(config.log_level);
        expat::check_library()?;
        let identity = Identity::find(config.user.as_deref(), config.group.as_deref())?;
        let inherited = environment.listeners()?;
        Contexts::new(config.ca_files())?;
        let endpoints = Endpoint::all(&config)?;
        // The directory changes, and the file is to be found again.
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|error| format!("{}: {error}", path.display()))?;
        let mut traces = OwnedFiles::default();
        let sets = match inherited.is_empty() {
            true => bind(&config, &identity, &mut traces),
            false => listener::share(&inherited, config.workers)
                .map_err(|error| format!("cannot share the sockets of LISTEN_FDS: {error}")),
        };
        let sets = sets.and_then(|sets| {
            let endpoints = tls_server::of_sockets(&sets[0], &config, &endpoints)?;
            traces.pid_file = config.pid_file.as_deref().map(PidFile::lock).transpose()?;
            Ok((sets, endpoints))
        });
        let (sets, endpoints) = match sets {
            Ok(made) => made,
            Err(why) => {
                traces.remove();
                return Err(why);
            }
        };
        warn_of_domains(&config, path, log);
        warn_of_unbound(&endpoints, &config, log);
        tell_expiring(&endpoints, log);
        Ok(Plan {
            path: absolute,
            config,
            endpoints,
            identity,
            traces,
            sets,
        })
    }

    /// The rest, in the process that serves or is the master of those that do.
    fn carry_out(mut self, notify: Notify, log: &Rc<Log>) -> Result<(), ()> {
        let fail = |why: String| log.startup(Level::Crit, format_args!("{why}"));
        let ready = match self.traces.pid_file.as_mut().map(PidFile::write) {
            Some(Err(why)) => Err(why),
            _ => self.identity.assume(),
        };
        if let Err(why) = ready {
            notify.failed(&why);
            self.traces.remove();
            fail(why);
            return Err(());
        }
        self.warn_of_identity(log);
        let path = self.path;
        let result = if self.config.workers == 1 {
            let upkeep = Upkeep {
                path,
                notify,
                membership: None,
                board: None,
            };
            let listeners = self.sets.swap_remove(0);
            run(Rc::new(self.config), self.endpoints, listeners, upkeep, log)
        } else {
            let mut master = Master::new(
                self.config,
                path.clone(),
                Rc::clone(log),
                notify,
                self.sets,
                self.endpoints,
            );
            match master.run() {
                Role::Over(result) => result,
                Role::Worker(seat) => {
                    // The others' listeners, the file and its lock: the master's.
                    drop((master, self.traces));
                    return work(seat, path, log);
                }
            }
        };
        let result = result.map_err(fail);
        log.notice(format_args!("stopped"));
        self.traces.remove();
        result
    }

    /// Warns about problems with the user that the daemon runs as.
    fn warn_of_identity(&self, log: &Log) {
        if self.identity.is_root_by_default() {
            let text = "serving as root; set 'user' to run as another user";
            log.startup(Level::Warning, format_args!("{text}"));
        }
        if let Err(error) = std::fs::File::open(&self.path) {
            let path = self.path.display();
            let user = self.identity.user().unwrap_or_default();
            let text =
                format_args!("{path} cannot be read as user '{user}': {error}; a reload will fail");
            log.startup(Level::Warning, text);
        }
    }
}

/// Binds the sockets of all listeners, a set for each worker. Files that are made
/// are among the `traces`, also where it fails.
fn bind(
    config: &Config,
    identity: &Identity,
    traces: &mut OwnedFiles,
) -> Result<Vec<Vec<Socket>>, String> {
    let mut sets: Vec<Vec<Socket>> = Vec::new();
    sets.resize_with(config.workers, Vec::new);
    for rules in &config.listeners {
        let bound = listener::bind_sets(rules, config.workers, &mut traces.sockets);
        let bound = bound.map_err(|error| error.to_string())?;
        for (set, sockets) in sets.iter_mut().zip(bound) {
            set.extend(sockets);
        }
    }
    let (user, group) = identity.file_owner();
    if user.is_some() || group.is_some() {
        for file in &traces.sockets {
            file.give_to(user, group).map_err(|error| {
                let path = file.path().display();
                format!("cannot give unix:{path} to 'user' and 'group': {error}")
            })?;
        }
    }
    Ok(sets)
}

/// Serves as one of several workers. What keeps it from that is told by the
/// master.
fn work(seat: WorkerSetup, path: PathBuf, log: &Rc<Log>) -> Result<(), ()> {
    let WorkerSetup {
        membership,
        config,
        endpoints,
        listeners,
        notify,
        board,
    } = seat;
    let upkeep = Upkeep {
        path,
        notify,
        membership: Some(membership),
        board,
    };
    run(config, endpoints, listeners, upkeep, log).map_err(|_| ())
}

fn run(
    config: Rc<Config>,
    endpoints: Vec<Rc<Endpoint>>,
    listeners: Vec<Socket>,
    mut upkeep: Upkeep,
    log: &Rc<Log>,
) -> Result<(), String> {
    let notify = std::mem::take(&mut upkeep.notify);
    let reactor = Reactor::new(config, Rc::clone(log), listeners, endpoints, upkeep);
    let mut reactor = reactor.inspect_err(|why| notify.failed(why))?;
    reactor
        .open_status()
        .inspect_err(|why| notify.failed(why))?;
    reactor.tell_ready(notify);
    reactor
        .run()
        .map_err(|error| format!("the event loop failed: {error}"))
}

/// Names the listeners that no socket from systemd fits.
fn warn_of_unbound(endpoints: &[Rc<Endpoint>], config: &Config, log: &Log) {
    let is_bound = |rules: &&Listener| endpoints.iter().any(|endpoint| endpoint.rules == **rules);
    for rules in config.listeners.iter().filter(|rules| !is_bound(rules)) {
        let named = Named(rules);
        let text =
            format_args!("the listener {named} has no socket in LISTEN_FDS and is not served");
        log.startup(Level::Warning, text);
    }
}

/// Says at the start what is dangerous about the domains that are served.
fn warn_of_domains(config: &Config, path: &Path, log: &Log) {
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
}
