//! Chooses the listener of a configuration that applies to a socket.
//!
//! Owns what identifies a socket, and the choice: first by the name from systemd
//! (`FileDescriptorName=`), then by address and port, or by path. The order of sockets and
//! listeners matters only for sockets that are otherwise alike (port 0 twice). If no
//! listener fits, none is chosen, so a socket never gets the rules of another port.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::{ListenAddress, Listener, StatusAddress};

/// What a socket is bound to, and its name from systemd. Identifies the socket.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    address: ListenAddress,
    configured_port: u16,
    port: u16,
    name: Option<String>,
}

/// Shows the name, if there is one.
impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_deref() {
            None | Some("") => Ok(()),
            Some(name) => write!(f, " ('{name}')"),
        }
    }
}

/// How well a listener fits a socket, from best to worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Name,
    Address,
    /// All addresses of the socket's family.
    AnyOfFamily,
    Any,
}

impl Bound {
    /// Describes a socket that this daemon has bound for `configured_port`, and that got `port`.
    pub(super) fn here(address: ListenAddress, configured_port: u16, port: u16) -> Bound {
        Bound {
            address,
            configured_port,
            port,
            name: None,
        }
    }

    /// Describes a socket from systemd.
    pub(super) fn from_systemd(address: ListenAddress, port: u16, name: &str) -> Bound {
        Bound {
            name: Some(name.to_owned()),
            ..Bound::here(address, port, port)
        }
    }

    /// The actual port; 0 for a unix socket.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Whether it was bound to `address` and `port` of the configuration. For port 0 it
    /// must also have the port that the system chose for `like`.
    pub(super) fn is_at(&self, address: &ListenAddress, port: u16, like: Option<&Bound>) -> bool {
        let same_port = like.is_none_or(|like| like.port == self.port);
        let same_address =
            self.address == *address && (self.configured_port == port || address.ip().is_none());
        self.name.is_none() && same_address && same_port
    }

    /// Whether it was bound to this address of `status_listen`.
    pub fn is_for_status(&self, address: &StatusAddress) -> bool {
        match address {
            StatusAddress::Tcp(tcp) => {
                let same_port = [0, self.port].contains(&tcp.port());
                self.address == ListenAddress::Ip(tcp.ip()) && same_port
            }
            StatusAddress::Unix(path) => self.address.path() == Some(path),
        }
    }

    /// The configured port; 0 if the system chose one.
    pub fn configured_port(&self) -> u16 {
        self.configured_port
    }

    /// The name from systemd; `None` if this daemon has bound the socket.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whether it came from systemd.
    pub(super) fn is_from_systemd(&self) -> bool {
        self.name.is_some()
    }

    fn fit(&self, listener: &Listener) -> Option<Fit> {
        if listener.name.is_some() && listener.name == self.name {
            return Some(Fit::Name);
        }
        let fits = addresses(listener).map(|address| self.fit_address(&address, listener.port));
        fits.flatten().min()
    }

    fn fit_address(&self, address: &ListenAddress, port: u16) -> Option<Fit> {
        let (Some(own), Some(other)) = (self.address.ip(), address.ip()) else {
            return (self.address == *address).then_some(Fit::Address);
        };
        let (own, other) = (own.to_canonical(), other.to_canonical());
        let same_family = own.is_ipv4() == other.is_ipv4();
        if port != self.configured_port && port != self.port {
            None
        } else if own == other {
            Some(Fit::Address)
        } else if other.is_unspecified() && same_family {
            Some(Fit::AnyOfFamily)
        } else if other.is_unspecified() && (other.is_ipv6() || own.is_unspecified()) {
            // A socket for all IPv6 addresses serves IPv4 too.
            Some(Fit::Any)
        } else {
            None
        }
    }
}

/// The addresses of a listener. All interfaces are `::`.
fn addresses(listener: &Listener) -> impl Iterator<Item = ListenAddress> {
    let any = ListenAddress::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let any = listener.listen.is_empty().then_some(any);
    listener.listen.iter().cloned().chain(any)
}

/// Returns, for each socket, the index of its listener, if one fits.
pub(super) fn choose(sockets: &[&Bound], listeners: &[&Listener]) -> Vec<Option<usize>> {
    let choice = |(at, socket): (usize, &&Bound)| {
        let fits = listeners.iter().map(|listener| socket.fit(listener));
        let fits: Vec<_> = fits.collect();
        let best = fits.iter().flatten().min()?;
        let of_best = |(at, fit): (usize, &Option<Fit>)| (fit.as_ref() == Some(best)).then_some(at);
        let equals: Vec<_> = fits.iter().enumerate().filter_map(of_best).collect();
        let alike = |other: &&&Bound| {
            other.address == socket.address && other.configured_port == socket.configured_port
        };
        let before = sockets[..at].iter().filter(alike).count();
        equals.get(before).or(equals.last()).copied()
    };
    sockets.iter().enumerate().map(choice).collect()
}

/// Shows a listener in messages: `'web', *:443`.
pub struct Named<'a>(pub &'a Listener);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named(listener) = self;
        let port = listener.port;
        let mut texts: Vec<String> = Vec::new();
        texts.extend(listener.name.as_ref().map(|name| format!("'{name}'")));
        texts.extend(addresses(listener).map(|address| match address {
            ListenAddress::Ip(_) if listener.listen.is_empty() => format!("*:{port}"),
            ListenAddress::Ip(ip) => SocketAddr::new(ip, port).to_string(),
            unix => unix.to_string(),
        }));
        f.write_str(&texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    /// Chooses listeners for sockets, which are written as `a:p` or `unix:...`. After a socket
    /// from systemd follow a space and its name.
    fn chosen(sockets: &[&str], listeners: &str) -> Vec<Option<usize>> {
        let text = format!("listeners: [{listeners}]");
        let config = parse("-", &text).expect(&text).config;
        let bound = |text: &&str| {
            let (address, name) = match text.split_once(' ') {
                Some((address, name)) => (address, Some(name)),
                None => (*text, None),
            };
            let (address, port) = match address.strip_prefix("unix:") {
                Some(path) => (ListenAddress::Path(path.into()), 0),
                None => {
                    let address: SocketAddr = address.parse().expect(address);
                    (ListenAddress::Ip(address.ip()), address.port())
                }
            };
            match name {
                Some(name) => Bound::from_systemd(address, port, name),
                None => Bound::here(address, port, if port == 0 { 40000 } else { port }),
            }
        };
        let sockets: Vec<Bound> = sockets.iter().map(bound).collect();
        let listeners: Vec<&Listener> = config.listeners.iter().collect();
        choose(&sockets.iter().collect::<Vec<_>>(), &listeners)
    }

    #[test]
    fn the_address_matters_and_not_the_order() {
        let all = [
            "127.0.0.1:80",
            "127.0.0.1:81",
            "127.0.0.2:80",
            "[::1]:80",
            "unix:/a",
            "unix:/b",
        ];
        let listeners = [
            "{port: 80, listen: 127.0.0.1}",
            "{port: 81, listen: 127.0.0.1}",
            "{port: 80, listen: [127.0.0.2, '::1']}",
            "{listen: 'unix:/a'}",
            "{listen: 'unix:/b'}",
        ];
        let expected = [0, 1, 2, 2, 3, 4];
        for turn in 0..all.len() {
            let mut sockets = all;
            sockets.rotate_left(turn);
            for reversed in [false, true] {
                let mut list = listeners;
                if reversed {
                    list.reverse();
                }
                let got = chosen(&sockets, &list.join(", "));
                for (at, socket) in all.iter().enumerate() {
                    let listener = match reversed {
                        true => listeners.len() - 1 - expected[at],
                        false => expected[at],
                    };
                    let at_socket = sockets.iter().position(|other| other == socket).unwrap();
                    assert_eq!(got[at_socket], Some(listener), "{socket} {turn} {reversed}");
                }
            }
        }
    }

    #[test]
    fn the_nearest_wildcard_counts_where_no_address_does() {
        let any = "{port: 80}";
        let v4 = "{port: 80, listen: 0.0.0.0}";
        let v6 = "{port: 80, listen: '::'}";
        let one = "{port: 80, listen: 192.0.2.1}";
        for (socket, listeners, index) in [
            ("[::]:80", vec![any], Some(0)),
            ("0.0.0.0:80", vec![any], Some(0)),
            ("[::]:80", vec![v4], Some(0)),
            ("0.0.0.0:80", vec![v6], Some(0)),
            ("192.0.2.1:80", vec![any], Some(0)),
            ("192.0.2.1:80", vec![v6], Some(0)),
            ("[::ffff:192.0.2.1]:80", vec![one], Some(0)),
            ("[2001:db8::1]:80", vec![v4], None),
            ("[2001:db8::1]:80", vec![v6], Some(0)),
            ("192.0.2.1:80", vec![v6, v4], Some(1)),
            ("192.0.2.1:80", vec![v6, v4, one], Some(2)),
            ("[::]:80", vec![v4, v6], Some(1)),
            ("0.0.0.0:80", vec![v6, v4], Some(1)),
            // The socket covers more addresses than the listener.
            ("[::]:80", vec![one], None),
            ("0.0.0.0:80", vec![one], None),
            ("192.0.2.2:80", vec![one], None),
            ("192.0.2.1:81", vec![any], None),
            ("unix:/a", vec![any], None),
        ] {
            for name in ["", " n"] {
                let socket = format!("{socket}{name}");
                let list = listeners.join(", ");
                assert_eq!(chosen(&[&socket], &list), [index], "{socket}, {list}");
            }
        }
    }

    #[test]
    fn a_name_goes_before_addresses_and_only_for_sockets_from_systemd() {
        let listeners = "{port: 80, name: a}, {port: 81, name: b}";
        let both = [Some(1), Some(0)];
        assert_eq!(chosen(&["[::]:80 b", "[::]:81 a"], listeners), both);
        assert_eq!(chosen(&["[::]:81 x", "[::]:80 "], listeners), both);
        assert_eq!(chosen(&["[::]:81", "[::]:80"], listeners), both);
        // Several sockets of a unit have the same name.
        let same = ["127.0.0.1:90 a", "[::1]:91 a", "unix:/x b"];
        assert_eq!(chosen(&same, listeners), [Some(0), Some(0), Some(1)]);
    }

    #[test]
    fn ports_that_the_system_chose_go_by_their_order() {
        let two = "{port: 0, listen: 127.0.0.1}, {port: 0, listen: [127.0.0.1, 127.0.0.2]}";
        let sockets = ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0"];
        let none = "listen: 127.0.0.3";
        assert_eq!(chosen(&sockets, two), [Some(0), Some(1), Some(1)]);
        assert_eq!(chosen(&sockets[2..], &format!("{{{none}}}")), [None]);
        // The actual port counts too.
        assert_eq!(chosen(&["127.0.0.1:0"], "{port: 40000}"), [Some(0)]);
    }
}
