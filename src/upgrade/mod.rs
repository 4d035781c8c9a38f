//! Upgrade in place: the processes of one daemon that follow each other.
//!
//! On SIGUSR2 the main process starts the program that now lies at its path and hands
//! its listeners and files over to it. Once the new generation serves, the old one
//! accepts nobody any more and keeps its sessions. If the new one does not come up, the
//! old one goes on as before. Every old generation has a channel to the newest, which
//! passes on the orders to stop and to report. Never waits: the loop of the process asks
//! for the next event when a descriptor is readable, after SIGCHLD, and at the deadline.

pub mod gift;
pub mod handover;
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
use crate::net::notify::{self, Channel, Order, Word};
use gift::Gift;
use program::Program;

/// How long a new generation may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// What happened between the generations.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The next generation, which is this process, serves: accept nobody any more.
    Retire(u32),
    /// The next generation did not come up.
    Failed(String),
    /// The generation before has retired: this is the main process.
    Promoted,
    /// The newest generation asks for this.
    Asked(Order),
    /// The old generation with this number has ended.
    OlderEnded(u32),
}

/// An older generation that still has sessions.
pub struct Older {
    /// Its number.
    pub number: u32,
    /// The way to it.
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
    /// The last thing it said.
    said: Option<String>,
    /// Every process at the other end has gone.
    gone: bool,
    give_up_at: Instant,
}

/// This process among the generations.
pub struct Generations {
    number: u32,
    program: Program,
    gifts: Vec<Gift>,
    /// To write this process's number into, when it becomes the main process.
    pid_file: Option<File>,
    older: Vec<Older>,
    newer: Newer,
    /// The generation before still is the main process.
    awaits_promotion: bool,
    retired: bool,
    /// Processes that have ended or are about to.
    children: Vec<Child>,
}

impl Generations {
    /// The generation with this `number`. The first of the `older` ones is the main
    /// process until it retires, if there is one.
    pub fn new(
        number: u32,
        older: Vec<Older>,
        program: Program,
        gifts: Vec<Gift>,
        pid_file: Option<File>,
    ) -> Generations {
        Generations {
            number,
            program,
            gifts,
            pid_file,
            awaits_promotion: !older.is_empty(),
            older,
            newer: Newer::None,
            retired: false,
            children: Vec::new(),
        }
    }

    /// The number of this generation; the first is 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How many older generations still have sessions.
    pub fn older(&self) -> usize {
        self.older.len()
    }

    /// Whether a newer generation has taken over.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The descriptors that tell of events.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let newer = match &self.newer {
            Newer::None => None,
            Newer::Starting(starting) => Some(&starting.channel),
            Newer::Serving(channel) => Some(channel),
        };
        let older = self.older.iter().map(|older| &older.channel);
        older.chain(newer).map(AsFd::as_fd)
    }

    /// When to ask for an event even if no descriptor is readable.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.newer {
            Newer::Starting(starting) => Some(starting.give_up_at),
            _ => None,
        }
    }

    /// Starts the next generation.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn begin(&mut self, now: Instant) -> Result<(), String> {
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
        let (channel, other) = notify::channel().map_err(failed("cannot make a channel"))?;
        let mut channels = vec![Gift::predecessor(other, self.number)];
        for older in &self.older {
            let copy = older.channel.try_clone();
            let copy = copy.map_err(|error| format!("cannot copy a channel: {error}"))?;
            channels.push(Gift::older(copy, older.number));
        }
        let gifts: Vec<&Gift> = self.gifts.iter().chain(&channels).collect();
        let child = self.program.start(&gifts)?;
        self.newer = Newer::Starting(Starting {
            child,
            channel,
            said: None,
            gone: false,
            give_up_at: now + START_TIMEOUT,
        });
        Ok(())
    }

    /// What happened next, if anything.
    pub fn next_event(&mut self, now: Instant) -> Option<Event> {
        self.children
            .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        let heard = self.hear_older().or_else(|| self.hear_newer());
        heard.or_else(|| self.give_up(now))
    }

    fn hear_older(&mut self) -> Option<Event> {
        for at in 0..self.older.len() {
            loop {
                match self.older[at].channel.next(false) {
                    Ok(Some(Word::Order(Order::TakeOver))) => return self.promote(),
                    Ok(Some(_)) => {}
                    Err(Errno::EAGAIN) => break,
                    // The main process died before it could say so.
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
            // It could be written at the start of the daemon.
            let _ = pid_file::write(file);
        }
        Some(Event::Promoted)
    }

    fn hear_newer(&mut self) -> Option<Event> {
        loop {
            let word = match &self.newer {
                Newer::None => return None,
                Newer::Starting(starting) if starting.gone => return None,
                Newer::Starting(starting) => starting.channel.next(false),
                Newer::Serving(channel) => channel.next(false),
            };
            match (word, &mut self.newer) {
                (Err(Errno::EAGAIN), _) => return None,
                (Ok(Some(Word::Ready(pid @ Some(_)))), Newer::Starting(_)) => {
                    return self.retire(pid);
                }
                (Ok(Some(Word::Status(status))), Newer::Starting(starting)) => {
                    starting.said = Some(status);
                }
                (Ok(Some(Word::Order(order))), _) => return Some(Event::Asked(order)),
                (Ok(Some(_)), _) => {}
                (Ok(None) | Err(_), Newer::Starting(starting)) => starting.gone = true,
                // Nobody is left who could ask for anything.
                (Ok(None) | Err(_), newer) => *newer = Newer::None,
            }
        }
    }

    fn retire(&mut self, pid: Option<u32>) -> Option<Event> {
        let channel = self.abandon()?;
        self.newer = Newer::Serving(channel);
        self.gifts.clear();
        self.older.clear();
        self.pid_file = None;
        self.retired = true;
        mark_as_old(self.number);
        Some(Event::Retire(pid?))
    }

    /// Waits no more for the start of a generation. Its first process is about to end.
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

    /// Lets the next generation be the main process. To be called once everybody who has
    /// to know was told of `Event::Retire`.
    pub fn hand_over(&self) {
        if let Newer::Serving(channel) = &self.newer {
            channel.order(Order::TakeOver);
        }
    }

    /// Notices that the next generation has ended or is too late.
    fn give_up(&mut self, now: Instant) -> Option<Event> {
        let Newer::Starting(starting) = &mut self.newer else {
            return None;
        };
        let ended = match starting.gone {
            true => starting.child.try_wait().ok().flatten(),
            false => None,
        };
        let why = match ended {
            Some(status) => {
                let said = starting.said.take();
                said.unwrap_or_else(|| format!("the new process ended with {status}"))
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

    /// Ends a generation that does not serve yet.
    fn end_newer(&mut self) {
        if let Newer::Starting(starting) = &mut self.newer {
            // All its processes are in a group of their own.
            let group = i32::try_from(starting.child.id()).map(Pid::from_raw);
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            self.abandon();
        }
    }

    /// Passes an order on to all older generations. One to stop also ends a generation
    /// that does not serve yet, and closes this process's copies of the listeners.
    pub fn order(&mut self, order: Order) {
        if order != Order::Report {
            self.end_newer();
            self.gifts.clear();
        }
        for older in &self.older {
            older.channel.order(order);
        }
    }
}

/// Gives this process a name by which `ps` tells it from the main process.
pub fn mark_as_old(number: u32) {
    if let Ok(name) = CString::new(format!("jabsocket-old{number}")) {
        let _ = set_name(&name);
    }
}

/// Logs that another process serves from here on.
pub fn log_retired(log: &Log, pid: u32) {
    let text = format_args!(
        "upgrade: process {pid} serves new clients; this one keeps its sessions until they end"
    );
    log.startup(Level::Notice, text);
}

/// Logs that an upgrade has changed nothing.
pub fn log_failed(log: &Log, why: &str) {
    let text = format_args!("upgrade failed, this process goes on: {why}");
    log.startup(Level::Err, text);
}

/// Logs the end of an older generation.
pub fn log_older_ended(log: &Log, number: u32) {
    let text = format_args!("upgrade: the last session of generation {number} has ended");
    log.startup(Level::Notice, text);
}
