//! Upgrade in place: one process of the daemon replaces another.
//!
//! On SIGUSR2 the main process starts the program at its path, which may be a new version,
//! and hands its listeners and files over. Once the new generation serves, the old one
//! stops accepting clients and keeps its sessions. If the new generation fails to start,
//! the old one continues. Every old generation has a channel to the newest one, which
//! forwards the orders to stop and to report. Never blocks: the loop of the process calls
//! [`Generations::next_event`] when a descriptor is readable, after SIGCHLD, and at the
//! deadline.

pub mod handover;
pub mod handover_item;
pub mod program;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_name;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid};

use crate::daemon::pid_file;
use crate::log::{Level, Log};
use crate::net::process_channel::{Channel, Message, Order};
use handover_item::HandoverItem;
use program::Program;

/// Time within which a new generation has to serve.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// An event that the loop of this process must handle.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The next generation serves, in the process with this number: stop accepting clients.
    Retire(u32),
    /// The next generation failed to start.
    Failed(String),
    /// The previous generation has retired: this is the main process.
    Promoted,
    /// The newest generation sent this order.
    Ordered(Order),
    /// The old generation with this number has ended.
    OlderEnded(u32),
}

/// An older generation, which still has sessions.
pub struct Older {
    pub number: u32,
    pub channel: Channel,
}

/// The generation after this one.
enum Newer {
    None,
    Starting(Starting),
    Serving(Channel),
}

struct Starting {
    child: Child,
    channel: Channel,
    /// The last status that it sent.
    last_status: Option<String>,
    progress: Progress,
    give_up_at: Instant,
}

/// What the channel to a new generation has reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unknown,
    /// It serves, in the process with this number.
    Ready(u32),
    /// All its processes have closed the channel.
    Closed,
}

/// This process as one of several generations.
pub struct Generations {
    number: u32,
    program: Program,
    items: Vec<HandoverItem>,
    /// Written when this process becomes the main process.
    pid_file: Option<File>,
    /// Closes files that belong to the next generation once it serves.
    let_go: Box<dyn Fn()>,
    older: Vec<Older>,
    newer: Newer,
    /// The previous generation is still the main process.
    awaits_promotion: bool,
    retired: bool,
    /// Child processes that have ended or will soon end, and must be waited for.
    children: Vec<Child>,
}

impl Generations {
    /// The first of the `older` generations, if any, is the main process until it retires.
    pub fn new(
        number: u32,
        older: Vec<Older>,
        program: Program,
        items: Vec<HandoverItem>,
        pid_file: Option<File>,
        let_go: Box<dyn Fn()>,
    ) -> Generations {
        Generations {
            number,
            program,
            items,
            pid_file,
            let_go,
            awaits_promotion: !older.is_empty(),
            older,
            newer: Newer::None,
            retired: false,
            children: Vec::new(),
        }
    }

    /// The number of this generation, counted from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Number of older generations that still have sessions.
    pub fn older(&self) -> usize {
        self.older.len()
    }

    /// Whether a newer generation has taken over.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The descriptors to poll for events.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let older = self.older.iter().map(|older| &older.channel);
        older.chain(self.newer_channel()).map(AsFd::as_fd)
    }

    /// The channel to the next generation, as long as it is read.
    fn newer_channel(&self) -> Option<&Channel> {
        match &self.newer {
            Newer::None => None,
            // A poll would always report the end of such a channel.
            Newer::Starting(starting) if starting.progress != Progress::Unknown => None,
            Newer::Starting(starting) => Some(&starting.channel),
            Newer::Serving(channel) => Some(channel),
        }
    }

    /// When to call `next_event` even if no descriptor is readable.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.newer {
            Newer::Starting(starting) => Some(starting.give_up_at),
            _ => None,
        }
    }

    /// Starts the next generation, and logs whether that was possible.
    pub fn begin(&mut self, now: Instant, log: &Log) {
        match self.start(now) {
            Ok(()) => log.notice(format_args!("upgrade: starting the new process")),
            Err(why) => log_failed(log, &why),
        }
    }

    fn start(&mut self, now: Instant) -> Result<(), String> {
        if self.retired {
            return Err("a newer process serves already".to_owned());
        }
        if self.awaits_promotion || matches!(self.newer, Newer::Starting(_)) {
            return Err("another upgrade is in progress".to_owned());
        }
        if getpid() == Pid::from_raw(1) {
            return Err(
                "process 1 cannot be replaced, because a container ends with it".to_owned(),
            );
        }
        let failed = |what: &'static str| move |why: Errno| format!("{what}: {}", why.desc());
        let (channel, other) = Channel::pair().map_err(failed("cannot make a channel"))?;
        let mut channels = vec![HandoverItem::predecessor(other, self.number)];
        for older in &self.older {
            let copy = older.channel.try_clone();
            let copy = copy.map_err(|error| format!("cannot copy a channel: {error}"))?;
            channels.push(HandoverItem::older(copy, older.number));
        }
        channels.extend(HandoverItem::ticket_keys());
        let items: Vec<&HandoverItem> = self.items.iter().chain(&channels).collect();
        let child = self.program.start(&items)?;
        self.newer = Newer::Starting(Starting {
            child,
            channel,
            last_status: None,
            progress: Progress::Unknown,
            give_up_at: now + START_TIMEOUT,
        });
        Ok(())
    }

    /// Reads the channels, and returns the next event if there is one.
    pub fn next_event(&mut self, now: Instant) -> Option<Event> {
        self.children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let heard = self.read_older().or_else(|| self.read_newer());
        heard.or_else(|| self.end_start(now))
    }

    fn read_older(&mut self) -> Option<Event> {
        for at in 0..self.older.len() {
            loop {
                match self.older[at].channel.next() {
                    Ok(Some(Message::Order(Order::TakeOver))) => return self.promote(),
                    Ok(Some(_)) => {}
                    Err(Errno::EAGAIN) => break,
                    // The main process died before it could hand over.
                    Ok(None) | Err(_) if self.awaits_promotion && at == 0 => {
                        return self.promote();
                    }
                    Ok(None) | Err(_) => {
                        return Some(Event::OlderEnded(self.older.remove(at).number));
                    }
                }
            }
        }
        None
    }

    fn promote(&mut self) -> Option<Event> {
        self.awaits_promotion = false;
        if let Some(file) = &self.pid_file {
            // Writing succeeded when the daemon started.
            let _ = pid_file::write(file);
        }
        Some(Event::Promoted)
    }

    fn read_newer(&mut self) -> Option<Event> {
        loop {
            let message = self.newer_channel()?.next();
            match (message, &mut self.newer) {
                (Err(Errno::EAGAIN), _) => return None,
                (Ok(Some(Message::Ready(Some(pid)))), Newer::Starting(starting)) => {
                    starting.progress = Progress::Ready(pid);
                }
                (Ok(Some(Message::Status(status))), Newer::Starting(starting)) => {
                    starting.last_status = Some(status);
                }
                // A new process that ends while it starts must not end this one too.
                (Ok(Some(Message::Order(order))), Newer::Serving(_)) => {
                    return Some(Event::Ordered(order));
                }
                (Ok(Some(_)), _) => {}
                (Ok(None) | Err(_), Newer::Starting(starting)) => {
                    starting.progress = Progress::Closed;
                }
                // No newer generation is left to send orders.
                (Ok(None) | Err(_), newer) => *newer = Newer::None,
            }
        }
    }

    fn retire(&mut self, pid: u32) -> Option<Event> {
        let channel = self.abandon()?;
        self.newer = Newer::Serving(channel);
        self.items.clear();
        self.older.clear();
        self.pid_file = None;
        // If this process kept the lock, no daemon could start should the next one die.
        (self.let_go)();
        self.retired = true;
        mark_as_old(self.number);
        Some(Event::Retire(pid))
    }

    /// Stops waiting for a new generation. Its first process is about to end.
    fn abandon(&mut self) -> Option<Channel> {
        match std::mem::replace(&mut self.newer, Newer::None) {
            Newer::Starting(Starting { child, channel, .. }) => {
                self.children.push(child);
                Some(channel)
            }
            newer => {
                self.newer = newer;
                None
            }
        }
    }

    /// Makes the next generation the main process. Must be called after everything else
    /// that [`Event::Retire`] requires.
    pub fn hand_over(&self) {
        if let Newer::Serving(channel) = &self.newer {
            channel.order(Order::TakeOver);
        }
    }

    /// Notices that the start of the next generation has succeeded, failed or missed its
    /// deadline. A process that serves counts once the first process of its generation has
    /// ended: it is a child of systemd then, which otherwise would not supervise it.
    fn end_start(&mut self, now: Instant) -> Option<Event> {
        let Newer::Starting(starting) = &mut self.newer else {
            return None;
        };
        let ended = match starting.progress {
            Progress::Unknown => None,
            _ => starting.child.try_wait().ok().flatten(),
        };
        if let Progress::Ready(pid) = starting.progress {
            return match ended.is_some() || now >= starting.give_up_at {
                true => self.retire(pid),
                false => None,
            };
        }
        let why = match ended {
            Some(status) => {
                let reason = starting.last_status.take();
                reason.unwrap_or_else(|| format!("the new process ended with {status}"))
            }
            None if now >= starting.give_up_at => {
                let seconds = START_TIMEOUT.as_secs();
                format!("the new process did not serve within {seconds} s")
            }
            None => return None,
        };
        self.end_newer();
        Some(Event::Failed(why))
    }

    /// Kills a generation that does not serve yet.
    fn end_newer(&mut self) {
        if let Newer::Starting(starting) = &mut self.newer {
            // All its processes are in one process group.
            let group = i32::try_from(starting.child.id()).map(Pid::from_raw);
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            self.abandon();
        }
    }

    /// Forwards an order to all older generations. An order to stop also kills a generation
    /// that does not serve yet, and closes this process's copies of the listeners.
    pub fn order(&mut self, order: Order) {
        if order != Order::Report {
            self.end_newer();
            self.items.clear();
        }
        for older in &self.older {
            older.channel.order(order);
        }
    }
}

/// Renames this process so that `ps` shows it as an old one.
pub fn mark_as_old(number: u32) {
    if let Ok(name) = CString::new(format!("jabsocket-old{number}")) {
        let _ = set_name(&name);
    }
}

pub fn log_retired(log: &Log, pid: u32) {
    let text = format_args!(
        "upgrade: process {pid} serves new clients; this one keeps its sessions until they end"
    );
    log.startup(Level::Notice, text);
}

pub fn log_failed(log: &Log, why: &str) {
    let text = format_args!("upgrade failed, this process continues: {why}");
    log.startup(Level::Err, text);
}

pub fn log_stopping(log: &Log) {
    let text = format_args!("no upgrade, because this process is stopping");
    log.startup(Level::Err, text);
}

pub fn log_older_ended(log: &Log, number: u32) {
    let text = format_args!("upgrade: the last session of generation {number} has ended");
    log.startup(Level::Notice, text);
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has no reactor")]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::daemon::environment::Environment;
    use crate::net::notify::Notify;

    /// A generation that has started another, and the other's end of the channel.
    fn starting() -> (Generations, Channel) {
        let program = Program::of_this_process(Path::new("/"), true, &Environment::default());
        let mut generations =
            Generations::new(1, Vec::new(), program, Vec::new(), None, Box::new(|| {}));
        let (channel, other) = Channel::pair().expect("a channel");
        let child = Command::new("sleep")
            .arg("3600")
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a process");
        generations.newer = Newer::Starting(Starting {
            child,
            channel,
            last_status: None,
            progress: Progress::Unknown,
            give_up_at: Instant::now() + START_TIMEOUT,
        });
        (generations, other)
    }

    #[test]
    fn a_process_that_has_closed_its_channel_wakes_nobody_until_it_ends() {
        let (mut generations, other) = starting();
        assert_eq!(generations.descriptors().count(), 1);
        drop(other);
        // A child that another test starts holds a copy until it runs its program.
        let channel = generations.descriptors().next().expect("the channel");
        let mut polled = [PollFd::new(channel, PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::NONE).expect("its end");
        assert_eq!(generations.next_event(Instant::now()), None);
        assert_eq!(generations.descriptors().count(), 0);
        let late = generations.deadline().expect("a deadline");
        let event = generations.next_event(late);
        assert!(matches!(event, Some(Event::Failed(_))), "{event:?}");
    }

    #[test]
    fn a_process_that_does_not_serve_yet_gives_no_orders() {
        let (mut generations, other) = starting();
        other.order(Order::Stop);
        assert_eq!(generations.next_event(Instant::now()), None);
        let mut new = Notify::default();
        new.add_starter(other.try_clone().expect("a copy"));
        new.ready(7);
        other.order(Order::Stop);
        assert_eq!(generations.next_event(Instant::now()), None);
        assert_eq!(generations.descriptors().count(), 0);
        let Newer::Starting(starting) = &mut generations.newer else {
            panic!("it counts before its first process has ended");
        };
        starting.child.kill().expect("it is there");
        starting.child.wait().expect("its status");
        let mut next = || generations.next_event(Instant::now());
        assert_eq!(next(), Some(Event::Retire(7)));
        assert_eq!(next(), Some(Event::Ordered(Order::Stop)));
    }
}
