//! Ranges of IP addresses: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An address, or all addresses with the same prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether the network contains `address`. An IPv4-mapped IPv6 address counts as its
    /// IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differ = u32::from(ours) ^ u32::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differ = u128::from(ours) ^ u128::from(theirs);
                differ.leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }
}

/// The text is neither an address nor an address with a prefix length, or it has bits set
/// after the prefix, which is probably a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Network, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let most_bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => most_bits,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
        };
        let host_bits = most_bits
            .checked_sub(prefix_bits)
            .map(u32::from)
            .ok_or(NotANetwork)?;
        let clear = match address {
            IpAddr::V4(v4) => u32::from(v4).trailing_zeros() >= host_bits,
            IpAddr::V6(v6) => u128::from(v6).trailing_zeros() >= host_bits,
        };
        if !clear {
            return Err(NotANetwork);
        }
        // Likewise, an IPv4-mapped network counts as an IPv4 network.
        Ok(match address {
            IpAddr::V6(v6) if is_mapped(v6) && prefix_bits >= 96 => Network {
                address: v6.to_canonical(),
                prefix_bits: prefix_bits - 96,
            },
            _ => Network {
                address,
                prefix_bits,
            },
        })
    }
}

fn is_mapped(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_addresses_with_the_same_prefix() {
        for (network, inside, outside) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "11.0.0.0"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.0"),
            ("0.0.0.0/0", "203.0.113.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn refuses_probable_mistakes() {
        for text in [
            "",
            "localhost",
            "192.0.2.0/33",
            "192.0.2.0/",
            "192.0.2.0/+8",
            "192.0.2.1/24",
            "2001:db8::1/32",
            "/8",
            "10.0.0.0/8/8",
            "::1/129",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
