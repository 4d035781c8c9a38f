//! The master of several workers: starts them, replaces them, and relays signals to them.
//!
//! Owns a set of listening sockets for each worker. The master keeps them open but accepts
//! no clients. When a worker dies, new clients wait in the kernel's queue for the next
//! worker, so none is refused; only the sessions of the dead worker are lost. The master
//! handles no sessions and opens no connections. With one worker there is no master.

mod ending;
mod watchdog;

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, getpid, getppid};

use crate::config::Config;
use crate::daemon;
use crate::log::{Level, Log};
use crate::metrics::SharedMetrics;
use crate::net::endpoint::{self, Endpoint};
use crate::net::listener::Socket;
use crate::net::notify::Notify;
use crate::net::orphans;
use crate::net::process_channel::{Channel, Message, Order};
use crate::net::signals::Signals;
use crate::reactor::notices::{
    log_expiring, log_listeners, log_refused, log_reloaded, log_without_rules,
};
use crate::reactor::reload::{Reloaded, monotonic_us, read_again};
use crate::reactor::{Membership, Setup};
use crate::shared_memory::SharedText;
use crate::upgrade::{self, Generations};
use watchdog::{Silence, Watchdog};

/// Time before a dead worker is replaced; doubles after each failure.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Maximum of that time.
const LAST_DELAY: Duration = Duration::from_secs(10);
/// If a worker lived this long, the next delay starts from the minimum again.
const HEALTHY: Duration = Duration::from_secs(30);
/// Time that workers get in addition to `drain_timeout`, or after a second signal.
const GRACE: Duration = Duration::from_secs(2);

/// The role of this process after [`Master::run`] has returned.
pub enum Role {
    /// A forked worker, which has to serve.
    Worker(Box<WorkerSetup>),
    /// The master, after all workers have ended, or why it never served.
    Master(Result<(), String>),
}

/// What a process needs to serve; in a worker it comes from the master.
pub struct WorkerSetup {
    pub config: Rc<Config>,
    pub endpoints: Vec<Rc<Endpoint>>,
    pub listeners: Vec<Socket>,
    pub setup: Setup,
}

struct WorkerSlot {
    listeners: Vec<Socket>,
    status: Vec<Socket>,
    running: Option<Running>,
    /// When to start the next worker in this slot.
    due: Option<Instant>,
    /// The delay before the next replacement.
    delay: Duration,
}

struct Running {
    pid: Pid,
    channel: Channel,
    since: Instant,
    ready: bool,
    silence: Silence,
    /// The last status that it sent.
    status: Option<String>,
}

pub struct Master {
    config: Config,
    endpoints: Vec<Rc<Endpoint>>,
    start_config: Config,
    path: PathBuf,
    log: Rc<Log>,
    notify: Notify,
    /// If `status_listen` is set.
    metrics: Option<SharedMetrics>,
    /// The text of the active configuration.
    text: SharedText,
    watchdog: Watchdog,
    slots: Vec<WorkerSlot>,
    generations: Generations,
    /// All workers have been ready at least once.
    serves: bool,
    replaced: u64,
    /// When to kill the remaining workers; set once the master stops.
    kill_at: Option<Instant>,
    stop_signals: u32,
}

#[expect(clippy::disallowed_methods, reason = "the master has no reactor")]
fn now() -> Instant {
    Instant::now()
}

impl Master {
    /// `sets` has the listeners and the status listeners of each worker.
    ///
    /// # Errors
    /// There is no memory that the workers can share.
    pub fn new(
        config: Config,
        path: PathBuf,
        log: Rc<Log>,
        notify: Notify,
        sets: Vec<(Vec<Socket>, Vec<Socket>)>,
        endpoints: Vec<Rc<Endpoint>>,
        generations: Generations,
    ) -> Result<Master, String> {
        let (metrics, text, watchdog) =
            share_memory(&config, sets.len(), &notify).inspect_err(|why| notify.failed(why))?;
        if let Some(metrics) = metrics {
            log.share_recent(metrics.recent_lines(None));
        }
        let start = now();
        let slot = |(listeners, status)| WorkerSlot {
            listeners,
            status,
            running: None,
            due: Some(start),
            delay: FIRST_DELAY,
        };
        Ok(Master {
            start_config: config.clone(),
            config,
            endpoints,
            path,
            log,
            notify,
            metrics,
            text,
            watchdog,
            slots: sets.into_iter().map(slot).collect(),
            generations,
            serves: false,
            replaced: 0,
            kill_at: None,
            stop_signals: 0,
        })
    }

    /// Starts the workers and keeps them running. Returns in each worker, and in the master
    /// at the end.
    pub fn run(&mut self) -> Role {
        let mut signals = match Signals::open() {
            Ok(signals) => signals,
            Err(error) => return self.fail(format!("cannot receive signals: {error}")),
        };
        loop {
            self.log.tick(now());
            for at in 0..self.slots.len() {
                if self.slots[at].due.is_some_and(|due| now() >= due) {
                    self.slots[at].due = None;
                    match self.start_worker(at) {
                        Ok(None) => {}
                        Ok(Some(setup)) => return Role::Worker(Box::new(setup)),
                        Err(error) if self.serves => self.replace_later(at, &error),
                        Err(error) => return self.fail(error),
                    }
                }
            }
            if let Err(error) = self.wait(&signals) {
                return self.fail(format!("cannot wait: {}", error.desc()));
            }
            while let Some((signal, _)) = signals.take() {
                self.take_signal(signal);
            }
            if self.stop_signals > 0 && !self.serves && self.generations.number() > 1 {
                // The files still belong to the previous generation, which goes on.
                return self.fail("stopped during the start".to_owned());
            }
            self.read_messages();
            if let Err(why) = self.reap() {
                return self.fail(why);
            }
            self.watch_workers();
            self.handle_generation_events();
            if self.end_late_workers() {
                return Role::Master(Ok(()));
            }
        }
    }

    /// Kills workers that have used up their time. Returns whether nothing is left to wait for.
    fn end_late_workers(&mut self) -> bool {
        let is_idle = self.slots.iter().all(|slot| slot.running.is_none());
        if self.generations.is_retired() && is_idle {
            return true;
        }
        if self.kill_at.is_none() {
            return false;
        }
        let is_last = self.generations.older() == 0 || self.is_late();
        if !(is_idle && is_last) && self.is_late() {
            self.relay(Signal::SIGKILL);
            self.kill_at = Some(now() + GRACE);
        }
        is_idle && is_last
    }

    /// Whether the remaining workers have used up their time.
    fn is_late(&self) -> bool {
        self.kill_at.is_some_and(|at| now() >= at)
    }

    /// Forks a worker. Returns its setup in the worker, and `None` in the master.
    fn start_worker(&mut self, at: usize) -> Result<Option<WorkerSetup>, String> {
        let failed = |error: Errno| format!("cannot start a worker: {}", error.desc());
        let (parent_end, child_end) = Channel::pair().map_err(failed)?;
        let master = getpid();
        match daemon::fork().map_err(failed)? {
            ForkResult::Parent { child } => {
                self.slots[at].running = Some(Running {
                    pid: child,
                    channel: parent_end,
                    since: now(),
                    ready: false,
                    silence: Silence::default(),
                    status: None,
                });
                Ok(None)
            }
            ForkResult::Child => {
                self.log.forked();
                if let Some(metrics) = self.metrics {
                    self.log.share_recent(metrics.recent_lines(Some(at)));
                }
                let _ = set_pdeathsig(Signal::SIGTERM);
                if getppid() != master {
                    // The master died before the parent-death signal was set.
                    std::process::exit(1);
                }
                let workers = self.slots.len();
                let period = self.watchdog.period();
                let setup = Setup {
                    path: self.path.clone(),
                    notify: Notify::to_master(child_end, Some(period)),
                    membership: Some(Membership {
                        worker: at,
                        workers,
                        text: self.text,
                        heartbeat: self.watchdog.heartbeat(at),
                    }),
                    metrics: self.metrics,
                    status: std::mem::take(&mut self.slots[at].status),
                    generation: self.generations.number(),
                    generations: None,
                };
                Ok(Some(WorkerSetup {
                    config: Rc::new(self.config.share(at, workers)),
                    endpoints: self.endpoints.clone(),
                    listeners: std::mem::take(&mut self.slots[at].listeners),
                    setup,
                }))
            }
        }
    }

    /// Handles a failed start: kills the workers that are already running.
    fn fail(&mut self, why: String) -> Role {
        self.relay(Signal::SIGKILL);
        for slot in &mut self.slots {
            if let Some(running) = slot.running.take() {
                let _ = waitpid(running.pid, None);
            }
        }
        self.notify.failed(&why);
        Role::Master(Err(why))
    }

    /// Waits for a signal, a message or a deadline.
    fn wait(&self, signals: &Signals) -> Result<(), Errno> {
        let running = self.slots.iter().filter_map(|slot| slot.running.as_ref());
        let mut fds: Vec<PollFd<'_>> = running
            .map(|running| PollFd::new(running.channel.as_fd(), PollFlags::POLLIN))
            .collect();
        fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        let channels = self.generations.descriptors();
        fds.extend(channels.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let due = self.slots.iter().filter_map(|slot| slot.due);
        let due = due.chain(self.generations.deadline());
        let due = due.chain([self.watchdog.due()]);
        let wait = due.chain(self.kill_at).min().map(|at| {
            // Rounded up, otherwise the loop would spin during the last millisecond.
            at.saturating_duration_since(now()) + Duration::from_millis(1)
        });
        let wait = wait.map_or(Ok(PollTimeout::NONE), PollTimeout::try_from);
        match poll(&mut fds, wait.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn take_signal(&mut self, signal: Signal) {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => self.stop(signal),
            Signal::SIGHUP if !self.is_ending() => self.reload(),
            Signal::SIGUSR1 => {
                self.log_status();
                self.generations.order(Order::Report);
            }
            Signal::SIGUSR2 if self.kill_at.is_some() => upgrade::log_stopping(&self.log),
            Signal::SIGUSR2 => self.generations.begin(now(), &self.log),
            _ => {}
        }
    }

    fn relay(&self, signal: Signal) {
        for running in self.slots.iter().filter_map(|slot| slot.running.as_ref()) {
            // If it has already ended, SIGCHLD reports that.
            let _ = kill(running.pid, signal);
        }
    }

    fn reload(&mut self) {
        self.notify.reloading(monotonic_us());
        let mut taken = false;
        if let Some((text, reloaded)) = read_again(&self.path, None, &self.log)
            && self.publish(&text)
        {
            let Reloaded {
                config, endpoints, ..
            } = reloaded;
            if let Some(metrics) = self.metrics {
                metrics.add_series(&config);
            }
            self.log.set_level(config.log_level);
            log_reloaded(&self.start_config, &config, &self.log);
            let sockets = &self.slots[0].listeners;
            let without = endpoint::replace(&mut self.endpoints, sockets, &config, &endpoints);
            log_without_rules(&without, &self.log);
            log_expiring(&endpoints, &self.log);
            // These keys keep their values from the start, for future workers too.
            self.config = Config {
                workers: self.start_config.workers,
                status_listen: self.start_config.status_listen.clone(),
                ..config
            };
            self.relay(Signal::SIGHUP);
            taken = true;
        }
        if let Some(metrics) = self.metrics {
            metrics.set_reload_refused((!taken).then(SystemTime::now));
        }
        self.notify.reloaded(taken);
    }

    /// Publishes the text of a configuration for the workers. On failure it logs a line and
    /// returns false.
    fn publish(&self, text: &str) -> bool {
        if let Err(error) = self.text.write(text) {
            let why = format!("cannot pass it to the workers: {error}");
            log_refused(&why, &self.log);
            return false;
        }
        true
    }

    fn log_status(&self) {
        let pid = |slot: &WorkerSlot| match &slot.running {
            Some(running) => running.pid.to_string(),
            None => "-".to_owned(),
        };
        let pids: Vec<String> = self.slots.iter().map(pid).collect();
        self.log.startup(
            Level::Notice,
            format_args!(
                "status: master of {} workers (processes {}), {} replaced since the start, generation {}{}",
                self.slots.len(),
                pids.join(", "),
                self.replaced,
                self.generations.number(),
                if self.generations.is_retired() { ", retired" } else { "" },
            ),
        );
        self.relay(Signal::SIGUSR1);
    }

    /// Reads the messages of the workers.
    fn read_messages(&mut self) {
        for running in self.slots.iter_mut().filter_map(|p| p.running.as_mut()) {
            while let Ok(Some(message)) = running.channel.next() {
                match message {
                    Message::Ready(_) => {
                        running.ready = true;
                        // The time that the start took does not count.
                        running.silence = Silence::default();
                    }
                    Message::Status(status) => running.status = Some(status),
                    Message::Order(_) => {}
                }
            }
        }
        let mut running = self.slots.iter().map(|slot| slot.running.as_ref());
        if !self.serves && running.all(|r| r.is_some_and(|r| r.ready)) {
            self.serves = true;
            log_listeners(&self.slots[0].listeners, &self.log);
            self.notify.ready(std::process::id());
        }
    }

    /// Handles workers that have ended.
    fn reap(&mut self) -> Result<(), String> {
        for at in 0..self.slots.len() {
            let Some(pid) = self.slots[at].running.as_ref().map(|running| running.pid) else {
                continue;
            };
            let how = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => format!("ended with status {code}"),
                Ok(WaitStatus::Signaled(_, signal, _)) => format!("was killed by {signal}"),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(format!("cannot wait for workers: {}", error.desc())),
            };
            // Its last message may have arrived after the previous read.
            self.read_messages();
            if let Some(metrics) = self.metrics {
                metrics.mark_ended(at);
            }
            let slot = &mut self.slots[at];
            let running = slot.running.take();
            if running.as_ref().is_some_and(|r| now() - r.since >= HEALTHY) {
                slot.delay = FIRST_DELAY;
            }
            if self.is_ending() {
                continue;
            }
            let unready = running.filter(|running| !running.ready);
            let reason = unready.and_then(|running| running.status);
            let what = reason.unwrap_or(how);
            if !self.serves {
                return Err(what);
            }
            self.replace_later(at, &format!("process {pid} {what}"));
        }
        let pid = |slot: &WorkerSlot| slot.running.as_ref().map(|running| running.pid);
        orphans::reap(|child| self.slots.iter().any(|slot| pid(slot) == Some(child)));
        Ok(())
    }

    /// Schedules the start of another worker in a slot.
    fn replace_later(&mut self, at: usize, why: &str) {
        let slot = &mut self.slots[at];
        let delay = slot.delay;
        slot.due = Some(now() + delay);
        slot.delay = (delay * 2).min(LAST_DELAY);
        self.replaced += 1;
        self.log.err(format_args!(
            "worker {at}: {why}; its sessions are lost, restarting in {} ms",
            delay.as_millis()
        ));
    }
}

/// Makes the memory that `workers` share.
fn share_memory(
    config: &Config,
    workers: usize,
    notify: &Notify,
) -> Result<(Option<SharedMetrics>, SharedText, Watchdog), String> {
    let failed = |what: &'static str| move |error: io::Error| format!("cannot {what}: {error}");
    let metrics = match config.status_listen.is_empty() {
        true => None,
        false => Some(SharedMetrics::new(workers).map_err(failed("sum up metrics"))?),
    };
    if let Some(metrics) = metrics {
        metrics.add_series(config);
    }
    // Systemd's time limit is twice the time between heartbeats.
    let limit = notify.watchdog().map(|half| half * 2);
    let watchdog = Watchdog::new(workers, limit).map_err(failed("watch workers"))?;
    let text = SharedText::new().map_err(failed("share the configuration"))?;
    Ok((metrics, text, watchdog))
}
