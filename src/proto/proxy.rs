//! The PROXY protocol header that tells a server the client's address.
//!
//! Owns both versions of the sender's side (HAProxy's specification of
//! 2020-03-05): the first bytes of a connection, before TLS and XML, without an
//! answer. Both addresses are of one family: IPv4 is mapped where they differ.

use std::net::{IpAddr, SocketAddr};

use crate::buf::Buf;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
/// TCP over IPv4 and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Appends a header of version 1 for a connection from `client` to `server`.
pub fn write_v1(out: &mut Buf, client: SocketAddr, server: SocketAddr) {
    let family = match both_v4(client, server) {
        true => "TCP4",
        false => "TCP6",
    };
    let (from, to) = of_one_family(client, server);
    let (from_port, to_port) = (client.port(), server.port());
    out.extend(format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").as_bytes());
}

/// Appends a header of version 2 for a connection from `client` to `server`.
pub fn write_v2(out: &mut Buf, client: SocketAddr, server: SocketAddr) {
    let addresses: Vec<u8> = match of_one_family(client, server) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => [v6(from).octets(), v6(to).octets()].concat(),
    };
    out.extend(SIGNATURE);
    let family = if addresses.len() == 8 { TCP4 } else { TCP6 };
    out.extend(&[V2_PROXY, family]);
    // Both ports follow the addresses.
    out.extend(&(addresses.len() as u16 + 4).to_be_bytes());
    out.extend(&addresses);
    out.extend(&client.port().to_be_bytes());
    out.extend(&server.port().to_be_bytes());
}

fn both_v4(client: SocketAddr, server: SocketAddr) -> bool {
    client.ip().to_canonical().is_ipv4() && server.ip().to_canonical().is_ipv4()
}

fn of_one_family(client: SocketAddr, server: SocketAddr) -> (IpAddr, IpAddr) {
    let (from, to) = (client.ip().to_canonical(), server.ip().to_canonical());
    match from.is_ipv4() == to.is_ipv4() {
        true => (from, to),
        false => (IpAddr::V6(v6(from)), IpAddr::V6(v6(to))),
    }
}

fn v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: fn(&mut Buf, SocketAddr, SocketAddr), from: &str, to: &str) -> Vec<u8> {
        let mut out = Buf::new();
        write(&mut out, from.parse().unwrap(), to.parse().unwrap());
        out.take()
    }

    #[test]
    fn version_1() {
        for (from, to, line) in [
            (
                "192.0.2.1:56324",
                "198.51.100.7:5222",
                "PROXY TCP4 192.0.2.1 198.51.100.7 56324 5222\r\n",
            ),
            (
                "[2001:db8::1]:1",
                "[2001:db8::2]:2",
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
            ),
            (
                "192.0.2.1:1",
                "[2001:db8::2]:2",
                "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n",
            ),
        ] {
            let header = written(write_v1, from, to);
            assert_eq!(String::from_utf8(header).unwrap(), line);
        }
    }

    #[test]
    fn version_2() {
        let header = written(write_v2, "192.0.2.1:56324", "198.51.100.7:5222");
        let expected = [
            0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0,
            0x0c, 192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x14, 0x66,
        ];
        assert_eq!(header, expected);
        let header = written(write_v2, "[2001:db8::1]:1", "192.0.2.9:2");
        assert_eq!((header[13], header.len()), (0x21, 16 + 36));
        assert_eq!(header[42..48], [0xff, 0xff, 192, 0, 2, 9]);
    }
}
