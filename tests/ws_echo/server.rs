//! A WebSocket echo server with the frame reader and the opening handshake of jabsocket,
//! for conformance suites.
//!
//! `ws_echo [--deflate] [--max-frame N] [--max-message N] ADDRESS:PORT` accepts any
//! origin and any sub-protocol, echoes every message and prints `listening on
//! ADDRESS:PORT`. With `--deflate` it accepts permessage-deflate and compresses messages
//! that become smaller. It uses one thread and edge-triggered events.
#![allow(
    clippy::disallowed_methods,
    reason = "this loop is a reactor of its own"
)]

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use jabsocket::proto::ws::Limits;
use jabsocket::proto::ws::deflate::Codec;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

mod connection;

use connection::{Connection, Shared, Turn};

const LISTENER: Token = Token(usize::MAX);

/// The default limit for frames and messages.
const DEFAULT_MAX_SIZE: u64 = 64 << 20;

fn main() {
    let (address, limits) = match arguments() {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!(
                "{reason}\nUsage: ws_echo [--deflate] [--max-frame N] [--max-message N] ADDRESS:PORT"
            );
            std::process::exit(2);
        }
    };
    if let Err(error) = serve(address, limits) {
        eprintln!("ws_echo: {error}");
        std::process::exit(1);
    }
}

fn arguments() -> Result<(SocketAddr, Limits), String> {
    let mut options = getopts::Options::new();
    options.optflag("", "deflate", "");
    options.optopt("", "max-frame", "", "N");
    options.optopt("", "max-message", "", "N");
    let matches = options
        .parse(std::env::args().skip(1))
        .map_err(|e| e.to_string())?;
    let size = |name: &str| {
        let size = matches.opt_get_default(name, DEFAULT_MAX_SIZE);
        size.map_err(|e| format!("--{name}: {e}"))
    };
    let limits = Limits {
        max_fragments: 0,
        max_frame_size: size("max-frame")?,
        max_message_size: size("max-message")?,
        binary: true,
        deflate: matches.opt_present("deflate"),
    };
    match matches.free.as_slice() {
        [address] => match address.parse() {
            Ok(address) => Ok((address, limits)),
            Err(e) => Err(format!("{address}: {e}")),
        },
        _ => Err("one address is needed".to_owned()),
    }
}

fn serve(address: SocketAddr, limits: Limits) -> io::Result<()> {
    let mut shared = Shared {
        limits,
        codec: Codec::default(),
    };
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut events = Events::with_capacity(256);
    let mut connections: Slab<Connection> = Slab::new();
    let mut run_list: VecDeque<usize> = VecDeque::new();
    let mut scratch = vec![0; 64 * 1024];
    loop {
        let timeout = if run_list.is_empty() {
            let deadlines = connections.iter().filter_map(|(_, c)| c.deadline());
            let now = Instant::now();
            deadlines.min().map(|d| d.saturating_duration_since(now))
        } else {
            Some(std::time::Duration::ZERO)
        };
        match poll.poll(&mut events, timeout) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        let mut knock = false;
        for event in &events {
            if event.token() == LISTENER {
                knock = true;
            } else if !run_list.contains(&event.token().0) {
                run_list.push_back(event.token().0);
            }
        }
        let now = Instant::now();
        let mut gone = Vec::new();
        for _ in 0..run_list.len() {
            let Some(slot) = run_list.pop_front() else {
                break;
            };
            match connections[slot].turn(now, &mut scratch, &mut shared) {
                Turn::Waiting => {}
                Turn::Unfinished => run_list.push_back(slot),
                Turn::Gone => gone.push(slot),
            }
        }
        let expired = |c: &Connection| c.deadline().is_some_and(|d| d <= now);
        for (slot, connection) in &connections {
            if expired(connection) && !gone.contains(&slot) {
                gone.push(slot);
            }
        }
        for slot in gone {
            run_list.retain(|&s| s != slot);
            connections.remove(slot);
        }
        while knock {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let entry = connections.vacant_entry();
                    let slot = entry.key();
                    stream.set_nodelay(true)?;
                    poll.registry().register(
                        &mut stream,
                        Token(slot),
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    entry.insert(Connection::new(stream));
                    run_list.push_back(slot);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => knock = false,
                Err(e) => {
                    eprintln!("accept: {e}");
                    knock = false;
                }
            }
        }
    }
}
