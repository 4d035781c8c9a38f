//! What a loop is given beside sockets.

use std::path::PathBuf;

use mio::net::TcpListener;

use crate::metrics::SharedMetrics;
use crate::net::notify::Notify;
use crate::shared_memory::SharedText;
use crate::upgrade::Generations;

/// What a loop needs beside sockets to serve on.
pub struct Upkeep {
    /// The configuration file, from the root.
    pub path: PathBuf,
    /// Who is told how it goes.
    pub notify: Notify,
    /// Which of several workers this is; `None` is the only one, without master.
    pub membership: Option<Membership>,
    /// The metrics of all workers, if there is a master and they are served.
    pub metrics: Option<SharedMetrics>,
    /// The status listeners.
    pub status: Vec<TcpListener>,
    /// Which generation of the daemon this process belongs to.
    pub generation: u32,
    /// The other generations; `None` in a worker, whose master knows them.
    pub generations: Option<Generations>,
}

/// Which of several workers a process is.
#[derive(Clone)]
pub struct Membership {
    /// Its number, from 0 on.
    pub worker: usize,
    /// How many there are, whatever a new configuration asks for.
    pub workers: usize,
    /// The text of the configuration in force. All workers read the same text, even if
    /// the file changes meanwhile.
    pub text: Option<SharedText>,
}
