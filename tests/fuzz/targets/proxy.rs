//! The PROXY header of a trusted proxy. The outcome does not depend on how it is split,
//! it never uses more bytes than it has, and a header written from the result means the
//! same.
#![no_main]

use std::net::SocketAddr;

use jabsocket::buf::Buf;
use jabsocket::proto::http::forwarded;
use jabsocket::proto::proxy_protocol::{Proxied, parse, write_v1, write_v2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    // A reader that collects byte by byte uses the first verdict.
    let gathered = (0..=input.len()).find_map(|len| match parse(&input[..len]) {
        Ok(None) => None,
        verdict => Some(verdict),
    });
    match gathered {
        Some(verdict) => assert_eq!(verdict, whole),
        None => assert_eq!(whole, Ok(None)),
    }
    if let Ok(Some(Proxied { consumed, source })) = whole {
        assert!(consumed <= input.len());
        if let Some(source) = source {
            assert_eq!(source.ip(), source.ip().to_canonical());
            written_anew(source);
        }
    }
    if let Ok(list) = std::str::from_utf8(input) {
        let believed = |ip: std::net::IpAddr| ip.is_loopback();
        for (list, elements) in [(Some(list), None), (None, Some(list))] {
            let client = forwarded::client(list, elements, 7, believed);
            if let Some(client) = client {
                assert_eq!(client.ip(), client.ip().to_canonical());
            }
        }
    }
});

fn written_anew(source: SocketAddr) {
    for write in [write_v1, write_v2] {
        let mut out = Buf::new();
        let server = SocketAddr::from(([192, 0, 2, 1], 5222));
        write(&mut out, Some(source), Some(server));
        let header = out.take();
        let read = parse(&header).expect("a header").expect("all of it");
        assert_eq!((read.consumed, read.source), (header.len(), Some(source)));
    }
}
