//! The program that the daemon starts for an upgrade: the file at its path at that time.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::handover_item::HandoverItem;
use crate::daemon::environment::{Environment, HANDOVER};

/// The program and how to start it.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    /// Variables for systemd, which this process has removed from its environment.
    variables: Vec<(&'static str, OsString)>,
}

impl Program {
    /// Must be called at the start, because the file may be gone later. `config` is the
    /// absolute path of the configuration file.
    pub fn of_this_process(config: &Path, foreground: bool, environment: &Environment) -> Program {
        let name = std::env::args_os().next().unwrap_or_default();
        let mut arguments: Vec<OsString> = vec!["-c".into(), config.into()];
        if foreground {
            arguments.push("-n".into());
        }
        Program {
            path: find(Path::new(&name)),
            arguments,
            variables: environment.for_systemd(),
        }
    }

    /// Starts the program and hands the descriptors over.
    pub(super) fn start(&self, items: &[&HandoverItem]) -> Result<Child, String> {
        let path = self.path.display();
        let descriptions: Vec<String> = items.iter().map(|item| item.description()).collect();
        let inheritable = |on| items.iter().try_for_each(|item| item.set_inheritable(on));
        let done = inheritable(true).map_err(|why| why.into());
        let started = done.and_then(|()| {
            Command::new(&self.path)
                .args(&self.arguments)
                .envs(self.variables.iter().map(|(name, value)| (name, value)))
                .env(HANDOVER, descriptions.join(" "))
                // If it fails to start, the whole group is killed.
                .process_group(0)
                .spawn()
        });
        let closed = inheritable(false);
        debug_assert_eq!(closed, Ok(()));
        started.map_err(|error| format!("cannot start {path}: {error}"))
    }
}

/// The absolute path of the running program. Symbolic links are kept, because an upgrade
/// may point them to another version.
fn find(name: &Path) -> PathBuf {
    let itself = PathBuf::from("/proc/self/exe");
    let id = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.dev(), data.ino()))
    };
    let own = id(&itself);
    let mut candidates = vec![name.to_owned()];
    if !name.as_os_str().as_encoded_bytes().contains(&b'/') {
        let directories = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&directories);
        candidates = directories.map(|directory| directory.join(name)).collect();
    }
    for candidate in candidates {
        if let Ok(path) = std::path::absolute(candidate)
            && own.is_some()
            && id(&path) == own
        {
            return path;
        }
    }
    std::fs::read_link(&itself).unwrap_or(itself)
}
