//! Ends the zombies of orphans.
//!
//! The kernel gives processes whose parent has ended to process 1, which must wait for them.
//! In a container this process may be process 1, and may get the children of health checks.

use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};

/// As process 1, waits for children that have ended, up to the first that `is_own`.
pub fn reap(is_own: impl Fn(Pid) -> bool) {
    if getpid() != Pid::from_raw(1) {
        return;
    }
    // The status stays in the kernel, because that of an own child is needed elsewhere.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look)
        && let Some(pid) = status.pid().filter(|pid| !is_own(*pid))
        && waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok()
    {}
}
