//! The rules for the connection to a domain's server: which addresses are allowed, and how
//! secure the connection must be.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::buf::Buf;
use crate::config::server_access::{PrivateAddresses, ProxyProtocol, Tls};
use crate::config::{Config, Domain};
use crate::net::dns::locator::{PORT, Target};
use crate::net::private_addresses::PrivateAddressSet;
use crate::net::tls_client::TlsRequest;
use crate::proto::proxy_protocol;
use crate::session::Tick;

pub(super) struct AccessRules {
    pub tls: Tls,
    verify: bool,
    ca_file: Option<PathBuf>,
    proxy_protocol: Option<ProxyProtocol>,
    private_addresses: PrivateAddresses,
    /// The domain is in `domains`, so it may lead to any address.
    pub is_listed: bool,
    /// The server is in the configuration.
    pub is_configured: bool,
}

impl AccessRules {
    /// Returns the rules for a domain with this entry in `domains`, or without one.
    pub fn new(entry: Option<&Domain>, config: &Config) -> AccessRules {
        let access = entry.map(|entry| entry.access.clone()).unwrap_or_default();
        AccessRules {
            tls: access.tls.unwrap_or(config.server_tls),
            verify: access.verify,
            ca_file: access.ca_file.or_else(|| config.server_ca_file.clone()),
            proxy_protocol: access.proxy_protocol,
            private_addresses: config.private_addresses,
            is_listed: entry.is_some(),
            is_configured: !config.servers_of(entry).is_empty(),
        }
    }

    /// Whether a target may be dialled. The client chooses an unlisted domain, and the owner of
    /// that domain chooses the addresses in its DNS records.
    pub fn may_dial(&self, target: &Target, internal: &mut PrivateAddressSet, now: Tick) -> bool {
        let Some(address) = target.address.tcp() else {
            return true;
        };
        let standard = target.is_fallback && address.port() == PORT;
        let mut is_outside = || !internal.contains(address.ip(), now);
        self.is_listed
            || self.is_configured
            || match self.private_addresses {
                PrivateAddresses::Allow => true,
                PrivateAddresses::Refuse => is_outside(),
                PrivateAddresses::StandardPort => standard || is_outside(),
            }
    }

    /// Whether plain text is allowed with a server that offers no TLS.
    pub fn allow_plain_text(&self, target: Option<&Target>) -> bool {
        let is_local = target.is_some_and(|target| target.address.is_local());
        self.tls == Tls::Auto && (self.is_configured || is_local)
    }

    /// Whether the server gets the bare header while the connection has no TLS: this is so if
    /// TLS must follow, or if the domain is not listed.
    pub fn want_bare_header(&self, target: Option<&Target>) -> bool {
        let stays = self.tls == Tls::None || self.allow_plain_text(target);
        !(stays && self.is_listed)
    }

    /// Queues the PROXY header with the addresses of the client and of the server, if the server
    /// expects one.
    pub fn write_proxy_header(
        &self,
        client: Option<SocketAddr>,
        server: Option<SocketAddr>,
        out: &mut Buf,
    ) {
        match self.proxy_protocol {
            Some(ProxyProtocol::V1) => proxy_protocol::write_v1(out, client, server),
            Some(ProxyProtocol::V2) => proxy_protocol::write_v2(out, client, server),
            None => {}
        }
    }

    /// Returns the properties of TLS with the server of `domain`.
    pub fn tls_request<'a>(&'a self, domain: &'a str, target: Option<&Target>) -> TlsRequest<'a> {
        TlsRequest {
            domain,
            ca_file: self.ca_file.as_deref(),
            verify: self.verify,
            direct: target.is_some_and(|target| target.direct),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, DomainRule};
    use crate::net::address::Address;

    /// Whether plain text is allowed with a server that offers no TLS, and whether the server
    /// gets the bare header.
    #[test]
    fn plain_text_is_for_this_machine_and_for_configured_servers() {
        let listed = |key: &str| format!("domains:\n  - name: a.example\n    {key}\n");
        for (config, local, remote) in [
            ("", (true, true), (false, true)),
            ("server: h.example:5222", (true, true), (true, true)),
            (&listed("tls: auto"), (true, false), (false, true)),
            (
                &listed("server: h.example:5222"),
                (true, false),
                (true, false),
            ),
            (&listed("tls: required"), (false, true), (false, true)),
            (&listed("tls: none"), (false, false), (false, false)),
        ] {
            let loaded = config::parse("-", config).expect("a good file");
            let entry = match loaded.config.domain("a.example") {
                DomainRule::Listed(entry) => Some(entry),
                DomainRule::Any | DomainRule::Unlisted => None,
            };
            let rules = AccessRules::new(entry, &loaded.config);
            for (address, expected) in [("127.0.0.1:5222", local), ("192.0.2.1:5222", remote)] {
                let target = Target {
                    address: Address::Tcp(address.parse().expect("an address")),
                    direct: false,
                    is_fallback: false,
                    backup: false,
                    server: None,
                };
                let plain = rules.allow_plain_text(Some(&target));
                let bare = rules.want_bare_header(Some(&target));
                assert_eq!((plain, bare), expected, "{address} with {config:?}");
            }
        }
    }
}
