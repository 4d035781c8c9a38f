//! Start-up: from the command line to a process that serves.
//!
//! Owns the order of the steps. Everything that can fail because of the configuration
//! happens before the fork into the background, so that the operator sees it on the
//! terminal: configuration, listeners, certificates, PID file. Then follow the fork,
//! dropping root privileges, and the event loop or the master of several workers. Removes
//! the daemon's files after a failed start and at the end.

mod owned_files;
mod warnings;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::config::{self, Config, Loaded};
use crate::daemon::environment::{self, Environment};
use crate::daemon::pid_file::PidFile;
use crate::daemon::privileges::Identity;
use crate::daemon::{self, Process};
use crate::expat;
use crate::log::{Level, Log};
use crate::master::{Master, Role, WorkerSetup};
use crate::net::bind::{self, bind_sets, share};
use crate::net::endpoint::{self, Endpoint};
use crate::net::inherited::Inherited;
use crate::net::listener::Socket;
use crate::net::notify::Notify;
use crate::net::process_channel::Channel;
use crate::net::signals;
use crate::net::tls_client::Contexts;
use crate::reactor::notices::{log_expiring, log_problems};
use crate::reactor::{Reactor, Setup};
use crate::upgrade::handover::Handover;
use crate::upgrade::handover_item::HandoverItem;
use crate::upgrade::program::Program;
use crate::upgrade::{Generations, Older};
use owned_files::OwnedFiles;

/// Starts the daemon and serves until a signal ends it. Returns false if it did not start
/// or failed later; the log, and standard error during the start, say why.
pub fn serve(path: &Path, foreground: bool) -> bool {
    start(path, foreground).is_ok()
}

fn start(path: &Path, foreground: bool) -> Result<(), ()> {
    let mut environment = Environment::take();
    if !foreground {
        environment.close_others();
    }
    let log = new_log(foreground);
    let mut notify = new_notify(&environment, &log);
    let handover = Handover::take(&mut environment);
    let handover = handover.map_err(|why| log.startup(Level::Err, format_args!("{why}")))?;
    let is_upgrade = handover.generation() > 1;
    if let Some(Ok(before)) = handover.predecessor().map(Channel::try_clone) {
        notify.hold_back();
        notify.add_starter(before);
    }
    let failed = |why: &str| {
        if is_upgrade {
            notify.failed(why);
        }
    };
    let config = load(path, &log);
    let config = config.map_err(|()| failed("the configuration has errors, see the log"))?;
    if foreground && !is_upgrade {
        // Until the event loop can handle them, signals wait: SIGHUP must not end the daemon, and
        // SIGTERM must not leave its files behind. In the background, the fork does this.
        let _ = signals::block();
    }
    let mut files = OwnedFiles::default();
    let plan = Plan::make(
        config,
        path,
        foreground,
        &mut environment,
        handover,
        &mut files,
        &log,
    );
    let plan = plan.map_err(|why| {
        files.remove();
        log.startup(Level::Err, format_args!("{why}"));
        failed(&why);
    })?;
    if !foreground || is_upgrade {
        match daemon::detach(is_upgrade) {
            Err(why) => {
                plan.files.remove();
                log.startup(Level::Err, format_args!("{why}"));
                return Err(());
            }
            Ok(Process::Daemon(starter)) => notify.add_starter(starter),
            Ok(Process::Parent(Ok(()))) => return Ok(()),
            Ok(Process::Parent(Err(why))) => {
                // The log already has it.
                eprintln!("jabsocket: {why}");
                return Err(());
            }
        }
        log.forked();
    }
    plan.carry_out(notify, &log)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the log is older than the reactor's clock"
)]
fn new_log(foreground: bool) -> Rc<Log> {
    let log = Log::new(Instant::now());
    log.set_local_time(daemon::local_time);
    match environment::stderr_is_journal() {
        true => log.set_journal(),
        false => log.set_stderr(foreground),
    }
    Rc::new(log)
}

/// Returns reports to systemd, if it wants them.
fn new_notify(environment: &Environment, log: &Log) -> Notify {
    let mut notify = Notify::new(environment.watchdog);
    if let Some(socket) = &environment.notify_socket
        && let Err(error) = notify.add_systemd(socket)
    {
        let (socket, why) = (socket.display(), error.desc());
        let text = format_args!("NOTIFY_SOCKET={socket}: {why}: not notifying systemd");
        log.startup(Level::Warning, text);
    }
    notify
}

/// The files of this generation, and those that it has inherited.
type Files = Rc<Cell<(OwnedFiles, OwnedFiles)>>;

/// Everything that is prepared before the daemon goes into the background.
struct Plan {
    config: Config,
    path: PathBuf,
    /// One per listener of a set.
    endpoints: Vec<Rc<Endpoint>>,
    identity: Identity,
    files: OwnedFiles,
    /// The previous generation keeps these files if this start fails.
    inherited_files: OwnedFiles,
    /// One set of listeners per worker.
    sets: Vec<Vec<Socket>>,
    status: Vec<Vec<Socket>>,
    program: Program,
    older: Vec<Older>,
    generation: u32,
}

impl Plan {
    /// Opens the listeners and the PID file, except those from systemd or from the previous
    /// generation. Adds new files to `files`; the caller removes them after an error.
    fn make(
        config: Config,
        path: &Path,
        foreground: bool,
        environment: &mut Environment,
        mut handover: Handover,
        files: &mut OwnedFiles,
        log: &Log,
    ) -> Result<Plan, String> {
        expat::check_library()?;
        let identity = Identity::find(config.user.as_deref(), config.group.as_deref())?;
        let mut from_systemd = environment.listeners()?;
        from_systemd.append(&mut handover.from_systemd);
        let endpoints = Endpoint::all(&config)?;
        // The daemon changes its directory, and a reload needs the file again.
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|error| format!("{}: {error}", path.display()))?;
        let sets = match from_systemd.is_empty() {
            true => bind(&config, &mut handover.listeners, files)?,
            false => share(&from_systemd, config.workers)
                .map_err(|error| format!("cannot share the sockets of LISTEN_FDS: {error}"))?,
        };
        let endpoints = endpoint::of_sockets(&sets[0], &config, &endpoints)?;
        let status = bind_status(&config, &mut handover.status, files)?;
        files.give_to(&identity)?;
        if handover.pid_file.is_none() {
            files.pid_file = config.pid_file.as_deref().map(PidFile::lock).transpose()?;
        }
        // This takes the longest, so it comes last: the ports are open, and clients wait.
        Contexts::new(config.ca_files())?;
        warnings::of_domains(&config, path, log);
        warnings::of_unserved_listeners(&endpoints, &config, log);
        log_expiring(&endpoints, log);
        let generation = handover.generation();
        let inherited_files = OwnedFiles {
            pid_file: handover.pid_file,
            sockets: handover.socket_files,
        };
        warnings::of_missing_files(&inherited_files, log);
        Ok(Plan {
            program: Program::of_this_process(&absolute, foreground, environment),
            path: absolute,
            config,
            endpoints,
            identity,
            files: std::mem::take(files),
            generation,
            inherited_files,
            older: handover.older,
            sets,
            status,
        })
    }

    /// Finishes the start and serves, as the only process or as the master.
    fn carry_out(mut self, notify: Notify, log: &Rc<Log>) -> Result<(), ()> {
        let ready = match self.files.pid_file.as_mut().map(PidFile::write) {
            Some(Err(why)) => Err(why),
            _ => self.identity.assume(),
        };
        let ready = ready.and_then(|()| self.prepare_upgrades());
        let (generations, files) = match ready {
            Ok(ready) => ready,
            Err(why) => {
                notify.failed(&why);
                self.files.remove();
                log.startup(Level::Crit, format_args!("{why}"));
                return Err(());
            }
        };
        warnings::of_identity(&self.identity, &self.config, &self.path, log);
        let result = match self.config.workers {
            1 => self.serve_alone(generations, notify, log),
            _ => match self.serve_as_master(generations, notify, log) {
                Role::Master(result) => result,
                Role::Worker(worker) => {
                    // They belong to the master, which also logs any failure.
                    drop(files);
                    return run(*worker, log).map_err(drop);
                }
            },
        };
        log.notice(format_args!("stopped"));
        let (own, inherited) = files.take();
        own.remove();
        match result {
            Ok(()) => {
                inherited.remove();
                Ok(())
            }
            Err(why) => {
                log.startup(Level::Crit, format_args!("{why}"));
                Err(())
            }
        }
    }

    fn serve_alone(
        mut self,
        generations: Generations,
        notify: Notify,
        log: &Rc<Log>,
    ) -> Result<(), String> {
        let setup = Setup {
            path: self.path,
            notify,
            membership: None,
            metrics: None,
            status: self.status.swap_remove(0),
            generation: generations.number(),
            generations: Some(generations),
        };
        let worker = WorkerSetup {
            config: Rc::new(self.config),
            endpoints: self.endpoints,
            listeners: self.sets.swap_remove(0),
            setup,
        };
        run(worker, log)
    }

    fn serve_as_master(self, generations: Generations, notify: Notify, log: &Rc<Log>) -> Role {
        let master = Master::new(
            self.config,
            self.path,
            Rc::clone(log),
            notify,
            self.sets.into_iter().zip(self.status).collect(),
            self.endpoints,
            generations,
        );
        match master {
            Ok(mut master) => master.run(),
            Err(why) => Role::Master(Err(why)),
        }
    }

    /// Prepares upgrades: collects what this process would hand over. Also returns its
    /// files; none are left once the next generation serves.
    fn prepare_upgrades(&mut self) -> Result<(Generations, Files), String> {
        let failed = |error: io::Error| format!("cannot copy descriptors: {error}");
        let mut items = HandoverItem::of_listeners(&self.sets, &self.status).map_err(failed)?;
        for files in [&self.files, &self.inherited_files] {
            let more = HandoverItem::of_files(files.pid_file.as_ref(), &files.sockets);
            items.extend(more.map_err(failed)?);
        }
        let pid_file = self.inherited_files.pid_file.as_ref();
        let pid_file = pid_file.map(PidFile::copy_of_file).transpose();
        let pid_file = pid_file.map_err(failed)?;
        let older = std::mem::take(&mut self.older);
        let program = self.program.clone();
        let files = [&mut self.files, &mut self.inherited_files].map(std::mem::take);
        let files = Rc::new(Cell::new(files.into()));
        let let_go = Rc::clone(&files);
        let generations = Generations::new(
            self.generation,
            older,
            program,
            items,
            pid_file,
            Box::new(move || drop(let_go.take())),
        );
        Ok((generations, files))
    }
}

/// Reads the configuration, sets the log's level, and logs all problems.
fn load(path: &Path, log: &Log) -> Result<Config, ()> {
    let loaded = config::load(path).map_err(|problems| log_problems(log, &problems))?;
    let Loaded { config, warnings } = loaded;
    log_problems(log, &warnings);
    log.set_level(config.log_level);
    Ok(config)
}

/// Binds the sockets of all listeners, except those that are `inherited`; one set per
/// worker. Adds socket files to `files`, even if it fails later.
fn bind(
    config: &Config,
    inherited: &mut Inherited,
    files: &mut OwnedFiles,
) -> Result<Vec<Vec<Socket>>, String> {
    let mut sets: Vec<Vec<Socket>> = Vec::new();
    sets.resize_with(config.workers, Vec::new);
    for rules in &config.listeners {
        bind_sets(rules, &mut sets, &mut files.sockets, inherited)?;
    }
    Ok(sets)
}

/// The status listeners of each worker, `inherited` or newly bound. Adds socket files to
/// `files`, even if it fails later.
fn bind_status(
    config: &Config,
    inherited: &mut Vec<Socket>,
    files: &mut OwnedFiles,
) -> Result<Vec<Vec<Socket>>, String> {
    let mut sets = Vec::new();
    for worker in 0..config.workers {
        let mut set = Vec::new();
        for address in config.status_addresses(worker) {
            let is_bound = |socket: &Socket| socket.bound().is_for_status(&address);
            set.push(match inherited.iter().position(is_bound) {
                Some(at) => inherited.remove(at),
                None => bind::bind_status(&address, &mut files.sockets)
                    .map_err(|why| format!("status_listen: {why}"))?,
            });
        }
        sets.push(set);
    }
    Ok(sets)
}

fn run(worker: WorkerSetup, log: &Rc<Log>) -> Result<(), String> {
    let WorkerSetup {
        config,
        endpoints,
        listeners,
        mut setup,
    } = worker;
    let notify = std::mem::take(&mut setup.notify);
    let reactor = Contexts::new(config.ca_files())
        .and_then(|tls| Reactor::new(config, tls, Rc::clone(log), listeners, endpoints, setup));
    let mut reactor = reactor.inspect_err(|why| notify.failed(why))?;
    reactor
        .open_status()
        .inspect_err(|why| notify.failed(why))?;
    reactor.report_ready(notify);
    let ran = reactor.run();
    ran.map_err(|error| format!("the event loop failed: {error}"))
}
