//! What the event loop gets from the start-up, or from the master.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use crate::metrics::SharedMetrics;
use crate::net::listener::Socket;
use crate::net::notify::Notify;
use crate::shared_memory::SharedText;
use crate::upgrade::Generations;

#[derive(Default)]
pub struct Setup {
    /// The absolute path of the configuration file.
    pub path: PathBuf,
    /// Reports the state of this process.
    pub notify: Notify,
    /// Identifies one of several workers; `None` without a master.
    pub membership: Option<Membership>,
    /// The metrics of all workers, if there is a master and `status_listen` is set.
    pub metrics: Option<SharedMetrics>,
    /// The sockets of the status port.
    pub status: Vec<Socket>,
    /// The generation of the daemon that this process belongs to.
    pub generation: u32,
    /// Other generations; `None` in a worker, because its master handles them.
    pub generations: Option<Generations>,
}

/// One of several workers.
#[derive(Clone)]
pub struct Membership {
    /// Its number, counted from 0.
    pub worker: usize,
    /// The number of workers, which a new configuration does not change.
    pub workers: usize,
    /// The text of the active configuration. All workers read the same text, even if the
    /// file changes meanwhile.
    pub text: SharedText,
    /// A word in which this worker writes its heartbeat for the master.
    pub heartbeat: &'static AtomicU64,
}
