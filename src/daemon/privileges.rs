//! Dropping root privileges.
//!
//! Owns the look-up of the configured user and group, the switch to them, and the check
//! that root cannot be regained. Always sets no-new-privs, so programs started for an
//! upgrade cannot gain privileges either.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid, initgroups, setgroups,
    setresgid, setresuid,
};

/// The user and group that the daemon runs as.
pub struct Identity {
    user: Option<User>,
    group: Option<Gid>,
}

impl Identity {
    /// Looks up the values of the keys `user` and `group`, and checks that this process can
    /// switch to them.
    ///
    /// # Errors
    /// The user or group does not exist, or only root could switch to it.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Identity, String> {
        let identity = Identity::look_up(user, group)?;
        match identity.is_reachable() {
            true => Ok(identity),
            false => {
                let why = "keys 'user' and 'group': only root can change user or group; start \
                           the daemon as root, or remove the keys";
                Err(why.to_owned())
            }
        }
    }

    /// Looks up the values of the keys `user` and `group`: names or numbers. A user without
    /// a configured group gets the primary group of the account.
    ///
    /// # Errors
    /// The user or group does not exist.
    pub fn look_up(user: Option<&str>, group: Option<&str>) -> Result<Identity, String> {
        let mut identity = Identity {
            user: None,
            group: None,
        };
        if let Some(name) = user {
            let failed = |why: &str| format!("key 'user': '{name}': {why}");
            let found = match name.parse() {
                Ok(number) => User::from_uid(Uid::from_raw(number)),
                Err(_) => User::from_name(name),
            };
            let account = found
                .map_err(|error| failed(error.desc()))?
                .ok_or_else(|| failed("there is no such user"))?;
            identity.group = Some(account.gid);
            identity.user = Some(account);
        }
        if let Some(name) = group {
            let failed = |why: &str| format!("key 'group': '{name}': {why}");
            let found = match name.parse() {
                Ok(number) => Group::from_gid(Gid::from_raw(number)),
                Err(_) => Group::from_name(name),
            };
            let group = found
                .map_err(|error| failed(error.desc()))?
                .ok_or_else(|| failed("there is no such group"))?;
            identity.group = Some(group.gid);
        }
        Ok(identity)
    }

    /// Whether this process has this identity or can switch to it.
    pub fn is_reachable(&self) -> bool {
        let is_user = self.user.as_ref().is_none_or(|user| user.uid == geteuid());
        geteuid().is_root() || (is_user && self.group.is_none_or(|group| group == getegid()))
    }

    /// Switches to this identity for good.
    ///
    /// # Errors
    /// A system call failed, or privileges remain.
    pub fn assume(&self) -> Result<(), String> {
        let failed = |what: &'static str| {
            move |error: Errno| format!("cannot drop privileges: {what}: {}", error.desc())
        };
        if geteuid().is_root() {
            match (&self.user, self.group) {
                (Some(user), Some(group)) => {
                    let name = CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL);
                    let done = name.and_then(|name| initgroups(&name, group));
                    done.map_err(failed("initgroups"))?;
                }
                (None, Some(group)) => setgroups(&[group]).map_err(failed("setgroups"))?,
                _ => {}
            }
            if let Some(group) = self.group {
                setresgid(group, group, group).map_err(failed("setresgid"))?;
            }
            if let Some(User { uid, .. }) = self.user {
                setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
            }
        }
        nix::sys::prctl::set_no_new_privs().map_err(failed("no-new-privs"))?;
        self.verify()
    }

    /// Asks the kernel for the current identity, and checks that root cannot be regained.
    fn verify(&self) -> Result<(), String> {
        let failed = |why: &str| format!("privileges were not fully dropped: {why}");
        if let Some(User { uid, .. }) = self.user {
            let now = getresuid().map_err(|error| failed(error.desc()))?;
            if [now.real, now.effective, now.saved] != [uid; 3] {
                return Err(failed("the user id did not change"));
            }
            if !uid.is_root() {
                let root = Uid::from_raw(0);
                if setresuid(root, root, root).is_ok() {
                    return Err(failed("root privileges can be regained"));
                }
                let group = Gid::from_raw(0);
                if self.group != Some(group) && setresgid(group, group, group).is_ok() {
                    return Err(failed("root's group can be regained"));
                }
            }
        }
        if let Some(group) = self.group {
            let now = getresgid().map_err(|error| failed(error.desc()))?;
            if [now.real, now.effective, now.saved] != [group; 3] {
                return Err(failed("the group id did not change"));
            }
        }
        Ok(())
    }

    /// The owner of files that root creates for the daemon; nobody if the process is not
    /// root, because the files then belong to the right user from the start.
    pub fn file_owner(&self) -> (Option<Uid>, Option<Gid>) {
        match geteuid().is_root() {
            true => (self.user.as_ref().map(|user| user.uid), self.group),
            false => (None, None),
        }
    }

    /// Whether the process is root because no user is configured.
    pub fn is_root_by_default(&self) -> bool {
        self.user.is_none() && geteuid().is_root()
    }

    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str())
    }
}
