//! What kinds of values the keys of the file take.
//!
//! Owns the step from the text that stands in the file to the value in `Config`:
//! numbers, sizes, times, lists, and those kinds that one key alone takes. Never
//! reads YAML; a value that is refused is reported and keeps its default.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::domains::host_name;
use super::problem::{Report, What};
use super::value::{choice, refuse, seconds, text, whole};
use super::yaml::{Node, Value};
use super::{Glob, Network};
use crate::log::Level;

/// The largest number of bytes or connections that a key takes.
pub(super) const MAX_BYTES: u64 = usize::MAX as u64 >> 1;

/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

/// One value on its way into the configuration.
pub(super) struct Setting<'a> {
    pub key: &'static str,
    pub node: &'a Node,
    pub report: &'a mut Report,
}

impl<'a> Setting<'a> {
    pub fn refuse(&mut self, allowed: &str) {
        refuse(self.key, self.node, allowed, self.report);
    }

    pub fn text(&mut self, allowed: &str) -> Option<&'a str> {
        text(self.key, self.node, allowed, self.report)
    }

    /// Each value of a list; a lone value is a list of one.
    pub fn texts(&mut self, allowed: &str) -> Vec<(&'a Node, &'a str)> {
        let nodes = match &self.node.value {
            Value::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(self.node),
        };
        nodes
            .iter()
            .filter_map(|node| Some((node, text(self.key, node, allowed, self.report)?)))
            .collect()
    }

    /// Text with neither white space nor control characters, and not empty.
    pub fn word(&mut self, allowed: &str) -> Option<String> {
        let text = self.text(allowed)?;
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.refuse(allowed);
            return None;
        }
        Some(text.to_owned())
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choice(self.key, self.node, choices, self.report)
    }

    pub fn whole<T: TryFrom<u64>>(
        &mut self,
        range: RangeInclusive<u64>,
        allowed: &str,
    ) -> Option<T> {
        let text = self.text(allowed)?;
        let number = whole(text)
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.refuse(allowed);
        }
        number
    }

    /// A number of bytes; 0 is no limit.
    pub fn size(&mut self) -> Option<usize> {
        let allowed = "a whole number of bytes, or 0 for no limit";
        let bytes: usize = self.whole(0..=MAX_BYTES, allowed)?;
        Some(if bytes == 0 { usize::MAX } else { bytes })
    }

    /// A number of things; 0 is any number of them.
    pub fn count(&mut self) -> Option<Option<u32>> {
        let allowed = "a whole number, or 0 for no limit";
        let count: u32 = self.whole(0..=u64::from(u32::MAX), allowed)?;
        Some((count > 0).then_some(count))
    }

    pub fn time(&mut self) -> Option<Duration> {
        let allowed = "a number of seconds above 0 and up to 86400, such as 30 or 0.5";
        let text = self.text(allowed)?;
        let time = seconds(text).filter(|time| !time.is_zero());
        if time.is_none() {
            self.refuse(allowed);
        }
        time
    }

    pub fn time_or_never(&mut self) -> Option<Option<Duration>> {
        let allowed = "a number of seconds up to 86400, such as 30 or 0.5, or 0 for never";
        let text = self.text(allowed)?;
        let Some(time) = seconds(text) else {
            self.refuse(allowed);
            return None;
        };
        // A time too small to tell from 0 was not meant as never.
        let never = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
        if time.is_zero() && !never {
            self.refuse(allowed);
            return None;
        }
        Some((!never).then_some(time))
    }
}

/// URIs of WebSocket endpoints.
pub(super) fn endpoints(setting: &mut Setting<'_>) -> Vec<String> {
    let allowed = "the URI of a WebSocket such as wss://example.com/xmpp-websocket";
    let mut uris = Vec::new();
    for (node, text) in setting.texts(allowed) {
        let rest = text
            .strip_prefix("wss://")
            .or_else(|| text.strip_prefix("ws://"));
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
        match rest {
            Some(rest) if !rest.is_empty() && rest.bytes().all(plain) => uris.push(text.to_owned()),
            _ => refuse(setting.key, node, allowed, setting.report),
        }
    }
    uris
}

/// Proxies to believe: networks, and whether `unix:` is among them.
pub(super) fn proxies(setting: &mut Setting<'_>) -> (Vec<Network>, bool) {
    let allowed = "a numeric address or network such as 192.0.2.7, 192.0.2.0/24 or \
                   2001:db8::/32, 'unix:' in quotes for unix sockets, or a list of them";
    let mut networks = Vec::new();
    let mut unix = false;
    for (node, text) in setting.texts(allowed) {
        match text.parse() {
            _ if text == "unix:" => unix = true,
            Ok(network) => networks.push(network),
            Err(_) => refuse(setting.key, node, allowed, setting.report),
        }
    }
    (networks, unix)
}

pub(super) fn dns_servers(setting: &mut Setting<'_>) -> Vec<SocketAddr> {
    let allowed = "a numeric address such as 192.0.2.53, 192.0.2.53:5353 or \
                   '[2001:db8::53]:53' in quotes, or a list of them";
    let mut servers = Vec::new();
    for (node, text) in setting.texts(allowed) {
        let address = text
            .parse::<IpAddr>()
            .map(|ip| SocketAddr::new(ip, DNS_PORT));
        match address.or_else(|_| text.parse()) {
            Ok(address) => servers.push(address),
            Err(_) => refuse(setting.key, node, allowed, setting.report),
        }
    }
    servers
}

pub(super) fn pid_file(setting: &mut Setting<'_>) -> Option<PathBuf> {
    let allowed = "the path of a file, from the root, such as /run/jabsocket.pid";
    let path = setting.text(allowed)?;
    if !path.starts_with('/') {
        setting.refuse(allowed);
        return None;
    }
    Some(path.into())
}

pub(super) fn status_listen(setting: &mut Setting<'_>) -> Vec<SocketAddr> {
    let allowed = "a numeric address and a port such as 127.0.0.1:9150 or '[::1]:9150' in \
                   quotes, or a list of up to 16 of them";
    let mut addresses = Vec::new();
    for (node, text) in setting.texts(allowed) {
        match text.parse() {
            Ok(address) if addresses.len() < 16 => addresses.push(address),
            _ => refuse(setting.key, node, allowed, setting.report),
        }
    }
    addresses
}

/// DNS names of this host.
pub(super) fn host_names(setting: &mut Setting<'_>) -> Vec<String> {
    let allowed = "a host name without a port, such as xmpp.example.com, or a list of them";
    let mut names = Vec::new();
    for (node, text) in setting.texts(allowed) {
        match host_name(text) {
            Some(name) => names.push(name),
            None => refuse(setting.key, node, allowed, setting.report),
        }
    }
    names
}

pub(super) fn resource(setting: &mut Setting<'_>) -> Option<String> {
    let resource = setting.word("the path of the request, such as /xmpp-websocket")?;
    let reason = if !resource.starts_with('/') {
        "a path begins with '/'"
    } else if resource.contains(['?', '#']) {
        "only the part before '?' is compared"
    } else {
        return Some(resource);
    };
    setting.report.add(
        setting.node.line,
        What::NeverMatches {
            key: setting.key.to_owned(),
            value: resource.clone(),
            reason,
        },
    );
    Some(resource)
}

pub(super) fn origin(setting: &mut Setting<'_>) -> Vec<Glob> {
    let allowed = "an origin or a pattern such as https://*.example.com, or a list of them \
                   ('' in quotes lets requests without an Origin header pass)";
    setting
        .texts(allowed)
        .into_iter()
        .map(|(_, text)| Glob::new(&text.to_lowercase()))
        .collect()
}

pub(super) fn log_level(setting: &mut Setting<'_>) -> Option<Level> {
    let allowed = "one of LOG_EMERG, LOG_ALERT, LOG_CRIT, LOG_ERR, LOG_WARNING, LOG_NOTICE, \
                   LOG_INFO, LOG_DEBUG";
    let level = Level::from_name(setting.text(allowed)?);
    if level.is_none() {
        setting.refuse(allowed);
    }
    level
}
