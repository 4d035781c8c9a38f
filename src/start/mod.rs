//! Start-up: from the command line's wishes to a process that serves.
//!
//! Owns the order of the steps. Everything that can go wrong because of the
//! configuration happens before the fork into the background, so that the operator
//! sees it on the terminal: configuration, listeners, certificates, PID file. Then
//! come the fork, the step down from root, and the event loop or the master of
//! several workers. Cleans up after a start that failed and after the end.

mod owned_files;
mod warnings;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::config::{self, Config, Loaded};
use crate::daemon::pid_file::PidFile;
use crate::daemon::privileges::Identity;
use crate::daemon::{self, Environment, Process};
use crate::expat;
use crate::log::{Level, Log};
use crate::master::{Master, Role, WorkerSetup};
use crate::net::listener::{self, Socket};
use crate::net::notify::Notify;
use crate::net::tls_client::Contexts;
use crate::net::tls_server::{self, Endpoint};
use crate::reactor::notices::{report, tell_expiring};
use crate::reactor::{Reactor, Upkeep};
use owned_files::OwnedFiles;

/// Starts the daemon and serves until a signal ends it. Returns false if it did not start
/// or failed later; the log, and standard error during the start, say why.
pub fn serve(path: &Path, foreground: bool) -> bool {
    start(path, foreground).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the log is older than the reactor's clock"
)]
fn start(path: &Path, foreground: bool) -> Result<(), ()> {
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
        let text = format_args!("NOTIFY_SOCKET={socket}: {why}: not notifying systemd");
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
                plan.files.remove();
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

/// Everything that is prepared before the daemon goes into the background.
struct Plan {
    config: Config,
    path: PathBuf,
    /// One for each listener of a set.
    endpoints: Vec<Rc<Endpoint>>,
    identity: Identity,
    files: OwnedFiles,
    /// Listeners, a set for each worker.
    sets: Vec<Vec<Socket>>,
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
        // The daemon changes to another directory, and a reload needs the file again.
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|error| format!("{}: {error}", path.display()))?;
        let mut files = OwnedFiles::default();
        let sets = match inherited.is_empty() {
            true => bind(&config, &identity, &mut files),
            false => listener::share(&inherited, config.workers)
                .map_err(|error| format!("cannot share the sockets of LISTEN_FDS: {error}")),
        };
        let sets = sets.and_then(|sets| {
            let endpoints = tls_server::of_sockets(&sets[0], &config, &endpoints)?;
            files.pid_file = config.pid_file.as_deref().map(PidFile::lock).transpose()?;
            Ok((sets, endpoints))
        });
        let (sets, endpoints) = match sets {
            Ok(made) => made,
            Err(why) => {
                files.remove();
                return Err(why);
            }
        };
        warnings::of_domains(&config, path, log);
        warnings::of_unserved_listeners(&endpoints, &config, log);
        tell_expiring(&endpoints, log);
        Ok(Plan {
            path: absolute,
            config,
            endpoints,
            identity,
            files,
            sets,
        })
    }

    /// The rest, in the process that serves or that is the master of the workers.
    fn carry_out(mut self, notify: Notify, log: &Rc<Log>) -> Result<(), ()> {
        let fail = |why: String| log.startup(Level::Crit, format_args!("{why}"));
        let ready = match self.files.pid_file.as_mut().map(PidFile::write) {
            Some(Err(why)) => Err(why),
            _ => self.identity.assume(),
        };
        if let Err(why) = ready {
            notify.failed(&why);
            self.files.remove();
            fail(why);
            return Err(());
        }
        warnings::of_identity(&self.identity, &self.config, &self.path, log);
        let path = self.path;
        let result = if self.config.workers == 1 {
            let upkeep = Upkeep {
                path,
                notify,
                membership: None,
                metrics: None,
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
                Role::Worker(setup) => {
                    // The listeners of other workers, and the files, are the master's.
                    drop((master, self.files));
                    return work(setup, path, log);
                }
            }
        };
        let result = result.map_err(fail);
        log.notice(format_args!("stopped"));
        self.files.remove();
        result
    }
}

/// Binds the sockets of all listeners, a set for each worker. Socket files are added to
/// `files`, also before an error.
fn bind(
    config: &Config,
    identity: &Identity,
    files: &mut OwnedFiles,
) -> Result<Vec<Vec<Socket>>, String> {
    let mut sets: Vec<Vec<Socket>> = Vec::new();
    sets.resize_with(config.workers, Vec::new);
    for rules in &config.listeners {
        let bound = listener::bind_sets(rules, config.workers, &mut files.sockets);
        let bound = bound.map_err(|error| error.to_string())?;
        for (set, sockets) in sets.iter_mut().zip(bound) {
            set.extend(sockets);
        }
    }
    files.give_to(identity)?;
    Ok(sets)
}

/// Serves as one of several workers. The master logs why it could not.
fn work(setup: WorkerSetup, path: PathBuf, log: &Rc<Log>) -> Result<(), ()> {
    let WorkerSetup {
        membership,
        config,
        endpoints,
        listeners,
        notify,
        metrics,
    } = setup;
    let upkeep = Upkeep {
        path,
        notify,
        membership: Some(membership),
        metrics,
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
