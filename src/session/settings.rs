//! A configuration and the TLS contexts made from its files.
//!
//! Owns both, so a session keeps the authorities of the configuration that it began
//! with, even after a reload.

use std::ops::Deref;
use std::rc::Rc;

use crate::config::Config;
use crate::net::tls_client::Contexts;

/// A configuration in force.
pub struct Settings {
    config: Rc<Config>,
    /// TLS to servers.
    pub tls: Contexts,
}

impl Settings {
    /// `tls` must have a context for each CA file of `config`.
    pub fn new(config: Rc<Config>, tls: Contexts) -> Rc<Settings> {
        Rc::new(Settings { config, tls })
    }
}

impl Deref for Settings {
    type Target = Config;

    fn deref(&self) -> &Config {
        &self.config
    }
}
