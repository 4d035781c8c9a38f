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
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use crate::config::{self, Config, Loaded, StatusAddress};
use crate::daemon::pid_file::PidFile;
use crate::daemon::privileges::Identity;
use crate::daemon::{self, Environment, Process};
use crate::expat;
use crate::log::{Level, Log};
use crate::master::{Master, Role, WorkerSetup};
use crate::net::bind::{self, bind_sets, share};
use crate::net::inherited::Inherited;
use crate::net::listener::Socket;
use crate::net::notify::{Channel, Notify};
use crate::net::tls_client::Contexts;
use crate::net::tls_server::{self, Endpoint};
use crate::reactor::notices::{log_expiring, report};
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
    let mut notify = Notify::new(environment.watchdog);
    if let Some(socket) = &environment.notify_socket
        && let Err(error) = notify.add_systemd(socket)
    {
        let (socket, why) = (socket.display(), error.desc());
        let text = format_args!("NOTIFY_SOCKET={socket}: {why}: not notifying systemd");
        log.startup(Level::Warning, text);
    }
    let handover = Handover::take(&mut environment);
    let handover = handover.map_err(|why| log.startup(Level::Err, format_args!("{why}")))?;
    let is_upgrade = handover.generation() > 1;
    if let Some(Ok(before)) = handover.predecessor().map(Channel::try_clone) {
        notify.hold_back();
        notify.add_starter(before);
    }
    let plan = Plan::make(path, foreground, &mut environment, handover, &log);
    let plan = plan.map_err(|why| {
        let told = match why.as_str() {
            // The log already has a line for each error.
            "" => "the configuration has errors, see the log",
            why => {
                log.startup(Level::Err, format_args!("{why}"));
                why
            }
        };
        if is_upgrade {
            notify.failed(told);
        }
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
    fn make(
        path: &Path,
        foreground: bool,
        environment: &mut Environment,
        mut handover: Handover,
        log: &Log,
    ) -> Result<Plan, String> {
        let config = load(path, log)?;
        expat::check_library()?;
        let identity = Identity::find(config.user.as_deref(), config.group.as_deref())?;
        let mut from_systemd = environment.listeners()?;
        from_systemd.append(&mut handover.from_systemd);
        Contexts::new(config.ca_files())?;
        let endpoints = Endpoint::all(&config)?;
        // The daemon changes its directory, and a reload needs the file again.
        let absolute = std::path::absolute(path);
        let absolute = absolute.map_err(|error| format!("{}: {error}", path.display()))?;
        let mut files = OwnedFiles::default();
        let made = open(
            &config,
            &identity,
            &endpoints,
            &from_systemd,
            &mut handover,
            &mut files,
        );
        let Opened {
            sets,
            endpoints,
            status,
        } = match made {
            Ok(made) => made,
            Err(why) => {
                files.remove();
                return Err(why);
            }
        };
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
            files,
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
        let ready = ready.and_then(|()| self.generations());
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
                Role::Over(result) => result,
                Role::Worker(setup) => {
                    // The files and the listeners of other workers belong to the master.
                    let path = std::mem::take(&mut self.path);
                    drop((self, files));
                    return work(setup, path, log);
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
        &mut self,
        generations: Generations,
        notify: Notify,
        log: &Rc<Log>,
    ) -> Result<(), String> {
        let setup = Setup {
            path: std::mem::take(&mut self.path),
            notify,
            membership: None,
            metrics: None,
            status: self.status.swap_remove(0),
            generation: generations.number(),
            generations: Some(generations),
        };
        let config = Rc::new(std::mem::take(&mut self.config));
        let endpoints = std::mem::take(&mut self.endpoints);
        run(config, endpoints, self.sets.swap_remove(0), setup, log)
    }

    fn serve_as_master(&mut self, generations: Generations, notify: Notify, log: &Rc<Log>) -> Role {
        let sets = std::mem::take(&mut self.sets).into_iter();
        let mut master = Master::new(
            std::mem::take(&mut self.config),
            self.path.clone(),
            Rc::clone(log),
            notify,
            sets.zip(std::mem::take(&mut self.status)).collect(),
            std::mem::take(&mut self.endpoints),
            generations,
        );
        master.run()
    }

    /// Prepares upgrades: collects what this process would hand over. Also returns its
    /// files; none are left once the next generation serves.
    fn generations(&mut self) -> Result<(Generations, Files), String> {
        let failed = |error: io::Error| format!("cannot copy descriptors: {error}");
        let mut items = HandoverItem::of_listeners(&self.sets, &self.status).map_err(failed)?;
        for files in [&self.files, &self.inherited_files] {
            let more = HandoverItem::of_files(files.pid_file.as_ref(), &files.sockets);
            items.extend(more.map_err(failed)?);
        }
        let handed_over = self.inherited_files.pid_file.as_ref();
        let pid_file = handed_over.map(PidFile::to_hand_over).transpose();
        let pid_file = pid_file.map_err(failed)?.map(|(_, file, _)| file);
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
fn load(path: &Path, log: &Log) -> Result<Config, String> {
    let Loaded { config, warnings } = config::load(path).map_err(|problems| {
        report(log, &problems);
        String::new()
    })?;
    report(log, &warnings);
    log.set_level(config.log_level);
    Ok(config)
}

/// Everything that is opened before the daemon goes into the background.
struct Opened {
    sets: Vec<Vec<Socket>>,
    endpoints: Vec<Rc<Endpoint>>,
    status: Vec<Vec<Socket>>,
}

/// Opens the listeners and the PID file, except those from systemd or from the previous
/// generation. Adds new files to `files`, even if it fails later.
fn open(
    config: &Config,
    identity: &Identity,
    endpoints: &[Rc<Endpoint>],
    from_systemd: &[(OwnedFd, String)],
    handover: &mut Handover,
    files: &mut OwnedFiles,
) -> Result<Opened, String> {
    let sets = match from_systemd.is_empty() {
        true => bind(config, &mut handover.listeners, files)?,
        false => share(from_systemd, config.workers)
            .map_err(|error| format!("cannot share the sockets of LISTEN_FDS: {error}"))?,
    };
    let endpoints = tls_server::of_sockets(&sets[0], config, endpoints)?;
    let status = bind_status(config, &mut handover.status, files)?;
    files.give_to(identity)?;
    if handover.pid_file.is_none() {
        files.pid_file = config.pid_file.as_deref().map(PidFile::lock).transpose()?;
    }
    Ok(Opened {
        sets,
        endpoints,
        status,
    })
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
    let mut listener_at = |address: StatusAddress| {
        let mut found = inherited.iter();
        match found.position(|socket| socket.bound().is_for_status(&address)) {
            Some(at) => Ok(inherited.remove(at)),
            None => bind::bind_status(&address, &mut files.sockets)
                .map_err(|why| format!("status_listen: {why}")),
        }
    };
    let mut of_worker = |worker: usize| {
        let worker = u16::try_from(worker).unwrap_or(u16::MAX);
        let addresses = config.status_addresses(worker);
        addresses.into_iter().map(&mut listener_at).collect()
    };
    (0..config.workers).map(&mut of_worker).collect()
}

/// Serves as one of several workers. The master logs any failure.
fn work(worker: WorkerSetup, path: PathBuf, log: &Rc<Log>) -> Result<(), ()> {
    let setup = Setup {
        path,
        notify: worker.notify,
        membership: Some(worker.membership),
        metrics: worker.metrics,
        status: worker.status,
        generation: worker.generation,
        generations: None,
    };
    let served = run(
        worker.config,
        worker.endpoints,
        worker.listeners,
        setup,
        log,
    );
    served.map_err(drop)
}

fn run(
    config: Rc<Config>,
    endpoints: Vec<Rc<Endpoint>>,
    listeners: Vec<Socket>,
    mut setup: Setup,
    log: &Rc<Log>,
) -> Result<(), String> {
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
