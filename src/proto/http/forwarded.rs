//! Reads the client's address that proxies report in a request.
//!
//! Supports X-Forwarded-For and Forwarded (RFC 7239, section 4). Each proxy appends the address
//! of its peer, so both lists are read from the end: an address counts only if a trusted proxy
//! appended it. The client itself may have sent the start of the list, in any form. If an
//! element cannot be read, everything before it is ignored. The caller decides which proxies
//! are trusted.

use std::net::{IpAddr, SocketAddr};

use super::head::is_token;

/// Returns the client that `list` (all X-Forwarded-For fields) or else `forwarded` (all
/// Forwarded fields) reports: the last address that is not `trusted`. An address without a port
/// gets `port`. Returns `None` if there are no addresses.
pub fn client(
    list: Option<&str>,
    forwarded: Option<&str>,
    port: u16,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    match (list, forwarded) {
        (Some(list), _) => {
            let nodes = elements(list, |list| list.rfind(','));
            last_stranger(nodes, |node| address(node, port), trusted)
        }
        (None, Some(list)) => {
            let address = |element: &str| address(&node(element)?, port);
            last_stranger(elements(list, last_comma), address, trusted)
        }
        (None, None) => None,
    }
}

fn last_stranger<'a>(
    elements: impl Iterator<Item = &'a str>,
    address: impl Fn(&str) -> Option<SocketAddr>,
    trusted: impl Fn(IpAddr) -> bool,
) -> Option<SocketAddr> {
    let mut client = None;
    for element in elements {
        // No trusted proxy vouches for what is listed before an element without an
        // address.
        let Some(address) = address(element) else {
            break;
        };
        client = Some(address);
        if !trusted(address.ip()) {
            break;
        }
    }
    client
}

/// Returns the elements of a list from its end, without empty ones (RFC 9110 5.6.1.2). `comma`
/// finds the last separator.
fn elements(list: &str, comma: impl Fn(&str) -> Option<usize>) -> impl Iterator<Item = &str> {
    let mut rest = Some(list);
    std::iter::from_fn(move || {
        let list = rest?;
        let at = comma(list);
        rest = at.map(|at| &list[..at]);
        Some(list[at.map_or(0, |at| at + 1)..].trim_matches([' ', '\t']))
    })
    .filter(|element| !element.is_empty())
}

/// Finds the last comma outside quoted strings. It searches from the end: quotes in the
/// client's part need not balance, but quotes in the last proxy's part do. An opening quote
/// follows a `=`, never a backslash, so the quotes of a well-formed element pair up from its
/// end just as from its start.
fn last_comma(list: &str) -> Option<usize> {
    let mut quoted = false;
    let mut before = list;
    while let Some(at) = before.rfind([',', '"']) {
        let mark = list.as_bytes()[at];
        before = &list[..at];
        match mark {
            b',' if !quoted => return Some(at),
            b'"' if !quoted => quoted = true,
            b'"' => {
                let escaping = before.len() - before.trim_end_matches('\\').len();
                quoted = escaping % 2 == 1;
            }
            _ => {}
        }
    }
    None
}

/// Returns the value of the `for` parameter of a Forwarded element; `None` if the element
/// violates the grammar, or does not have exactly one. White space around semicolons is
/// accepted, because the RFC's own examples have it.
fn node(element: &str) -> Option<String> {
    let space = [' ', '\t'];
    let mut node = None;
    let mut rest = element;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return node;
        }
        let (name, after) = rest.split_once('=')?;
        if !is_token(name.as_bytes()) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => bare(after)?,
        };
        rest = after.trim_start_matches(space);
        if !(rest.is_empty() || rest.starts_with(';')) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") && node.replace(value).is_some() {
            return None;
        }
    }
}

/// Reads a quoted string after its opening quote; returns its value and the rest.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

/// Reads a value without quotes; returns it and the rest. It accepts more than a token, because
/// many proxies omit the quotes around a port or an IPv6 address.
fn bare(text: &str) -> Option<(String, &str)> {
    let (value, rest) = text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len()));
    let plain = !value.contains(['"', '\\']);
    plain.then(|| (value.to_owned(), rest))
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
/// The port may be obfuscated: `_` and letters, digits, `.`, `_` or `-` (RFC 7239 6.2).
fn address(node: &str, port: u16) -> Option<SocketAddr> {
    let hidden = |port: &str| {
        let port = port.strip_prefix('_').unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        !port.is_empty() && port.bytes().all(allowed)
    };
    let node = match node.rsplit_once(':') {
        Some((name, port)) if hidden(port) => name,
        _ => node,
    };
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
            ("203.0.113.9:_port", Some("203.0.113.9:7")),
            ("[2001:db8::1]:_p-1.2", Some("[2001:db8::1]:7")),
            ("203.0.113.9:_", None),
            ("203.0.113.9:x", None),
            ("203.0.113.9, unknown", None),
            ("203.0.113.9, unknown, 10.0.0.1", Some("10.0.0.1:7")),
            ("", None),
            ("203.0.113.9, ,\t,", Some("203.0.113.9:7")),
            (",203.0.113.9, , 10.0.0.1,", Some("203.0.113.9:7")),
            (",,", None),
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
            ("for=203.0.113.9;by=_x ; host=a", Some("203.0.113.9:7")),
            (";;for=203.0.113.9;", Some("203.0.113.9:7")),
            ("for=\"\\2\\0\\3.0.113.9:_p\"", Some("203.0.113.9:7")),
            ("for=[2001:db8::1]:99", Some("[2001:db8::1]:99")),
            ("for=2001:db8::1", Some("[2001:db8::1]:7")),
            ("for=203.0.113.9, , for=10.0.0.1,", Some("203.0.113.9:7")),
            ("for=203.0.113.9;host=", Some("203.0.113.9:7")),
            ("for=_hidden", None),
            ("for=unknown", None),
            (
                "for=203.0.113.9, for=unknown, for=10.0.0.1",
                Some("10.0.0.1:7"),
            ),
            ("by=10.0.0.1", None),
            ("for=203.0.113.9, by=10.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(told(None, Some(list)).as_deref(), expected, "{list}");
        }
    }

    #[test]
    fn quotes_hide_what_the_client_wrote() {
        let proxy = "for=198.51.100.7";
        for (list, expected) in [
            // A Host that the client chose, quoted by the proxy.
            ("for=198.51.100.7;host=\"x;for=8.8.8.8;y\"", Some(proxy)),
            ("host=\"x, for=8.8.8.8\";for=198.51.100.7", Some(proxy)),
            (
                "for=198.51.100.7;host=\"\\\", for=8.8.8.8;y=\\\"\"",
                Some(proxy),
            ),
            ("for=198.51.100.7;host=\"a\\\\\"", Some(proxy)),
            // Unbalanced quotes from the client.
            ("for=8.8.8.8;by=\", for=198.51.100.7", Some(proxy)),
            ("for=8.8.8.8;by=\", for=\"198.51.100.7\"", Some(proxy)),
            (
                "for=8.8.8.8;by=\"\\, for=198.51.100.7;by=\"_x\"",
                Some(proxy),
            ),
            // An ambiguous element from a proxy: no address counts.
            ("for=198.51.100.7;host=x;for=8.8.8.8;y=z", None),
            ("for=198.51.100.7;host=x;for=8.8.8.8", None),
            ("for=8.8.8.8, for=198.51.100.7;host=a b", None),
            ("for=8.8.8.8, for=198.51.100.7;host=a\"b", None),
            ("for=8.8.8.8, for=198.51.100.7;host=\"a\\\"", None),
            ("for=8.8.8.8, for=198.51.100.7;host=\"", None),
            ("for=8.8.8.8, for=198.51.100.7;x", None),
            ("for=8.8.8.8\"", None),
        ] {
            let expected = expected.map(|text| text.replace("for=", "") + ":7");
            assert_eq!(told(None, Some(list)), expected, "{list}");
        }
    }

    /// Whatever the client sends, only addresses that the proxies appended count.
    #[test]
    fn no_start_of_a_list_hides_its_end() {
        let parts: Vec<&str> =
            "for=8.8.8.8|For=|8.8.8.8|\"|\"|\\|,|, |;|=|by=|host=|x| |10.0.0.9|\u{e9}"
                .split('|')
                .collect();
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let client = "198.51.100.7:4711";
        for _ in 0..100_000 {
            let mut some = |most: usize| -> String {
                (0..random(most))
                    .map(|_| parts[random(parts.len())])
                    .collect()
            };
            let (start, host) = (some(12), some(6));
            let escaped = host.replace('\\', "\\\\").replace('"', "\\\"");
            for by_proxies in [
                "for=198.51.100.7:4711".to_owned(),
                "for=\"198.51.100.7:4711\";proto=https".to_owned(),
                format!("host=\"{escaped}\";for=\"198.51.100.7:4711\""),
                format!("for=198.51.100.7:4711;host=\"{escaped}\";by=_x"),
                format!("for=198.51.100.7:4711;host=\"{escaped}\", for=10.0.0.1,"),
            ] {
                let list = format!("{start}, {by_proxies}");
                assert_eq!(told(None, Some(&list)).as_deref(), Some(client), "{list}");
            }
            let list = format!("{start}, 198.51.100.7:4711");
            assert_eq!(told(Some(&list), None).as_deref(), Some(client), "{list}");
        }
    }

    #[test]
    fn the_older_field_wins() {
        let told = told(Some("203.0.113.9"), Some("for=192.0.2.66"));
        assert_eq!(told.as_deref(), Some("203.0.113.9:7"));
    }
}
