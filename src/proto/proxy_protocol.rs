//! The PROXY protocol header: the first bytes of a connection, which report the address of the
//! client.
//!
//! Writes both versions for a server, and reads both from a proxy (HAProxy's specification of
//! 2020-03-05). Written addresses are of one family: if they differ, IPv4 is mapped to IPv6.
//! The caller decides which proxies are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::buf::Buf;

/// The start of a header of version 2.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;
/// TCP over IPv4 and over IPv6.
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// No family, no protocol.
const UNSPECIFIED: u8 = 0;

/// The start of a header of version 1, and its maximum length.
const V1_START: &[u8] = b"PROXY ";
const V1_MAX: usize = 107;
/// Signature, version and command, family, length.
const V2_FIXED: usize = 16;
/// Maximum length of a header of version 2: enough for addresses and the usual TLVs.
const V2_MAX: usize = 4096;
/// Version 2, command LOCAL: a connection of the proxy itself.
const V2_LOCAL: u8 = 0x20;

/// The content of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proxied {
    /// Length of the header in bytes; 0 if there is none.
    pub consumed: usize,
    /// The client's address; `None` if the peer is the client.
    pub source: Option<SocketAddr>,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A line of version 1 violates section 2.1.
    V1,
    /// A header of version 2 violates section 2.2.
    V2,
    /// The header is longer than any in use.
    TooLong,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::V1 => "malformed PROXY header of version 1",
            Error::V2 => "malformed PROXY header of version 2",
            Error::TooLong => "PROXY header is too long",
        })
    }
}

/// Reads the header at the front of `input`, if there is one. Returns `None` while bytes are
/// missing.
///
/// # Errors
/// The bytes begin like a header but are not a valid one.
pub fn parse(input: &[u8]) -> Result<Option<Proxied>, Error> {
    let begins = |with: &[u8]| {
        let len = input.len().min(with.len());
        input[..len] == with[..len]
    };
    if begins(V1_START) {
        parse_v1(input)
    } else if begins(SIGNATURE) {
        parse_v2(input)
    } else {
        Ok(Some(Proxied {
            consumed: 0,
            source: None,
        }))
    }
}

fn parse_v1(input: &[u8]) -> Result<Option<Proxied>, Error> {
    let head = &input[..input.len().min(V1_MAX)];
    let Some(end) = memchr::memchr(b'\n', head) else {
        return if input.len() < V1_MAX {
            Ok(None)
        } else {
            Err(Error::TooLong)
        };
    };
    let line = std::str::from_utf8(&head[..end]).map_err(|_| Error::V1)?;
    let line = line.strip_suffix('\r').ok_or(Error::V1)?;
    let mut words = line.split(' ').skip(1);
    let source = match words.next() {
        // The rest of the line must be ignored.
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => {
            let mut address = || -> Option<IpAddr> {
                let address: IpAddr = words.next()?.parse().ok()?;
                (address.is_ipv4() == (family == "TCP4")).then_some(address)
            };
            let (from, to) = (address(), address());
            let mut port = || -> Option<u16> {
                let digits = words.next()?;
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                digits.parse().ok().filter(|_| plain)
            };
            let (from_port, to_port) = (port(), port());
            match (from, to, from_port, to_port, words.next()) {
                (Some(from), Some(_), Some(port), Some(_), None) => {
                    Some(SocketAddr::new(from.to_canonical(), port))
                }
                _ => return Err(Error::V1),
            }
        }
        _ => return Err(Error::V1),
    };
    Ok(Some(Proxied {
        consumed: end + 1,
        source,
    }))
}

fn parse_v2(input: &[u8]) -> Result<Option<Proxied>, Error> {
    let Some((fixed, rest)) = input.split_first_chunk::<V2_FIXED>() else {
        return Ok(None);
    };
    let &[.., command, family, high, low] = fixed;
    let len = usize::from(u16::from_be_bytes([high, low]));
    if !matches!(command, V2_PROXY | V2_LOCAL) {
        return Err(Error::V2);
    }
    if V2_FIXED + len > V2_MAX {
        return Err(Error::TooLong);
    }
    let Some(body) = rest.get(..len) else {
        return Ok(None);
    };
    let source = match (command, family) {
        (V2_LOCAL, _) => None,
        (_, TCP4) => {
            let block = body.first_chunk::<12>().ok_or(Error::V2)?;
            let &[a, b, c, d, _, _, _, _, high, low, _, _] = block;
            let port = u16::from_be_bytes([high, low]);
            Some(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
        }
        (_, TCP6) => {
            let block = body.first_chunk::<36>().ok_or(Error::V2)?;
            let address = block.first_chunk::<16>().ok_or(Error::V2)?;
            let port = u16::from_be_bytes([block[32], block[33]]);
            let address = IpAddr::V6(Ipv6Addr::from(*address)).to_canonical();
            Some(SocketAddr::new(address, port))
        }
        // Other kinds of sockets: their addresses are useless here.
        _ => None,
    };
    Ok(Some(Proxied {
        consumed: V2_FIXED + len,
        source,
    }))
}

/// Appends a header of version 1 for a connection from `client` to `server`. On a unix socket
/// neither has an address.
pub fn write_v1(out: &mut Buf, client: Option<SocketAddr>, server: Option<SocketAddr>) {
    let Some(client) = client else {
        return out.extend(b"PROXY UNKNOWN\r\n");
    };
    let server = server.unwrap_or(nowhere(client));
    let (from, to) = of_one_family(client, server);
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from_port, to_port) = (client.port(), server.port());
    out.extend(format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").as_bytes());
}

/// Appends a header of version 2, as [`write_v1`] does. For a client without an address it is
/// the command LOCAL.
pub fn write_v2(out: &mut Buf, client: Option<SocketAddr>, server: Option<SocketAddr>) {
    out.extend(SIGNATURE);
    let Some(client) = client else {
        return out.extend(&[V2_LOCAL, UNSPECIFIED, 0, 0]);
    };
    let server = server.unwrap_or(nowhere(client));
    let addresses: Vec<u8> = match of_one_family(client, server) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (from, to) => [v6(from).octets(), v6(to).octets()].concat(),
    };
    let family = if addresses.len() == 8 { TCP4 } else { TCP6 };
    out.extend(&[V2_PROXY, family]);
    // Both ports follow the addresses.
    out.extend(&(addresses.len() as u16 + 4).to_be_bytes());
    out.extend(&addresses);
    out.extend(&client.port().to_be_bytes());
    out.extend(&server.port().to_be_bytes());
}

/// Returns the unspecified address in the client's family.
fn nowhere(client: SocketAddr) -> SocketAddr {
    match client.is_ipv4() {
        true => (Ipv4Addr::UNSPECIFIED, 0).into(),
        false => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn of_one_family(client: SocketAddr, server: SocketAddr) -> (IpAddr, IpAddr) {
    let (from, to) = (client.ip().to_canonical(), server.ip().to_canonical());
    match from.is_ipv4() == to.is_ipv4() {
        true => (from, to),
        false => (IpAddr::V6(v6(from)), IpAddr::V6(v6(to))),
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Write = fn(&mut Buf, Option<SocketAddr>, Option<SocketAddr>);

    fn written(write: Write, from: &str, to: &str) -> Vec<u8> {
        let mut out = Buf::new();
        write(&mut out, from.parse().ok(), to.parse().ok());
        out.take()
    }

    #[test]
    fn writes_version_1() {
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
    fn writes_version_2() {
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

    #[test]
    fn what_was_written_is_read() {
        for (write, version) in [(write_v1 as Write, 1), (write_v2, 2)] {
            for (from, to) in [
                ("192.0.2.1:56324", "198.51.100.7:5222"),
                ("[2001:db8::1]:1", "[2001:db8::2]:65535"),
                ("192.0.2.1:1", "[2001:db8::2]:2"),
            ] {
                let mut header = written(write, from, to);
                let consumed = header.len();
                for cut in 0..consumed {
                    assert_eq!(parse(&header[..cut]), Ok(None), "version {version}");
                }
                header.extend(b"GET / HTTP/1.1");
                let source = Some(from.parse().unwrap());
                assert_eq!(parse(&header), Ok(Some(Proxied { consumed, source })));
            }
        }
    }

    #[test]
    fn a_server_without_an_address_is_nowhere() {
        let v1 = written(write_v1, "192.0.2.1:5", "unix:");
        assert_eq!(v1, b"PROXY TCP4 192.0.2.1 0.0.0.0 5 0\r\n");
        let v1 = written(write_v1, "[2001:db8::1]:5", "unix:");
        assert_eq!(v1, b"PROXY TCP6 2001:db8::1 :: 5 0\r\n");
    }

    #[test]
    fn a_client_without_an_address_is_named_as_such() {
        let v1 = written(write_v1, "unix:", "198.51.100.7:5222");
        assert_eq!(v1, b"PROXY UNKNOWN\r\n");
        let v2 = written(write_v2, "unix:", "unix:");
        assert_eq!(v2, [SIGNATURE, &[0x20, 0, 0, 0]].concat());
        for header in [v1, v2] {
            let consumed = header.len();
            let source = None;
            assert_eq!(parse(&header), Ok(Some(Proxied { consumed, source })));
        }
    }

    #[test]
    fn some_headers_name_nobody() {
        let proxied = |consumed| {
            Ok(Some(Proxied {
                consumed,
                source: None,
            }))
        };
        assert_eq!(parse(b"GET /"), proxied(0));
        assert_eq!(parse(b"PRI * HTTP/2.0"), proxied(0));
        assert_eq!(parse(b"PROXY UNKNOWN what ever\r\nGET"), proxied(25));
        let local = [SIGNATURE, &[V2_LOCAL, 0, 0, 3, 1, 2, 3]].concat();
        assert_eq!(parse(&local), proxied(19));
    }

    #[test]
    fn malformed_headers_are_refused() {
        for line in [
            "PROXY\u{20}\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Error::V1), "{line:?}");
        }
        let long = [V1_START, &[b'a'; V1_MAX]].concat();
        assert_eq!(parse(&long), Err(Error::TooLong));
        let v2 = |bytes: &[u8]| parse(&[SIGNATURE, bytes].concat());
        assert_eq!(v2(&[0x31, TCP4, 0, 12]), Err(Error::V2));
        assert_eq!(v2(&[V2_PROXY, TCP4, 0, 3, 1, 2, 3]), Err(Error::V2));
        assert_eq!(v2(&[V2_PROXY, TCP4, 0xff, 0xff]), Err(Error::TooLong));
    }
}
