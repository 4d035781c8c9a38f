//! Measures the resource usage of this process, with the metrics that Prometheus' client
//! libraries use.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;

/// Minimum time between two counts of the open descriptors, because a count takes milliseconds
/// if there are many.
const COUNT_PERIOD_MS: u64 = 15_000;

/// The resource usage at one moment; 0 if unknown.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub cpu_us: u64,
    pub resident_bytes: u64,
    pub open_fds: u64,
    pub max_fds: u64,
}

/// Measures the resource usage.
#[derive(Debug, Default)]
pub(super) struct Process {
    open_fds: u64,
    count_at: u64,
}

impl Process {
    /// Returns the usage at the time `now`, in milliseconds.
    pub(super) fn usage(&mut self, now: u64) -> Usage {
        let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            (usage.user_time() + usage.system_time()).num_microseconds()
        });
        let mut open_fds = reported_fds();
        if open_fds == 0 {
            if now >= self.count_at {
                self.count_at = now + COUNT_PERIOD_MS;
                self.open_fds = counted_fds();
            }
            open_fds = self.open_fds;
        }
        Usage {
            cpu_us: u64::try_from(cpu).unwrap_or(0),
            resident_bytes: resident_bytes().unwrap_or(0),
            open_fds,
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        }
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// Returns the number of open descriptors as the kernel reports it; 0 before Linux 6.2.
fn reported_fds() -> u64 {
    fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len())
}

fn counted_fds() -> u64 {
    // One of the descriptors is used to read the directory.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_measured() {
        let mut process = Process::default();
        let usage = process.usage(0);
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.cpu_us > 0 && usage.max_fds > 3, "{usage:?}");
        assert!(usage.open_fds >= 3, "{usage:?}");
        // Other tests open and close descriptors meanwhile.
        let file = fs::File::open("/").unwrap();
        assert!(counted_fds() >= 4);
        drop(file);
    }
}
