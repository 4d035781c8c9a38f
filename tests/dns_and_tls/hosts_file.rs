//! Names in the hosts file of this machine, with a DNS server that never answers.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use jabsocket::net::dns::locator::{Answer, Locator, Wanted};
use jabsocket::net::dns::resolver::Resolver;
use jabsocket::net::source::Source;
use mio::{Poll, Token};

/// A time after all delays, in milliseconds.
const LATER_MS: u64 = 1000;

/// A locator whose only DNS server never answers, and that server.
fn locator(poll: &Poll) -> (Locator, UdpSocket) {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let servers = [silent.local_addr().unwrap()];
    let registry = poll.registry().try_clone().unwrap();
    let resolver = Resolver::new(registry, Token(0), &servers).unwrap();
    (Locator::new(resolver, |_| 0), silent)
}

fn wanted(name: &str) -> Wanted {
    Wanted::Domain {
        name: name.to_owned(),
        clear: true,
        direct: true,
    }
}

/// All addresses up to the last answer.
fn places(locator: &mut Locator, now_ms: u64) -> Option<Vec<SocketAddr>> {
    let mut places = Vec::new();
    locator.advance_look_ups(usize::MAX, now_ms);
    while let Some(Answer { targets, last, .. }) = locator.next_answer() {
        places.extend(
            targets
                .unwrap()
                .iter()
                .filter_map(|target| target.address.tcp()),
        );
        if last {
            return Some(places);
        }
    }
    None
}

#[test]
fn localhost_is_found_at_once_and_never_asked_for() {
    let poll = Poll::new().unwrap();
    let (mut locator, silent) = locator(&poll);
    for name in ["localhost", "chat.localhost"] {
        locator.look_up(7, &wanted(name), Source::Unix, 0);
        let places = places(&mut locator, 0).expect("no answer");
        assert!(!places.is_empty());
        for place in places {
            assert!(place.ip().is_loopback(), "{name} is at {place}");
            assert_eq!(place.port(), 5222);
        }
    }
    assert!(silent.recv(&mut [0; 512]).is_err(), "the DNS was asked");
}

#[test]
fn the_hosts_file_does_when_the_dns_is_silent() {
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address: IpAddr = words.next()?.parse().ok()?;
        let name = words.find(|name| !name.contains("localhost"))?;
        Some((name.to_owned(), address))
    };
    // Not every machine has a hosts file with names other than localhost.
    for (name, address) in hosts.lines().filter_map(entry) {
        let poll = Poll::new().unwrap();
        let (mut locator, silent) = locator(&poll);
        locator.look_up(7, &wanted(&name), Source::Unix, 0);
        assert!(places(&mut locator, 0).is_none(), "SRV records come first");
        assert!(silent.recv(&mut [0; 512]).is_ok(), "the DNS was not asked");
        let places = places(&mut locator, LATER_MS).expect("no answer");
        assert!(
            places.contains(&SocketAddr::new(address, 5222)),
            "{name}: {places:?}"
        );
    }
}
