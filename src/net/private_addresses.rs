//! The internal addresses, to which a stranger's domain must not lead.
//!
//! Owns the list of this host's own addresses. It includes public ones, because a service
//! there may be meant only for this host. Interfaces come and go, so the list is read again
//! when it is used, but at most once per second. An IPv6 address that contains an IPv4
//! address is judged by the latter.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;

/// How long a list of addresses is used, in milliseconds.
const PERIOD_MS: u64 = 1000;

#[derive(Debug)]
pub struct PrivateAddressSet {
    /// The addresses of this host's interfaces, sorted.
    own: Vec<IpAddr>,
    read_at_ms: u64,
}

impl PrivateAddressSet {
    /// Reads this host's addresses. If that fails, the list is empty.
    pub fn new() -> (PrivateAddressSet, Result<(), Errno>) {
        let mut set = PrivateAddressSet {
            own: Vec::new(),
            read_at_ms: 0,
        };
        let read = set.read();
        (set, read)
    }

    /// Whether an address belongs to this host, or is loopback, private, link-local,
    /// unique-local, multicast, unspecified or otherwise not on the public Internet.
    pub fn contains(&mut self, address: IpAddr, now_ms: u64) -> bool {
        if is_internal(address) {
            return true;
        }
        if now_ms >= self.read_at_ms + PERIOD_MS {
            self.read_at_ms = now_ms;
            // If it cannot be read, for example without a free descriptor, the old list
            // stays.
            let _ = self.read();
        }
        self.own.binary_search(&embedded_v4(address)).is_ok()
    }

    fn read(&mut self) -> Result<(), Errno> {
        let addresses = getifaddrs()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())))
        });
        self.own = addresses.map(embedded_v4).collect();
        self.own.sort_unstable();
        Ok(())
    }
}

fn is_internal(address: IpAddr) -> bool {
    match embedded_v4(address) {
        IpAddr::V4(v4) => is_internal_v4(v4),
        IpAddr::V6(v6) => is_internal_v6(v6),
    }
}

/// The IPv4 address inside an IPv6 address, otherwise the address itself.
fn embedded_v4(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        // Mapped.
        [0, 0, 0, 0, 0, 0xffff, g, h]
        // Translated (RFC 6052).
        | [0x64, 0xff9b, 0, 0, 0, 0, g, h]
        // 6to4 (RFC 3056).
        | [0x2002, g, h, ..] => v4(g, h),
        _ => address,
    }
}

fn is_internal_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || a == 0
        // Shared address space of Internet providers (RFC 6598).
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments and benchmarks (RFC 6890).
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b))
        // Multicast, reserved, broadcast.
        || a >= 224
}

fn is_internal_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // Unspecified, loopback, and IPv4-compatible ones.
        [0, 0, 0, 0, 0, ..] => true,
        // Local translation (RFC 8215).
        [0x64, 0xff9b, ..] => true,
        // Unique-local, link-local, site-local, multicast.
        [a, ..] => a & 0xfe00 == 0xfc00 || a & 0xff80 == 0xfe80 || a >= 0xff00,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_internal_from_public_addresses() {
        for inside in [
            "127.0.0.1",
            "127.255.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "192.0.0.8",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fdff::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
        ] {
            assert!(is_internal(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.2.1",
            "192.169.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2001:db8::1",
        ] {
            assert!(!is_internal(outside.parse().unwrap()), "{outside}");
        }
    }
}
