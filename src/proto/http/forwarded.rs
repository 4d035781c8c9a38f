//! The client's address as proxies tell it in a request.
//!
//! Owns the reading of X-Forwarded-For and of Forwarded (RFC 7239). Each proxy
//! appends whom it was asked by, so the list is read from its end: an address
//! counts only if the one behind it is a proxy that is believed. It never
//! decides who is believed.

use std::net::{IpAddr, SocketAddr};

/// The client that `list` (all X-Forwarded-For fields) or else `forwarded` (all
/// Forwarded fields) names: the last one that `trusted` does not hold for.
/// Its port is `port` where none is told. `None` where nothing is told, or
/// nothing that is an address.
pub fn client(
    list: Option<&str>,
    forwarded: Option<&str>,
    port: u16,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    match (list, forwarded) {
        (Some(list), _) => last_stranger(list.rsplit(',').map(str::trim), port, trusted),
        (None, Some(list)) => last_stranger(list.rsplit(',').map(of_element), port, trusted),
        (None, None) => None,
    }
}

fn last_stranger<'a>(
    nodes: impl Iterator<Item = &'a str>,
    port: u16,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let mut client = None;
    for node in nodes {
        // What stands before a name that is no address is nobody's word.
        let Some(address) = address(node, port) else {
            break;
        };
        client = Some(address);
        if !trusted(address.ip()) {
            break;
        }
    }
    client
}

/// The node of the `for` parameter in an element of Forwarded; empty if none.
fn of_element(element: &str) -> &str {
    element
        .split(';')
        .find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
            let named = name.trim().eq_ignore_ascii_case("for");
            named.then_some(quoted.unwrap_or(value))
        })
        .unwrap_or_default()
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:80`.
fn address(node: &str, port: u16) -> Option<SocketAddr> {
    let bare = node.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let ip = bare.unwrap_or(node).parse::<IpAddr>();
    let address = match ip {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => node.parse().ok()?,
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(list: Option<&str>, forwarded: Option<&str>) -> Option<String> {
        let trusted = |ip: IpAddr| ip.to_string().starts_with("10.");
        client(list, forwarded, 7, trusted).map(|address| address.to_string())
    }

    #[test]
    fn the_last_stranger_of_a_list_is_the_client() {
        for (list, expected) in [
            ("203.0.113.9", Some("203.0.113.9:7")),
            ("203.0.113.9, 10.0.0.1", Some("203.0.113.9:7")),
            (
                "192.0.2.66, 203.0.113.9,10.0.0.1, 10.0.0.2",
                Some("203.0.113.9:7"),
            ),
            ("10.0.0.1, 10.0.0.2", Some("10.0.0.1:7")),
            ("203.0.113.9:99", Some("203.0.113.9:99")),
            ("2001:db8::1", Some("[2001:db8::1]:7")),
            ("[2001:db8::1]:99", Some("[2001:db8::1]:99")),
            ("::ffff:203.0.113.9", Some("203.0.113.9:7")),
            ("203.0.113.9, unknown", None),
            ("203.0.113.9, unknown, 10.0.0.1", Some("10.0.0.1:7")),
            ("", None),
            ("203.0.113.9, ", None),
        ] {
            assert_eq!(told(Some(list), None).as_deref(), expected, "{list}");
        }
    }

    #[test]
    fn forwarded_names_it_in_a_parameter() {
        for (list, expected) in [
            ("for=203.0.113.9", Some("203.0.113.9:7")),
            (
                "proto=https;For=\"[2001:db8::1]:99\"; by=x",
                Some("[2001:db8::1]:99"),
            ),
            (
                "for=192.0.2.66, for=203.0.113.9, for=10.0.0.1",
                Some("203.0.113.9:7"),
            ),
            ("for=_hidden", None),
            ("by=10.0.0.1", None),
        ] {
            assert_eq!(told(None, Some(list)).as_deref(), expected, "{list}");
        }
    }

    #[test]
    fn the_older_field_wins() {
        let told = told(Some("203.0.113.9"), Some("for=192.0.2.66"));
        assert_eq!(told.as_deref(), Some("203.0.113.9:7"));
    }
}
