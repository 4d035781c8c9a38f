//! The files that exist as long as the daemon: its PID file and its unix sockets.

use crate::daemon::pid_file::PidFile;
use crate::daemon::privileges::Identity;
use crate::net::socket_file::SocketFile;

/// Dropping this value leaves the files in place, because workers and the process that
/// started the daemon hold copies of it. The owner calls [`OwnedFiles::remove`].
#[derive(Default)]
pub(super) struct OwnedFiles {
    pub pid_file: Option<PidFile>,
    pub sockets: Vec<SocketFile>,
}

impl OwnedFiles {
    pub fn remove(self) {
        self.sockets.into_iter().for_each(SocketFile::remove);
        self.pid_file.into_iter().for_each(PidFile::remove);
    }

    /// Makes the configured user and group the owners of the sockets.
    pub fn give_to(&self, identity: &Identity) -> Result<(), String> {
        let (user, group) = identity.file_owner();
        if user.is_none() && group.is_none() {
            return Ok(());
        }
        for file in &self.sockets {
            file.give_to(user, group).map_err(|error| {
                let path = file.path().display();
                format!("cannot give unix:{path} to 'user' and 'group': {error}")
            })?;
        }
        Ok(())
    }
}
