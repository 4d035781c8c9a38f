//! The step down from root.
//!
//! Owns the look-up of the user and group that the configuration names, the
//! change to them, and the proof that there is no way back. Always gives up
//! privileges of programs to be executed; the daemon executes none.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid, initgroups, setgroups,
    setresgid, setresuid,
};

/// Who the daemon is to be.
pub struct Identity {
    user: Option<(String, CString, Uid)>,
    group: Option<Gid>,
}

impl Identity {
    /// Looks up the user and group of the keys `user` and `group`.
    ///
    /// # Errors
    /// There is none, or only root could become it: in words.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Identity, String> {
        let identity = Identity::look_up(user, group)?;
        match identity.is_reachable() {
            true => Ok(identity),
            false => Err(
                "keys 'user' and 'group': only root can become somebody else; \
                          start the daemon as root, or take the keys out"
                    .to_owned(),
            ),
        }
    }

    /// Looks up the values of the keys `user` and `group`: names or numbers. A
    /// user without a group gets the group of its account.
    ///
    /// # Errors
    /// There is none: in words.
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
            let c_name = CString::new(account.name.as_str()).map_err(|_| failed("bad name"))?;
            identity.user = Some((account.name, c_name, account.uid));
            identity.group = Some(account.gid);
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

    /// Whether this process has this identity or can assume it.
    pub fn is_reachable(&self) -> bool {
        let is_user = self.user.as_ref().is_none_or(|user| user.2 == geteuid());
        geteuid().is_root() || (is_user && self.group.is_none_or(|group| group == getegid()))
    }

    /// Becomes it, for good.
    ///
    /// # Errors
    /// What the kernel refused, or what privilege is left: in words.
    pub fn assume(&self) -> Result<(), String> {
        let failed = |what: &'static str| {
            move |error: Errno| format!("cannot give up privileges: {what}: {}", error.desc())
        };
        if geteuid().is_root() {
            match (&self.user, self.group) {
                (Some((_, name, _)), Some(group)) => {
                    initgroups(name, group).map_err(failed("initgroups"))?;
                }
                (None, Some(group)) => setgroups(&[group]).map_err(failed("setgroups"))?,
                _ => {}
            }
            if let Some(group) = self.group {
                setresgid(group, group, group).map_err(failed("setresgid"))?;
            }
            if let Some((_, _, user)) = self.user {
                setresuid(user, user, user).map_err(failed("setresuid"))?;
            }
        }
        nix::sys::prctl::set_no_new_privs().map_err(failed("no-new-privs"))?;
        self.verify()
    }

    /// Asks the kernel who we are, and whether root can be had back.
    fn verify(&self) -> Result<(), String> {
        let failed = |why: &str| Err(format!("privileges are left after giving them up: {why}"));
        if let Some((_, _, user)) = self.user {
            let now = getresuid().map_err(|error| error.desc().to_owned())?;
            if [now.real, now.effective, now.saved] != [user; 3] {
                return failed("another user id");
            }
            if !user.is_root() {
                let root = Uid::from_raw(0);
                if setresuid(root, root, root).is_ok() {
                    return failed("root can be had back");
                }
                let group = Gid::from_raw(0);
                if self.group != Some(group) && setresgid(group, group, group).is_ok() {
                    return failed("root's group can be had back");
                }
            }
        }
        if let Some(group) = self.group {
            let now = getresgid().map_err(|error| error.desc().to_owned())?;
            if [now.real, now.effective, now.saved] != [group; 3] {
                return failed("another group id");
            }
        }
        Ok(())
    }

    /// To whom files are to be given that root makes for it; neither where they
    /// are its own from the start.
    pub fn file_owner(&self) -> (Option<Uid>, Option<Gid>) {
        match geteuid().is_root() {
            true => (self.user.as_ref().map(|(_, _, user)| *user), self.group),
            false => (None, None),
        }
    }

    /// Whether it is root because the configuration names no user.
    pub fn is_root_by_default(&self) -> bool {
        self.user.is_none() && geteuid().is_root()
    }

    /// The name of the user that the configuration asks for.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|(name, ..)| name.as_str())
    }
}
