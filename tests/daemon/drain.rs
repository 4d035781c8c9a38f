//! Signals: sessions in every phase are closed, new connections are refused, and the exit
//! status is 0.

use std::io::ErrorKind;
use std::net::TcpStream;

use nix::poll::PollFlags;
use nix::sys::signal::Signal;

use crate::common::stage::*;
use crate::common::ws_client::{CLOSE as CLOSE_FRAME, WsClient};
use crate::common::{patiently, wait_for, write_until_stalled};

#[test]
fn a_signal_ends_sessions_in_every_phase() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let Stage { server, mut daemon } = Stage::set("");
        // Connected before the others. The daemon accepts connections in order.
        let mut opening = WsClient::dial(daemon.address).unwrap();
        opening.send_raw(b"GET / HTTP/1.1\r\n").unwrap();
        let mut awaiting = daemon.client();
        let stage = Stage { server, daemon };
        let (mut greeting, mut greeting_server) = stage.greeting(OPEN, OPEN_UP);
        let (mut framed, mut framed_server) = stage.framed();
        let (mut draft, mut draft_server) = stage.draft();
        daemon = stage.daemon;

        daemon.signal(signal);
        let response = opening.read_response().unwrap();
        assert_eq!(response.status, 503);
        assert!(response.field("Retry-After").is_some());
        assert_eq!(response.field("Connection"), Some("close"));
        opening.read_rest().expect("the end, without a reset");
        for client in [&mut awaiting, &mut greeting, &mut framed, &mut draft] {
            expect_close(client, 1001, "shutting down");
        }
        for server in [&mut greeting_server, &mut framed_server, &mut draft_server] {
            server.expect_cut();
        }
        drop((opening, awaiting, greeting, framed, draft));
        drop((greeting_server, framed_server, draft_server));
        assert_eq!(daemon.wait_exit().code(), Some(0));
        daemon.wait_for_line(&format!("{signal}: stopping, 5 sessions to drain"));
        daemon.wait_for_line("stopped");
    }
}

#[test]
fn without_sessions_a_signal_is_the_end() {
    // Sent as soon as the daemon logs that it listens. Repeated, because this is a race.
    for signal in [Signal::SIGTERM, Signal::SIGINT].repeat(8) {
        let mut stage = Stage::set("");
        stage.daemon.signal(signal);
        assert_eq!(stage.daemon.wait_exit().code(), Some(0));
    }
}

#[test]
fn new_clients_are_not_accepted() {
    let mut stage = Stage::set("");
    let (mut client, server) = stage.framed();
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(client.read_close().unwrap().0, Some(1001));
    let refused = TcpStream::connect(stage.daemon.address).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client.send_close(1001, "").unwrap();
    client.read_eof().unwrap();
    drop((client, server));
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}

#[test]
fn queued_stanzas_are_sent_to_the_client_first() {
    let mut stage = Stage::set("");
    let (mut client, mut server) = stage.framed();
    let stanza = |n: usize| format!("<a xmlns='u' n='{n}'>{}</a>", "x".repeat(10_000));
    // More than the kernel buffers, so the daemon's queue is full.
    let mut sent = 0..10_000;
    let done = write_until_stalled(&server.stream, &mut Vec::new(), || {
        sent.next().map(|n| stanza(n).into_bytes())
    });
    assert!(!done, "the daemon took all of it");
    stage.daemon.signal(Signal::SIGTERM);
    stage.daemon.wait_for_line("stopping");
    let mut read = 0;
    loop {
        let frame = client.read_frame().unwrap().expect("a Close frame first");
        if frame.opcode == CLOSE_FRAME {
            assert_eq!(frame.payload[..2], 1001_u16.to_be_bytes());
            break;
        }
        assert_eq!(frame.payload, stanza(read).into_bytes());
        read += 1;
    }
    assert!(read > 6, "only {read} stanzas");
    client.send_close(1001, "").unwrap();
    client.read_eof().unwrap();
    let (_, text) = server.read_end();
    assert_eq!(text, "", "a cut");
    drop((client, server));
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut stage = Stage::set("close_timeout: 3600\ndrain_timeout: 3600\n");
    let (mut client, mut server) = stage.framed();
    stage.daemon.signal(Signal::SIGTERM);
    // The client reads the Close frame and never answers it.
    assert_eq!(client.read_close().unwrap().0, Some(1001));
    server.expect_cut();
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}

#[test]
fn the_drain_has_an_end() {
    let mut stage = Stage::set("close_timeout: 3600\ndrain_timeout: 0.3\n");
    let (client, server) = stage.framed();
    stage.daemon.signal(Signal::SIGTERM);
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
    stage
        .daemon
        .wait_for_line("ended by jabsocket: shutting down");
    drop((client, server));
}

#[test]
fn sessions_with_a_stream_end_one_by_one_the_others_at_once() {
    // An hour each: the second one never comes.
    let mut stage = Stage::set("drain_timeout: 7200\ndrain_spread: 7200\n");
    let mut awaiting = stage.daemon.client();
    let mut sessions: Vec<_> = (0..2).map(|_| stage.framed()).collect();
    stage.daemon.signal(Signal::SIGTERM);
    expect_close(&mut awaiting, 1001, "shutting down");
    // One of the two is the first, at once, and the other one goes on.
    let told = patiently("the first session", || {
        let told = |(client, _): &(WsClient, _)| wait_for(&client.stream, PollFlags::POLLIN, 5);
        sessions.iter().position(told)
    });
    let (mut client, mut server) = sessions.swap_remove(told);
    expect_close(&mut client, 1001, "shutting down");
    server.expect_cut();
    let (mut client, mut server) = sessions.remove(0);
    client.send_text(PRESENCE).unwrap();
    server.expect(PRESENCE);
    server.send(PRESENCE);
    expect_text(&mut client, PRESENCE);
    drop((awaiting, client, server));
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}

#[test]
fn all_sessions_end_within_the_spread() {
    let mut stage = Stage::set("drain_spread: 0.4\n");
    let sessions: Vec<_> = (0..10).map(|_| stage.framed()).collect();
    stage.daemon.signal(Signal::SIGTERM);
    for (mut client, mut server) in sessions {
        expect_close(&mut client, 1001, "shutting down");
        server.expect_cut();
    }
    assert_eq!(stage.daemon.wait_exit().code(), Some(0));
}
