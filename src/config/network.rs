//! Ranges of IP addresses: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`.

use std::net::IpAddr;

use super::value::whole;

/// An address, or all addresses with the same prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads an address, or an address and the length of a prefix. Bits after the prefix are
    /// probably a mistake, so there must be none.
    pub(super) fn read(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/').unzip();
        let address: IpAddr = address.unwrap_or(text).parse().ok()?;
        let most_bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => most_bits,
            Some(digits) => u32::try_from(whole(digits)?).ok()?,
        };
        let host_bits = left_bits(address).checked_shl(prefix_bits).unwrap_or(0);
        if prefix_bits > most_bits || host_bits != 0 {
            return None;
        }
        // An IPv4-mapped network counts as an IPv4 network.
        let v4 = address.to_canonical();
        let v4_bits = prefix_bits.checked_sub(96).filter(|_| v4 != address);
        let (address, prefix_bits) = v4_bits.map_or((address, prefix_bits), |bits| (v4, bits));
        Some(Network {
            address,
            prefix_bits,
        })
    }

    /// Whether the network contains `address`. An IPv4-mapped IPv6 address counts as its
    /// IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let differ = left_bits(self.address) ^ left_bits(address);
        self.address.is_ipv4() == address.is_ipv4() && differ.leading_zeros() >= self.prefix_bits
    }
}

/// The bits of an address, from the most significant one on; zeros follow those of IPv4.
fn left_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
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
            let network = Network::read(network).unwrap();
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
            assert_eq!(Network::read(text), None, "{text}");
        }
    }
}
