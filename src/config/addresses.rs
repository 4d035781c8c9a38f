//! Keys whose values are addresses or host names.
//!
//! Owns the values that each of these keys accepts. Never resolves a name.

use std::net::{IpAddr, SocketAddr};

use super::status_address::StatusAddress;
use super::value::{Setting, host_name};
use super::{Config, Network};

/// The standard port of DNS servers.
const DNS_PORT: u16 = 53;

/// URIs of WebSocket endpoints.
pub(super) fn endpoints(setting: &mut Setting<'_>) -> Vec<String> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    setting.list(
        "the URI of a WebSocket such as wss://example.com/xmpp-websocket",
        |uri| {
            let (scheme, rest) = uri.split_once("://")?;
            let good =
                ["wss", "ws"].contains(&scheme) && !rest.is_empty() && rest.bytes().all(plain);
            good.then(|| uri.to_owned())
        },
    )
}

/// The value of `trusted_proxies`: networks, and optionally `unix:`.
pub(super) fn proxies(config: &mut Config, setting: &mut Setting<'_>) {
    let allowed = "a numeric address or network such as 192.0.2.7, 192.0.2.0/24 or \
                   2001:db8::/32, 'unix:' in quotes for Unix sockets, or a list of them";
    let proxies = setting.list(allowed, |text| match text {
        "unix:" => Some(None),
        network => Network::read(network).map(Some),
    });
    config.trusts_unix = proxies.contains(&None);
    config.trusted_proxies = proxies.into_iter().flatten().collect();
}

pub(super) fn dns_servers(setting: &mut Setting<'_>) -> Vec<SocketAddr> {
    let allowed = "a numeric address such as 192.0.2.53, 192.0.2.53:5353 or \
                   '[2001:db8::53]:53' in quotes, or a list of them";
    setting.list(allowed, |text| {
        let ip = text.parse::<IpAddr>();
        let address = ip.map(|ip| SocketAddr::new(ip, DNS_PORT));
        address.or_else(|_| text.parse()).ok()
    })
}

pub(super) fn status_listen(setting: &mut Setting<'_>) -> Vec<StatusAddress> {
    const MAX: usize = 16;
    let allowed = "a numeric address and a port such as 127.0.0.1:9150 or '[::1]:9150' in \
                   quotes, a unix socket such as unix:/run/jabsocket/status.sock (at most 103 \
                   bytes), or a list of up to 16 of them";
    let addresses = setting.list(allowed, StatusAddress::read);
    if let Some(node) = setting.nodes().get(MAX) {
        setting.refuse(node, allowed);
    }
    addresses
}

/// DNS names of this host.
pub(super) fn host_names(setting: &mut Setting<'_>) -> Vec<String> {
    let allowed = "a host name without a port, such as xmpp.example.com, or a list of them";
    setting.list(allowed, host_name)
}
