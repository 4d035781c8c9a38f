//! The properties of connections to a domain's server: TLS, certificates, PROXY protocol.
//!
//! Owns the values of the keys in a `domains` entry, and of related `server_` keys. Opens
//! no files.

use std::path::PathBuf;

use super::value::{Setting, YES_NO};

/// Whether the connection to a server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS if the server offers it. Otherwise plain text, but only to a loopback
    /// address or a configured `server`.
    Auto,
    /// STARTTLS, otherwise no session.
    Required,
    /// TLS from the first byte (XEP-0368), otherwise no session.
    Direct,
    /// Plain text, even if the server offers STARTTLS.
    None,
}

impl Tls {
    /// The value in the configuration.
    pub(crate) fn name(self) -> &'static str {
        let found = TLS.iter().find(|(_, tls)| *tls == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

/// Whether a domain outside the `domains` list may lead to internal addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivateAddresses {
    /// Internal addresses are allowed only on port 5222 and through the domain's own A or
    /// AAAA record, because an SRV record could choose any internal host and port.
    StandardPort,
    /// Internal addresses are refused.
    Refuse,
    /// Internal addresses are allowed.
    Allow,
}

/// Which clients see a server's SASL mechanisms with channel binding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Removed for web pages, which cannot use them; relayed to other clients.
    #[default]
    Auto,
    /// Removed for all clients.
    Strip,
    /// Relayed to all clients.
    Relay,
}

impl ChannelBinding {
    /// Whether these mechanisms are removed for a client with this Origin header.
    pub fn strips_for(self, origin: Option<&str>) -> bool {
        let is_page = |origin: &str| {
            origin.split_once("://").is_some_and(|(scheme, _)| {
                scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
            })
        };
        match self {
            ChannelBinding::Auto => origin.is_some_and(is_page),
            ChannelBinding::Strip => true,
            ChannelBinding::Relay => false,
        }
    }
}

/// The properties of connections to a domain's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAccess {
    /// `None` means that `server_tls` applies.
    pub tls: Option<Tls>,
    /// Whether the server's certificate is verified.
    pub verify: bool,
    /// The only certificate authorities to trust; `None` means that `server_ca_file`
    /// applies.
    pub ca_file: Option<PathBuf>,
    /// The header that reports the client's address to the server.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Which clients see SASL mechanisms with channel binding.
    pub channel_binding: ChannelBinding,
}

impl Default for ServerAccess {
    fn default() -> Self {
        ServerAccess {
            tls: None,
            verify: true,
            ca_file: None,
            proxy_protocol: None,
            channel_binding: ChannelBinding::Auto,
        }
    }
}

pub(super) const TLS: &[(&str, Tls)] = &[
    ("auto", Tls::Auto),
    ("required", Tls::Required),
    ("direct", Tls::Direct),
    ("none", Tls::None),
];

pub(super) const PRIVATE_ADDRESSES: &[(&str, PrivateAddresses)] = &[
    ("standard-port", PrivateAddresses::StandardPort),
    ("refuse", PrivateAddresses::Refuse),
    ("allow", PrivateAddresses::Allow),
];

const PROXY_PROTOCOL: &[(&str, Option<ProxyProtocol>)] = &[
    ("v1", Some(ProxyProtocol::V1)),
    ("v2", Some(ProxyProtocol::V2)),
    ("none", None),
];

const CHANNEL_BINDING: &[(&str, ChannelBinding)] = &[
    ("auto", ChannelBinding::Auto),
    ("strip", ChannelBinding::Strip),
    ("relay", ChannelBinding::Relay),
];

impl ServerAccess {
    /// Reads a key of a `domains` entry.
    pub(super) fn set(&mut self, key: &str, setting: &mut Setting<'_>) {
        match key {
            "tls" => self.tls = Some(setting.choice(TLS)),
            "verify" => self.verify = setting.choice(YES_NO),
            "ca_file" => self.ca_file = setting.path("/etc/ssl/xmpp-ca.pem"),
            "proxy_protocol" => self.proxy_protocol = setting.choice(PROXY_PROTOCOL),
            _ => self.channel_binding = setting.choice(CHANNEL_BINDING),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ChannelBinding;

    #[test]
    fn by_default_only_web_pages_lose_channel_binding() {
        for (origin, page) in [
            (Some("https://example.com"), true),
            (Some("HTTP://localhost:8080"), true),
            (Some("null"), false),
            (Some(""), false),
            (Some("file://"), false),
            (Some("app://https"), false),
            (Some("httpsx://example.com"), false),
            (None, false),
        ] {
            assert_eq!(ChannelBinding::default().strips_for(origin), page);
            assert!(ChannelBinding::Strip.strips_for(origin));
            assert!(!ChannelBinding::Relay.strips_for(origin));
        }
    }
}
