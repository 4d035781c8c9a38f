//! A configuration and the TLS contexts made from its files.
//!
//! They belong together, so that after a reload an existing session keeps both its
//! configuration and the certificate authorities of that configuration.

use std::ops::Deref;
use std::rc::Rc;

use crate::config::Config;
use crate::net::tls_client::Contexts;

/// A configuration that is in use.
pub struct Settings {
    config: Rc<Config>,
    /// The contexts for TLS with servers.
    pub tls: Contexts,
}

impl Settings {
    /// Creates settings. `tls` must have a context for each CA file of `config`.
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
